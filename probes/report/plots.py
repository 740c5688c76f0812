"""Plots of a probing run, as SVG elements."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from probes.data.frames import where

COLOURS = {
    "latents": "#0072B2", "neurons": "#8A8A8A", "principal components": "#56B4E9",
    "random dictionary": "#E69F00", "shuffled labels": "#CC79A7", "shuffled parent": "#D55E00",
}  # fmt: skip
"""Of every set of features: Okabe & Ito's, told apart with any colour vision."""
CYCLE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8A8A8A", "#000000")
KIND_COLOURS = {
    "amino acid": "#8A8A8A", "amino-acid class": "#56B4E9", "dssp": "#0072B2",
    "uniprot": "#009E73", "own": "#D55E00", "protein": "#CC79A7",
}  # fmt: skip


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one set of axes, without a frame."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def to_svg(figure: Figure, title: str) -> str:
    """An ``<svg>`` that scales, with a title for screen readers."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": title}):  # ids that are the same every time
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace(">", f' role="img"><title>{title}</title>', 1)


def found_bars(found: pd.DataFrame) -> str:
    """Share of the tested concepts that each protocol finds in each set of features."""
    protocols = list(dict.fromkeys(found["protocol"]))
    names = list(dict.fromkeys(found["features"]))
    figure, axes = canvas(10.0, 0.5 + 0.24 * len(found) + 0.25 * len(protocols))
    y, ticks = 0.0, []
    for protocol in protocols:
        rows = where(found, found["protocol"] == protocol)
        start = y
        for name, n, of in zip(
            rows["features"], rows["concepts_found"], rows["concepts_tested"], strict=True
        ):
            axes.barh(y, n / max(of, 1), color=COLOURS.get(name, "#000000"), height=0.85)
            axes.text(n / max(of, 1) + 0.005, y, f"{n:.0f} of {of:.0f}", va="center", fontsize=8)
            y += 1
        ticks.append(((start + y - 1) / 2, protocol))
        y += 0.7
    axes.set_yticks([t for t, _ in ticks], [words for _, words in ticks])
    axes.invert_yaxis()
    axes.set(xlabel="share of the tested concepts that are found", xlim=(0, 1.12))
    handles = [axes.barh(0, 0, color=COLOURS.get(name, "#000000"), label=name) for name in names]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="lower right")
    return to_svg(figure, "Concepts found by protocol and set of features")


def _apart(names: list[str], xy: Float[np.ndarray, "names 2"]) -> list[float]:
    """By how many points to lift each name beside its dot, so that it stands on no other.

    Of axes from 0 to 1 that are 370 points wide and high; more than five on a heap stay there.
    """
    line, letter, side = 8.0, 4.1, 370.0
    taken: list[tuple[float, float, float]] = []
    lifted = [0.0] * len(names)
    for i in np.argsort(xy[:, 1], kind="stable").tolist():
        x, y, width = side * xy[i, 0], side * xy[i, 1], letter * len(names[i])
        while lifted[i] < 5 * line and any(
            x < right and left < x + width and abs(y + lifted[i] - at) < line
            for left, right, at in taken
        ):
            lifted[i] += line / 2
        taken.append((x, x + width, y + lifted[i]))
    return lifted


def f1_scatter(table: pd.DataFrame) -> str:
    """Best latent against best raw neuron, one dot for each concept."""
    figure, axes = canvas(6.2, 5.6)
    axes.plot([0, 1], [0, 1], color="#8A8A8A", linewidth=1)
    for kind in dict.fromkeys(table["kind"]):
        rows = where(table, table["kind"] == kind)
        colour = KIND_COLOURS.get(str(kind), "#000000")
        low, high = rows["latent_f1"] - rows["latent_f1_low"], rows["latent_f1_high"]
        spread = np.maximum(np.stack([low, high - rows["latent_f1"]]), 0)
        axes.errorbar(
            rows["neuron_f1"], rows["latent_f1"], yerr=spread, fmt="o", markersize=4,
            color=colour, ecolor=colour, elinewidth=0.6, alpha=0.8, label=str(kind),
        )  # fmt: skip
    named = where(table, (table["kind"] != "amino acid") | (len(table) < 30))
    names = [str(name)[:24] for name in named["concept"]]
    xy = named[["neuron_f1", "latent_f1"]].to_numpy(dtype=float)
    for name, at, lifted in zip(names, xy.tolist(), _apart(names, xy), strict=True):
        axes.annotate(name, at, fontsize=6.5, xytext=(4, 2 + lifted), textcoords="offset points",
                      color="#1c2430")  # fmt: skip
    axes.set(xlabel="F1 of the best raw neuron", ylabel="F1 of the best latent (95 % interval)",
             xlim=(0, 1.02), ylim=(0, 1.02))  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return to_svg(figure, "F1 of the best latent against that of the best raw neuron")


def precision_scatter(latents: pd.DataFrame) -> str:
    """Every annotated latent: its precision against what residues and neighbours predict."""
    rows = latents.dropna(subset="concept")
    figure, axes = canvas(6.2, 5.6)
    axes.plot([0, 1], [0, 1], color="#8A8A8A", linewidth=1)
    counts = rows["concept"].value_counts().head(len(CYCLE))
    for (name, n), colour in zip(counts.items(), CYCLE, strict=False):
        part = where(rows, rows["concept"] == name)
        axes.scatter(part["expected_neighbours"], part["precision"], s=9, alpha=0.6, color=colour,
                     linewidths=0, label=f"{str(name)[:24]} ({n})")  # fmt: skip
    axes.set(xlabel="precision that a residue and its two neighbours predict",
             ylabel="precision of the latent, on test", xlim=(0, 1.02), ylim=(0, 1.02))  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower right", title="annotation", title_fontsize=8)
    return to_svg(figure, "Precision of annotated latents against what residues predict")


def coverage_bars(coverage: pd.DataFrame, limit: int = 25) -> str:
    """Share of each concept's residues that precise latents cover together."""
    rows = coverage.sort_values("recall_test", ascending=False).head(limit)
    figure, axes = canvas(8.0, 0.7 + 0.28 * len(rows))
    y = np.arange(len(rows))
    axes.barh(y, rows["recall_test"], color=COLOURS["latents"], height=0.75)
    for at, recall, taken in zip(y.tolist(), rows["recall_test"], rows["taken"], strict=True):
        axes.text(recall + 0.005, at, f"{taken:.0f} latents", va="center", fontsize=8)
    axes.set_yticks(y, [str(c)[:36] for c in rows["concept"]])
    axes.invert_yaxis()
    axes.set(xlabel="share of the concept's residues, on test", xlim=(0, 1.1))
    return to_svg(figure, "Coverage of each concept by precise latents")


