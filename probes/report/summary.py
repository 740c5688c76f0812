"""What a probing run was made from, and what it left out: ``summary.json``."""

from __future__ import annotations

import logging
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from extract.files import file_sha256, versions
from probes.config import ProbeConfig
from probes.inputs import Inputs

log = logging.getLogger(__name__)


def provenance(inputs: Inputs) -> dict[str, Any]:
    """Run, stores, split, annotation files with their counts, skipped concepts, versions."""
    loaded, split, config = inputs.loaded, inputs.split, inputs.config
    trained_on = loaded.store_manifest["source"]["sha256"]
    same = [s.folder.name for s in inputs.stores if s.manifest["source"]["sha256"] == trained_on]
    for name in same:
        log.warning("%s: holds the very proteins that the SAE was trained on", name)
    keys = ("parent", "site", "source", "n_rows", "n_proteins")
    return {
        "run": loaded.folder.resolve().name,
        "sae": asdict(loaded.config),
        **settings(config),
        "stores": [
            {"folder": s.folder.name} | {key: s.manifest[key] for key in keys}
            for s in inputs.stores
        ],
        "stores_the_sae_was_trained_on": same,
        "split": {
            "random": split.random,
            "by": split.method,
            "n_clusters": len(set(split.clusters)),
            **{f"n_proteins_{part}": int((split.part == i).sum())
               for i, part in enumerate(("train", "validation", "test"))},
        },
        "n_structures": len(inputs.structures or ()),
        "annotations": inputs.annotations.summary(),
        "skipped_concepts": [
            {"concept": s.concept.name, "kind": s.concept.kind} | s.counts for s in inputs.skipped
        ],
        "versions": versions("numpy", "pandas", "scikit-learn", "biopython", "jax"),
    }  # fmt: skip


IRRELEVANT = ("out", "label_gb")
"""Settings that change no result."""


def settings(config: ProbeConfig) -> dict[str, Any]:
    """``config`` with the names of files, and ``sha256`` of the contents of all but run and stores.

    Those the latent store beside the tables knows better.
    """
    hashes: dict[str, str] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name in ("run", "activations", "shuffled_run", "shuffled_activations", "out"):
            continue
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path):
                inside = sorted(path.iterdir()) if path.is_dir() else [path]
                hashes |= {f"{f.name}: {p.name}": file_sha256(p) for p in inside if p.is_file()}
    plain = {f.name: _plain(getattr(config, f.name)) for f in fields(config)}
    return {"config": plain, "sha256": hashes}


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs first between two :func:`settings`, in words; empty when results would agree."""
    for group in ("config", "sha256"):
        before, now = old.get(group), new[group]
        if before is None:
            return "an earlier version"
        for name in [*now, *(n for n in before if n not in now)]:
            if name not in IRRELEVANT and before.get(name) != now.get(name):
                if group == "sha256":
                    return f"another content of {name}"
                return f"{name} {before.get(name)!r}, not {now.get(name)!r}"
    return ""


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value.name if isinstance(value, Path) else value
