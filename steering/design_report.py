"""Designed variants as FASTA, CSV, JSON, a figure and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from extract.alphabet import AMINO_ACIDS
from extract.fasta import Protein
from extract.files import without_nan, write_atomically, write_csv, write_json_atomically
from steering.controls import bootstrap_mean
from steering.design_record import design_record
from steering.design_settings import DesignSettings
from steering.edits import Edit
from steering.page import write_page
from steering.results import FORMAT_VERSION, RECORD, begin_result, png

if TYPE_CHECKING:
    from steering.belief import Judgement
    from steering.design_command import JudgedArm

N_SHOWN = 20


def write_design(
    out: Path,
    protein: Protein,
    arms: Sequence[JudgedArm],
    edits: Sequence[Edit],
    settings: DesignSettings,
    record: dict[str, Any],
) -> dict[str, Any]:
    """Write variants of all arms, the figure, the page and, last, the record, which is returned."""
    begin_result(out)
    records = [
        design_record(
            protein.id, protein.sequence, a.variants, a.judgements, a.arm.edits, settings,
            arm=a.arm.name, error_term=record["config"]["error_term"],
        )
        for a in arms
    ]  # fmt: skip
    rows = [row for r in records for row in r.rows]
    names = list(rows[0])
    write_csv(out / "variants.csv", names, [[_short(row[name]) for name in names] for row in rows])
    fasta = "".join(r.fasta for r in records)
    write_atomically(out / "variants.fasta", lambda f: f.write(fasta.encode()))
    image = png(composition_figure(protein, arms))
    write_atomically(out / "composition.png", lambda f: f.write(image))
    first = records[0]
    whole = {
        "kind": "design",
        "format_version": FORMAT_VERSION,
        **record,
        "protein": {"id": protein.id, "sequence": protein.sequence},
        "settings": first.json["settings"],
        "pseudo_perplexity_masks": first.json["pseudo_perplexity_masks"],
        "input_pseudo_perplexity": arms[0].judgements[0].input_pseudo_perplexity,
        "edits": [str(edit) for edit in edits],
        "arms": summaries(arms),
        "readings": list(readings(arms[0].judgements[0])),
        "variants": rows,
        "n_shown": N_SHOWN,
    }
    write_page(out, "design.html", whole, {"composition": image})
    write_json_atomically(out / RECORD, without_nan(whole))
    return whole


def readings(judgement: Judgement) -> dict[str, float]:
    """By how much each latent and probe rose, means over all residues."""
    found = {f"latent {j}": c.rise for j, c in judgement.latents.items()}
    return found | {name: c.rise for name, c in judgement.probes.items()}


def summaries(arms: Sequence[JudgedArm]) -> list[dict[str, Any]]:
    """Every arm's means over its variants, with 95 % intervals (bootstrap over variants)."""
    found = []
    for a in arms:
        of_variant = {
            "identity": [j.identity for j in a.judgements],
            "pseudo_perplexity": [j.pseudo_perplexity for j in a.judgements],
            "composition_total_variation": [j.total_variation for j in a.judgements],
        }
        rises = [readings(j) for j in a.judgements]
        of_variant |= {name: [r[name] for r in rises] for name in rises[0]}
        found.append(
            {"arm": a.arm.name, "n_variants": len(a.variants)}
            | {k: bootstrap_mean(np.array(v))._asdict() for k, v in of_variant.items()}
        )
    return found


def text_summary(record: Mapping[str, Any]) -> str:
    """One line for each arm of a record of :func:`write_design`, for the terminal."""
    lines = []
    for found in record["arms"]:
        rises = ", ".join(f"{name} {found[name]['mean']:+.3f}" for name in record["readings"])
        lines.append(
            f"{found['arm']}: {found['n_variants']} variants, identity "
            f"{found['identity']['mean']:.2f}, pseudo-perplexity "
            f"{found['pseudo_perplexity']['mean']:.1f} (input "
            f"{record['input_pseudo_perplexity']:.1f}); rise in the unedited model: "
            f"{rises or 'nothing was read'}"
        )
    return "\n".join(lines)


def composition_figure(protein: Protein, arms: Sequence[JudgedArm]) -> Figure:
    """How often each amino acid was written where the protein has another, by arm."""
    figure = Figure(figsize=(10, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    others = [a for a in arms if a.arm.name not in ("steered", "no edit")]
    groups = [("steered", arms[:1], "#0072b2"),
              ("random latents", others, "#d55e00"),
              ("no edit", [a for a in arms if a.arm.name == "no edit"], "#8c8c8c")]  # fmt: skip
    groups = [g for g in groups if g[1]]
    width = 0.8 / len(groups)
    for i, (label, members, color) in enumerate(groups):
        shifts = [j.composition_shift for a in members for j in a.judgements]
        x = np.arange(len(AMINO_ACIDS)) + (i - (len(groups) - 1) / 2) * width
        axes.bar(x, 100 * np.mean(shifts, axis=0), width, label=label, color=color)
    axes.set_xticks(range(len(AMINO_ACIDS)), list(AMINO_ACIDS))
    axes.set_ylabel("change of composition\n(percentage points)")
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    axes.set_title(f"What was written into {protein.id}", fontsize=10)
    return figure


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else f"{value:.6g}"
