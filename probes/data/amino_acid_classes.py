"""Classes of amino acids: those that are concepts, and those that name what a latent fires on."""

from __future__ import annotations

PUBLISHED = {
    "hydrophobic": "ACFGHIKLMTVWY",
    "polar": "DEHKNQRSTWY",
    "small": "ACDGNPSTV",
    "tiny": "AGS",
    "aliphatic": "ILV",
    "aromatic": "FHWY",
    "positive": "HKR",
    "negative": "DE",
    "charged": "DEHKR",
}
"""The property table of Livingstone & Barton 1993 (CABIOS 9:745), after Taylor 1986 (J. Theor.
Biol. 119:205); without proline, which is an amino acid. Every one is a concept."""

NAMING = {
    "negative": PUBLISHED["negative"],
    "positive": PUBLISHED["positive"],
    "charged, not H": "DEKR",
    "amide": "NQ",
    "acid or amide": "DENQ",
    "hydroxyl": "ST",
    "aromatic, not H": "FWY",
    "aromatic": PUBLISHED["aromatic"],
    "aliphatic": PUBLISHED["aliphatic"],
    "aliphatic or methionine": "ILMV",
    "beta-branched": "ITV",
    "nonpolar": "ACFILMVWY",
    "sulphur": "CM",
    "tiny": PUBLISHED["tiny"],
    "turn": "DGNP",
    "polar, not charged": "NQST",
}
"""Finer ones, offered as the class of a latent: the one of most information is named. Equal names
are equal letters."""
