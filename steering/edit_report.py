"""One protein under edits as text, CSV, JSON, heatmap and page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from extract.alphabet import AMINO_ACIDS
from extract.files import without_nan, write_atomically, write_csv, write_json_atomically
from steering.effects import EditEffect, SequenceEffect
from steering.page import write_page
from steering.results import FORMAT_VERSION, RECORD, begin_result, png

N_TOP = 15


class Change(NamedTuple):
    """One entry of Δlog p."""

    position: int
    """1-based residue."""
    wild_type: str
    """The residue there."""
    amino_acid: str
    """Whose probability changed."""
    delta_log_p: float
    """log p after − before (nats)."""
    log_p_before: float
    """Without the edit (nats)."""
    log_p_after: float
    """Under the edit (nats)."""


def top_changes(effect: SequenceEffect, n: int = N_TOP) -> list[Change]:
    """The ``n`` largest |Δlog p|, largest first."""
    delta = effect.delta_log_p
    order = np.argsort(-np.abs(delta), axis=None, kind="stable")[:n]
    changes = []
    for row, column in zip(*np.unravel_index(order, delta.shape), strict=True):
        before, after = effect.base_log_p[row, column], effect.steered_log_p[row, column]
        letters = effect.sequence[row], AMINO_ACIDS[column]
        changes.append(Change(int(row) + 1, *letters, float(delta[row, column]), float(before),
                              float(after)))  # fmt: skip
    return changes


def summary(effect: SequenceEffect) -> dict[str, float | int]:
    """A few numbers for the whole sequence and for the edited residues (nats)."""
    before, after = effect.argmax_residues()
    edited = effect.edited if effect.edited.any() else np.ones(len(effect.kl), dtype=bool)
    return {
        "mean_abs_delta_log_p": float(np.abs(effect.delta_log_p).mean()),
        "mean_abs_delta_log_p_edited": float(np.abs(effect.delta_log_p[edited]).mean()),
        "mean_kl": float(effect.kl.mean()),
        "mean_kl_edited": float(effect.kl[edited].mean()),
        "argmax_changes": sum(a != b for a, b in zip(before, after, strict=True)),
        "edited_residues": int(effect.edited.sum()),
        "residues": len(effect.sequence),
        "relative_edit_norm": effect.relative_norm,
    }


def text_report(effect: SequenceEffect) -> str:
    """The largest changes and the summary, for the terminal."""
    facts = summary(effect)
    lines = [f"\nTop {N_TOP} changes (natural log):"]
    lines.append("position  residue  to  delta log p   before    after")
    for c in top_changes(effect):
        lines.append(f"{c.position:8d}  {c.wild_type:>7}  {c.amino_acid:>2}  {c.delta_log_p:+11.4f}"
                     f"  {c.log_p_before:7.3f}  {c.log_p_after:7.3f}")  # fmt: skip
    lines.append(
        f"\nmean |delta log p| {facts['mean_abs_delta_log_p']:.4f} "
        f"(at edited residues {facts['mean_abs_delta_log_p_edited']:.4f}), "
        f"mean KL {facts['mean_kl']:.4f} (at edited residues {facts['mean_kl_edited']:.4f}), "
        f"likeliest residue changed at {facts['argmax_changes']} of {facts['residues']}"
    )
    return "\n".join(lines)


def write_edit(out: Path, effect: SequenceEffect, record: dict[str, Any]) -> None:
    """Write the table, the heatmap, the page and, last, ``steering.json``.

    Args:
        out: the folder (made).
        effect: what was measured.
        record: config and provenance, put before the measurements in ``steering.json``.
    """
    begin_result(out)
    before, after = effect.argmax_residues()
    header = ["position", "residue", *AMINO_ACIDS]
    write_csv(out / "delta_log_p.csv", header, _csv_rows(effect))
    image = png(heatmap_figure(effect))
    write_atomically(out / "delta_log_p.png", lambda f: f.write(image))
    measured = {
        "summary": summary(effect),
        "edited_positions": [int(p) + 1 for p in np.flatnonzero(effect.edited)],
        "masked_positions": [int(p) + 1 for p in effect.masked],
        "edits": [edit_record(e) for e in effect.edits],
        "top_changes": [c._asdict() for c in top_changes(effect)],
        "argmax_before": before,
        "argmax_after": after,
        "kl": [round(float(v), 7) for v in effect.kl],
    }
    whole = {"kind": "edit", "format_version": FORMAT_VERSION} | record | measured
    write_page(out, "edit.html", whole, {"heatmap": image})
    write_json_atomically(out / RECORD, without_nan(whole))


def edit_record(effect: EditEffect) -> dict[str, Any]:
    """An edit and what it did, as plain values."""
    edit = effect.edit
    return effect._asdict() | {
        "edit": str(edit),
        "latent": edit.latent,
        "operation": edit.operation,
        "strength": edit.strength,
        "where": str(edit.where),
    }


def _csv_rows(effect: SequenceEffect) -> Iterator[list[Any]]:
    residues = zip(effect.sequence, effect.delta_log_p, strict=True)
    for position, (residue, row) in enumerate(residues, start=1):
        yield [position, residue, *(f"{value:.6f}" for value in row)]


def heatmap_figure(effect: SequenceEffect, title: str | None = None) -> Figure:
    """Δlog p: residues on x, amino acids on y, a diverging map centred at 0.

    A dot marks the sequence's own residue, a grey bar above the map the edited ones.
    """
    n = len(effect.sequence)
    figure = Figure(figsize=(float(np.clip(2.5 + 0.14 * n, 6, 30)), 5.2), dpi=110,
                    layout="constrained")  # fmt: skip
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    delta = effect.delta_log_p.T
    limit = float(np.abs(delta).max()) or 1.0
    image = axes.imshow(delta, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto",
                        interpolation="nearest", extent=(0.5, n + 0.5, 19.5, -0.5))  # fmt: skip
    own = [(i + 1, AMINO_ACIDS.index(r)) for i, r in enumerate(effect.sequence) if r in AMINO_ACIDS]
    if own:
        axes.scatter(*zip(*own, strict=True), s=5, color="black", linewidths=0)
    _mark_edited(axes, effect)
    axes.set_yticks(range(20), list(AMINO_ACIDS))
    axes.set_ylabel("amino acid")
    if n <= 150:
        labels = [f"{r}\n{i}" if i % 10 == 0 or i == 1 else r
                  for i, r in enumerate(effect.sequence, start=1)]  # fmt: skip
        axes.set_xticks(range(1, n + 1), labels, fontsize=8)
    axes.set_xlabel("residue (position from 1); dot: the sequence's own residue, grey bar: edited")
    words = "; ".join(str(e.edit) for e in effect.edits)
    axes.set_title(title or f"Change of log p under {words or 'no edit'}", pad=12)
    figure.colorbar(image, ax=axes, label="Δ log p (nats)", pad=0.01)
    return figure


def _mark_edited(axes: Any, effect: SequenceEffect) -> None:
    edges = np.flatnonzero(np.diff(effect.edited.astype(int), prepend=0, append=0)).reshape(-1, 2)
    above = axes.get_xaxis_transform()
    for start, stop in edges:
        axes.plot([start + 0.5, stop + 0.5], [1.015, 1.015], color="0.45", linewidth=4,
                  solid_capstyle="butt", clip_on=False, transform=above)  # fmt: skip
