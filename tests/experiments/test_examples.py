import numpy as np
import pytest

from experiments.report.examples import FLANK, best_examples
from saejax.latents import LatentColumns
from tests.helpers import make_store, random_proteins


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("s") / "acts", random_proteins(4, 60, 90))


def columns_of(store, firings):
    """One latent that fires as {(protein, position): value}."""
    rows = sorted((int(store.offsets[p]) + i, v) for (p, i), v in firings.items())
    indptr = np.array([0, len(rows)])
    values = np.array([v for _, v in rows], np.float32)
    return LatentColumns(indptr, np.array([r for r, _ in rows], np.int32), values, store.n_rows)


def examples_of(store, firings, allowed=("p0", "p1", "p2", "p3"), structures=None, n=5):
    columns = columns_of(store, firings)
    return best_examples(columns, store, 0, structures=structures or {}, allowed=set(allowed), n=n)


def test_best_proteins_first_one_window_each(store):
    firings = {(0, 5): 1.0, (0, 50): 4.0, (1, 10): 8.0, (1, 11): 2.0, (3, 0): 3.0}
    found = examples_of(store, firings)
    assert [(e.protein, e.maximum, e.n_fires) for e in found] == [
        ("p1", 8.0, 2), ("p0", 4.0, 2), ("p3", 3.0, 1)
    ]  # fmt: skip
    assert [e.n_residues for e in found] == [len(store.proteins[i].sequence) for i in (1, 0, 3)]


def test_window_holds_the_maximum_with_its_position_and_shade(store):
    for position in (0, 30, len(store.proteins[0].sequence) - 1):
        example = examples_of(store, {(0, position): 2.0, (1, 3): 4.0})[1]
        residues = example.residues
        assert len(residues) == 2 * FLANK + 1
        best = max(residues, key=lambda r: r.value)
        assert (best.position, best.value, best.shade) == (position + 1, 2.0, 0.5)
        sequence = store.proteins[0].sequence
        assert all(r.letter == sequence[r.position - 1] for r in residues)


def test_proteins_that_chose_the_latent_are_not_shown(store):
    firings = {(0, 5): 9.0, (2, 5): 1.0}
    assert [e.protein for e in examples_of(store, firings, allowed=("p2",))] == ["p2"]


def test_secondary_structure_is_aligned(store):
    states = "H" * 3 + "E" * 2 + "C" * 100
    example = examples_of(store, {(0, 0): 1.0}, structures={"p0": states})[0]
    assert [r.structure for r in example.residues[:6]] == ["helix"] * 3 + ["strand"] * 2 + ["other"]
    assert {r.structure for r in examples_of(store, {(0, 0): 1.0})[0].residues} == {""}


def test_silent_latent_has_no_examples(store):
    assert examples_of(store, {}) == []
