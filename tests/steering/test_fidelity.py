"""The figures by hand, their intervals, and ``python -m steering.fidelity``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from extract.errors import run_cli
from extract.files import without_nan
from extract.weights import load_esm2
from saejax import load_sae
from steering.controls import bootstrap_totals
from steering.fidelity import figures, intervals, main
from steering.splice import SpliceSums, splice
from steering.torch_sae import TorchSAE


def sums_of(cross_entropy, n_scored, kl=None, agreement=None) -> SpliceSums:
    """Of means per residue, ``[4, proteins]``; None for zeros."""
    n = np.array(n_scored)
    parts = ((np.zeros((4, len(n))) if p is None else np.array(p, float)) * n
             for p in (cross_entropy, kl, agreement))  # fmt: skip
    return SpliceSums(n, *parts, n_replaced=int(n.sum()), fvu=0.1)


def test_figures_by_hand() -> None:
    ce = [[1.0, 2.0], [1.2, 2.4], [3.0, 3.0], [2.0, 4.0]]
    kl, agreement = [[0, 0], [0.1, 0.3], [1, 2], [3, 4]], [[1, 1], [0.5, 1], [0, 0.25], [0, 0]]
    found = intervals(sums_of(ce, [10, 30], kl, agreement))
    mean = {name: interval.mean for name, interval in found.items()}
    assert mean == pytest.approx({
        "cross_entropy_original": 1.75, "cross_entropy_sae": 2.1, "cross_entropy_zero": 3.0,
        "cross_entropy_mean": 3.5, "delta_cross_entropy": 0.35,
        "loss_recovered_zero": 0.9 / 1.25, "loss_recovered_mean": 1.4 / 1.75,
        "kl_sae": 0.25, "agreement_sae": 0.875, "kl_zero": 1.75, "agreement_zero": 0.1875,
        "kl_mean": 3.75, "agreement_mean": 0.0,
    })  # fmt: skip
    for interval in found.values():
        assert interval.low <= interval.mean <= interval.high


def test_an_identity_recovers_all_and_an_ablation_nothing() -> None:
    found = intervals(sums_of([[1.0], [1.0], [3.0], [2.0]], [7]))
    assert (found["loss_recovered_zero"].mean, found["loss_recovered_mean"].mean) == (1, 1)
    found = intervals(sums_of([[1.0], [3.0], [3.0], [2.0]], [7]))
    assert (found["loss_recovered_zero"].mean, found["loss_recovered_mean"].mean) == (0, -1)
    assert np.isnan(found["loss_recovered_zero"].low)  # one protein has no interval


def test_where_an_ablation_does_no_harm_there_is_nothing_to_recover() -> None:
    found = intervals(sums_of([[2.0, 2.0], [2.5, 2.5], [1.0, 1.0], [3.0, 3.0]], [5, 5]))
    assert np.isnan(found["loss_recovered_zero"].mean)
    assert found["loss_recovered_mean"].mean == pytest.approx(0.5)


def test_what_is_undefined_is_null_in_json() -> None:
    undefined = {"mean": float("nan"), "of": [np.float64("inf"), 1.0], "n": 3, "none": None}
    text = json.dumps(without_nan(undefined), allow_nan=False)
    assert json.loads(text) == {"mean": None, "of": [None, 1.0], "n": 3, "none": None}


def test_proteins_without_a_score_do_not_count() -> None:
    ce = np.array([[1.0, 9.0, 2.0], [1.2, 9.0, 2.4], [3.0, 9.0, 3.0], [2.0, 9.0, 4.0]])
    assert intervals(sums_of(ce, [10, 0, 30])) == intervals(sums_of(ce[:, [0, 2]], [10, 30]))


def test_the_bootstrap_is_over_proteins() -> None:
    """Residues of a protein that are all alike add nothing: the normal interval over proteins."""
    rng = np.random.default_rng(0)
    value, n = rng.normal(3, 1, size=300), 50
    per_protein = np.stack([np.full(300, n), value * n], axis=1)
    totals = bootstrap_totals(per_protein, n_resamples=4000, seed=1)
    low, high = np.quantile(totals[:, 1] / totals[:, 0], [0.025, 0.975])
    half = 1.96 * value.std() / np.sqrt(300)
    assert (low, high) == pytest.approx((value.mean() - half, value.mean() + half), abs=0.1 * half)
    assert (totals[:, 0] == 300 * n).all()
    again = bootstrap_totals(per_protein, n_resamples=4000, seed=1)
    np.testing.assert_array_equal(totals, again)
    assert totals[0, 1] != bootstrap_totals(per_protein, seed=2)[0, 1]


def test_a_ratio_with_unequal_proteins_is_resampled_whole() -> None:
    totals = bootstrap_totals(np.array([[1.0, 1.0], [3.0, 9.0]]), n_resamples=400)
    assert {tuple(row) for row in totals} == {(2.0, 2.0), (4.0, 10.0), (6.0, 18.0)}


def test_figures_of_many_totals_at_once() -> None:
    totals = np.random.default_rng(0).uniform(1, 2, size=(5, 13))
    many = figures(totals)
    for row in (0, 4):
        for name, value in figures(totals[row]).items():
            assert float(value) == pytest.approx(float(many[name][row]), nan_ok=True)


# ------------------------------------------------------------------ the command


@pytest.fixture
def command(workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command line in this process; flags given as None are left out."""

    def run(*extra: str, **flags: object) -> Path:
        out = tmp_path / "fidelity.json"
        given = {"run": workspace.run, "weights": workspace.weights, "fasta": workspace.fasta,
                 "out": out} | flags  # fmt: skip
        words = [w for k, v in given.items() if v is not None for w in (f"--{k}", str(v))]
        monkeypatch.setattr(sys, "argv", ["fidelity", *words, *extra])
        run_cli(main)
        return out

    return run


