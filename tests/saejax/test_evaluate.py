"""Figures over a store against NumPy, and ``python -m saejax.evaluate``."""

import json
import sys

import numpy as np
import pytest
from flax import nnx

from extract.alphabet import AMINO_ACIDS, residue_tokens, residue_types
from extract.errors import UserError, run_cli
from saejax import load_sae
from saejax.architectures import ARCHITECTURES
from saejax.config import SAEConfig, TrainConfig
from saejax.evaluate import decoder_cosines, evaluate, row_blocks
from saejax.evaluate_store import by_residue, frequency_histogram, l0_distribution, main
from saejax.model import Constants
from saejax.sae_config import Architecture
from saejax.sweep import seed_stability
from saejax.train import train
from tests.helpers import make_stores, random_proteins

pytestmark = pytest.mark.usefixtures("quick_compilation")


def random_sae(store, architecture: Architecture = "topk", threshold=None):
    config = SAEConfig(16, 48, 5, 8, architecture=architecture)
    mean = store.mean + np.linspace(-0.4, 0.3, 16, dtype=np.float32)  # trained on other proteins
    constants = Constants(mean, store.scale)
    return ARCHITECTURES[architecture](config, constants, rngs=nnx.Rngs(1)).for_inference(threshold)


@pytest.fixture(params=["topk", "batchtopk"])
def sae(request, tiny_store):
    if request.param == "topk":
        return random_sae(tiny_store)
    return random_sae(tiny_store, "batchtopk", 2.5)


def test_residue_types_by_hand():
    assert residue_types(residue_tokens("ACYXUA")).tolist() == [0, 1, 19, 20, 20, 0]


def test_parts_of_fvu_and_l0_by_hand(sae, tiny_store):
    letters = np.array(list("".join(p.sequence for p in tiny_store.proteins)))
    types = residue_types(tiny_store.side_array("token_id"))
    found = evaluate(sae, row_blocks(tiny_store), types)
    raw = tiny_store.read(0, tiny_store.n_rows)
    error = ((raw - np.asarray(sae(raw))) * tiny_store.scale).astype(np.float64) ** 2
    x = (raw - tiny_store.mean).astype(np.float64) * tiny_store.scale
    deviation = (x - x.mean(0)) ** 2
    assert found.fvu == pytest.approx(error.sum() / deviation.sum(), rel=1e-4)
    np.testing.assert_allclose(found.dimensions.fvu, error.sum(0) / deviation.sum(0), rtol=1e-4)
    rows = by_residue(found)
    assert [r["residue"] for r in rows] == list(AMINO_ACIDS)  # and no other here
    assert sum(r["n"] for r in rows) == len(raw)
    for row in rows:
        own = letters == row["residue"]
        assert row["n"] == own.sum()
        assert row["fvu"] == pytest.approx(error[own].sum() / deviation[own].sum(), rel=1e-4)
        within = ((x[own] - x[own].mean(0)) ** 2).sum()
        t = AMINO_ACIDS.index(row["residue"])
        # in this random parent next to nothing is left within a type: a difference of large sums
        assert found.types_within[t] == pytest.approx(within, abs=1e-6 * deviation[own].sum())
        assert row["fvu_within"] == found.types.error[t] / found.types_within[t]
    # the parts add up to the whole
    assert found.types.error.sum() / found.types.deviation.sum() == pytest.approx(found.fvu)
    assert sum(r["share_of_error"] for r in rows) == pytest.approx(1)

    active = (np.asarray(sae.encode_dense(raw)) > 0).sum(1)
    counts = np.bincount(active)
    assert found.l0_counts[: len(counts)].tolist() == counts.tolist()
    assert not found.l0_counts[len(counts) :].any()
    assert found.l0 == pytest.approx(active.mean())
    quantiles = l0_distribution(found)["quantiles"]
    assert (quantiles["0.0"], quantiles["1.0"]) == (active.min(), active.max())
    median = np.quantile(active, 0.5, method="inverted_cdf")
    assert quantiles["0.5"] == median


def test_frequencies_fall_into_bins(tiny_store):
    found = evaluate(random_sae(tiny_store), row_blocks(tiny_store))
    histogram = frequency_histogram(found)
    edges = np.array(histogram["edges"])
    assert sum(histogram["n_latents"]) == 48
    above = (found.frequency >= np.float32(0.1)).sum()
    assert histogram["n_latents"][-1] == above > 0
    assert edges[-2] == 0.1


def test_duplicates_are_counted_among_all_latents(tiny_store):
    sae = random_sae(tiny_store)
    rows = np.array(sae.W_dec[...])
    rows[7] = rows[3] + 1e-3 * rows[4]
    sae.W_dec[...] = rows
    cosines = decoder_cosines(sae, sample=None)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    between = unit @ unit.T - 2 * np.eye(48)
    np.testing.assert_allclose(cosines, between.max(1), atol=1e-5)
    assert np.flatnonzero(cosines >= 0.9).tolist() == [3, 7]
    np.testing.assert_allclose(decoder_cosines(sae, sample=24), cosines[::2], atol=1e-6)


# ------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Proteins that no run has seen, at two sites."""
    return make_stores(tmp_path_factory.mktemp("unseen"), random_proteins(20, 30, 90, seed=9),
                       site=("block1", "block2"))  # fmt: skip


