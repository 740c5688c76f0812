"""What tests of the latent store share: small shards, runs of random weights."""

import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
from flax import nnx
from orbax.checkpoint import v1 as ocp

from saejax import latent_arrays
from saejax.architectures import ARCHITECTURES
from saejax.checkpoint import RUN_FORMAT_VERSION, LoadedSAE
from saejax.config import SAEConfig
from saejax.model import Constants
from saejax.sae_config import Architecture

SMALL = {"SHARD_ENTRIES": 2048, "CHUNK_ENTRIES": 256, "POINTERS_PER_FILE": 1024}
SEVERAL_PARTS = 1e-4
"""GB: room for three shards of 2,048 entries, of eleven or more."""


@contextmanager
def shards_of(shard, chunk, pointers):
    """Other sizes of shards than those for real data."""
    with (
        mock.patch.object(latent_arrays, "SHARD_ENTRIES", shard),
        mock.patch.object(latent_arrays, "CHUNK_ENTRIES", chunk),
        mock.patch.object(latent_arrays, "POINTERS_PER_FILE", pointers),
    ):
        yield


def loaded_of(store, architecture: Architecture = "topk", seed=0, d_sae=48):
    """A run of random weights, in memory."""
    config = SAEConfig(16, d_sae, 5, 8, architecture)
    constants = Constants(store.mean, store.scale)
    sae = ARCHITECTURES[architecture](config, constants, rngs=nnx.Rngs(seed)).for_inference(0.5)
    return LoadedSAE(Path("runs/random"), sae, config, {"store": store.manifest})


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write_run(folder, loaded):
    """Write what ``load_sae`` reads of a finished TopK run."""
    found = {name: np.asarray(getattr(loaded.sae, name)[...]) for name in
             ("W_enc_T", "W_dec", "b_enc", "b_dec", "mean", "scale")}  # fmt: skip
    ocp.save_checkpointables(str(folder / "checkpoints" / "000000001"), {"sae": found})
    record = {"format_version": RUN_FORMAT_VERSION, "state": "complete", "results": {"l0": 5.0},
              "sae": asdict(loaded.config), "store": loaded.store_manifest}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder
