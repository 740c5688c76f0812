"""Small runs of a parent that can be loaded, their bundles and probes: for the live half."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.build.command import build
from explorer.build.config import BuildConfig
from probes.config import ProbeConfig
from probes.evaluate import probe_run
from probes.report.tables import write_results
from saejax.checkpoint import load_sae
from saejax.gate import measured_fvu, sample_rows
from saejax.latents import encode_store
from tests import tiny_parent
from tests.explorer.build_inputs import run_of
from tests.helpers import make_stores, random_proteins

MODEL = "tests.tiny_parent:load"


class LiveFolder(NamedTuple):
    """Where everything is."""

    folder: Path
    bundles: Path
    runs: list[Path]
    sequences: list[str]


@pytest.fixture(scope="session")
def live_folder(tmp_path_factory) -> LiveFolder:
    """Two sites of one parent: bundles, runs and probes beside each other."""
    folder = tmp_path_factory.mktemp("live")
    proteins = random_proteins(60, 30, 60)
    stores = make_stores(folder / "acts", proteins, tiny_parent.load(), site=("block1", "block2"))
    clusters = folder / "clusters.tsv"
    clusters.write_text("id\tcluster\n" + "".join(f"{p.id}\t{p.id}\n" for p in proteins))
    runs = []
    for store, site in zip(stores, ("block1", "block2"), strict=True):
        home = folder / site
        run = run_of(home / "sae", store)
        runs.append(run)
        _write_statistics(run, store)
        _write_fvu(run, store)
        config = ProbeConfig(
            run, (store.folder,), home / "probes", clusters=clusters, baselines=(), protocols=(),
            min_positives=5, min_fires=5, min_proteins=2, bootstrap=20,
        )  # fmt: skip
        write_results(probe_run(config), home / "probes")
        out = folder / "bundles" / site
        build(BuildConfig(run, (store.folder,), out, probes=home / "probes", name=site,
                          umap=False, effects=False, neurons=False))  # fmt: skip
    return LiveFolder(folder, folder / "bundles", runs, [p.sequence for p in proteins])


def _write_fvu(run: Path, store) -> None:
    """Weights are random: the record says how badly they fit, so that they pass the gates."""
    record = json.loads((run / "run.json").read_text())
    record["results"]["fvu"] = measured_fvu(load_sae(run).sae, sample_rows(store))
    (run / "run.json").write_text(json.dumps(record))


def _write_statistics(run: Path, store) -> None:
    latents = encode_store(load_sae(run).sae, store)
    table = np.zeros((store.n_rows, latents.d_sae), np.float32)
    np.put_along_axis(table, latents.indices, np.maximum(latents.values, 0), axis=1)
    columns = {"frequency": (table > 0).mean(axis=0), "maximum": table.max(axis=0)}
    pq.write_table(pa.table(columns), run / "latent_stats.parquet")