def calibration_curves(calibration: pd.DataFrame) -> str:
    """Predicted against observed share of positives, for the best latent of each concept."""
    figure, axes = canvas(5.4, 5.0)
    axes.plot([0, 1], [0, 1], color="#8A8A8A", linewidth=1)
    for kind in dict.fromkeys(calibration["kind"]):
        rows = where(calibration, calibration["kind"] == kind)
        size = 6 + 40 * np.sqrt(rows["n"] / rows["n"].max())
        axes.scatter(rows["predicted"], rows["observed"], s=size, alpha=0.5, linewidths=0,
                     color=KIND_COLOURS.get(str(kind), "#000000"), label=str(kind))  # fmt: skip
    axes.set(xlabel="predicted by the 1-D probe", ylabel="observed on test", xlim=(0, 1.02),
             ylim=(0, 1.02))  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return to_svg(figure, "Calibration of the best latents' probes")


def kind_bars(latents: pd.DataFrame) -> str:
    """How many latents are of each kind."""
    counts = latents["kind"].value_counts()
    figure, axes = canvas(8.0, 0.6 + 0.28 * len(counts))
    axes.barh(np.arange(len(counts)), counts.to_numpy(), color=COLOURS["latents"], height=0.75)
    axes.set_yticks(np.arange(len(counts)), [str(k) for k in counts.index])
    axes.bar_label(axes.containers[0], fontsize=8, padding=3)  # type: ignore[arg-type]
    axes.invert_yaxis()
    axes.set(xlabel="latents")
    return to_svg(figure, "Kinds of latents")
