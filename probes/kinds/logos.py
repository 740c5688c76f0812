"""Which residues surround a latent's firing: activation-weighted logos and enrichment.

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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from extract.alphabet import AMINO_ACIDS
from probes.data.firing import firing_blocks, latent_of_entries
from probes.data.frames import where
from probes.data.rows import OTHER_RESIDUE, ProteinRows
from saejax.latents import LatentColumns

FLANK = 10
"""Positions shown on either side."""

PSEUDOCOUNT = 1.0
"""Residues of background added to each position before log2(f / background): no infinities."""

ENRICHED = 2.0
"""Times the background above which a letter is named as enriched …"""
MIN_SITES = 5
"""… where so many effective sites have been counted. Flanks with fewer say nothing either."""


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

    def enriched(self, *, n: int = 4) -> list[str]:
        """The letters that tell most, as ``E0 ×2.5, L+4 ×3.1``: position and times the background.

        Of those at least ``ENRICHED`` times as frequent as in the store, the ``n`` of largest
        f log2(f / background), in order of position.
        """
        gain = self.frequencies * self.enrichment
        known = (self.n_effective >= MIN_SITES)[..., None]
        gain = np.where(known & (self.enrichment >= math.log2(ENRICHED)), gain, 0.0)
        flat = gain.reshape(len(gain), -1)
        best = np.sort(np.argsort(-flat, axis=1, kind="stable")[:, :n], axis=1)
        times = 2.0 ** self.enrichment.reshape(flat.shape)
        return [
            ", ".join(
                f"{AMINO_ACIDS[cell % 20]}{_signed(cell // 20 - self.flank)} ×{times[j, cell]:.1f}"
                for cell in cells if flat[j, cell] > 0
            )
            for j, cells in enumerate(best.tolist())
        ]  # fmt: skip

    def table(self) -> pd.DataFrame:
        """A row for each position of each latent that fires.

        Columns: ``latent``, ``position`` (0 is where it fires), ``n_effective``, ``bits``, and the
        frequency of each of the 20 amino acids under its letter.
        """
        n_latents, width = self.bits.shape
        fires = np.repeat(self.n_sites > 0, width)
        table = pd.DataFrame({
            "latent": np.repeat(np.arange(n_latents, dtype=np.int32), width),
            "position": np.tile(np.arange(width, dtype=np.int16) - self.flank, n_latents),
            "n_effective": self.n_effective.ravel(),
            "bits": self.bits.ravel(),
        })  # fmt: skip
        letters = pd.DataFrame(self.frequencies.reshape(-1, 20), columns=list(AMINO_ACIDS))
        return where(pd.concat([table, letters], axis=1), fires).reset_index(drop=True)

    @classmethod
    def joined(cls, parts: Sequence[Logos]) -> Logos:
        """Logos of neighbouring latents of one store, as one."""
        names = ("counts", "n_effective", "n_sites")
        counts, n_effective, n_sites = (
            np.concatenate([getattr(part, name) for part in parts]) for name in names
        )
        return cls(counts, n_effective, n_sites, parts[0].background)


def _signed(offset: int) -> str:
    """``+4``, ``0``, ``-3``."""
    return f"{offset:+d}" if offset else "0"


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
