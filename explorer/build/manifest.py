"""``manifest.json``: what a bundle is, what it holds and is from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from explorer import layout
from explorer.build.inputs import BuildInputs
from explorer.build.order import ProteinOrder
from explorer.bundle import manifest_hash
from extract.alphabet import AMINO_ACIDS
from extract.files import file_sha256, versions, without_nan
from saejax.checkpoint import LoadedSAE

_LISTS = ("mean", "part_rows")
"""Of a store's manifest, too long to be shown."""
_PATHS = ("activations", "out", "eval_activations", "target_activations", "fasta")


def plan_sha256(plan: Mapping[str, Any]) -> str:
    """What two builds of one bundle have in common."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def manifest_of(
    folder: Path,
    inputs: BuildInputs,
    order: ProteinOrder,
    plan: Mapping[str, Any],
    latents: pd.DataFrame,
) -> layout.Manifest:
    """Everything, once all files are in their places."""
    loaded, run, rows = inputs.loaded, inputs.loaded.run, inputs.rows
    parent, results = loaded.store_manifest["parent"], loaded.run["results"]
    config = loaded.config
    files = _files(folder)
    name = inputs.config.name or default_name(loaded)
    manifest = {
        "format_version": layout.FORMAT_VERSION,
        "id": slug(name),
        "name": name,
        "model": parent["name"],
        "weights": parent["weights"]["source"],
        "site": loaded.site,
        "block": block_of(loaded.site),
        "architecture": config.architecture,
        "d_model": config.d_model,
        "d_sae": config.d_sae,
        "k": fixed_k(loaded),
        "fvu": results.get("fvu"),
        "l0": results.get("l0"),
        "dead": results.get("frac_dead"),
        "loss_recovered": _loss_recovered(inputs.fidelity),
        "n_proteins": rows.n_proteins,
        "n_residues": rows.n_rows,
        "n_tracked": order.n_tracked,
        **_counts(inputs, latents),
        "letters": AMINO_ACIDS,
        "has": {
            "probes": inputs.probes is not None,
            "structures": "structures.npy" in files,
            "effects": "logit_effect.npy" in files,
            "tracks": order.n_tracked > 0,
            "neurons": "neurons/indptr.npy" in files,
        },
        "provenance": {
            "run": _names(run.get("config", {})) | {"folder": loaded.folder.resolve().name},
            "results": {k: v for k, v in results.items() if not isinstance(v, list)},
            "stores": [_store_facts(store.manifest) for store in inputs.stores],
            "probes": None if inputs.probes is None else inputs.probes.summary.get("config"),
            "annotations": inputs.annotations.summary(),
            "settings": inputs.settings(),
            "plan_sha256": plan_sha256(plan),
        },
        "versions": versions("numpy", "pyarrow") | (run.get("versions") or {}),
        "files": files,
    }
    manifest = without_nan(json.loads(json.dumps(manifest, default=str)))
    return manifest | {"hash": manifest_hash(manifest)}


def default_name(loaded: LoadedSAE) -> str:
    """Such as ``esm2_t6_8M_UR50D block4 topk 2048 k40``."""
    config = loaded.config
    k = fixed_k(loaded)
    words = [loaded.store_manifest["parent"]["name"], loaded.site, config.architecture,
             str(config.d_sae)]  # fmt: skip
    return " ".join([*words, *([] if k is None else [f"k{k}"])])


def fixed_k(loaded: LoadedSAE) -> int | None:
    """k where it is the number of active latents, at least on average."""
    by_k = ("topk", "batch_topk", "matryoshka")
    return loaded.config.k if loaded.config.architecture in by_k else None


def slug(name: str) -> str:
    """A name as an id in links: letters, digits, ``-``, ``_`` and ``.``."""
    words = re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")
    return words[:100] or hashlib.sha256(name.encode()).hexdigest()[:12]


def block_of(site: str) -> int | None:
    """The block of a site; None of ``final``."""
    found = re.fullmatch(r"block(\d+)(\..*)?", site)
    return int(found.group(1)) if found else None


def _counts(inputs: BuildInputs, latents: pd.DataFrame) -> dict[str, int | None]:
    if inputs.probes is None:
        return {"n_found": None, "n_confirmed": None, "n_f1_half": None}
    concepts = inputs.probes.concepts
    found = [value is True or value == 1 for value in concepts["latent_found"].tolist()]
    f1 = concepts["latent_f1"].to_numpy(float)
    return {
        "n_found": int(np.sum(found)),
        "n_confirmed": int(np.sum(latents["confirmed"].to_numpy(bool))),
        "n_f1_half": int(np.sum(f1 > 0.5)),
    }


def _loss_recovered(fidelity: Mapping[str, Any] | None) -> float | None:
    """Of the parent's own task (masked residues where it has masks), against mean ablation."""
    if fidelity is None:
        return None
    inputs = fidelity["inputs"]
    figures = inputs["masked" if "masked" in inputs else "unmasked"]["figures"]
    return figures["loss_recovered_mean"]["mean"]


def _names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings, with names for paths: a bundle says nothing of where it was made."""
    found = dict(config)
    for key in _PATHS:
        if isinstance(found.get(key), str):
            found[key] = Path(found[key]).name
        elif isinstance(found.get(key), list):
            found[key] = [Path(value).name for value in found[key]]
    return found


def _store_facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key not in _LISTS}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of the bundle."""
    names = [f"{name}.npy" for name in layout.ARRAYS] + ["latents.parquet", "index.sqlite"]
    there = [name for name in sorted(names) if (folder / name).is_file()]
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in tqdm(there, desc="checksums", unit="file", disable=None)
    }
