"""Curves in a terminal, from block characters; no dependency."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
LABEL_WIDTH = 9


def curve(
    title: str,
    steps: Sequence[int],
    values: Sequence[float | int],
    *,
    width: int = 80,
    height: int = 4,
) -> list[str]:
    """A curve as filled columns, with the range of its values at the left and of steps below.

    The columns are equal spans of steps, and show the mean of the values in each; where several
    lines tell nothing (a constant) there is one.

    Args:
        title: over the curve, with the first and last value.
        steps: ascending.
        values: one for each step; those not finite are left out.
        width: of the lines, in characters.
        height: of the curve, in lines.
    """
    points = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    if not points:
        return [f"{title}  nothing logged yet"]
    heading = f"{title}  {short(points[0][1])} → {short(points[-1][1])}"
    low, high = min(v for _, v in points), max(v for _, v in points)
    if len(points) == 1 or low == high:
        return [f"{title}  {short(points[-1][1])}" + (" throughout" if len(points) > 1 else "")]
    columns = _columns(points, width - LABEL_WIDTH - 2)
    eighths = [
        None if v is None else 1 + round((v - low) / (high - low) * (8 * height - 1))
        for v in columns
    ]
    rows = []
    for row in reversed(range(height)):
        label = short(high) if row == height - 1 else short(low) if row == 0 else ""
        filled = (0 if n is None else min(8, max(0, n - 8 * row)) for n in eighths)
        rows.append(f"{label:>{LABEL_WIDTH}} ┤" + "".join(BLOCKS[n] for n in filled).rstrip())
    first, last = f"step {points[0][0]:,}", f"{points[-1][0]:,}"
    gap = max(1, len(columns) - len(first) - len(last))
    return [heading, *rows, " " * (LABEL_WIDTH + 2) + first + " " * gap + last]


def _columns(points: list[tuple[int, float | int]], width: int) -> list[float | None]:
    """Means of equal spans of steps; a span without a point is filled with the one before."""
    first, last = points[0][0], points[-1][0]
    n = min(width, len(points))
    sums: list[list[float]] = [[] for _ in range(n)]
    for step, value in points:
        sums[min(n - 1, int((step - first) / (last - first) * n))].append(value)
    means: list[float | None] = []
    for span in sums:
        means.append(sum(span) / len(span) if span else means[-1])
    stretch = max(1, width // n)
    return [mean for mean in means for _ in range(stretch)]


def short(value: float | int) -> str:
    """A number in at most nine characters."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.3g}"
