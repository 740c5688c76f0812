from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from extract.errors import UserError
from extract.esm import ESM2
from steering.concept_probe import (
    UNKNOWN,
    ConceptProbe,
    ResidueActivations,
    fit_concept_probe,
    residue_activations,
)
from tests.helpers import random_proteins

TRAIN = [p.sequence for p in random_proteins(30, 20, 40, seed=1)]
HELD_OUT = [p.sequence for p in random_proteins(10, 20, 40, seed=2)]


def labels_of(sequences: list[str], letters: str) -> list[np.ndarray]:
    return [np.array([a in letters for a in s], dtype=np.int8) for s in sequences]


def noisy(labels: list[np.ndarray], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.where(rng.random(len(y)) < 0.2, 1 - y, y).astype(np.int8) for y in labels]


@pytest.fixture(scope="module")
def train(tiny: ESM2) -> ResidueActivations:
    return residue_activations(tiny, "block2", TRAIN, batch_residues=100)


@pytest.fixture(scope="module")
def held_out(tiny: ESM2) -> ResidueActivations:
    return residue_activations(tiny, "block2", HELD_OUT)


def test_activations_are_those_of_each_protein_alone(tiny: ESM2, train) -> None:
    alone = [tiny.residual(tiny.tokenize([s]), "block2")[1:-1].numpy() for s in TRAIN]
    np.testing.assert_allclose(train.x_ND, np.concatenate(alone), atol=1e-5)
    assert train.lengths.tolist() == [len(s) for s in TRAIN]


def test_equals_scikit_learn_on_standardised_activations(train, held_out) -> None:
    y, y_held = noisy(labels_of(TRAIN, "ILVFW"), 0), noisy(labels_of(HELD_OUT, "ILVFW"), 1)
    probe = fit_concept_probe("aliphatic", train, y, held_out, y_held, C=0.05)
    mean, std = train.x_ND.mean(0), train.x_ND.std(0)
    fit = LogisticRegression(C=0.05, max_iter=2000).fit((train.x_ND - mean) / std, np.hstack(y))
    expected = fit.predict_proba((held_out.x_ND - mean) / std)[:, 1]
    found = probe.probability(torch.from_numpy(held_out.x_ND)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    truth = np.hstack(y_held)
    scores = probe.record["held_out"]
    assert scores["auroc"] == pytest.approx(roc_auc_score(truth, found), abs=1e-6)
    assert scores["average_precision"] == pytest.approx(average_precision_score(truth, found))
    assert scores["f1"] == pytest.approx(f1_score(truth, found >= probe.threshold))
    assert 0.5 < scores["auroc"] < 1
    assert scores["n_residues"] == len(truth)
    assert probe.record["train"] == {
        "n_proteins": 30, "n_residues": len(train.x_ND), "n_positive": int(np.hstack(y).sum()),
    }  # fmt: skip


def test_the_threshold_has_the_best_f1_of_training(train, held_out) -> None:
    y = noisy(labels_of(TRAIN, "ILVFW"), 0)
    probe = fit_concept_probe("x", train, y, held_out, labels_of(HELD_OUT, "ILVFW"))
    p, truth = probe.probability(torch.from_numpy(train.x_ND)).numpy(), np.hstack(y)
    at = f1_score(truth, p >= probe.threshold - 1e-6)
    others = [f1_score(truth, p >= t) for t in np.quantile(p, np.linspace(0, 1, 99))]
    assert at >= max(others) - 1e-3
    assert at > f1_score(truth, p >= 0.5)


def test_an_easy_concept_is_found_and_chance_is_not(train, held_out) -> None:
    easy = fit_concept_probe(
        "K", train, labels_of(TRAIN, "K"), held_out, labels_of(HELD_OUT, "K"), C=10.0
    )
    assert easy.record["held_out"]["auroc"] > 0.99
    rng = np.random.default_rng(0)
    chance = [[rng.integers(0, 2, len(s), dtype=np.int8) for s in part] for part in
              (TRAIN, HELD_OUT)]  # fmt: skip
    none = fit_concept_probe("chance", train, chance[0], held_out, chance[1])
    assert none.record["held_out"]["auroc"] < 0.65


def test_unknown_residues_are_left_out(train, held_out) -> None:
    known, y_held = labels_of(TRAIN, "K"), labels_of(HELD_OUT, "K")
    half = [y.copy() for y in known]
    for y in half[::2]:
        y[:] = UNKNOWN
    y_held[0][3:] = UNKNOWN
    probe = fit_concept_probe("K", train, half, held_out, y_held)
    assert probe.record["train"]["n_residues"] == sum(len(y) for y in half[1::2])
    assert probe.record["held_out"]["n_residues"] == sum(map(len, y_held)) - len(y_held[0]) + 3
    few = fit_concept_probe("K", train, known, held_out, y_held, max_residues=200, seed=3)
    again = fit_concept_probe("K", train, known, held_out, y_held, max_residues=200, seed=3)
    assert few.record["train"]["n_residues"] == 200
    assert np.array_equal(few.weights, again.weights)


def test_a_file_gives_the_same_probe(tmp_path, tiny: ESM2, train, held_out) -> None:
    probe = fit_concept_probe("K", train, labels_of(TRAIN, "K"), held_out, labels_of(HELD_OUT, "K"))
    probe.save(tmp_path / "k.npz")
    loaded = ConceptProbe.load(tmp_path / "k.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["k.npz"]
    assert np.array_equal(loaded.weights, probe.weights)
    for key in ("name", "bias", "threshold", "manifest", "record", "site"):
        assert getattr(loaded, key) == getattr(probe, key)
    loaded.require_parent(tiny)


def test_refuses_files_that_are_no_probe(tmp_path, tiny: ESM2, train, held_out) -> None:
    path = tmp_path / "k.npz"
    with pytest.raises(UserError, match=r"k.npz: no such file"):
        ConceptProbe.load(path)
    probe = fit_concept_probe("K", train, labels_of(TRAIN, "K"), held_out, labels_of(HELD_OUT, "K"))
    probe.save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    for content in (b"", b"not a probe", whole[: len(whole) // 2],
                    (tmp_path / "other.npz").read_bytes()):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"k.npz: is not a probe"):
            ConceptProbe.load(path)
    for broken in (probe.weights[:-1], np.full_like(probe.weights, np.nan)):
        dataclasses.replace(probe, weights=broken).save(path)
        with pytest.raises(UserError, match=r"k.npz: damaged"):
            ConceptProbe.load(path)


def test_refuses_labels(tiny: ESM2, train, held_out) -> None:
    y, y_held = labels_of(TRAIN, "K"), labels_of(HELD_OUT, "K")
    with pytest.raises(UserError, match="labels of the training proteins have .* the proteins"):
        fit_concept_probe("K", train, [y[0][1:], *y[1:]], held_out, y_held)
    with pytest.raises(UserError, match="the training residues must have labels 0 and 1"):
        fit_concept_probe("K", train, labels_of(TRAIN, ""), held_out, y_held)
    with pytest.raises(UserError, match="the held-out residues must have labels 0 and 1"):
        fit_concept_probe("K", train, y, held_out, labels_of(HELD_OUT, ""))
    elsewhere = residue_activations(tiny, "block1", HELD_OUT)
    with pytest.raises(UserError, match="site is 'block2' in the first and 'block1'"):
        fit_concept_probe("K", train, y, elsewhere, y_held)
    with pytest.raises(UserError, match="no proteins to train or test"):
        residue_activations(tiny, "block1", [])
