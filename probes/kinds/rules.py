"""The kinds of latents as rules: named thresholds on the columns of ``latent_kinds``.

Every rule has a flag of its own (``is_periodic``, …), and ``kind`` is the first flag that is up in
the order of ``KINDS``. What is more particular comes first: a latent of the leucines of zippers is
periodic before it is leucine.

Differs: InterProt's classes (its ``analyze_viz_files.py``) look at each latent's few strongest
proteins, normalised by their maximum, and count every z > 0 in them; here all proteins count.
Theirs are point (median run 1), short, medium and long motif (median length of the strongest run
below 20, 50, 300), whole (mean coverage above 0.8, as here), and periodic (more than ten runs in a
protein, of whose distances over half are the two commonest). Residues, flanks, ends and contacts
are not in theirs; in ours a short run is a motif only where the neighbourhood is conserved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

MIN_PROTEINS = 10
"""Proteins a latent must fire in before anything is said of it (InterProt asks for 5)."""

TERMINAL_SHARE = 0.5
"""Share of firings within ``TERMINUS`` residues of an end that makes a latent terminal …"""
TERMINAL_ENRICHMENT = 3.0
"""… when it is also that many times what the lengths of the proteins give: short ones are all end.
"""

WHOLE_COVERAGE = 0.8
"""Share of a protein that fires, seen from an average firing residue (as InterProt's "whole")."""

DOMAIN_RESIDUES = 20
"""Shortest stretch of a domain; the smallest folds, such as zinc fingers, have some 25 residues."""
DOMAIN_DENSITY = 0.7
"""Share of the stretch that fires: a helix's hydrophobic side has at most about a half."""

PERIOD_STRENGTH = 1.0
"""log2 by which a period stands above the lags beside it: twice as often."""
PERIOD_ENRICHMENT = 2.0
"""Times what a permutation within the protein gives, at the period."""
PERIOD_ECHO = 0.4
"""log2 prominence of the second period; a pair of residues has none, however fixed its distance."""
PERIOD_SHARE = 0.3
"""Share of firings with a partner one period on: 1/2 where they come in twos, 2/3 in threes."""

MOTIF_BITS = 5.0
"""Information of the 20 flanking positions together. Where nothing is conserved it is 0 to 2 on
real latents; a pattern that picks one site in 100 by its neighbours has log2(100) = 6.6."""

IDENTITY_SHARE = 0.9
"""Share of Σz on one amino acid, or on one class."""

CONTACT_ENRICHMENT = 2.0
"""Contacts over random pairs of the same proteins, separations and amino acids. Without the last
a latent of all glutamates has 0.2, of all isoleucines 2.5, of all cysteines 4.5."""
CONTACT_SHARE = 0.15
"""Share of the pairs that touch."""
CONTACT_PAIRS = 50
"""Pairs needed to say so."""

DENSE_FREQUENCY = 0.1
"""Share of residues with z > 0, as ``saejax.evaluate`` counts dense latents."""

KINDS = (
    "dead",
    "rare",
    "n-terminal",
    "c-terminal",
    "whole-protein",
    "domain-like",
    "periodic",
    "motif-like",
    "amino-acid identity",
    "contact-like",
    "amino-acid class",
    "dense",
    "other",
)
"""In order of precedence."""

RULES: dict[str, Callable[[Any], Any]] = {
    "dead": lambda t: t["n_active"] == 0,
    "rare": lambda t: t["n_proteins"] < MIN_PROTEINS,
    "n-terminal": lambda t: _terminal(t, "n_terminal_share"),
    "c-terminal": lambda t: _terminal(t, "c_terminal_share"),
    "whole-protein": lambda t: t["coverage"] >= WHOLE_COVERAGE,
    # strongest sites and long stretches say nothing of a latent that is active nearly everywhere
    "domain-like": lambda t: (
        (t["stretch_length"] >= DOMAIN_RESIDUES)
        & (t["stretch_density"] >= DOMAIN_DENSITY)
        & (t["active_frequency"] <= DENSE_FREQUENCY)
    ),
    "periodic": lambda t: (
        (t["period_strength"] >= PERIOD_STRENGTH)
        & (t["period_echo"] >= PERIOD_ECHO)
        & (t["period_enrichment"] >= PERIOD_ENRICHMENT)
        & (t["period_share"] >= PERIOD_SHARE)
    ),
    "motif-like": lambda t: (
        (t["flank_bits"] >= MOTIF_BITS)
        & (t["stretch_length"] < DOMAIN_RESIDUES)
        & (t["active_frequency"] <= DENSE_FREQUENCY)
    ),
    "amino-acid identity": lambda t: t["top_amino_acid_share"] >= IDENTITY_SHARE,
    "contact-like": lambda t: (
        (t["contact_pairs"] >= CONTACT_PAIRS)
        & (t["contact_residue_enrichment"] >= CONTACT_ENRICHMENT)
        & (t["contact_share"] >= CONTACT_SHARE)
    ),
    "amino-acid class": lambda t: t["top_class_share"] >= IDENTITY_SHARE,
    "dense": lambda t: t["active_frequency"] > DENSE_FREQUENCY,
    "other": lambda t: pd.Series(True, index=t.index),
}
"""Whether each kind's rule holds, from the columns of :func:`latent_kinds`."""


def _terminal(table: Any, share: str) -> Any:
    return (table[share] >= TERMINAL_SHARE) & (
        table[share] >= TERMINAL_ENRICHMENT * table["terminal_expected"]
    )


def classify(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``is_<kind>`` for every rule, and ``kind`` in second place."""
    flags = {name: RULES[name](table).to_numpy(dtype=bool) for name in KINDS}
    kind = np.array(KINDS)[np.stack([flags[name] for name in KINDS]).argmax(axis=0)]
    table.insert(1, "kind", kind)
    for name in KINDS[:-1]:
        table["is_" + name.replace("-", "_").replace(" ", "_")] = flags[name]
    return table
