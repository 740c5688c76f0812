"""How much memory do the tables of all latents take, on a latent store that is larger?

A store of ``--n-proteins`` proteins of 300 residues is written, with latents that fire at random,
64 of them at a residue, and how often each fires log-normal; and concepts that are stretches of ten
residues. A process of its own then makes each table (annotations, precise latents with coverage,
k-sparse probes) and tells its peak memory, Python and its libraries included; one more only opens
the store, for comparison.

Command: ``python -m experiments.benchmarks.latent_tables`` (10 minutes on two busy cores, 2 GB of
disk). Expected: entries take 8 bytes each, and no table holds them all; measured 0.93, 0.77 and
1.02 GB where opening takes 0.44 GB and the entries 1.54 GB (docs/probes.md). Writes
``latent_tables.json``.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import tyro

from extract.alphabet import residue_tokens
from extract.errors import run_cli
from extract.fasta import Protein
from extract.files import versions, write_json_atomically
from probes.config import ProbeConfig
from probes.data.concepts import Concept
from probes.data.rows import ProteinRows
from probes.inputs import Inputs
from probes.protocols.precise_tables import precise_tables
from probes.protocols.sparse_probes import sparse_probes
from probes.report.latent_table import latent_tables
from probes.splits import split_proteins
from saejax import latent_arrays as arrays
from saejax.latent_store import FORMAT_VERSION, LatentStore

log = logging.getLogger(__name__)

LENGTH, K, RUN = 300, 64, 10
TABLES = ("store", "annotations", "precise", "k-sparse")


@dataclass(frozen=True)
class Config:
    """How large."""

    n_proteins: int = 10_000
    """Of 300 residues."""
    n_latents: int = 8192
    """Of the dictionary."""
    n_concepts: int = 10
    """Annotations, of 0.3 to 30 % of the residues."""
    out: Path = Path("latent_tables")
    """Folder of the store, which is removed again, and of ``latent_tables.json``."""


def write_store(config: Config) -> None:
    """A latent store as ``LatentStore.build`` leaves it, without the half by residue."""
    folder, n_rows = config.out / "latents", config.n_proteins * LENGTH
    rng = np.random.default_rng(0)
    frequency = np.exp(rng.normal(0, 1.0, config.n_latents))
    frequency = np.minimum(frequency * (K / frequency.sum()), 0.3)
    rows = []
    for f in frequency:
        gaps = rng.geometric(f, round(1.1 * f * n_rows) + 50)
        fires = np.cumsum(gaps) - 1
        rows.append(fires[fires < n_rows].astype(np.int32))
    indptr = np.append(0, np.cumsum([len(r) for r in rows]))
    values = rng.exponential(size=int(indptr[-1])).astype(np.float32) + np.float32(1e-3)
    top = np.maximum.reduceat(values, indptr[:-1])
    for name, array in (("rows", np.concatenate(rows)), ("values", values)):
        arrays.sharded(folder, f"columns/{name}", array.dtype, len(array)).write(array).result()
    for name, array in (("columns/indptr", indptr), ("columns/max_value", top),
                        ("rows/indptr", np.zeros(1, np.int64))):  # fmt: skip
        arrays.plain(folder, name, array.dtype, len(array), len(array)).write(array).result()
    for name, dtype in (("rows/indices", np.uint16), ("rows/values", np.float32)):
        arrays.sharded(folder, name, dtype, 0)
    write_json_atomically(folder / "manifest.json", {
        "format_version": FORMAT_VERSION, "n_rows": n_rows, "d_sae": config.n_latents,
        "n_entries": int(indptr[-1]), "bytes": arrays.array_bytes(folder), "state": "complete",
    })  # fmt: skip


def inputs_of(config: Config) -> Inputs:
    """Proteins, concepts and a split for that store."""
    rng = np.random.default_rng(1)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    sequences = rng.choice(letters, (config.n_proteins, LENGTH))
    proteins = [Protein(f"P{i}", "".join(s)) for i, s in enumerate(sequences)]
    rows = ProteinRows(
        proteins, np.concatenate([residue_tokens(p.sequence) for p in proteins]).astype(np.uint8)
    )
    everywhere = np.ones(config.n_proteins, dtype=bool)
    concepts = []
    for c, share in enumerate(np.geomspace(0.003, 0.3, config.n_concepts)):
        starts = np.flatnonzero(rng.random(rows.n_rows // RUN) < share) * RUN
        spans = np.stack([starts, starts + RUN], axis=1).astype(np.int64)
        concepts.append(Concept(f"c{c}", "own", spans, everywhere, "residue"))
    ids = [p.id for p in proteins]
    probing = ProbeConfig(
        Path("run"), (Path("acts"),), allow_random_split=True, out=config.out, sparse_k=(1, 4),
        sparse_min_positives=rows.n_rows // 20, bootstrap=100, dense_rows=1,
    )  # fmt: skip
    clusters = {name: f"c{i // 2}" for i, name in enumerate(ids)}
    split = split_proteins(ids, clusters, seed=0, test_fraction=0.3, validation_fraction=0.2)
    latents = LatentStore.open(config.out / "latents")
    nothing = cast(Any, None)  # neither the run nor where concepts came from is asked for
    return Inputs(probing, nothing, [], rows, latents, nothing, split, concepts, [], [])


def peak_bytes() -> int:
    """Of this program alone; ``getrusage`` counts the process that started it, too."""
    [line] = [s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s]
    return 1024 * int(line.split()[1])


def make_table(config: Config, table: str, answer: multiprocessing.SimpleQueue) -> None:
    """One of ``TABLES``, in a process of its own."""
    inputs, begun = inputs_of(config), time.perf_counter()
    if table == "annotations":
        found = latent_tables(inputs, pd.DataFrame())[0]
    elif table == "precise":
        found = precise_tables(inputs)[0]
    elif table == "k-sparse":
        found = sparse_probes(inputs)
    else:
        found = []
    answer.put({"table": table, "rows": len(found), "peak_gb": round(peak_bytes() / 1e9, 3),
                "seconds": round(time.perf_counter() - begun, 1)})  # fmt: skip


def main() -> None:
    """Write the store, make each table, say what it took."""
    config = tyro.cli(Config, description=__doc__)
    config.out.mkdir(parents=True, exist_ok=True)
    if not (config.out / "latents" / "manifest.json").exists():
        write_store(config)
    n_entries = LatentStore.open(config.out / "latents").n_entries
    found = []
    for table in TABLES:
        context = multiprocessing.get_context("spawn")
        answer = context.SimpleQueue()
        process = context.Process(target=make_table, args=(config, table, answer))
        process.start()
        process.join()
        assert process.exitcode == 0, table
        found.append(answer.get())
        log.info("%s", json.dumps(found[-1]))
    write_json_atomically(config.out / "latent_tables.json", {
        "n_rows": config.n_proteins * LENGTH, "n_latents": config.n_latents,
        "n_entries": n_entries, "tables": found, "versions": versions("numpy"),
    })  # fmt: skip
    shutil.rmtree(config.out / "latents")


if __name__ == "__main__":
    run_cli(main)
