"""Tables of all latents read the store a block at a time, and are the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from probes.config import ProbeConfig
from probes.data.part_columns import PartColumns
from probes.inputs import Inputs
from probes.protocols.precise_tables import precise_tables
from probes.protocols.sparse_probes import sparse_probes
from probes.report.latent_table import latent_tables
from saejax.latent_store import LatentStore

BLOCK = 200


@pytest.fixture(scope="module", name="inputs")
def fixture_inputs(tiny_run, tiny_store, sources, tmp_path_factory) -> Inputs:
    """The tiny store, each part with its concepts."""
    return Inputs.of(ProbeConfig(
        tiny_run, (tiny_store.folder,), **sources, min_positives=10, min_fires=10, min_proteins=2,
        sparse_min_positives=20, seed=1, sparse_k=(1, 4), bootstrap=20,
        out=tmp_path_factory.mktemp("probes") / "out",
    ))  # fmt: skip


@pytest.fixture(name="reads")
def fixture_reads(monkeypatch) -> list[int]:
    """Entries of every read of latents."""
    entries: list[int] = []
    columns = LatentStore.columns

    def counted(self, first=0, last=None):
        found = columns(self, first, last)
        entries.append(len(found.rows))
        return found

    monkeypatch.setattr(LatentStore, "columns", counted)
    return entries


def annotations(inputs: Inputs) -> tuple[pd.DataFrame, ...]:
    """Kinds, annotations and logos."""
    return latent_tables(inputs, pd.DataFrame())


def few_latents(inputs: Inputs) -> tuple[pd.DataFrame, ...]:
    """k-sparse probes."""
    return (sparse_probes(inputs),)


@pytest.mark.parametrize("table", [annotations, precise_tables, few_latents])
def test_no_read_is_larger_than_a_block(inputs, reads, monkeypatch, table):
    """Or than one latent; with blocks of 200 entries, nothing held, tables are the same."""
    whole = table(inputs)
    assert max(reads) == inputs.latents.n_entries  # all fit in a block of the usual size
    reads.clear()
    monkeypatch.setattr("probes.data.firing.BLOCK_ENTRIES", BLOCK)
    monkeypatch.setattr("probes.data.part_columns.HELD_BYTES", 0)
    for found, expected in zip(table(inputs), whole, strict=True):
        assert len(expected)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-12, atol=1e-12)
    largest = int(inputs.latents.n_fires.max())
    assert len(reads) > 5
    assert max(reads) <= max(BLOCK, largest) < inputs.latents.n_entries / 2


@pytest.mark.parametrize("held_bytes", [0, 1 << 20])
def test_columns_of_a_part(inputs, reads, monkeypatch, held_bytes):
    """Its rows, renumbered, largest value first; what is held is read once."""
    monkeypatch.setattr("probes.data.firing.BLOCK_ENTRIES", BLOCK)
    store = inputs.latents
    keep = np.arange(store.n_rows) % 3 > 0
    part = PartColumns(store, keep, held_bytes=held_bytes)
    for _ in range(2):
        for first, block in part.blocks():
            for j in range(len(block.indptr) - 1):
                rows, values = block.column(j)
                np.testing.assert_array_equal(part.column(first + j), (rows, values))
                assert (np.diff(values) <= 0).all()
    n_blocks = len(part._bounds)
    assert len(reads) == (n_blocks if held_bytes else 2 * (n_blocks + part.n_latents))
    rows, values = store.column(5)
    inside = keep[rows]
    order = np.argsort(-values[inside], kind="stable")
    found, strength = part.column(5)
    np.testing.assert_array_equal(strength, values[inside][order])
    np.testing.assert_array_equal(np.flatnonzero(keep)[found], rows[inside][order])
