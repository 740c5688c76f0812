"""A tiny run and annotation files for the probes."""

from pathlib import Path

import pytest

from extract.store import ActivationStore
from saejax.train import TrainConfig, train
from tests.probes.helpers import dssp_table, flat_file_record, write


@pytest.fixture(scope="session")
def tiny_run(tiny_store, tmp_path_factory) -> Path:
    """A TopK SAE of 64 latents on the tiny store."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    config = TrainConfig.of(
        activations=tiny_store.folder, out=out, d_sae=64, k=4, epochs=2, batch_size_tokens=256
    )
    return train(config)


@pytest.fixture(scope="session")
def sources(tiny_store: ActivationStore, tmp_path_factory) -> dict[str, Path]:
    """DSSP of the first 40 proteins, a flat file of the others, clusters of two."""
    folder = tmp_path_factory.mktemp("sources")
    proteins = tiny_store.proteins
    records = [
        flat_file_record(p.id, p.sequence, [("TRANSMEM", 3, 20), ("CHAIN", 1, 30)])
        for p in proteins[40:]
    ]
    clusters = [f"{p.id}\tc{i // 2}\n" for i, p in enumerate(proteins)]
    return {
        "dssp": write(folder / "dssp.tsv.gz", dssp_table(proteins[:40])),
        "swissprot": write(folder / "sp.dat.gz", "".join(records)),
        "clusters": write(folder / "clusters.tsv", "id\tcluster\n" + "".join(clusters)),
    }
