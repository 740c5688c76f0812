"""``python -m extract verify``: is a store what its manifest says it is?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from extract.alphabet import residue_tokens
from extract.errors import UserError
from extract.location import Location
from extract.statistics import moments
from extract.store import SIDE_ARRAYS, ActivationStore, ShardSpec, open_array, require_same_parent
from extract.writer import checksum, read_shard_record, store_statistics

TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}
"""Relative L2 error of a residue that other hardware may cause: float32, bfloat16 anywhere."""


@dataclass(frozen=True)
class VerifyConfig:
    """Re-read a store, check every checksum and statistic, and recompute some proteins."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of the store, s3:// or gs://."""
    proteins: int = 20
    """Proteins, drawn at random, that are computed again with the parent; 0: none."""
    weights: Path | None = None
    """Weights file of the parent; by default found as `python -m extract` does."""
    model: str | None = None
    """Only for a parent of your own: its package.module:function, to allow that code to run."""
    device: str | None = None
    """Torch device; by default the first GPU, else the CPU."""
    seed: int = 0
    """Seed of the draw."""


def verify(config: VerifyConfig) -> None:
    """Check a store and print what was checked.

    Raises:
        UserError: the first thing that is wrong, with its shard or protein.
    """
    store = ActivationStore.open(config.store)
    check_bytes(store)
    print(f"{store.place}: {len(store.shards):,} shards, {store.n_rows:,} residues: checksums, "
          "side arrays and statistics are right")  # fmt: skip
    if config.proteins:
        worst, identical, n = recompute(store, config)
        print(f"{store.place}: {n} proteins computed again: {identical} bit-identical, largest "
              f"relative error {worst:.2g}")  # fmt: skip


def check_bytes(store: ActivationStore) -> None:
    """Read every shard and compare it with its record, and all of them with the manifest.

    Raises:
        UserError: naming the first shard or number that differs.
    """
    names = ("activations", *SIDE_ARRAYS)
    arrays = {name: open_array(store.place, name, read=True) for name in names}
    for shard in tqdm(store.shards, unit="shard", disable=None):
        record = read_shard_record(store.place, shard)
        parts = {}
        for name, array in arrays.items():
            try:
                parts[name] = np.asarray(array[shard.start : shard.stop].read().result())
            except ValueError as error:
                raise _damaged(store.place, shard, f"{name} can't be read") from error
            if checksum(parts[name]) != record["sha256"][name]:
                raise _damaged(store.place, shard, f"the checksum of {name} differs")
        mean, squares = moments(parts["activations"])
        if mean.tolist() != record["mean"] or squares.tolist() != record["squared_deviations"]:
            raise _damaged(store.place, shard, "its statistics differ")
    _check_side_arrays(store)
    expected = store_statistics(store.place, store.shards)
    for name, value in expected.items():
        if store.manifest[name] != value:
            raise UserError(f"{store.place}/manifest.json: {name} differs from the shards'; "
                            "extract the store again")  # fmt: skip


def _damaged(place: Location, shard: ShardSpec, what: str) -> UserError:
    return UserError(
        f"{place}: shard {shard.index} (rows {shard.start} to {shard.stop}) is damaged: {what}; "
        f"remove {place}/shards/{shard.key} and run the same `python -m extract` command again"
    )


def _check_side_arrays(store: ActivationStore) -> None:
    """Side arrays against the proteins."""
    lengths = np.diff(store.offsets)
    expected = {
        "protein_idx": np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths),
        "pos": np.concatenate([np.arange(n, dtype=np.uint16) for n in lengths]),
        "token_id": np.concatenate([residue_tokens(p.sequence) for p in store.proteins]),
    }
    for name, values in expected.items():
        wrong = np.flatnonzero(store.side_array(name) != values)
        if len(wrong):
            raise UserError(f"{store.place}: {name} is wrong from row {wrong[0]} on; extract the "
                            "store again")  # fmt: skip


def recompute(store: ActivationStore, config: VerifyConfig) -> tuple[float, int, int]:
    """Compute random proteins again.

    Returns:
        The largest relative error of a residue, how many proteins are bit-identical, and how many
        were computed. A protein is computed alone here and in a batch there, so that equal bytes
        are not to be expected.

    Raises:
        UserError: other weights, or a protein that is off by more than hardware explains.
    """
    from extract.forward import site_activations
    from extract.parents import load_parent_of

    model = load_parent_of(
        store.manifest,
        weights=config.weights,
        device=config.device,
        dtype=store.manifest["parent"]["compute_dtype"],
        model=config.model,
    )
    what = f"store {store.place} and these weights"
    require_same_parent(store.manifest, model.describe_site(store.site), what=what)
    rng = np.random.default_rng(config.seed)
    n = min(config.proteins, len(store.proteins))
    worst, identical = 0.0, 0
    for i in tqdm(sorted(rng.choice(len(store.proteins), n, replace=False)), disable=None):
        protein = store.proteins[i]
        stored = store.read_stored(int(store.offsets[i]), int(store.offsets[i + 1]))
        again = site_activations(
            model, [protein.sequence], [store.site], dtype=store.manifest["dtype"]
        )[store.site]
        identical += np.array_equal(stored, again)
        worst = max(worst, relative_error(again, stored))
        kinds = (store.manifest["dtype"], store.manifest["parent"]["compute_dtype"])
        limit = max(TOLERANCE[kind] for kind in kinds)
        if not worst <= limit:
            raise UserError(
                f"{store.place}: protein {protein.id} differs from its parent by {worst:.2g} "
                f"(relative, limit {limit:.2g}); the store is not what it says, extract it again"
            )
    return worst, identical, n


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest ‖found − expected‖ / ‖expected‖ of a residue; inf where one is not finite."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    error = np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(b, axis=1), 1e-12)
    return float(error.max()) if np.isfinite(error).all() else float("inf")
