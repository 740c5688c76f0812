"""The model card of an exported SAE."""

from __future__ import annotations

from saejax.interop.exported import Exported
from saejax.loaded_sae import LoadedSAE

FIGURES = {"fvu": "FVU", "l0": "L0", "frac_dead": "dead latents (share)", "n_tokens": "residues"}


def model_card(exported: Exported, loaded: LoadedSAE, format_name: str) -> str:
    """What a stranger needs to use it: parent, site, normalisation, figures."""
    parent, config = loaded.store_manifest["parent"], loaded.config
    facts = {
        "parent": parent["name"],
        "parent weights": f"sha256 {parent['weights']['encoder_sha256']} "
        f"({parent['weights'].get('source', 'source unknown')})",
        "site": f"{loaded.site} (`block n` is the residual stream after block n, from 1; `final` "
        "follows the last LayerNorm)",
        "token dropout": "on" if parent["token_dropout"] else "off",
        "special tokens": exported.facts.special_tokens or "unknown",
        "d_model": config.d_model,
        "latents": config.d_sae,
        "selection": f"top-k, k = {exported.k}" if exported.threshold is None else "thresholds",
        "normalisation": "z-score of every residue over its own dimensions, ε = "
        f"{config.token_zscore[0]:g}" if config.token_zscore else
        "kept apart (mean, scale)" if format_name == "plain" else
        "folded into the weights: give raw activations",
    }  # fmt: skip
    facts |= _origin(loaded)
    figures = {words: exported.results.get(name) for name, words in FIGURES.items()}
    lines = ["---", "library_name: " + format_name, "tags: [sparse-autoencoder, protein]", "---",
             "", f"# Sparse autoencoder of {parent['name']} at {loaded.site}", ""]  # fmt: skip
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "On residues that it was evaluated on:", ""]
    lines += [f"- {name}: {_shown(value)}" for name, value in figures.items() if value is not None]
    return "\n".join([*lines, "", "The licence is the authors' to state.", ""])


def _origin(loaded: LoadedSAE) -> dict[str, str]:
    """Of an import: where from; of our own: what it was trained on."""
    imported, source = loaded.run.get("imported"), loaded.store_manifest.get("source")
    if imported is not None:
        return {"imported from": f"{imported['format']}, {imported['file']}, sha256 "
                f"{imported['sha256']}"}  # fmt: skip
    if source is None or "file" not in source:
        return {}
    rows = loaded.store_manifest["n_rows"]
    data = f"{source['file']}, sha256 {source['sha256']}"
    return {"training data": f"{data}; {rows:,} residues, some of them held out"}


def _shown(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
