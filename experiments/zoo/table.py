"""The table of a zoo, and its plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from extract.files import write_atomically

COLUMNS = {
    "name": "SAE", "trained_residues": "Residues trained on", "fvu": "FVU", "l0": "L0",
    "frac_dead": "Dead", "loss_recovered": "Loss recovered", "concepts_found": "Concepts found",
}  # fmt: skip
PANELS = {"fvu": "FVU, held out", "frac_dead": "dead latents (share)",
          "concepts_found": "concepts found"}  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    """One line for each SAE; what was not measured is blank."""
    text = f"| {' | '.join(COLUMNS.values())} |\n|{'---|' * len(COLUMNS)}\n"
    for r in rows:
        text += f"| {' | '.join(_cell(r, name) for name in COLUMNS)} |\n"
    return text


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if name == "concepts_found":
        return f"{value} of {row['concepts_tested']}"
    if name in ("frac_dead", "loss_recovered"):
        return f"{100 * value:.1f} %"
    if isinstance(value, float):
        return f"{value:.4f}" if name == "fvu" else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """``zoo.csv``, ``zoo.md`` and ``zoo.png``."""
    table = pd.DataFrame(rows)
    for name, text in (("csv", table.to_csv(index=False)), ("md", markdown(rows))):
        write_atomically(out / f"zoo.{name}", lambda f, t=text: f.write(t.encode()))
    plot(table, out / "zoo.png")


def plot(table: pd.DataFrame, path: Path) -> None:
    """What was measured against L0; a line for each site and width."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [name for name in PANELS if name in table.columns]
    figure = Figure(figsize=(4.2 * len(shown), 3.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for i, name in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), i + 1)
        for site, width in sorted(set(zip(table["site"], table["d_sae"], strict=True))):
            group = table.sort_values(by="l0")
            group = group[(group["site"] == site) & (group["d_sae"] == width)]
            axes.plot(group["l0"], group[name], marker="o", label=f"{site} {width}")
        axes.set(xlabel="L0", ylabel=PANELS[name])
        if not i:
            axes.legend(fontsize=7)
    write_atomically(path, lambda f: figure.savefig(f, format="png", dpi=90))
