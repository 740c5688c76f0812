"""Fixtures of a build: a tiny run, a store, annotations, structures; and its latents as a table."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from Bio.Data.IUPACData import protein_letters_1to3
from flax import nnx
from orbax.checkpoint import v1 as ocp

from explorer.build import by_latent, by_protein, kinds
from explorer.build.config import BuildConfig
from saejax.architectures import ARCHITECTURES
from saejax.checkpoint import RUN_FORMAT_VERSION, load_sae
from saejax.gate import measured_fvu, sample_rows
from saejax.latents import encode_store
from saejax.model import Constants
from saejax.sae_config import Architecture, SAEConfig
from tests.probes.helpers import dssp_table, flat_file_record, write


def run_of(folder, store, architecture: Architecture = "topk", d_sae=48, k=5, dead=3, fitted=False):
    """A finished run of random weights, whose first latents never fire.

    ``fitted``: of the store's principal components instead, both ways, with their true FVU.
    """
    config = SAEConfig(16, d_sae, k, 8, architecture)
    sae = ARCHITECTURES[architecture](config, Constants(store.mean, store.scale), rngs=nnx.Rngs(0))
    state = nnx.to_pure_dict(nnx.split(sae)[1])
    arrays = {name: np.array(value) for name, value in state.items()}
    arrays["b_enc"][:dead] = -1e4
    if fitted:
        x = store.read(0, store.n_rows) - np.asarray(store.mean)
        axes = np.linalg.svd(x, full_matrices=False)[2]
        pairs = np.concatenate([axes, -axes])
        for name in ("W_enc_T", "W_dec"):
            arrays[name][-len(pairs) :] = pairs
        arrays["b_enc"][: -len(pairs)] = -1e4
    if "log_threshold" in arrays:
        arrays["log_threshold"][:] = np.log(0.2)
    ocp.save_checkpointables(str(folder / "checkpoints" / "000000001"), {"sae": arrays})
    record = {
        "format_version": RUN_FORMAT_VERSION, "state": "complete", "sae": asdict(config),
        "results": {"l0": 5.0, "fvu": 0.25, "frac_dead": 0.0}, "store": store.manifest,
        "config": {"activations": "/home/someone/acts", "out": str(folder)},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    if fitted:
        record["results"]["fvu"] = measured_fvu(load_sae(folder).sae, sample_rows(store))
        (folder / "run.json").write_text(json.dumps(record))
    return folder


def pdb_of(sequence, missing=()):
    """Four backbone atoms of every residue but some."""
    lines, serial = [], 0
    for i, letter in enumerate(sequence, start=1):
        if i in missing:
            continue
        for a, atom in enumerate(("N", "CA", "C", "O")):
            serial += 1
            name = protein_letters_1to3[letter].upper()
            lines.append(
                f"ATOM  {serial:5d}  {atom:<3} {name} A{i:4d}    "
                f"{i:8.3f}{a:8.3f}{i + a / 4:8.3f}  1.00  0.00"
            )
    return "\n".join([*lines, "END", ""])


@pytest.fixture(scope="session")
def known(tiny_store, tmp_path_factory):
    """Flags of annotations: DSSP of ten proteins, TRANSMEM of the last ten, two structures."""
    folder = tmp_path_factory.mktemp("known")
    proteins = tiny_store.proteins
    (folder / "structures").mkdir()
    for i in (7, 30):
        write(folder / "structures" / f"p{i}.pdb.gz", pdb_of(proteins[i].sequence, missing=(2,)))
    records = [
        flat_file_record(p.id, p.sequence, [("TRANSMEM", 3, 20)]).replace(
            "SQ   ", f"DE   RecName: Full=Protein {p.id} <b>;\nOS   Homo sapiens (Human).\nSQ   "
        )
        for p in proteins[50:]
    ]
    clusters = "".join(f"{p.id}\tc{i // 2}\n" for i, p in enumerate(proteins))
    return {
        "dssp": write(folder / "dssp.tsv.gz", dssp_table(proteins[:10])),
        "swissprot": write(folder / "sp.dat.gz", "".join(records)),
        "clusters": write(folder / "clusters.tsv", "id\tcluster\n" + clusters),
        "structures": folder / "structures",
    }


@pytest.fixture(scope="session")
def run(tiny_store, tmp_path_factory) -> Path:
    return run_of(tmp_path_factory.mktemp("run") / "sae", tiny_store)


@pytest.fixture(scope="session")
def config(run, tiny_store, known, tmp_path_factory) -> BuildConfig:
    """Everything but probes, the map, the effects and the check of FVU."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    return BuildConfig(
        run, (tiny_store.folder,), out, **known, umap=False, effects=False, name="A tiny/SAE",
        check=False,  # weights are random and the FVU in their record is made up
    )  # fmt: skip


@pytest.fixture
def small_parts(monkeypatch):
    """Several parts of each pass."""
    monkeypatch.setattr(by_protein, "PART_ENTRIES", 3000)
    monkeypatch.setattr(by_latent, "PART_ENTRIES", 4000)
    monkeypatch.setattr(by_latent, "PART_LATENTS", 11)
    monkeypatch.setattr(kinds, "PART_LATENTS", 20)


def dense_of(run, *stores):
    """Latents of every residue as SAE.encode gives them: float32 [rows, d_sae]."""
    found = []
    for store in stores:
        latents = encode_store(load_sae(run).sae, store)
        table = np.zeros((store.n_rows, latents.d_sae), np.float32)
        for row in range(store.n_rows):
            table[row, latents.indices[row]] = np.maximum(latents.values[row], 0)
        found.append(table)
    return np.concatenate(found)


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def again(config, folder, **changes):
    return replace(config, out=folder, **changes)
