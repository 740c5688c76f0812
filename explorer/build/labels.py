"""A short name for each latent, from what is known of it, and where the name is from.

In this order: the annotation that names it, where it is confirmed on unseen homology clusters and
holds on most of its residues; the concept that it predicts on unseen clusters; the amino acid or
class that it fires on; else its kind and the letters around it. Precision, F1 and letters are in
the name, so that it claims no more than was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from probes.data.amino_acid_classes import NAMING
from probes.data.frames import records
from probes.kinds.rules import IDENTITY_SHARE

MIN_PRECISION = 0.5
"""A confirmed annotation that holds on fewer of a latent's residues does not name it."""
MIN_F1 = 0.5
"""Of a concept on the test clusters, to be in the name."""
MOTIF_LETTERS = 3
"""Letters of a consensus that is worth a name."""

NAMES = {
    "A": "alanine", "C": "cysteine", "D": "aspartate", "E": "glutamate", "F": "phenylalanine",
    "G": "glycine", "H": "histidine", "I": "isoleucine", "K": "lysine", "L": "leucine",
    "M": "methionine", "N": "asparagine", "P": "proline", "Q": "glutamine", "R": "arginine",
    "S": "serine", "T": "threonine", "V": "valine", "W": "tryptophan", "Y": "tyrosine",
}  # fmt: skip
_CLASS_WORDS = {
    "charged, not H": "charged", "aromatic, not H": "aromatic",
    "polar, not charged": "polar uncharged", "turn": "turn-favouring",
    "aliphatic or methionine": "aliphatic",
}  # fmt: skip
_KIND_WORDS = {
    "n-terminal": "N-terminus",
    "c-terminal": "C-terminus",
    "contact-like": "contacts",
    "whole-protein": "whole proteins",
    "other": "around",
}


class Label(NamedTuple):
    """What a latent is called."""

    text: str
    """Such as ``helix (precision 0.89): L-4 A0 L+3``."""
    source: str
    """annotation, concept, amino acid, amino-acid class, logo, kind or none."""


class Best(NamedTuple):
    """The concept that a latent predicts best, chosen on validation."""

    concept: str
    kind: str
    f1: float
    """On the test clusters."""


def label_of(row: Mapping[str, Any], best: Best | None = None) -> Label:
    """The name of a latent.

    Args:
        row: of the table of kinds; with probes also ``concept``, ``precision`` and ``confirmed``.
        best: its best concept, if there are probes.
    """
    if row["kind"] == "dead":
        return Label("dead", "none")
    letters = _letters(row)
    residue = _residue(row, best)
    if said := _concept(row, best):
        text = f"{residue.text} in {said.text}" if residue else said.text
        return Label(_with(text, letters, residue), said.source)
    if residue:
        shown = [] if _is_everywhere(row, best) else letters
        return Label(_with(residue.text, shown, residue), residue.source)
    return _pattern(row, letters)


def _concept(row: Mapping[str, Any], best: Best | None) -> Label | None:
    """What annotations say of it, letters apart."""
    if bool(row.get("confirmed")) and row["precision"] >= MIN_PRECISION:
        return Label(f"{row['concept']} (precision {row['precision']:.2f})", "annotation")
    if best and best.f1 >= MIN_F1 and best.kind not in ("amino acid", "amino-acid class"):
        return Label(f"{best.concept} (F1 {best.f1:.2f})", "concept")
    return None


def _residue(row: Mapping[str, Any], best: Best | None) -> Label | None:
    """The amino acid or class that nearly all of its activation is on."""
    if row["top_amino_acid_share"] >= IDENTITY_SHARE:
        f1 = f" (F1 {best.f1:.2f})" if best is not None and _is_everywhere(row, best) else ""
        return Label(NAMES[row["top_amino_acid"]] + f1, "amino acid")
    name = row["top_class"]
    if row["top_class_share"] >= IDENTITY_SHARE and name in NAMING:
        return Label(f"{_CLASS_WORDS.get(name, name)} ({NAMING[name]})", "amino-acid class")
    return None


def _is_everywhere(row: Mapping[str, Any], best: Best | None) -> bool:
    """Whether it is on at most of an amino acid's residues: what is around them says nothing."""
    return best is not None and best.concept == row["top_amino_acid"] and best.f1 >= MIN_F1


def _letters(row: Mapping[str, Any]) -> list[str]:
    """``L0``, ``[ST]+3``: letters at least twice as frequent as elsewhere, by position."""
    words = row["enriched"] if isinstance(row["enriched"], str) else ""
    by_place: dict[str, str] = {}
    for word in words.split(", ") if words else ():
        cell = word.split(" ")[0]
        by_place[cell[1:]] = by_place.get(cell[1:], "") + cell[0]
    return [
        f"[{letters}]{place}" if len(letters) > 1 else f"{letters}{place}"
        for place, letters in by_place.items()
    ]


def _with(text: str, letters: Sequence[str], residue: Label | None) -> str:
    """A name and the letters around; the residue itself is not said twice."""
    shown = [cell for cell in letters if not (residue and _is_middle(cell))]
    return f"{text}: {' '.join(shown)}" if shown else text


def _is_middle(cell: str) -> bool:
    return "+" not in cell and "-" not in cell


def _pattern(row: Mapping[str, Any], letters: Sequence[str]) -> Label:
    motif, kind = _motif(row), row["kind"]
    shown = motif or " ".join(letters)
    if kind in ("motif-like", "other") and motif:
        return Label(f"motif {motif}", "logo")
    if kind == "domain-like":
        words = f"stretch of {row['stretch_length']:.0f} residues"
    elif kind == "periodic":
        words = f"every {int(row['period'])} residues"
    else:
        words = _KIND_WORDS.get(kind, kind)
    if not shown:
        return Label("no pattern found" if kind == "other" else words, "kind")
    return Label(f"{words} {shown}" if kind == "other" else f"{words}: {shown}", "logo")


def _motif(row: Mapping[str, Any]) -> str:
    """The consensus with x for any residue, such as ``GxGKT``; empty of too few letters."""
    words = row["consensus"] if isinstance(row["consensus"], str) else ""
    words = words.strip(".")
    n_letters = len(words) - words.count(".")
    return words.replace(".", "x") if n_letters >= MOTIF_LETTERS else ""


def labels_of(table: pd.DataFrame, best: Sequence[Best | None]) -> list[Label]:
    """A name for each row of a table of kinds."""
    return [label_of(row, mine) for row, mine in zip(records(table), best, strict=True)]
