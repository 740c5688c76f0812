"""A short name for each latent, from what is known of it, and where the name is from.

In this order: the annotation that names it, where it is confirmed on unseen homology clusters and
holds on most of its residues; the amino acid or class that it fires on; else its kind and the
letters around it. Precision and letters are in the name, so that it claims no more than was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from probes.data.amino_acid_classes import NAMING
from probes.kinds.rules import IDENTITY_SHARE

MIN_PRECISION = 0.5
"""A confirmed annotation that holds on fewer of a latent's residues does not name it."""
MOTIF_LETTERS = 3
"""Letters of a consensus that is worth a name."""

NAMES = {
    "A": "alanine", "C": "cysteine", "D": "aspartate", "E": "glutamate", "F": "phenylalanine",
    "G": "glycine", "H": "histidine", "I": "isoleucine", "K": "lysine", "L": "leucine",
    "M": "methionine", "N": "asparagine", "P": "proline", "Q": "glutamine", "R": "arginine",
    "S": "serine", "T": "threonine", "V": "valine", "W": "tryptophan", "Y": "tyrosine",
}  # fmt: skip


class Label(NamedTuple):
    """What a latent is called."""

    text: str
    """Such as ``helix (precision 0.89): L-4 A0 L+3``."""
    source: str
    """annotation, amino acid, amino-acid class, logo, kind or none."""


def label_of(row: Mapping[str, Any]) -> Label:
    """The name of a latent.

    Args:
        row: of the table of kinds; with probes also ``concept``, ``precision`` and ``confirmed``.
    """
    if row["kind"] == "dead":
        return Label("dead", "none")
    residue = _residue(row)
    letters = _letters(row)
    if _is_named(row):
        what = f"{row['concept']} (precision {row['precision']:.2f})"
        text = f"{residue[0]} in {what}" if residue else what
        return Label(_with(text, letters, residue), "annotation")
    if residue:
        return Label(_with(residue[0], letters, residue), residue[1])
    return _pattern(row, letters)


def _is_named(row: Mapping[str, Any]) -> bool:
    return bool(row.get("confirmed")) and row["precision"] >= MIN_PRECISION


def _residue(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(amino acid or class in words, source) where nearly all of the activation is on it."""
    if row["top_amino_acid_share"] >= IDENTITY_SHARE:
        return NAMES[row["top_amino_acid"]], "amino acid"
    if row["top_class_share"] >= IDENTITY_SHARE and row["top_class"] in NAMING:
        return f"{row['top_class']} ({NAMING[row['top_class']]})", "amino-acid class"
    return None


def _letters(row: Mapping[str, Any]) -> list[str]:
    """``L0``, ``K+3``: letters at least twice as frequent as elsewhere."""
    words = row["enriched"] if isinstance(row["enriched"], str) else ""
    return [word.split(" ")[0] for word in words.split(", ") if word]


def _with(text: str, letters: list[str], residue: tuple[str, str] | None) -> str:
    """A name and the letters around; the residue itself is not said twice."""
    shown = [x for x in letters if not (residue and x[1:] == "0")]
    return f"{text}: {' '.join(shown)}" if shown else text


def _pattern(row: Mapping[str, Any], letters: list[str]) -> Label:
    motif = _motif(row)
    around = " ".join(letters)
    kind = row["kind"]
    if kind == "domain-like":
        words = f"stretch of {row['stretch_length']:.0f} residues"
    elif kind == "periodic":
        words = f"every {int(row['period'])} residues"
    elif (kind == "motif-like" and motif) or (kind == "other" and motif):
        return Label(f"motif {motif}", "logo")
    elif kind == "other":
        return Label(f"around {around}", "logo") if around else Label("no pattern found", "kind")
    else:
        words = {"n-terminal": "N-terminus", "c-terminal": "C-terminus", "contact-like": "contacts"}.get(kind, kind)  # fmt: skip
    shown = motif or around
    return Label(f"{words}: {shown}" if shown else words, "logo" if shown else "kind")


def _motif(row: Mapping[str, Any]) -> str:
    """The consensus with x for any residue, such as ``GxGKT``; empty of too few letters."""
    words = row["consensus"] if isinstance(row["consensus"], str) else ""
    words = words.strip(".")
    n_letters = len(words) - words.count(".")
    return words.replace(".", "x") if n_letters >= MOTIF_LETTERS else ""


def labels_of(table: pd.DataFrame) -> list[Label]:
    """A name for each row of a table of kinds."""
    return [label_of(row) for row in table.to_dict("records")]  # type: ignore[arg-type]
