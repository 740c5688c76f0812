"""``python -m steering``: a trained SAE, a protein and clamped latents in, Δlog p out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from extract.errors import UserError, run_cli
from steering.config import SteerConfig, parse_clamp, parse_positions, read_protein

if TYPE_CHECKING:
    from extract.fasta import Protein
    from extract.plm import ProteinLM
    from saejax.checkpoint import LoadedSAE
    from steering.effects import SequenceEffect

RULE = (
    "x + decode(z') - decode(z): the SAE's error term is kept; a clamped latent that was not "
    "among the top k joins them; all later blocks run"
)


def main() -> None:
    """Parse the flags, load the SAE and its parent, steer, print, write."""
    config = tyro.cli(SteerConfig, prog="python -m steering")
    protein = read_protein(config)
    positions = parse_positions(config.positions, len(protein.sequence))

    from saejax.checkpoint import load_sae
    from steering.report import require_result_folder, text_report, write_result

    require_result_folder(config.out)
    loaded = load_sae(config.run)
    effect, model = steer(config, loaded, protein, positions)
    print(describe_edit(loaded, model, protein, effect))
    if effect.clamps:
        print(text_report(effect))
    write_result(config.out, effect, provenance(config, loaded, model, protein, effect))
    print(f"\nwritten: {config.out}/delta_log_p.csv, delta_log_p.png, steering.json")


def steer(
    config: SteerConfig, loaded: LoadedSAE, protein: Protein, positions: list[int]
) -> tuple[SequenceEffect, ProteinLM]:
    """Load the run's parent and measure the edit.

    Raises:
        UserError: an unknown latent, no weights, another parent, one without logits, or a protein
            longer than it takes.
    """
    from extract.parents import load_parent_of
    from steering.effects import sequence_effect
    from steering.torch_sae import TorchSAE

    clamps = [parse_clamp(text).resolve(loaded) for text in config.clamp]
    model = load_parent_of(loaded.store_manifest, weights=config.weights, model=config.model)
    if len(protein.sequence) > model.max_residues:
        raise UserError(
            f"{protein.id}: {len(protein.sequence)} residues, the limit is {model.max_residues} "
            f"({model.name}); give a part of it"
        )
    sae = TorchSAE.from_run(loaded, device=model.device)
    return sequence_effect(model, sae, protein.sequence, clamps, positions), model


def describe_edit(
    loaded: LoadedSAE, model: ProteinLM, protein: Protein, effect: SequenceEffect
) -> str:
    """Who was steered, where, and how hard."""
    info = model.weights
    lines = [
        f"parent: {model.name}, weights: {info.source}, sha256 {info.encoder_sha256[:12]}, "
        f"head: {info.lm_head}",
        f"SAE: {loaded.folder}, {loaded.config.d_sae} latents at {loaded.site}",
        f"protein: {protein.id}, {len(protein.sequence)} residues, edited at "
        f"{len(effect.positions)}",
    ]
    for c in effect.clamps:
        latent = c.clamp.latent
        lines.append(
            f"latent {latent} = {c.clamp.value:.4g}: fires on "
            f"{100 * loaded.latent_frequency[latent]:.2f} % of held-out residues, maximum "
            f"{loaded.latent_max[latent]:.4g}; here it fired on {100 * c.fired_on:.0f} % of the "
            f"edited residues (mean {c.mean_before:.3g}); edit norm {c.mean_norm:.3g}, "
            f"{100 * c.relative_norm:.1f} % of the residual stream"
        )
    if not effect.clamps:
        lines.append("no clamp: the predictions are unchanged")
    return "\n".join(lines)


def provenance(
    config: SteerConfig,
    loaded: LoadedSAE,
    model: ProteinLM,
    protein: Protein,
    effect: SequenceEffect,
) -> dict[str, Any]:
    """What ``steering.json`` says about where its numbers come from."""
    from extract.files import versions

    plain = {f.name: getattr(config, f.name) for f in fields(config)}
    latents = [c.clamp.latent for c in effect.clamps]
    return {
        "config": {k: str(v) if isinstance(v, Path) else v for k, v in plain.items()},
        "protein": {"id": protein.id, "sequence": protein.sequence},
        "parent": model.describe(),
        "site": loaded.site,
        "run": {"sae": loaded.run["sae"], "results": loaded.run["results"]},
        "latents": [
            {
                "latent": latent,
                "frequency": float(loaded.latent_frequency[latent]),
                "maximum": float(loaded.latent_max[latent]),
            }
            for latent in latents
        ],
        "edit_rule": RULE,
        "units": "natural log; log p over the 20 amino acids, positions from 1",
        "versions": versions("torch", "numpy"),
    }


if __name__ == "__main__":
    run_cli(main)
