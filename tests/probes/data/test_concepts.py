"""Sparse concepts against columns, by brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.data.concepts import Concept, ConceptTable, ResidueConcept
from tests.probes.helpers import make_rows

LENGTHS = (4, 1, 7, 3)
ROWS = make_rows(**{f"p{i}": "ACDEFGH"[:n] for i, n in enumerate(LENGTHS)})


@st.composite
def stretches(draw):
    """(protein, start, end) in rows of the protein."""
    protein = draw(st.integers(0, len(LENGTHS) - 1))
    start = draw(st.integers(0, LENGTHS[protein] - 1))
    return protein, start, draw(st.integers(start + 1, LENGTHS[protein]))


@given(st.lists(stretches(), max_size=12), st.sets(st.integers(0, 3)))
def test_spans_equal_columns(given_stretches, unknown):
    table = ConceptTable(ROWS, "own")
    dense = np.zeros(ROWS.n_rows, dtype=bool)
    for protein in range(4):
        table.define("all", protein)
    table.name("x", ("all",))
    for protein, start, end in given_stretches:
        first = int(ROWS.offsets[protein])
        table.add("x", ("all",), first + start, first + end)
        dense[first + start : first + end] = protein not in unknown
    for protein in unknown:
        table.leave_unknown("x", ("all",), protein)
    (x,) = table.concepts()
    assert (x.labels(ROWS.n_rows) == dense).all()
    assert x.n_positive == dense.sum()
    of_protein = np.add.reduceat(dense, ROWS.offsets[:-1], dtype=int)
    proteins, counts = x.positives(ROWS)
    assert proteins.tolist() == np.flatnonzero(of_protein).tolist()
    assert counts.tolist() == of_protein[proteins].tolist()
    assert set(np.flatnonzero(~x.defined).tolist()) == unknown
    assert (x.defined_rows(ROWS) >= dense).all()
    kept = {s for s in given_stretches if s[0] not in unknown}
    assert len(x.spans) == len(kept)  # one for each occurrence, repeats once


def test_concepts_share_their_masks():
    table = ConceptTable(ROWS, "own")
    for name in "abc":
        table.define("all", 1)
        table.add(name, ("all",), 4, 5)
    table.leave_unknown("c", ("all",), 1)
    a, b, c = table.concepts()
    assert a.defined is b.defined
    assert not c.defined.any()
    assert len(c.spans) == 0


def test_a_residue_concept_is_the_same_as_its_spans():
    lazy = ResidueConcept("x", "amino-acid class", "ACG", ROWS)
    plain = Concept("x", "own", lazy.spans, lazy.defined)
    assert (lazy.labels(ROWS.n_rows) == plain.labels(ROWS.n_rows)).all()
    assert lazy.n_positive == plain.n_positive
    assert np.array_equal(lazy.positives(ROWS), plain.positives(ROWS))
    assert lazy.spans.dtype == np.int64
    assert (ROWS.protein_of(lazy.spans[:, 0]) == ROWS.protein_of(lazy.spans[:, 1] - 1)).all()


@pytest.mark.parametrize("spans", [[[3, 3]], [[3, 4], [1, 2]]])
def test_spans_that_are_ours_to_fix(spans):
    with pytest.raises(AssertionError):
        Concept("x", "own", np.array(spans, dtype=np.int64), np.ones(4, dtype=bool))


def test_a_span_outside_its_groups_is_ours_to_fix():
    table = ConceptTable(ROWS, "own")
    table.add("x", ("all",), 0, 1)
    with pytest.raises(AssertionError, match="x: undefined span"):
        table.concepts()
