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
    figures = {words: exported.results.get(name) for name, words in FIGURES.items()}
    lines = ["---", "library_name: " + format_name, "tags: [sparse-autoencoder, protein]", "---",
             "", f"# Sparse autoencoder of {parent['name']} at {loaded.site}", ""]  # fmt: skip
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "On residues that it was evaluated on:", ""]
    lines += [f"- {name}: {value:.4g}" for name, value in figures.items() if value is not None]
    return "\n".join([*lines, "", "The licence is the authors' to state.", ""])
