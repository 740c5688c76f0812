"""Which residues surround a latent's firing: activation-weighted logos, and their drawing.

With w_r the latent's value at a residue r that counts, and o an offset from it::

    f(o, a) = Σ_r w_r [residue r + o is a] / Σ_r w_r [r + o is a standard residue]
    bits(o) = Σ_a f log2(f / background_a) − e(n(o)),  e(n) = (20 − 1) / (2 ln 2 · n)

e is the small-sample correction of Schneider et al. 1986 (J. Mol. Biol. 188:415, "Information
content of binding sites on nucleotide sequences"): the mean of the first term when n residues are
drawn from the background. n is Kish's effective number of residues, (Σw)² / Σw².

Differs: Schneider's R is H(background) − H(f); here it is the relative entropy, which is zero for
a position that holds what the store holds, and does not turn negative for rare residues.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from extract.alphabet import AMINO_ACIDS
from probes.firing import firing_blocks, latent_of_entries
from probes.rows import OTHER_RESIDUE, ProteinRows
from saejax.latents import LatentColumns

FLANK = 10
"""Positions shown on either side."""

PSEUDOCOUNT = 1.0
"""Residues of background added to each position before log2(f / background): no infinities."""

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


@dataclass(frozen=True)
class Logos:
    """Logos of some latents at the offsets ``-flank … flank``."""

    counts: Float[np.ndarray, "latents positions 20"]
    """Σ w of each amino acid (order of ``AMINO_ACIDS``)."""
    n_effective: Float[np.ndarray, "latents positions"]
    """(Σw)² / Σw²: 0 where no residue lies."""
    n_sites: Int[np.ndarray, " latents"]
    """Residues that count, each the middle of one window."""
    background: Float[np.ndarray, " 20"]
    """Frequencies in the store."""

    @cached_property
    def frequencies(self) -> Float[np.ndarray, "latents positions 20"]:
        """f; zeros where no residue lies."""
        total = self.counts.sum(axis=2, keepdims=True)
        return np.divide(self.counts, total, out=np.zeros_like(self.counts), where=total > 0)

    @cached_property
    def bits(self) -> Float[np.ndarray, "latents positions"]:
        """Information of each position in bits, corrected; not below 0."""
        f, n = self.frequencies, self.n_effective
        ratio = np.divide(f, self.background, out=np.ones_like(f), where=f > 0)
        correction = (len(AMINO_ACIDS) - 1) / (2 * math.log(2) * np.maximum(n, 1e-9))
        return np.maximum((f * np.log2(ratio)).sum(axis=2) - correction, 0.0).astype(np.float32)

    @cached_property
    def enrichment(self) -> Float[np.ndarray, "latents positions 20"]:
        """log2(f / background), shrunk to 0 by ``PSEUDOCOUNT`` residues of background."""
        n = self.n_effective[..., None]
        shrunk = (self.frequencies * n + PSEUDOCOUNT * self.background) / (n + PSEUDOCOUNT)
        ratio = np.divide(
            shrunk, self.background, out=np.ones_like(shrunk), where=self.background > 0
        )
        return np.log2(ratio)

    @property
    def flank(self) -> int:
        """Positions on either side."""
        return self.counts.shape[1] // 2

    def consensus(self, *, min_bits: float = 0.5) -> list[str]:
        """The tallest letter of each latent's positions, ``.`` below ``min_bits`` in all."""
        letters = np.array(list(AMINO_ACIDS))
        tallest = letters[(self.frequencies * self.bits[..., None]).argmax(axis=2)]
        shown = np.where(self.bits >= min_bits, tallest, ".")
        return ["".join(line) for line in shown.tolist()]


def background_of(residue_class: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " 20"]:
    """Share of each of the 20 amino acids among the standard residues, float32."""
    counts = np.bincount(residue_class, minlength=OTHER_RESIDUE + 1)[:OTHER_RESIDUE]
    return (counts / max(int(counts.sum()), 1)).astype(np.float32)


def logo_counts(
    columns: LatentColumns,
    rows: ProteinRows,
    *,
    flank: int = FLANK,
    fraction: float = 0.0,
    top_n: int | None = None,
    max_per_protein: int | None = 1,
) -> Logos:
    """The logo of every latent, with memory bounded by its result.

    Args:
        columns: where latents are active.
        rows: the residues; a window ends at the ends of its protein.
        flank: positions on either side.
        fraction: only residues with z > fraction · (the latent's maximum).
        top_n: only that many residues of largest value for each latent.
        max_per_protein: at most so many for each latent in one protein, its largest: without it
            one repetitive protein makes the logo. 1 keeps windows in register: two residues of one
            run show the same window twice, one step apart.
    """
    d_sae, width = len(columns.indptr) - 1, 2 * flank + 1
    counts = np.zeros((d_sae, width, OTHER_RESIDUE), dtype=np.float32)
    n_effective = np.zeros((d_sae, width), dtype=np.float32)
    n_sites = np.zeros(d_sae, dtype=np.int64)
    for block in firing_blocks(columns, fraction=fraction):
        sites = strongest(block.columns, rows.protein_idx, top_n, max_per_protein)
        at = block.latents
        n_sites[at] = np.diff(sites.indptr)
        counts[at], n_effective[at] = _count(sites, rows, flank)
    return Logos(counts, n_effective, n_sites, background_of(rows.residue_class))


