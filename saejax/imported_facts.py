"""What ``python -m saejax.info`` shows of a run that was imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def imported_facts(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Lines by their titles."""
    imported, sae, store = record["imported"], record["sae"], record["store"]
    parent, checked = store["parent"], record["eval_store"]
    said = [f"{name.replace('_', ' ')}: {by}" for name, by in imported["said_by"].items()]
    selection = f"k {sae['k']} ({imported['k_from']})" if sae["architecture"] == "topk" else (
        "latents above thresholds")  # fmt: skip
    facts = {
        "run": str(folder),
        "imported": f"{imported['format']}, {imported['source']}",
        "file": f"{imported['file']}, sha256 {imported['sha256'][:12]}",
        "parent": f"{parent['name']}, token dropout {'on' if parent['token_dropout'] else 'off'}, "
        f"weights {parent['weights']['encoder_sha256'][:12]}",
        "site": f"{store['site']}, {store['d_model']:,} dimensions",
        "said by": ", ".join(said),
        "SAE": f"{sae['d_sae']:,} latents, {selection}",
        "BOS and EOS": f"{imported['special_tokens']}; here they are left out",
        "checked on": f"{checked['n_proteins']:,} proteins, {checked['n_rows']:,} residues",
    }
    if sae["token_zscore"]:
        facts["input"] = "every residue is standardised over its own dimensions"
    if imported["input_scale"] != 1:
        facts["scale"] = f"{imported['input_scale']:g}"
    return facts
