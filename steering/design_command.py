"""What ``python -m steering design`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from extract.errors import UserError
from steering.commands import check_reconstruction, describe, load
from steering.config import DesignConfig, read_protein

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from extract.plm import ProteinLM
    from saejax.checkpoint import LoadedSAE
    from steering.belief import Judgement
    from steering.concept_probe import ConceptProbe
    from steering.design import Variant
    from steering.edits import Edit
    from steering.torch_sae import TorchSAE


class Arm(NamedTuple):
    """Variants made in one way."""

    name: str
    """``steered``, ``no edit``, or ``latent 12`` for a random one."""
    edits: Sequence[Edit]
    """That they were made under."""
    direction: Tensor | None
    """In place of the edits' own."""
    n_variants: int
    """How many."""


class JudgedArm(NamedTuple):
    """An arm and what came of it."""

    arm: Arm
    """How."""
    variants: list[Variant]
    """What was written."""
    judgements: list[Judgement]
    """Of each variant."""


def run_design(config: DesignConfig) -> None:
    """Write variants, judge them beside their controls, print and write."""
    protein = read_protein(config)
    requests = config.requests()
    for request in requests:
        request.where.check(len(protein.sequence), f"--edit {request}")
    settings = config.settings()

    from saejax.checkpoint import load_sae
    from steering.concept_probe import ConceptProbe
    from steering.design_report import text_summary, write_design
    from steering.design_settings import free_positions
    from steering.edits import latents_of
    from steering.results import provenance, require_result_folder

    free_positions(protein.sequence, settings)
    require_result_folder(config.out)
    loaded = load_sae(config.run)
    edits = [request.resolve(loaded) for request in requests]
    probes = [ConceptProbe.load(path) for path in config.probe]
    model, sae = load(config, loaded)
    check_reconstruction(config, loaded, model, [protein.sequence])
    arms = [
        judged_arm(config, model, sae, protein.sequence, arm, latents_of(edits), probes)
        for arm in arms_of(config, loaded, sae, edits)
    ]
    record = provenance(config, loaded, model, latents_of(edits))
    whole = write_design(config.out, protein, arms, edits, settings, record)
    print(describe(loaded, model))
    print(text_summary(whole))
    if config.predictor is not None:
        predict(config.predictor, config.out)
    print(f"written: {config.out}/page.html, variants.fasta, variants.csv, steering.json")


def arms_of(
    config: DesignConfig, loaded: LoadedSAE, sae: TorchSAE, edits: Sequence[Edit]
) -> list[Arm]:
    """The steered variants and their controls.

    Raises:
        UserError: too few latents fire to be controls.
    """
    from steering.controls import latent_directions, matched_latents

    n = min(config.control_variants, config.variants)
    arms = [Arm("steered", edits, None, config.variants)]
    if not edits or not n:
        return arms
    arms.append(Arm("no edit", (), None, n))
    if config.random_latents:
        others = sorted({edit.latent for edit in edits[1:]})
        controls = matched_latents(loaded.latent_frequency, edits[0].latent, config.random_latents,
                                   seed=config.seed, exclude=others).tolist()  # fmt: skip
        directions = latent_directions(sae, controls)
        pairs = zip(controls, directions, strict=True)
        arms += [Arm(f"latent {j}", edits, direction, n) for j, direction in pairs]
    return arms


def judged_arm(
    config: DesignConfig,
    model: ProteinLM,
    sae: TorchSAE,
    sequence: str,
    arm: Arm,
    latents: Sequence[int],
    probes: Sequence[ConceptProbe],
) -> JudgedArm:
    """Write an arm's variants and judge them."""
    from dataclasses import replace

    from steering.belief import judge
    from steering.design import design

    settings = replace(config.settings(), n_variants=arm.n_variants)
    variants = design(model, sae, sequence, arm.edits, settings, error_term=config.error_term,
                      direction_D=arm.direction)  # fmt: skip
    judgements = judge(
        model, sae, sequence, variants, latents, probes=probes, copies=config.copies,
        seed=config.seed, batch_residues=config.batch_residues,
    )  # fmt: skip
    return JudgedArm(arm, variants, judgements)


def predict(program: Path, out: Path) -> None:
    """Have a program predict the structure of every variant that was written."""
    from extract.selection import read_fasta
    from steering.predictor import predict_structures

    proteins, _ = read_fasta(out / "variants.fasta")
    folder = out / "structures"
    if folder.exists():
        raise UserError(f"{folder}: is there already; move it, or give a new --out")
    paths = predict_structures(program, {p.id: p.sequence for p in proteins}, folder)
    print(f"{folder}: structures of {len(paths)} variants, by {program}")
