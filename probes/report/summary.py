"""What a probing run was made from, and what it left out: ``summary.json``."""

from __future__ import annotations

import logging
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from extract.files import versions
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
        "config": {f.name: _plain(getattr(config, f.name)) for f in fields(config)},
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


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value.name if isinstance(value, Path) else value