def strongest(
    columns: LatentColumns,
    protein_idx: Int[np.ndarray, " rows"],
    top_n: int | None = None,
    max_per_protein: int | None = None,
) -> LatentColumns:
    """The ``max_per_protein`` largest of each latent and protein, of them each latent's ``top_n``.

    Entries come out by latent, largest first; of equal values the first row wins.
    """
    latent = latent_of_entries(columns)
    rows, values = columns.rows, columns.values
    if max_per_protein is not None:
        n_proteins = int(protein_idx.max(initial=0)) + 1
        kept = _largest_of_groups(
            latent * np.int64(n_proteins) + protein_idx[rows], values, max_per_protein
        )
        latent, rows, values = latent[kept], rows[kept], values[kept]
    kept = _largest_of_groups(latent, values, len(values) if top_n is None else top_n)
    n = np.bincount(latent[kept], minlength=len(columns.indptr) - 1)
    return LatentColumns(np.append(0, np.cumsum(n)), rows[kept], values[kept], columns.n_rows)


def _largest_of_groups(group: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Positions of the ``n`` largest values of each group, by group, largest first."""
    order = np.lexsort((-values, group))
    ordered = group[order]
    new = np.append(True, ordered[1:] != ordered[:-1])[: len(order)]
    start = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    return order[np.arange(len(order)) - start < n]


def _count(sites: LatentColumns, rows: ProteinRows, flank: int) -> tuple[np.ndarray, np.ndarray]:
    """(counts, n_effective) of one block."""
    n = len(sites.indptr) - 1
    latent = latent_of_entries(sites)
    protein = rows.protein_idx[sites.rows]
    first, end = rows.offsets[protein], rows.offsets[protein + 1]
    counts = np.zeros((n, 2 * flank + 1, OTHER_RESIDUE), dtype=np.float32)
    n_effective = np.zeros((n, 2 * flank + 1), dtype=np.float32)
    for i, offset in enumerate(range(-flank, flank + 1)):
        at = sites.rows + offset
        inside = np.flatnonzero((at >= first) & (at < end))
        residue = rows.residue_class[at[inside]]
        inside, residue = inside[residue < OTHER_RESIDUE], residue[residue < OTHER_RESIDUE]
        w = sites.values[inside].astype(np.float64)
        cell = latent[inside] * OTHER_RESIDUE + residue
        table = np.bincount(cell, weights=w, minlength=n * OTHER_RESIDUE)
        counts[:, i] = table.reshape(n, OTHER_RESIDUE)
        squares = np.bincount(latent[inside], weights=w**2, minlength=n)
        total = counts[:, i].sum(axis=1, dtype=np.float64)
        n_effective[:, i] = np.divide(total**2, squares, out=np.zeros(n), where=squares > 0)
    return counts, n_effective


def draw_logo(ax: Any, logos: Logos, latent: int) -> None:
    """Draw one latent's logo: letters stacked by f · bits, the tallest on top, in bits.

    Position 0 is where the latent fires. Letters below a hundredth of the axis are left out.

    Args:
        ax: matplotlib axes.
        logos: of :func:`logo_counts`.
        latent: which of its latents.
    """
    heights = logos.frequencies[latent] * logos.bits[latent][:, None]
    top = max(1.0, float(heights.sum(axis=1).max()) * 1.05)
    for position, column in enumerate(heights, start=-logos.flank):
        base = 0.0
        for a in np.argsort(column, kind="stable"):
            if column[a] > top / 100:
                _letter(ax, AMINO_ACIDS[a], position, base, float(column[a]))
            base += float(column[a])
    ax.set_xlim(-logos.flank - 0.5, logos.flank + 0.5)
    ax.set_ylim(0, top)
    step = 5 if logos.flank >= 5 else 1
    ax.set_xticks([p for p in range(-logos.flank, logos.flank + 1) if p % step == 0])
    ax.set_xlabel("position from where it fires")
    ax.set_ylabel("bits")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _letter(ax: Any, letter: str, position: int, base: float, height: float) -> None:
    """One glyph, stretched to fill its box."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    glyph = TextPath(
        (0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold")
    )
    box = glyph.get_extents()
    width = 0.94 if letter != "I" else 0.4
    fit = (
        Affine2D()
        .translate(-box.x0, -box.y0)
        .scale(width / box.width, height / box.height)
        .translate(position - width / 2, base)
    )
    ax.add_patch(PathPatch(fit.transform_path(glyph), facecolor=COLOUR[letter], linewidth=0))