@pytest.fixture(scope="module")
def runs(tiny_store, unseen, tmp_path_factory):
    """Two seeds, evaluated on the unseen proteins."""
    folder = tmp_path_factory.mktemp("runs")
    config = TrainConfig.of(
        tiny_store.folder, folder / "s", d_sae=64, k=4, epochs=3, batch_size_tokens=256,
        eval_activations=unseen[0].folder, sweep=("seed=0,1",),
    )  # fmt: skip
    out = train(config)
    return out / "seed=0", out / "seed=1"


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, words)])
    run_cli(main)


def test_says_what_training_said_and_more(runs, unseen, tmp_path, monkeypatch, capsys):
    run, other = runs
    out = tmp_path / "deep" / "evaluation.json"
    command(monkeypatch, "--run", run, "--activations", unseen[0].folder, "--against", other,
            "--out", out)  # fmt: skip
    record = json.loads(out.read_text())
    held_out, found = load_sae(run).run["results"], record["figures"]
    for name in ("fvu", "normalized_mse", "l0", "frac_dead", "frac_dense"):
        assert found[name] == pytest.approx(held_out[name], rel=1e-5), name
    assert found["gamma"] == pytest.approx(unseen[0].manifest["gamma"], rel=1e-4)
    assert found["n_dead"] == round(64 * found["frac_dead"])
    assert 0 < found["fvu_of_amino_acid_means"] < 1
    assert len(record["dimensions"]["fvu"]) == 16
    assert sum(record["dimensions"]["share_of_variance"]) == pytest.approx(1)
    assert not record["trained_on"]
    assert record["parent"]["weights"]["encoder_sha256"] == "seed0"
    decoders = [np.asarray(load_sae(r).sae.W_dec[...]) for r in runs]
    (pair,) = record["stability"]
    assert {k: pair[k] for k in ("mean_cosine", "shared")} == seed_stability(*decoders)
    printed = capsys.readouterr().out
    assert f"FVU          {held_out['fvu']:.4f}" in printed
    assert f"{100 * pair['shared']:.0f} % of latents are in both" in printed
    before = record["figures"]
    command(monkeypatch, "--run", run, "--activations", unseen[0].folder, "--out", out)
    assert json.loads(out.read_text())["figures"] == before  # its own result may be replaced


def test_seen_proteins_are_said_to_be(runs, tiny_store, monkeypatch, capsys):
    command(monkeypatch, "--run", runs[0], "--activations", tiny_store.folder)
    record = json.loads((runs[0] / "evaluation.json").read_text())
    assert record["trained_on"]
    assert "not of unseen proteins" in capsys.readouterr().err


def test_refuses_in_one_line(runs, unseen, tmp_path, monkeypatch, capsys):
    run, mine = runs[0], tmp_path / "mine.json"
    mine.write_text('{"kind": "notes"}')
    right = ("--run", run, "--activations", unseen[0].folder)
    cases = [
        (("--run", tmp_path, "--activations", unseen[0].folder), "is not a training run"),
        (("--run", run, "--activations", tmp_path), "is not an activation store"),
        (("--run", run, "--activations", unseen[1].folder), "site is 'block1'"),
        ((*right, "--against", run), "is the run itself"),
        ((*right, "--target-activations", unseen[1].folder), "is an autoencoder; leave away"),
        ((*right, "--out", mine), "holds something else than evaluation"),
        ((*right, "--out", tmp_path), "is a folder; give a file"),
        ((*right, "--out", mine / "x.json"), "mine.json is a file, not a folder"),
    ]
    for words, message in cases:
        with pytest.raises(SystemExit) as caught:
            command(monkeypatch, *words)
        assert caught.value.code == 2
        *_, error = capsys.readouterr().err.strip().splitlines()
        assert error.startswith("error: ")
        assert message in error
    assert [p.name for p in tmp_path.iterdir()] == ["mine.json"]
    assert mine.read_text() == '{"kind": "notes"}'
    assert not (run / "evaluation.json.tmp").exists()


def test_activations_that_are_not_finite_are_refused(unseen, monkeypatch):
    store = unseen[0]
    read = type(store).read
    monkeypatch.setattr(type(store), "read", lambda self, a, b: read(self, a, b) * np.nan)
    with pytest.raises(UserError, match=r"among rows 0 to \d+ are activations that are not finite"):
        list(row_blocks(store))


def test_a_residue_type_that_occurs_once_has_no_fvu_within(tiny_store):
    types = np.zeros(tiny_store.n_rows, np.int64)
    types[7] = 1
    found = by_residue(evaluate(random_sae(tiny_store), row_blocks(tiny_store), types))
    assert found[0]["fvu_within"] > 0
    assert np.isnan(found[1]["fvu_within"])


def test_a_transcoder_needs_what_it_predicts(unseen, tmp_path, monkeypatch, capsys):
    run = train(TrainConfig.of(
        unseen[0].folder, tmp_path / "run", target_activations=unseen[1].folder, d_sae=32, k=4,
        batch_size_tokens=128, holdout_fraction=0.2, epochs=1,
    ))  # fmt: skip
    right = ("--run", run, "--activations", unseen[0].folder)
    with pytest.raises(SystemExit):
        command(monkeypatch, *right)
    assert "is a transcoder; give --target-activations" in capsys.readouterr().err
    command(monkeypatch, *right, "--target-activations", unseen[1].folder)
    found = json.loads((run / "evaluation.json").read_text())["figures"]
    x, y = (s.read(0, s.n_rows) for s in unseen)
    y_hat = np.asarray(load_sae(run).sae(x))
    assert found["fvu"] == pytest.approx(((y - y_hat) ** 2).sum() / ((y - y.mean(0)) ** 2).sum(),
                                         rel=1e-4)  # fmt: skip
