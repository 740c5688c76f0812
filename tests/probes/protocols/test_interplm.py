"""InterPLM's protocol against loops that follow its definition."""

from __future__ import annotations

import numpy as np
import pytest

from probes.data.features import SparseFeatures
from probes.protocols.interplm import FRACTIONS, interplm
from tests.probes.helpers import columns_of, make_concept


def f1_by_hand(z, top, fraction, spans, rows):
    """Precision over residues, recall over occurrences, on some rows."""
    called = z > fraction * top
    inside = np.zeros(len(z), bool)
    for start, end in spans:
        inside[start:end] = True
    here = [(s, e) for s, e in spans if rows[s]]
    n_called = (called & rows).sum()
    precision = (called & rows & inside).sum() / n_called if n_called else 0.0
    hit = sum(called[s:e].any() for s, e in here)
    recall = hit / len(here) if here else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.fixture(name="problem")
def fixture_problem():
    """Twelve proteins of 25 residues, three of them for each part and the rest left out."""
    rng = np.random.default_rng(0)
    z = rng.exponential(size=(300, 6)) * (rng.random((300, 6)) < 0.3)
    protein = np.arange(300) // 25
    spans = [
        np.array([(25 * p + a, 25 * p + a + n) for p in range(12)
                  for a, n in ((2, 4), (9, 1), (9, 6), (20, 5))]),
        np.array([(25 * p + 5, 25 * p + 8) for p in range(0, 12, 2)]),
    ]  # fmt: skip
    z[:, 0] *= 0.1
    for start, end in spans[0]:
        z[start : min(end, start + 2), 0] = 3.0
    concepts = [make_concept(f"c{i}", s, 12) for i, s in enumerate(spans)]
    return z.astype(np.float32), spans, concepts, protein < 4, (protein >= 4) & (protein < 9)


def test_every_pair_as_by_hand(problem):
    """The cut is the best on validation; test is scored at it, and again at its own best."""
    z, spans, concepts, validation, test = problem
    found = interplm(
        SparseFeatures("latents", columns_of(z)), concepts, validation, test,
        min_occurrences=0, min_residues=0,
    )  # fmt: skip
    table = found.pairs.set_index(["feature", "concept"])
    top = z.max(axis=0)
    for j in range(6):
        for c in range(2):
            on_validation = [f1_by_hand(z[:, j], top[j], t, spans[c], validation)
                             for t in FRACTIONS]  # fmt: skip
            on_test = [f1_by_hand(z[:, j], top[j], t, spans[c], test) for t in FRACTIONS]
            if max(on_validation) == 0:
                assert (j, c) not in table.index
                continue
            row = table.loc[(j, c)]
            at = int(np.argmax(on_validation))
            assert row["fraction"] == FRACTIONS[at]
            assert row["f1_validation"] == pytest.approx(on_validation[at])
            assert row["f1_test"] == pytest.approx(on_test[at])
            assert row["f1_test_repicked"] == pytest.approx(max(on_test))
    assert found.summary()["concepts_found"] >= 1
    assert 0 in set(found.found()["feature"])


def test_rare_concepts_are_left_out(problem):
    """Neither more than ten occurrences nor more than 1,500 residues in validation."""
    z, _, concepts, validation, test = problem
    found = interplm(SparseFeatures("latents", columns_of(z)), concepts, validation, test)
    assert found.kept.tolist() == [True, False]
    assert set(found.pairs["concept"]) == {0}


def test_blocks_of_features_make_no_difference(problem):
    """The same table, one feature at a time."""
    z, _, concepts, validation, test = problem

    class OneByOne(SparseFeatures):
        @property
        def at_once(self):
            return 1

    whole = interplm(SparseFeatures("a", columns_of(z)), concepts, validation, test)
    parts = interplm(OneByOne("a", columns_of(z)), concepts, validation, test)
    assert whole.pairs.equals(parts.pairs)
