"""What residues predict, against loops; a residue's own label is not in its estimate."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from extract.alphabet import AMINO_ACIDS
from probes.data.rows import OTHER_RESIDUE
from probes.protocols.composition import (
    N_CLASSES,
    N_NEIGHBOURS,
    SHRINKAGE,
    TERMINUS,
    concept_given_residue,
    expected_precision,
    neighbour_rates,
    neighbourhoods,
)
from tests.probes.helpers import columns_of, make_rows


def random_case(n_proteins=12, length=30, seed=0, alphabet=3):
    rng = np.random.default_rng(seed)
    residue = rng.integers(0, alphabet, n_proteins * length).astype(np.int8)
    protein = np.repeat(np.arange(n_proteins, dtype=np.int32), length)
    return rng, residue, protein


def test_neighbourhoods_by_hand():
    rows = make_rows(a="ACX", b="D")
    a, c, d = (AMINO_ACIDS.index(letter) for letter in "ACD")
    expected = [(TERMINUS, a, c), (a, c, OTHER_RESIDUE), (c, OTHER_RESIDUE, TERMINUS),
                (TERMINUS, d, TERMINUS)]  # fmt: skip
    cells = neighbourhoods(rows.residue_class, rows.protein_idx).tolist()
    assert cells == [(x * N_CLASSES + y) * N_NEIGHBOURS + z for x, y, z in expected]


def loop_rate(i, labels, cell, residue, protein, m, n_folds=5):
    """Rate of row i from the proteins of the other folds, one row at a time."""
    others = protein % n_folds != protein[i] % n_folds
    same_residue = others & (residue == residue[i])
    prior = labels[same_residue].mean() if same_residue.any() else labels[others].mean()
    same_cell = others & (cell == cell[i])
    return (labels[same_cell].sum() + m * prior) / (same_cell.sum() + m)


def test_rates_equal_a_loop_over_rows_and_the_best_shrinkage_is_taken():
    rng, residue, protein = random_case()
    cell = neighbourhoods(residue, protein)
    labels = np.stack([rng.random(360) < 0.3, residue == np.roll(residue, 1)], axis=1)
    rates = neighbour_rates(labels, cell, protein)
    for c in range(2):
        y = labels[:, c]
        by_m = {m: np.array([loop_rate(i, y, cell, residue, protein, m) for i in range(len(y))])
                for m in SHRINKAGE}  # fmt: skip
        best = min(SHRINKAGE, key=lambda m: brier_score_loss(y, by_m[m]))
        assert rates.shrinkage[c] == best
        assert rates.table[rates.row, c] == pytest.approx(by_m[best], abs=1e-5)
    # noise is best told by the rate of many, a rule on neighbours by its cell
    assert rates.shrinkage[0] > rates.shrinkage[1] == SHRINKAGE[0]


def test_own_protein_is_not_in_its_estimate():
    _, residue, protein = random_case(seed=1)
    cell = neighbourhoods(residue, protein)
    labels = (residue == np.roll(residue, 1))[:, None]
    changed = labels.copy()
    changed[protein.searchsorted(4) + 7] ^= True
    before, after = (neighbour_rates(y, cell, protein) for y in (labels, changed))
    assert before.shrinkage == after.shrinkage
    differs = before.table[before.row] != after.table[after.row]
    assert differs[protein % 5 != 4].any()
    assert not differs[protein % 5 == 4].any()  # the protein's own fold


def test_a_single_protein_knows_nothing_of_itself():
    _, residue, _ = random_case()
    protein = np.zeros(len(residue), dtype=np.int32)
    rates = neighbour_rates(residue[:, None] == 1, neighbourhoods(residue, protein), protein)
    assert np.isnan(rates.table).all()


def test_expected_precision_of_every_latent_and_concept_equals_loops():
    rng, residue, protein = random_case(seed=2)
    dense = np.maximum(rng.normal(-1, 1, size=(360, 6)), 0)
    dense[:, 5] = 0
    labels = rng.random((360, 3)) < [0.2, 0.5, 0.8]
    columns = columns_of(dense)
    identity = expected_precision(columns, labels, residue, protein)
    near = expected_precision(columns, labels, residue, protein, context="neighbours")
    rates = neighbour_rates(labels, neighbourhoods(residue, protein), protein)
    for c in range(3):
        p = concept_given_residue(labels[:, c], residue)
        for j in range(5):
            fires = dense[:, j] > 0
            assert identity[j, c] == pytest.approx(p[residue[fires]].mean())
            assert near[j, c] == pytest.approx(rates.table[rates.row, c][fires].mean(), rel=1e-5)
    assert np.isnan(identity[5]).all()
    assert np.isnan(near[5]).all()


def test_neighbours_explain_what_identity_does_not():
    """A concept that is 'A before C': only the wider context predicts a latent of it."""
    rng = np.random.default_rng(3)
    residue = rng.integers(0, 5, 6000).astype(np.int8)
    protein = (np.arange(6000) // 60).astype(np.int32)
    rule = (residue == 1) & (np.append(0, residue[:-1]) == 0)
    rule[::60] = False
    dense = rule[:, None].astype(float)
    columns, labels = columns_of(dense), rule[:, None]
    identity = expected_precision(columns, labels, residue, protein)[0, 0]
    near = expected_precision(columns, labels, residue, protein, context="neighbours")[0, 0]
    assert identity == pytest.approx(rule.sum() / (residue == 1).sum())
    assert near > 0.9


def test_rows_left_out_keep_their_neighbours():
    _, residue, protein = random_case(seed=5)
    rule = np.append(0, residue[:-1]) == 0
    keep = np.arange(360) % 2 == 1
    cells = neighbourhoods(residue, protein)[keep]
    columns, labels = columns_of(rule[keep, None].astype(float)), rule[keep, None]
    args = columns, labels, residue[keep], protein[keep]
    right = expected_precision(*args, context="neighbours", neighbourhood=cells)
    wrong = expected_precision(*args, context="neighbours")
    assert right[0, 0] > wrong[0, 0] + 0.2
