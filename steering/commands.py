"""What ``python -m steering edit`` and ``sweep`` do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from extract.errors import UserError
from steering.config import EditConfig, SteerConfig, read_protein
from steering.config_many import SweepConfig, read_proteins

if TYPE_CHECKING:
    from extract.plm import ProteinLM
    from saejax.checkpoint import LoadedSAE
    from steering.effects import SequenceEffect
    from steering.torch_sae import TorchSAE


def load(config: SteerConfig, loaded: LoadedSAE) -> tuple[ProteinLM, TorchSAE]:
    """The run's parent and its SAE in Torch, on one device.

    Raises:
        UserError: no weights, or those of another parent.
    """
    from extract.parents import load_parent_of
    from steering.torch_sae import TorchSAE

    model = load_parent_of(loaded.store_manifest, weights=config.weights, device=config.device,
                           model=config.model)  # fmt: skip
    sae = TorchSAE.from_run(loaded, device=model.device)
    sae.require_parent(model)
    return model, sae


FEWEST_TO_CHECK = 16
"""With fewer residues than this FVU says nothing."""
MANY_PROTEINS = 16
"""Fewer proteins than this may be alike, or of low complexity."""


def check_reconstruction(
    config: SteerConfig, loaded: LoadedSAE, model: ProteinLM, sequences: Sequence[str]
) -> None:
    """Refuse a parent whose activations on these proteins the SAE does not reconstruct.

    Raises:
        UserError: FVU is far from the run's own (:func:`saejax.gate.check_fvu`).
    """
    import numpy as np
    import torch

    from saejax.gate import CHECK_RESIDUES, check_fvu

    if not config.check or loaded.run.get("results", {}).get("fvu") is None:
        return
    blocks, n = [], 0
    with torch.inference_mode():
        for sequence in sequences:
            tokens = model.tokenize([sequence])
            x = model.residual(tokens, loaded.site)[tokens.residue_rows()]
            blocks.append(x.float().cpu().numpy())
            n += len(x)
            if n >= CHECK_RESIDUES:
                break
    if n >= FEWEST_TO_CHECK:
        alike = len(blocks) < MANY_PROTEINS
        check_fvu(loaded, np.concatenate(blocks)[:CHECK_RESIDUES], alike=alike)


def run_edit(config: EditConfig) -> None:
    """Edit one protein: print, write."""
    protein = read_protein(config)
    masked = config.masked(len(protein.sequence))
    requests = config.requests()
    for request in requests:
        request.where.check(len(protein.sequence), f"--edit {request}")

    from saejax.checkpoint import load_sae
    from steering.edit_report import text_report, write_edit
    from steering.effects import sequence_effect
    from steering.results import provenance, require_result_folder

    require_result_folder(config.out)
    loaded = load_sae(config.run)
    edits = [request.resolve(loaded) for request in requests]
    model, sae = load(config, loaded)
    if len(protein.sequence) > model.max_residues:
        raise UserError(
            f"{protein.id}: {len(protein.sequence)} residues, the limit is {model.max_residues} "
            f"({model.name}); give a part of it"
        )
    check_reconstruction(config, loaded, model, [protein.sequence])
    effect = sequence_effect(model, sae, protein.sequence, edits, masked=masked,
                             error_term=config.error_term)  # fmt: skip
    record = provenance(config, loaded, model, list(dict.fromkeys(e.latent for e in edits)))
    record["protein"] = {"id": protein.id, "sequence": protein.sequence}
    print(describe(loaded, model))
    print(f"protein: {protein.id}, {len(protein.sequence)} residues, edited at "
          f"{int(effect.edited.sum())}")  # fmt: skip
    print(describe_edits(loaded, effect))
    if effect.edits:
        print(text_report(effect))
    write_edit(config.out, effect, record)
    print(f"\nwritten: {config.out}/page.html, delta_log_p.csv, delta_log_p.png, steering.json")


def describe(loaded: LoadedSAE, model: ProteinLM) -> str:
    """Parent and SAE, for the terminal."""
    info = model.weights
    return (
        f"parent: {model.name}, weights: {info.source}, sha256 {info.encoder_sha256[:12]}, "
        f"head: {info.lm_head}\n"
        f"SAE: {loaded.folder}, {loaded.config.d_sae} latents at {loaded.site}"
    )


def describe_edits(loaded: LoadedSAE, effect: SequenceEffect) -> str:
    """How hard each edit was."""
    lines = []
    for e in effect.edits:
        latent = e.edit.latent
        lines.append(
            f"{e.edit}: latent {latent} fires on {100 * loaded.latent_frequency[latent]:.2f} % of "
            f"held-out residues, maximum {loaded.latent_max[latent]:.4g}; "
        )
        lines[-1] += (
            f"here it fired on {100 * e.fired_on:.0f} % of the {e.n_edited} edited residues (mean "
            f"{e.mean_before:.3g}); edit norm {e.mean_norm:.3g}, {100 * e.relative_norm:.1f} % of "
            "the residual stream"
            if e.n_edited
            else "it applies to no residue here"
        )
    return "\n".join(lines) if lines else "no edit: the predictions are unchanged"


def run_sweep(config: SweepConfig) -> None:
    """Dose-response of a latent over many proteins: print the verdict, write."""
    from saejax.checkpoint import load_sae
    from steering.controls import matched_latents
    from steering.masked import scored_batches
    from steering.results import provenance, require_result_folder
    from steering.sweep import dose_response
    from steering.sweep_report import summarize, write_sweep

    require_result_folder(config.out)
    loaded = load_sae(config.run)
    requests = config.requests()
    edits = [request.resolve(loaded) for request in requests]
    controls = []
    if config.random_latents:
        controls = matched_latents(loaded.latent_frequency, config.latent, config.random_latents,
                                   seed=config.seed).tolist()  # fmt: skip
    model, sae = load(config, loaded)
    proteins = read_proteins(config, model.max_residues)
    check_reconstruction(config, loaded, model, [p.sequence for p in proteins])
    fraction = config.mask_fraction if config.where == "masked" else None
    batches = scored_batches(model, [p.sequence for p in proteins], mask_fraction=fraction,
                             seed=config.seed, batch_residues=config.batch_residues)  # fmt: skip
    response = dose_response(
        model, sae, list(batches), edits, n_proteins=len(proteins), control_latents=controls,
        n_directions=config.random_directions, error_term=config.error_term, seed=config.seed,
        batch_tokens=config.batch_residues,
    )  # fmt: skip
    sweep = summarize(response, [r.strength for r in requests], config.amino_acid, config.seed)
    record = provenance(config, loaded, model, [config.latent])
    record["proteins"] = [p.id for p in proteins]
    whole = write_sweep(config.out, sweep, proteins, record)
    print(describe(loaded, model))
    print(whole["verdict"]["words"])
    print(f"written: {config.out}/page.html, dose_response.png, sweep.csv, proteins.csv, "
          "steering.json")  # fmt: skip
