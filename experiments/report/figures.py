"""The report's plots, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from probes.report.plots import to_svg

BLUE, ORANGE, GREY, GREEN = "#0072B2", "#D55E00", "#8A8A8A", "#009E73"
"""Okabe & Ito's colours, told apart with any colour vision."""


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, list(axes)


def training_curves(metrics: pd.DataFrame, held_out_fvu: float) -> str:
    """FVU, dead latents and speed against residues seen."""
    figure, (left, middle, right) = _figure(10.5, 2.9, 3)
    seen = metrics["tokens_seen"] / 1e6
    left.plot(seen, metrics["fvu"], color=BLUE, label="training batches")
    left.axhline(held_out_fvu, color=ORANGE, linestyle="--", label="unseen chains, at the end")
    left.set(xlabel="million residues", ylabel="FVU", title="Reconstruction")
    left.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8)
    middle.plot(seen, 100 * metrics["frac_dead"], color=BLUE)
    middle.set(xlabel="million residues", ylabel="dead latents (%)", title="Dead latents")
    middle.set_ylim(bottom=0, top=max(1.0, 110 * metrics["frac_dead"].max()))
    right.plot(seen, metrics["tokens_per_sec"] / 1e3, color=GREY)
    right.set(xlabel="million residues", ylabel="thousand residues / s", title="Speed")
    right.set_ylim(bottom=0)
    return to_svg(figure, "Training curves")


def histograms(frequency: np.ndarray, l0: np.ndarray, k: int) -> str:
    """How often latents fire, and how many fire on a residue."""
    figure, (left, right) = _figure(8.5, 2.9, 2)
    alive = frequency[frequency > 0]
    left.hist(np.log10(alive), bins=50, color=BLUE)
    n_silent = int((frequency == 0).sum())
    left.set(
        xlabel="log10 of the share of residues on which a latent fires",
        ylabel="latents",
        title=f"Firing frequency ({n_silent} of {len(frequency)} never fired)",
    )
    counts = np.bincount(l0, minlength=k + 1)
    right.bar(np.arange(len(counts)), counts / counts.sum(), color=BLUE, width=0.9)
    right.set(
        xlabel="latents above zero on a residue (L0)",
        ylabel="share of residues",
        title=f"L0, mean {l0.mean():.1f} (k = {k})",
    )
    return to_svg(figure, "Histograms of firing frequency and of L0")


def identity_bars(table: pd.DataFrame) -> str:
    """F1 of the best latent and of the best raw neuron for every amino acid."""
    figure, (axis,) = _figure(9, 2.8)
    x = np.arange(len(table))
    axis.bar(x - 0.2, table["latent_f1"], width=0.4, color=BLUE, label="best latent")
    axis.bar(x + 0.2, table["neuron_f1"], width=0.4, color=GREY, label="best raw neuron")
    axis.set_xticks(x, [str(c)[-1] for c in table["concept"]])
    axis.set(ylabel="F1 on unseen proteins", ylim=(0, 1.12), title="Amino-acid identity")
    axis.legend(frameon=False, ncols=2, loc="upper right", fontsize=8)
    return to_svg(figure, "F1 of amino-acid identity, best latent against best raw neuron")


def precision_against_composition(table: pd.DataFrame, concepts: Sequence[str]) -> str:
    """Each precise latent: measured precision against what its amino acids predict."""
    figure, axes = _figure(4.3 * max(1, len(concepts)), 3.9, max(1, len(concepts)))
    for axis, concept in zip(axes, concepts):
        rows = pd.DataFrame(table.loc[table["concept"] == concept])
        base = float(rows["test_base_rate"].iloc[0])
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        axis.axhline(base, color=ORANGE, linestyle="--", linewidth=1)
        axis.text(0.02, base + 0.015, f"base rate {base:.2f}", color=ORANGE, fontsize=8)
        for firing, color in (("any", BLUE), ("strong", GREEN)):
            part = rows[(rows["firing"] == firing) & (rows["test_n_fires"] > 0)]
            size = 14 + 60 * np.sqrt(part["test_n_fires"] / rows["test_n_fires"].max())
            axis.scatter(part["test_expected_precision"], part["test_precision"], s=size,
                         color=color, alpha=0.75, linewidths=0,
                         label={"any": "wherever they fire", "strong": "where they fire strongly"}[
                             firing])  # fmt: skip
        axis.set(xlim=(0, 1), ylim=(0, 1.04), title=concept, ylabel="precision",
                 xlabel="precision that their amino acids predict")  # fmt: skip
        axis.legend(frameon=False, fontsize=8, loc="lower right")
    return to_svg(figure, "Precision of latents against what amino-acid composition predicts")


def steering_bars(table: pd.DataFrame) -> str:
    """Δlog p of each amino acid under its own latent and under matched random latents."""
    figure, (axis,) = _figure(9, 3.1)
    table = table.sort_values("delta_log_p", ascending=False)
    x = np.arange(len(table))
    spread = np.stack([
        table["delta_log_p"] - table["delta_log_p_low"],
        table["delta_log_p_high"] - table["delta_log_p"],
    ])  # fmt: skip
    axis.bar(x, table["delta_log_p"], width=0.55, color=BLUE, label="its own latent")
    axis.errorbar(x, table["delta_log_p"], yerr=spread, fmt="none", color="black", linewidth=1)
    axis.vlines(x + 0.38, table["control_min"], table["control_max"], color=ORANGE, linewidth=3,
                label="matched random latents (range)")  # fmt: skip
    axis.plot(x + 0.38, table["control_mean"], "_", color="black", markersize=7)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(x, table["amino_acid"])
    axis.set(ylabel="Δ log p (nats)", title="Amino acids at masked positions of unseen proteins")
    axis.legend(frameon=False, fontsize=8)
    return to_svg(figure, "Steering of amino acids beside matched random latents")
