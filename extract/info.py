"""``python -m extract info``: what a store is, for a person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from extract.location import Location
from extract.store import DTYPES, committed_shards, read_manifest, shard_specs


@dataclass(frozen=True)
class InfoConfig:
    """Print what an activation store is: parent, weights, site, proteins, size, state."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of the store, s3:// or gs://; finished or not."""


def info(config: InfoConfig) -> None:
    """Print a store's facts, one to a line.

    Raises:
        UserError: no store there.
    """
    place = Location.of(config.store)
    for name, value in facts(place).items():
        print(f"{name:<15}{value}")


def facts(place: Location) -> dict[str, str]:
    """A store's facts in words."""
    manifest = read_manifest(place)
    parent, source = manifest["parent"], manifest["source"]
    shards = shard_specs(manifest["n_rows"], manifest["shard_rows"])
    done = committed_shards(place)
    rows = sum(s.stop - s.start for s in shards if s.index in done)
    size = manifest["n_rows"] * manifest["d_model"] * DTYPES[manifest["dtype"]].itemsize
    found = {
        "store": str(place),
        "state": f"{manifest['state']}, {len(done):,} of {len(shards):,} shards, {rows:,} of "
        f"{manifest['n_rows']:,} residues (not checked here: verify does)",
        "parent": f"{parent['name']}, token dropout {'on' if parent['token_dropout'] else 'off'}, "
        f"computed in {parent['compute_dtype']}",
        "weights": f"{parent['weights']['source']}, sha256 "
        f"{parent['weights']['encoder_sha256'][:16]}",
        "site": f"{manifest['site']}, {manifest['d_model']} dimensions",
        "proteins": f"{manifest['n_proteins']:,} from {source['file']}, sha256 "
        f"{source['sha256'][:16]}",
        "size": f"{size / 1e9:,.2f} GB of activations in {manifest['dtype']}",
        "software": ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()),
    }
    left_out = {k[2:]: v for k, v in source.items() if k.startswith("n_") and v}
    found["source"] = ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in left_out.items())
    if manifest["state"] == "complete":
        gamma = manifest["gamma"]
        found["scale"] = f"{manifest['scale']:.6g} (E|s(x - mean)|^2 = dimensions)"
        found["gamma"] = "infinite (constant activations)" if gamma is None else (
            f"{gamma:.3f} = |mean| / |std|" + (": the mean dominates" if gamma > 3 else "")
        )  # fmt: skip
    return found
