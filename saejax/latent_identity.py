"""Whose latents a latent store holds: which run's, of which activation stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import UserError
from extract.store import ActivationStore
from saejax.checkpoint import LoadedSAE

REMEDY = "remove it, or give another folder"


def run_identity(loaded: LoadedSAE) -> dict[str, Any]:
    """A run's name, architecture and the SHA-256 of its parameters as they are in use."""
    digest = hashlib.sha256()
    for name, array in sorted(loaded.arrays().items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    sae = json.loads(json.dumps(asdict(loaded.config)))
    folder = loaded.folder.resolve().name
    return {"folder": folder, "sae": sae, "parameters_sha256": digest.hexdigest()}


def store_identity(store: ActivationStore) -> dict[str, Any]:
    """What a store's manifest says, its longest lists as a hash of the whole."""
    manifest = json.dumps(store.manifest, sort_keys=True)
    facts = {k: v for k, v in store.manifest.items() if k not in ("mean", "part_rows")}
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    return {"folder": store.folder.name, **json.loads(json.dumps(facts)), "manifest_sha256": digest}


def require_run(folder: Path, record: Mapping[str, Any], loaded: LoadedSAE) -> None:
    """Refuse another run than the one that a store's ``record`` names.

    Raises:
        UserError: the first difference, with both values.
    """
    what = f"the run {record['run']['folder']!r}, not of {loaded.folder}"
    _require_same(folder, record["run"], run_identity(loaded), what)


def require_stores(
    folder: Path, record: Mapping[str, Any], stores: Sequence[ActivationStore]
) -> None:
    """Refuse other activation stores, or another order, than a store's ``record`` names.

    Raises:
        UserError: the first difference, with both values.
    """
    names = [one["folder"] for one in record["stores"]]
    if len(names) != len(stores):
        given = ", ".join(str(store.folder) for store in stores)
        raise UserError(
            f"{folder}: holds the latents of {len(names)} activation stores ({', '.join(names)}), "
            f"not of {len(stores)} ({given}); {REMEDY}"
        )
    for one, store in zip(record["stores"], stores, strict=True):
        what = f"the activation store {one['folder']!r}, not of {store.folder}"
        _require_same(folder, one, store_identity(store), what)


def _require_same(folder: Path, before: Mapping, now: Mapping, what: str) -> None:
    """Refuse when two identities differ in more than where things lay."""
    first, second = _flat(before), _flat(now)
    for key in {**first, **second}:
        if key != "folder" and first.get(key) != second.get(key):
            raise UserError(
                f"{folder}: holds the latents of {what}: {key} is {first.get(key)!r} in the first "
                f"and {second.get(key)!r} in the second; {REMEDY}"
            )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    parts = (_flat(v, f"{name}.{k}" if name else k) for k, v in value.items())
    return {key: v for part in parts for key, v in part.items()}
