"""What is written of designed variants: a table, FASTA whose headers say what was done, JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from extract.alphabet import AMINO_ACIDS
from extract.files import without_nan
from steering.belief import Compared, Judgement
from steering.changes import JOIN_RULE, ErrorTerm
from steering.design import Variant
from steering.design_settings import DesignSettings
from steering.edits import Edit

FASTA_WIDTH = 60


class DesignRecord(NamedTuple):
    """The same variants in three forms."""

    rows: list[dict[str, Any]]
    """One per variant, flat: for CSV. Positions count from 1."""
    fasta: str
    """Every variant; headers carry edits, settings and the main judgements."""
    json: dict[str, Any]
    """Input, edits, settings, ``variants`` (the rows) and units; numbers that are not finite are
    null."""


def design_record(
    protein_id: str,
    input_sequence: str,
    variants: Sequence[Variant],
    judgements: Sequence[Judgement],
    edits: Sequence[Edit],
    settings: DesignSettings,
    *,
    arm: str = "steered",
    error_term: ErrorTerm = "keep",
) -> DesignRecord:
    """Bring variants and their judgements, in the same order, into the forms that are written.

    Args:
        protein_id: of the input.
        input_sequence: residues of the input.
        variants: see :func:`steering.design.design`.
        judgements: of each, see :func:`steering.belief.judge`; may be empty.
        edits: that they were made under.
        settings: that they were made with.
        arm: part of every id, such as ``steered`` or ``control``.
        error_term: kept or dropped.
    """
    ids = variant_ids(protein_id, arm, [variant.index for variant in variants])
    judged = list(judgements) or [None] * len(variants)
    rows = [
        _row(name, arm, input_sequence, variant, judgement)
        for name, variant, judgement in zip(ids, variants, judged, strict=True)
    ]
    done = _done(edits, settings, error_term)
    fasta = "".join(_fasta(row, done) for row in rows)
    found = {
        "protein": {"id": protein_id, "sequence": input_sequence},
        "arm": arm,
        "edits": [str(edit) for edit in edits],
        "error_term": error_term,
        "edit_rule": JOIN_RULE,
        "settings": asdict(settings),
        "pseudo_perplexity_masks": judgements[0].pseudo_perplexity_masks if judgements else None,
        "units": "natural log; p over the 20 amino acids; positions from 1, except in settings, "
        "where they are from 0; latents in the SAE's normalised units",
        "variants": rows,
    }
    return DesignRecord(rows, fasta, without_nan(found))


def variant_ids(protein_id: str, arm: str, indices: Sequence[int]) -> list[str]:
    """Ids of variants that are safe as file names and in FASTA, such as ``P12345_steered_0007``.

    Anything but letters, digits, ``.``, ``_`` and ``-`` becomes ``_``.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", protein_id).lstrip("._-")[:150] or "sequence"
    middle = re.sub(r"[^A-Za-z0-9._-]+", "_", arm)[:30]
    width = max(4, len(str(max(indices, default=0))))
    return [f"{stem}_{middle}_{index:0{width}d}" for index in indices]


def mutations(input_sequence: str, variant: Variant) -> list[str]:
    """Its changes as ``A12V``: residue of the input, position from 1, residue of the variant."""
    return [f"{input_sequence[p]}{p + 1}{variant.sequence[p]}" for p in variant.changed.tolist()]


def _row(
    name: str, arm: str, input_sequence: str, variant: Variant, judgement: Judgement | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": name,
        "arm": arm,
        "index": variant.index,
        "sequence": variant.sequence,
        "n_changes": len(variant.changed),
        "identity": 1 - len(variant.changed) / len(input_sequence),
        "mutations": " ".join(mutations(input_sequence, variant)),
        "n_chosen": len(variant.chosen),
        "chosen": " ".join(str(p + 1) for p in variant.chosen.tolist()),
        "mean_log_p_chosen": float(variant.log_p.mean()) if len(variant.log_p) else float("nan"),
        "n_edited": len(variant.edited),
        "n_refused": variant.n_refused,
        "n_passes": variant.n_passes,
    }
    if judgement is None:
        return row
    row |= {
        "pseudo_perplexity": judgement.pseudo_perplexity,
        "input_pseudo_perplexity": judgement.input_pseudo_perplexity,
        "composition_total_variation": judgement.total_variation,
    }
    shift = judgement.composition_shift.tolist()
    row |= {f"composition_{a}": s for a, s in zip(AMINO_ACIDS, shift, strict=True)}
    for latent, compared in judgement.latents.items():
        row |= _columns(f"latent_{latent}", compared)
    for concept, compared in judgement.probes.items():
        row |= _columns(f"probe_{concept}", compared)
    return row


def _columns(name: str, compared: Compared) -> dict[str, float]:
    """A reading of the variant, of its input, and the rise of both means."""
    found = {f"{name}_{key}": value for key, value in compared.variant._asdict().items()}
    found |= {f"{name}_input_{key}": value for key, value in compared.input._asdict().items()}
    return found | {f"{name}_rise": compared.rise, f"{name}_edited_rise": compared.edited_rise}


def _done(edits: Sequence[Edit], settings: DesignSettings, error_term: ErrorTerm) -> str:
    """What was done to every variant, for FASTA headers."""
    words = [f"edits={';'.join(map(str, edits)) or 'none'}", f"error_term={error_term}"]
    words += [f"method={settings.method}", f"temperature={settings.temperature:g}"]
    if settings.method == "single":
        words.append(f"mask_fraction={settings.share:g}")
    else:
        words += [f"n_per_step={settings.n_per_step}", f"n_sweeps={settings.n_sweeps}"]
    if settings.max_changes is not None:
        words.append(f"max_changes={settings.max_changes}")
    return " ".join([*words, f"seed={settings.seed}"])


def _fasta(row: dict[str, Any], done: str) -> str:
    words = [row["id"], done, f"changes={row['n_changes']}", f"identity={row['identity']:.3f}"]
    if "pseudo_perplexity" in row:
        words.append(f"pseudo_perplexity={row['pseudo_perplexity']:.3f}")
    sequence = row["sequence"]
    lines = [sequence[i : i + FASTA_WIDTH] for i in range(0, len(sequence), FASTA_WIDTH)]
    return "\n".join([">" + " ".join(words), *lines, ""])
