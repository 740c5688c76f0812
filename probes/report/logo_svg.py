"""Logos as small SVG elements that share the shapes of their letters."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from extract.alphabet import AMINO_ACIDS

OKABE_ITO = {
    "AVLIMC": "#E69F00",  # aliphatic and sulphur
    "FWY": "#000000",  # aromatic
    "STNQ": "#009E73",  # polar
    "KRH": "#0072B2",  # positive
    "DE": "#D55E00",  # negative
    "GP": "#CC79A7",  # no or stiff side chain
}
"""Colours by residue class, told apart with any colour vision (Okabe & Ito 2008)."""

COLOUR = {letter: colour for letters, colour in OKABE_ITO.items() for letter in letters}
"""Colour of each letter."""

CELL, HEIGHT = 10.0, 50.0
"""Width of a position and height of the axis, in units of the drawing."""
LEFT, RIGHT, TOP, BELOW = 14.0, 5.0, 3.0, 11.0
"""Room for the scale, and for the positions."""
LEAST_BITS = 1.0
"""The axis ends no lower, so that noise does not look like a motif."""
LEAST_SHARE = 0.03
"""Letters below this share of the axis are left out: they would be specks. The rest stand on it."""
STEP = 5
"""Positions between two that are numbered."""


def letter_shapes() -> str:
    """An invisible ``<svg>`` of the 20 letters as ``#aa-A`` …, each filling the unit square.

    A page needs it once, before its logos.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight="bold")
    shapes = []
    for letter in AMINO_ACIDS:
        glyph = TextPath((0, 0), letter, size=1, prop=font)
        box = glyph.get_extents()
        width = 0.94 if letter != "I" else 0.4
        x_scale, y_scale = width / box.width, 1 / box.height
        words = []
        for points, code in glyph.iter_segments(curves=True, simplify=False):
            x = (points[0::2] - box.x0) * x_scale + (1 - width) / 2
            y = (box.y1 - points[1::2]) * y_scale
            numbers = " ".join(f"{v:.3f}" for pair in zip(x, y, strict=True) for v in pair)
            words.append("Z" if code == glyph.CLOSEPOLY else f"{_COMMANDS[int(code)]}{numbers}")
        shapes.append(f'<path id="aa-{letter}" fill="{COLOUR[letter]}" d="{"".join(words)}"/>')
    return (
        '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
        f"{''.join(shapes)}</defs></svg>"
    )


_COMMANDS = {1: "M", 2: "L", 3: "Q", 4: "C"}
"""SVG's names for matplotlib's path codes."""


def logo_svg(
    frequencies: Float[np.ndarray, "positions 20"],
    bits: Float[np.ndarray, " positions"],
    title: str,
) -> str:
    """Letters stacked by frequency · bits, the tallest on top; needs :func:`letter_shapes`.

    The middle position, where the latent fires, is shaded. The axis ends at the largest sum, or at
    ``LEAST_BITS``.

    Args:
        frequencies: of each amino acid (order of ``AMINO_ACIDS``), an odd number of positions.
        bits: information of each position.
        title: for screen readers; must be safe in HTML.
    """
    flank = len(bits) // 2
    top = max(LEAST_BITS, float(bits.max(initial=0.0)))
    end, bottom = LEFT + CELL * len(bits), TOP + HEIGHT
    parts = [
        f'<svg viewBox="0 0 {end + RIGHT:g} {bottom + BELOW:g}" class="logo" role="img">'
        f"<title>{title}</title>"
        f'<rect x="{LEFT + CELL * flank:g}" y="{TOP:g}" width="{CELL:g}" height="{HEIGHT:g}" '
        'class="here"/>'
        f'<path d="M{LEFT:g} {TOP:g}V{bottom:g}H{end:g}" class="axis"/>'
        f'<text x="{LEFT - 2:g}" y="{TOP + 6:g}" class="scale">{top:.1f}</text>'
    ]
    for position, column in enumerate(frequencies * bits[:, None]):
        x, base = LEFT + CELL * position, 0.0
        for a in np.argsort(column, kind="stable"):
            share = float(column[a]) / top
            if share >= LEAST_SHARE:
                base += share
                parts.append(
                    f'<use href="#aa-{AMINO_ACIDS[a]}" transform="translate({x:g} '
                    f'{TOP + HEIGHT * (1 - base):.1f})scale({CELL:g} {HEIGHT * share:.1f})"/>'
                )
        offset = position - flank
        if offset % STEP == 0:
            label = f"{offset:+d}".replace("-", "−") if offset else "0"
            parts.append(f'<text x="{x + CELL / 2:g}" y="{bottom + 9:g}">{label}</text>')
    return "".join([*parts, "</svg>"])
