"""Today's ligand names for the words of old UniProt descriptions.

With release 2022_03 (3 August 2022, "Annotation of biologically relevant ligands using ChEBI")
UniProt replaced METAL, NP_BIND and CA_BIND by BINDING, and the words of their descriptions by
ChEBI's names. This is that step for the common words; a word that is not here (``Copper or zinc``)
gives no ligand rather than a guessed one.
"""

from __future__ import annotations

import re

METALS = {
    "Cadmium": "Cd(2+)",
    "Calcium": "Ca(2+)",
    "Cobalt": "Co(2+)",
    "Copper": "Cu cation",
    "Divalent metal cation": "a divalent metal cation",
    "Iron": "Fe cation",
    "Iron-sulfur (2Fe-2S)": "[2Fe-2S] cluster",
    "Iron-sulfur (3Fe-4S)": "[3Fe-4S] cluster",
    "Iron-sulfur (4Fe-4S)": "[4Fe-4S] cluster",
    "Magnesium": "Mg(2+)",
    "Manganese": "Mn(2+)",
    "Mercury": "Hg(2+)",
    "Nickel": "Ni(2+)",
    "Potassium": "K(+)",
    "Sodium": "Na(+)",
    "Zinc": "Zn(2+)",
}
"""Descriptions of METAL; ``Iron (heme …)`` is told apart by :func:`ligand_of`."""

LIGANDS = {
    "cAMP": "3',5'-cyclic AMP",
    "cGMP": "3',5'-cyclic GMP",
    "Heme": "heme",
    "Heme A": "heme a",
    "Heme B": "heme b",
    "Heme C": "heme c",
    "Heme D": "heme d",
    "NAD": "NAD(+)",
    "NADP": "NADP(+)",
    "Pyridoxal phosphate": "pyridoxal 5'-phosphate",
    "Substrate": "substrate",
}
"""Descriptions of BINDING and NP_BIND that are named otherwise now."""

_HEME = re.compile(r"Iron \(heme(?: ([A-D])\b)?", re.I)
_REMARK = re.compile(r"\s+\((?:covalent|[^()]* part|in [^()]*|via [^()]*)\)$", re.I)
_COPY = re.compile(r"(^|\s+)\d+$")
_LABEL = re.compile(r"\s+[A-Z]?\d+(?=$|\s\()")


def ligand_of(kind: str, text: str) -> str:
    """Today's name of the ligand, or "" when an old description does not tell.

    Args:
        kind: BINDING, METAL, NP_BIND or CA_BIND.
        text: its description as :func:`probes.sources.feature_names.clean` leaves it.
    """
    if kind == "CA_BIND":
        return "Ca(2+)"
    if kind == "METAL":
        if heme := _HEME.match(text):
            return f"heme {heme.group(1).lower()}" if heme.group(1) else "heme"
        return METALS.get(_LABEL.sub("", text), "")
    text = _COPY.sub("", _REMARK.sub("", text))
    return LIGANDS.get(text, text)
