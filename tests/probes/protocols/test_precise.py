"""Latents that are right when they fire: by hand; thresholds are frozen before test."""

import numpy as np
import pytest

from probes.data.part_columns import PartColumns
from probes.protocols.composition import concept_given_residue, neighbourhoods
from probes.protocols.precise import Part, PreciseLatents, firing
from tests.probes.helpers import columns_of


def part_of(dense, classes, proteins):
    classes, proteins = np.array(classes, dtype=np.int8), np.array(proteins, dtype=np.int32)
    columns = PartColumns(columns_of(np.asarray(dense)), np.ones(len(dense), bool))
    return Part(columns, classes, proteins, neighbourhoods(classes, proteins))


def ranked_by(select, test, labels, n, **support):
    """The rows of a single concept."""
    ranking = PreciseLatents(select, labels[:, None], n=n, **support)
    for first, block in select.columns.blocks():
        ranking.see(first, block)
    [rows] = ranking.scored(test, labels[:, None])
    return rows


def whole(part):
    """All latents of a part at once."""
    [(_, columns)] = part.columns.blocks()
    return columns


def test_composition_expectation_by_hand():
    # select: class 0 is in the concept 3 of 4 times, class 1 once in 4
    classes = [0, 0, 0, 0, 1, 1, 1, 1]
    labels = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=bool)
    p = concept_given_residue(labels, np.array(classes, dtype=np.int8))
    assert p[:2].tolist() == [0.75, 0.25]
    assert p[2] == labels.mean()
    # latent 0 fires on rows 0, 1 (class 0) and 4 (class 1): precision 1, expected 7/12
    dense = np.zeros((8, 2))
    dense[[0, 1, 4], 0] = [1, 2, 3]
    dense[[3, 7], 1] = 1
    select = part_of(dense, classes, [0, 0, 1, 1, 2, 2, 3, 3])
    fires = firing(whole(select), select, np.zeros(2))
    assert fires.n_fires.tolist() == [3, 2]
    assert fires.n_proteins.tolist() == [2, 2]
    assert fires.composition[0, :2] == pytest.approx([2 / 3, 1 / 3])
    # test: it fires on two residues of class 1, one of them in the concept
    test_dense = np.zeros((8, 2))
    test_dense[[4, 5], 0] = 1
    test = part_of(test_dense, classes, [5, 5, 5, 5, 6, 6, 6, 6])
    ranked = ranked_by(select, test, labels, 10, min_fires=3, min_proteins=2)
    # latent 1 lacks support; so does latent 0 above any share of its maximum
    assert [(row["firing"], row["latent"]) for row in ranked] == [("any", 0), ("strong", 0)]
    assert ranked[0] == {**ranked[1], "firing": "any"}
    row = ranked[0]
    assert row["select_precision"] == 1
    assert row["select_expected_precision"] == pytest.approx(7 / 12)
    assert row["test_precision"] == 0.5
    assert row["test_expected_precision"] == pytest.approx(0.25)
    assert row["test_enrichment"] == pytest.approx(2.0)
    assert row["test_excess"] == pytest.approx(0.25)
    assert (row["test_n_fires"], row["test_n_proteins"]) == (2, 1)
    assert row["test_base_rate"] == 0.5
    assert row["test_recall"] == pytest.approx(0.25)


def test_an_identity_latent_is_not_precise_beyond_its_composition():
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 4, 4000).astype(np.int8)
    labels = rng.random(4000) < np.array([0.9, 0.3, 0.2, 0.1])[classes]
    structure = labels & (rng.random(4000) < 0.3)
    dense = np.stack([classes == 0, structure], axis=1).astype(float)
    part = part_of(dense, classes, np.arange(4000) // 50)
    ranked = ranked_by(part, part, labels, 2, min_fires=50, min_proteins=5)
    assert [row["latent"] for row in ranked if row["firing"] == "any"] == [1, 0]
    assert ranked[1]["test_precision"] == pytest.approx(0.9, abs=0.03)
    assert ranked[1]["test_excess"] == pytest.approx(0, abs=1e-9)


def test_firing_counts_equal_loops_and_do_not_depend_on_blocks(monkeypatch):
    rng = np.random.default_rng(5)
    z = np.maximum(rng.normal(-0.5, 1, (400, 9)), 0).astype(np.float32)
    z[:, 4] = 0
    classes = rng.integers(0, 21, 400).astype(np.int8)
    part = part_of(z, classes, np.arange(400) // 7)
    threshold = np.linspace(0, 1.2, 9)
    at_once = firing(whole(part), part, threshold)
    monkeypatch.setattr("probes.protocols.precise.SEEN_BYTES", 2 * 58)  # two latents at a time
    for found in (at_once, firing(whole(part), part, threshold)):
        for j in range(9):
            rows = np.flatnonzero(z[:, j] > threshold[j])
            assert found.n_fires[j] == len(rows)
            assert found.n_proteins[j] == len(set(rows // 7))
            share = np.bincount(classes[rows], minlength=21) / max(len(rows), 1)
            np.testing.assert_array_equal(found.composition[j], share)


def test_precise_threshold_is_frozen_on_select():
    # on select the upper half of the latent is pure; on test it is the lower half
    n = 400
    labels = np.tile([True, False], n // 2)
    dense = np.where(labels, 4.0, 1.0)[:, None]
    select = part_of(dense, [0] * n, np.arange(n) // 10)
    test = part_of(np.where(labels, 0.5, 3.0)[:, None], [0] * n, np.arange(n) // 10)
    ranked = ranked_by(select, test, labels, 1, min_fires=100, min_proteins=10)
    loose, row = ranked
    assert (loose["firing"], loose["threshold"]) == ("any", 0)
    assert (loose["select_precision"], loose["test_precision"]) == (0.5, 0.5)
    assert row["firing"] == "strong"
    assert row["threshold"] == row["threshold_fraction"] * 4.0 >= 1.0
    assert (row["select_precision"], row["test_precision"]) == (1, 0)
