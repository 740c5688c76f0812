"""Before a run: what cannot work is said in a line with the remedy, what is wrong is refused."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from extract.errors import UserError
from saejax.config import TrainConfig
from saejax.data import held_out_rows
from saejax.sanity import SAMPLE_PLACES, SAMPLE_ROWS, gamma_of, norms_of, recipe_warnings
from saejax.sanity import sample_rows as sample
from saejax.train import train


def config_of(**settings):
    return TrainConfig.of(Path("acts"), Path("run"), **settings)


def manifest_of(x):
    mean = x.mean(axis=0)
    variance = ((x - mean) ** 2).sum(axis=1).mean()
    scale = float(np.sqrt(x.shape[1] / variance))
    return {"mean": mean.tolist(), "scale": scale, "gamma": 0.0}


def test_gamma_is_the_mean_s_length_over_the_spread_s():
    rng = np.random.default_rng(0)
    sigma = np.array([1.0, 2.0, 3.0, 4.0])
    x = rng.normal(size=(100_000, 4)) * sigma + np.array([3.0, 0.0, 0.0, 4.0])
    found, warnings = gamma_of("acts", manifest_of(x), 4)
    assert found["gamma"] == pytest.approx(5 / np.sqrt(30), rel=0.01)
    assert not warnings


def test_gamma_is_what_extraction_measured(tiny_store):
    found, _ = gamma_of("acts", tiny_store.manifest, 16)
    assert found["gamma"] == pytest.approx(tiny_store.manifest["gamma"], rel=1e-4)


def test_constant_activations_are_warned_of():
    found, (warning,) = gamma_of("acts", {"mean": [1.0, 2.0], "scale": 1.0, "gamma": None}, 2)
    assert found["gamma"] is None
    assert "nothing to learn" in warning


@pytest.mark.parametrize("bad", [{"mean": [float("nan"), 0.0]}, {"scale": float("inf")}])
def test_a_mean_or_scale_that_is_not_finite_is_refused(bad):
    manifest = {"mean": [0.0, 0.0], "scale": 1.0, "gamma": 0.0} | bad
    with pytest.raises(UserError, match=r"acts: .*extract verify acts"):
        gamma_of("acts", manifest, 2)


def test_norms_by_hand():
    x = np.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0], [-3.0, -5.0]], np.float32)
    found, warnings = norms_of("acts", x, manifest_of(x), 2)
    assert found["norm_mean"] == pytest.approx((5 + 1 + 34**0.5) / 4)
    assert found["norm_median"] == pytest.approx(3.0)
    assert found["norm_max"] == pytest.approx(34**0.5)
    assert found["scaled_norm_mean"] == pytest.approx(1.0)
    assert not warnings


def test_only_the_inputs_of_a_transcoder_are_measured_and_its_targets_must_be_finite():
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    both = np.hstack([x, 100 * x])
    assert norms_of("acts", both, manifest_of(x), 4) == norms_of("acts", x, manifest_of(x), 4)
    both[7, 6] = np.nan
    with pytest.raises(UserError, match="1 of 50"):
        norms_of("acts", both, manifest_of(x), 4)


def test_outliers_and_a_wrong_scale_are_warned_of():
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    manifest = manifest_of(x)
    assert not norms_of("acts", x, manifest, 4)[1]
    (wrong,) = norms_of("acts", x, manifest | {"scale": 5 * manifest["scale"]}, 4)[1]
    assert "5 times the spread" in wrong
    x[3] *= 100
    (outlier,) = norms_of("acts", x, manifest_of(x), 4)[1]
    assert "times as long as the median" in outlier


def test_the_sample_is_spread_over_the_store(tiny_store):
    class Counted:
        n_rows = 100_000
        asked: list = []  # noqa: RUF012

        def read(self, start, stop):
            self.asked.append((start, stop))
            return np.zeros((stop - start, 3), np.float32)

    assert len(sample(Counted())) == SAMPLE_PLACES * SAMPLE_ROWS
    assert Counted.asked[0][0] == 0
    assert Counted.asked[-1][1] == 100_000
    assert len(sample(tiny_store)) <= tiny_store.n_rows


LONG = 20_000
"""Steps of a run that is long enough."""


@pytest.mark.parametrize(
    ("settings", "d_model", "n_steps", "words"),
    [
        ({"d_sae": 64, "k": 33}, 16, LONG, "more than half of d_sae"),
        ({"d_sae": 64, "k": 4}, 65, LONG, "less than the 65 dimensions"),
        ({"learning_rate": 2.3e-3}, 16, LONG, "4.1 times the 0.00057"),
        ({"learning_rate": 1.3e-4}, 16, LONG, "0.23 times the 0.00057"),
        ({"dead_after_tokens": 2048 * LONG + 1}, 16, LONG, "no latent ever counts as dead"),
        ({}, 16, 499, "the run has 499 steps"),
        ({"warmup_steps": LONG + 1}, 16, LONG, "is cut to 2000"),
        ({"ema_decay": 0.9999}, 16, LONG, "averages over about 10000 steps"),
        ({"preset": "demo"}, 1280, LONG, "dimensions, these have 1280"),
    ],
)
def test_a_recipe_that_cannot_work_is_warned_of(settings, d_model, n_steps, words):
    found = recipe_warnings(config_of(**settings), d_model, n_steps)
    assert len([w for w in found if words in w]) == 1
    assert all("; " in w and "\n" not in w for w in found), "each with the remedy, in one line"


@pytest.mark.parametrize(
    ("settings", "d_model"),
    [
        ({"d_sae": 64, "k": 32}, 64),
        ({"learning_rate": 2.26e-3}, 16),
        ({"learning_rate": 1.42e-4}, 16),
        ({"dead_after_tokens": 2048 * LONG}, 16),
        ({"warmup_steps": LONG}, 16),
        ({"ema_decay": 0.999}, 16),
        ({"architecture": "relu", "d_sae": 48}, 16),  # its k of 32 is not used
        ({"preset": "demo"}, 320),
        ({"preset": "esm2-650m"}, 1280),
    ],
)
def test_a_recipe_that_can_work_is_not(settings, d_model):
    assert recipe_warnings(config_of(**settings), d_model, LONG) == []


def test_a_run_records_what_was_found_and_says_it_once(tiny_store, tmp_path, caplog, monkeypatch):
    def no_training(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("saejax.train._start", no_training)
    config = TrainConfig.of(
        tiny_store.folder, tmp_path / "run", d_sae=32, k=20, epochs=1, batch_size_tokens=256,
        holdout_fraction=0.1, sweep=("seed=0,1",),
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        train(config)
    said = [m for m in caplog.messages if m.startswith("warning: ")]
    assert len([m for m in said if "more than half of d_sae" in m]) == 1, "for both runs at once"
    record = json.loads((tmp_path / "run" / "seed=0" / "run.json").read_text())
    assert record["sanity"]["gamma"] == pytest.approx(tiny_store.manifest["gamma"], rel=1e-4)
    assert 0.8 < record["sanity"]["scaled_norm_mean"] < 1.2
    kept = int((~held_out_rows(tiny_store, 0.1)).sum())
    assert record["n_steps"] == kept // 256
    caplog.clear()
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        train(config)
    assert not [m for m in caplog.messages if m.startswith("warning: ")], "not when it is resumed"


def test_activations_that_are_not_finite_are_refused_before_any_work(
    tiny_store, tmp_path, monkeypatch
):
    folder = tmp_path / "acts"
    shutil.copytree(tiny_store.folder, folder)
    read = type(tiny_store).read

    def damaged(self, start, stop):
        rows = np.array(read(self, start, stop))
        rows[0, 0] = np.inf
        return rows

    monkeypatch.setattr(type(tiny_store), "read", damaged)
    config = TrainConfig.of(folder, tmp_path / "run", d_sae=32, k=4, batch_size_tokens=256)
    with pytest.raises(UserError, match=r"not finite; .*python -m extract verify .*acts`"):
        train(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("architecture", ["relu", "gated", "jumprelu"])
def test_a_k_that_is_not_used_is_warned_of(architecture):
    (found,) = recipe_warnings(config_of(architecture=architecture, k=8), 16, LONG)
    assert found.startswith(f"k (8) is not used by {architecture}, ")
    for settings in ({"architecture": architecture}, {"k": 8}):
        assert not any("not used" in w for w in recipe_warnings(config_of(**settings), 64, LONG))
