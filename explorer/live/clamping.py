"""Tasks of the worker that steer: one edit, a dose-response, variants. As the command line does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explorer.live.context import Context, Loaded, require_length
from extract.errors import UserError
from steering.config import DesignConfig, EditConfig
from steering.config_many import SweepConfig
from steering.controls import matched_latents
from steering.design_command import arms_of, judged_arm
from steering.edit_report import edit_record, summary, top_changes
from steering.edits import Edit, latents_of, parse_edits, require_distinct
from steering.effects import sequence_effect
from steering.masked import scored_batches
from steering.success import amino_acid_readout, strongest_amino_acid, success
from steering.sweep import EXTRA_NORMS, DoseResponse, dose_response

UNUSED = Path("unused")
"""For settings of the command line that name files: nothing is written."""


def edits_of(loaded: Loaded, text: str, sequence: str) -> list[Edit]:
    """Edits in latent units, from their text.

    Raises:
        UserError: as the command line.
    """
    requests = parse_edits(text, flag="edit")
    require_distinct(requests)
    for request in requests:
        request.where.check(len(sequence), f"edit {request}")
    return [request.resolve(loaded.run) for request in requests]


def steer(
    context: Context, sae: str, sequence: str, edits: str, mask: str | None, error_term: Any
) -> dict[str, Any]:
    """One sequence with and without edits."""
    loaded = context.get(sae)
    require_length(loaded.model, sequence)
    config = EditConfig(run=UNUSED, out=UNUSED, sequence=sequence, mask=mask)
    effect = sequence_effect(
        loaded.model, loaded.sae, sequence, edits_of(loaded, edits, sequence),
        masked=config.masked(len(sequence)), error_term=error_term,
    )  # fmt: skip
    own_max = loaded.run.latent_max
    return {
        "edits": [
            edit_record(e) | {"own_max": float(own_max[e.edit.latent])} for e in effect.edits
        ],
        "edited": np.flatnonzero(effect.edited), "masked": effect.masked,
        "base_log_p": effect.base_log_p, "steered_log_p": effect.steered_log_p,
        "delta_log_p": effect.delta_log_p, "kl": effect.kl,
        "argmax": effect.argmax_residues(), "summary": summary(effect),
        "top": [change._asdict() for change in top_changes(effect)],
    }  # fmt: skip


def sweep(context: Context, sae: str, sequence: str, config: dict[str, Any]) -> dict[str, Any]:
    """Dose-response of a latent on one sequence, strength by strength."""
    loaded = context.get(sae)
    require_length(loaded.model, sequence)
    settings = SweepConfig(run=UNUSED, out=UNUSED, fasta=UNUSED, **config)
    latent = loaded.run.check_latent(settings.latent)
    requests = settings.requests()
    edits = [request.resolve(loaded.run) for request in requests]
    controls: Sequence[int] = ()
    if settings.random_latents:
        controls = matched_latents(loaded.run.latent_frequency, latent, settings.random_latents,
                                   seed=settings.seed).tolist()  # fmt: skip
    fraction = settings.mask_fraction if settings.where == "masked" else None
    batches = list(scored_batches(loaded.model, [sequence], mask_fraction=fraction,
                                  seed=settings.seed))  # fmt: skip
    parts = []
    for i, edit in enumerate(edits):
        context.report(i / len(edits), f"strength {requests[i].strength:g}")
        extra = EXTRA_NORMS if i == len(edits) - 1 else ()
        parts.append(dose_response(
            loaded.model, loaded.sae, batches, [edit], n_proteins=1, control_latents=controls,
            n_directions=settings.random_directions, extra_norms=extra, seed=settings.seed,
            error_term=settings.error_term,
        ))  # fmt: skip
    response = joined(parts)
    multiples = [request.strength for request in requests]
    read = np.searchsorted(batches[0].tokens.residue_rows().numpy(force=True),
                           batches[0].rows.numpy(force=True))  # fmt: skip
    return {"multiples": multiples, "read": read, **_reported(response, multiples, settings)}


def joined(parts: Sequence[DoseResponse]) -> DoseResponse:
    """One response from those of single strengths: the same numbers as all strengths at once."""
    last = parts[-1]
    return last._replace(
        edits=[part.edits[0] for part in parts],
        delta_log_p=np.concatenate([part.delta_log_p for part in parts], axis=1),
        kl=np.concatenate([part.kl for part in parts], axis=1),
        relative_norm=np.concatenate([part.relative_norm for part in parts]),
    )


def _reported(
    response: DoseResponse, multiples: Sequence[float], settings: SweepConfig
) -> dict[str, Any]:
    """What a page shows of a response on one protein."""
    shown = int(np.argmin([abs(np.log(m)) if m > 0 else np.inf for m in multiples]))
    letter = settings.amino_acid or strongest_amino_acid(
        response, proteins=np.array([0]), strength=shown
    )
    readout = amino_acid_readout(response, letter)
    found = success(response, readout, seed=settings.seed)
    arms = [("latent", response.edits[0].latent)]
    arms += [("random latent", int(j)) for j in response.control_latents]
    arms += [("random direction", i) for i in range(response.n_directions)]
    return {
        "amino_acid": letter, "shown": shown, "arms": arms,
        "strengths": [edit.strength for edit in response.edits],
        "extra_norms": response.extra_norms, "kl": response.kl[:, :, 0],
        "delta_log_p": response.delta_log_p[:, :, 0], "n_read": int(response.n_read[0]),
        "excess": [s.excess.mean for s in found],
        "equal_norm": [s.steered_at_equal_norm.mean for s in found],
        "equal_kl": [s.steered_at_equal_kl.mean for s in found],
        "relative_norm": response.relative_norm[:, 0],
    }  # fmt: skip


def variants(
    context: Context, sae: str, sequence: str, edits: str, config: dict[str, Any]
) -> dict[str, Any]:
    """Sequences that the edited model writes, and controls, judged by the unedited model."""
    loaded = context.get(sae)
    require_length(loaded.model, sequence)
    settings = DesignConfig(run=UNUSED, out=UNUSED, sequence=sequence, **config)
    resolved = edits_of(loaded, edits, sequence)
    if not resolved:
        raise UserError("give an edit, such as 123:set:1xmax; without one nothing is steered")
    arms = arms_of(settings, loaded.run, loaded.sae, resolved)
    found = []
    for i, arm in enumerate(arms):
        context.report(i / len(arms), f"variants: {arm.name}")
        judged = judged_arm(settings, loaded.model, loaded.sae, sequence, arm,
                            latents_of(resolved), [])  # fmt: skip
        pairs = zip(judged.variants, judged.judgements, strict=True)
        found.append((arm.name, [_variant(v, j) for v, j in pairs]))
    return {"arms": found}


def _variant(variant: Any, judgement: Any) -> dict[str, Any]:
    return {
        "index": variant.index, "sequence": variant.sequence,
        "changed": (variant.changed + 1).tolist(), "identity": judgement.identity,
        "rise": {j: compared.rise for j, compared in judgement.latents.items()},
        "maximum": {j: c.variant.maximum for j, c in judgement.latents.items()},
        "pseudo_perplexity": judgement.pseudo_perplexity,
        "input_pseudo_perplexity": judgement.input_pseudo_perplexity,
        "log_p": float(np.mean(variant.log_p)) if len(variant.log_p) else None,
    }  # fmt: skip
