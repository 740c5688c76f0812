"""What kind of latent is it? Statistics of where latents fire, all at once, and their class.

A latent *fires* where z > ``FIRING_FRACTION`` of its own maximum. The rules are in
``probes/kinds/rules.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from extract.alphabet import AMINO_ACIDS
from probes.data.amino_acid_classes import NAMING
from probes.data.firing import (
    FIRING_FRACTION,
    ColumnSource,
    FiringBlock,
    firing_blocks,
    latent_of_entries,
)
from probes.data.rows import OTHER_RESIDUE, ProteinRows
from probes.kinds.logos import MIN_SITES, Logos, logo_counts
from probes.kinds.patterns import (
    coverage,
    periodicity,
    residue_mass,
    rhythm,
    runs,
    terminal,
    visits_of,
)
from probes.kinds.rules import classify
from probes.kinds.structures import Structures, contact_pairs
from saejax.latents import LatentColumns

LOGO_SITES = 200
"""Sites in the logo from which flanking information is read, the strongest of each protein."""


class LatentKinds(NamedTuple):
    """What :func:`latent_kinds` finds."""

    table: pd.DataFrame
    """One row for each latent."""
    logos: Logos
    """The logo of each: its strongest site of each protein, ``LOGO_SITES`` of them."""


def latent_kinds(
    columns: ColumnSource,
    rows: ProteinRows,
    structures: Structures | None = None,
    *,
    fraction: float = FIRING_FRACTION,
) -> LatentKinds:
    """Statistics, flags, the kind and the logo of every latent.

    Columns: ``latent``, ``kind``; ``active_frequency`` and ``n_active`` (z > 0); ``frequency``,
    ``n_fires``, ``n_proteins``, ``coverage``, ``coverage_mean``, ``top_protein_share``,
    ``run_mean``, ``run_length``, ``stretch_length``, ``stretch_density``, ``n_terminal_share``,
    ``c_terminal_share``, ``terminal_expected``, ``period`` and its four measures
    (``probes.kinds.patterns``); ``top_amino_acid``, ``top_amino_acid_share`` (of Σz),
    ``top_amino_acid_recall`` (of its residues, those that fire), ``identity_bits`` (relative
    entropy of the residues against the store's), ``top_class``, ``top_class_share``;
    ``flank_bits``, ``consensus`` (the logo's letters above half a bit, where it fires in the
    middle), ``enriched`` (:meth:`probes.kinds.logos.Logos.enriched`); ``contact_pairs``,
    ``contact_share``, ``contact_enrichment`` over pairs matched by separation,
    ``contact_residue_enrichment`` over those matched by amino acids too (NaN without
    structures); and ``is_<kind>`` for each rule.

    Memory is bounded by ``probes.data.firing.BLOCK_ENTRIES``, the logos (1,680 B each) and the
    firings in proteins with a structure.

    Args:
        columns: of the whole dictionary; a store is read block by block.
        rows: the residues.
        structures: of :func:`probes.kinds.structures.read_structures`.
        fraction: of a latent's maximum above which it fires.
    """
    parts, logos, touching = [], [], []
    n_of_residue = np.bincount(rows.residue_class, minlength=OTHER_RESIDUE + 1)
    structured = np.zeros(rows.n_proteins, dtype=bool)
    structured[list(structures or ())] = True
    for block in firing_blocks(columns, fraction=fraction):
        logos.append(logo_counts(block.columns, rows, top_n=LOGO_SITES, max_per_protein=1))
        parts.append(_block_statistics(block, logos[-1], rows, n_of_residue))
        if structures:
            latent = latent_of_entries(block.columns) + block.first
            keep = structured[rows.protein_idx[block.columns.rows]]
            touching.append((latent[keep], block.columns.rows[keep]))
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "latent", np.arange(len(table)))
    table = classify(_with_contacts(table, touching, rows, structures))
    return LatentKinds(table, Logos.joined(logos))


def _with_contacts(
    table: pd.DataFrame,
    touching: list[tuple[np.ndarray, np.ndarray]],
    rows: ProteinRows,
    structures: Structures | None,
) -> pd.DataFrame:
    """Add the contact columns: NaN without structures."""
    names = ["pairs", "share", "enrichment", "residue_enrichment"]
    values = [np.full(len(table), np.nan)] * 4
    if structures:
        latent, row = (np.concatenate(part) for part in zip(*touching, strict=True))
        found = contact_pairs(latent, row, rows, structures, len(table))
        values = [found.n_pairs, _ratio(found.observed, found.n_pairs),
                  _ratio(found.observed, found.expected),
                  _ratio(found.observed, found.expected_of_residues)]  # fmt: skip
    return table.assign(**{f"contact_{k}": v for k, v in zip(names, values, strict=True)})


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _block_statistics(
    block: FiringBlock, logos: Logos, rows: ProteinRows, n_of_residue: np.ndarray
) -> pd.DataFrame:
    columns, n = block.columns, len(block.n_active)
    visits = visits_of(columns, rows)
    n_fires = np.diff(columns.indptr)
    return pd.DataFrame(
        {
            "n_active": block.n_active,
            "active_frequency": block.n_active / columns.n_rows,
            "maximum": block.maximum,
            "n_fires": n_fires,
            "frequency": n_fires / columns.n_rows,
        }
        | coverage(visits, n)
        | runs(columns, visits)
        | terminal(columns, visits, rows)
        | periodicity(rhythm(columns, visits), n_fires)
        | _residues(columns, rows, n_of_residue)
        | {
            "n_sites": logos.n_sites,
            "flank_bits": flank_bits(logos),
            "consensus": logos.consensus(),
            "enriched": logos.enriched(),
        }
    )


def _residues(
    columns: LatentColumns, rows: ProteinRows, n_of_residue: np.ndarray
) -> dict[str, np.ndarray]:
    """What it fires on: the commonest amino acid and class, and how far from the background."""
    mass = residue_mass(columns, rows)[:, :OTHER_RESIDUE]
    background = n_of_residue[:OTHER_RESIDUE] / max(1, int(n_of_residue.sum()))
    ratio = np.divide(mass, background, out=np.ones_like(mass), where=mass > 0)
    top = mass.argmax(axis=1)
    latent = latent_of_entries(columns)
    on_top = rows.residue_class[columns.rows] == top[latent]
    n_top = np.bincount(latent[on_top], minlength=len(mass))
    silent = mass.sum(axis=1) == 0
    members = np.array([[a in letters for a in AMINO_ACIDS] for letters in
                        NAMING.values()], dtype=float)  # fmt: skip
    share = mass @ members.T
    best = np.nan_to_num(_bits(share, members @ background)).argmax(axis=1)
    return {
        "top_amino_acid": np.where(silent, "", np.array(list(AMINO_ACIDS))[top]),
        "top_amino_acid_share": mass.max(axis=1),
        "top_amino_acid_recall": n_top / np.maximum(n_of_residue[top], 1),
        "identity_bits": (mass * np.log2(ratio)).sum(axis=1),
        "top_class": np.where(silent, "", np.array(list(NAMING))[best]),
        "top_class_share": share[np.arange(len(share)), best],
    }


def _bits(
    share: Float[np.ndarray, "latents classes"], background: Float[np.ndarray, " classes"]
) -> Float[np.ndarray, "latents classes"]:
    """What membership of each class tells, in bits; negative where it is avoided."""
    eps = 1e-12
    gain = share * np.log2((share + eps) / (background + eps))
    loss = (1 - share) * np.log2((1 - share + eps) / (1 - background + eps))
    return np.sign(share - background) * (gain + loss)


def flank_bits(logos: Logos) -> Float[np.ndarray, " latents"]:
    """Information of the flanking positions against the mean of the window, in bits, summed.

    Σ_o [Σ_a f(o, a) log2(f(o, a) / f̄(a)) − e(n(o))] over o ≠ 0 with f̄ the mean of f over the
    flanks: a region that is rich in some residues throughout has none, however unlike the store it
    is; a conserved neighbourhood holds different residues at different places. Positions with
    fewer than ``MIN_SITES`` effective sites are left out, and a negative sum is 0.
    """
    flanks = np.delete(logos.frequencies, logos.flank, axis=1).astype(np.float64)
    n = np.delete(logos.n_effective, logos.flank, axis=1)
    counted = n >= MIN_SITES
    mean = (flanks * counted[..., None]).sum(axis=1, keepdims=True)
    mean /= np.maximum(counted.sum(axis=1), 1)[:, None, None]
    ratio = np.divide(flanks, mean, out=np.ones_like(flanks), where=(flanks > 0) & (mean > 0))
    bits = (flanks * np.log2(ratio)).sum(axis=2)
    bits -= (len(AMINO_ACIDS) - 1) / (2 * np.log(2) * np.maximum(n, 1))
    return np.maximum((bits * counted).sum(axis=1), 0.0)