def test_writes_what_was_measured(command, workspace, capsys) -> None:
    out = command("--seed", "2", "--resamples", "200", "--mask-fraction", "0.2")
    record = json.loads(out.read_text())
    assert record["config"]["seed"] == 2
    assert record["site"] == "block3"
    assert record["run"] == str(workspace.run)
    assert not {"torch", "numpy"} - record["versions"].keys()
    model, loaded = load_esm2(weights=workspace.weights, device="cpu"), load_sae(workspace.run)
    assert record["parent"] == json.loads(json.dumps(model.describe()))
    assert record["run_results"] == loaded.run["results"]
    assert record["trained_on"]
    printed = capsys.readouterr()
    assert "the very file that the SAE was trained on" in printed.err
    for kind, fraction in (("unmasked", None), ("masked", 0.2)):
        sums = splice(model, TorchSAE.from_run(loaded), workspace.sequences,
                      mask_fraction=fraction, seed=2)  # fmt: skip
        found = record["inputs"][kind]
        n = sums.n_scored.sum()
        assert (found["n_proteins"], found["n_scored"]) == (24, n)
        assert found["n_replaced"] == record["proteins"]["n_residues"] == 1236
        for name, expected in (("kl_sae", sums.kl[1]), ("agreement_mean", sums.agreement[3])):
            value = found["figures"][name]
            assert value["mean"] == pytest.approx(expected.sum() / n, rel=1e-4)
            assert value["low"] <= value["mean"] <= value["high"]
            cell = f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
            assert cell in printed.out
    assert "masked, 20 %" in printed.out


def test_a_sample_goes_beside_the_run_unless_told(command, workspace) -> None:
    command("--sample", "3", "--resamples", "10", out=None)
    record = json.loads((workspace.run / "fidelity.json").read_text())
    assert (record["proteins"]["n_kept"], record["proteins"]["n_not_sampled"]) == (3, 21)
    assert load_sae(workspace.run).run["state"] == "complete"  # the run minds no such file


def test_refuses_in_one_line(command, workspace, tmp_path, capsys) -> None:
    bad = tmp_path / "bad.fasta"
    bad.write_text(">a\nMK1\n")
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    cases = [
        ({"run": tmp_path}, (), "is not a training run"),
        ({"fasta": tmp_path / "none.fasta"}, (), "no such file"),
        ({"fasta": bad}, (), "illegal character '1' at position 3"),
        ({"weights": workspace.other_weights}, (), "weights sha256 is"),
        ({"weights": workspace.headless}, (), "without a masked-LM head"),
        ({"out": mine}, (), "holds something else than fidelity"),
        ({}, ("--mask-fraction", "1"), "--mask-fraction (1.0) must be between 0 and 1"),
        ({}, ("--sample", "0"), "--sample (0) must be at least 1"),
        ({}, ("--batch-residues", "0"), "--batch-residues (0) must be at least 1"),
        ({}, ("--device", "cuda:99"), "--device cuda:99: can't be used here"),
    ]
    for flags, extra, message in cases:
        with pytest.raises(SystemExit) as caught:
            command(*extra, **flags)
        assert caught.value.code == 2
        *_, error = capsys.readouterr().err.strip().splitlines()
        assert error.startswith("error: ")
        assert message in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.fasta", "mine.json"]
    assert mine.read_text() == "{}"
