"""Which UniProt features, with which qualifiers, become which concepts.

A feature of type ``BINDING`` with ligand ATP is both ``BINDING`` and ``BINDING ATP``. What carries
meaning is told by UniProt's user manual, one page for each type (help pages ``act_site``,
``binding``, ``carbohyd``, ``compbias``, ``crosslnk``, ``disulfid``, ``dna_bind``, ``domain``,
``lipid``, ``mod_res``, ``motif``, ``region``, ``repeat``, ``signal``, ``site``, ``topo_dom``,
``transit``, ``transmem``, ``zn_fing``):

- what follows the first ``;`` of a description is a remark on this one site: its enzyme
  (``; by PKA``), how often (``; partial``, ``; alternate``), how true to type (``; atypical``,
  ``; degenerate``), in which chain;
- a number at the end tells copies apart (``LIM zinc-binding 2``, ``C2H2-type 3``, ``WD 4``);
- before 2014 how sure an annotation is stood in it: ``(By similarity)``, ``(Potential)``,
  ``(Probable)``; until 2019 as ``{ECO:…}``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from probes.sources.ligands import ligand_of

STRUCTURE = frozenset({"HELIX", "STRAND", "TURN"})
"""Known only in proteins that have any of them; elsewhere nobody has looked."""

BONDS = frozenset({"DISULFID", "CROSSLNK"})
"""Their two positions are the ends of a bond; residues between them are not part of it."""

NOT_RESIDUE_PROPERTIES = frozenset({
    "CHAIN", "PEPTIDE", "INIT_MET",  # which part of the precursor is the product
    "VAR_SEQ", "VARIANT", "MUTAGEN", "CONFLICT", "UNSURE",  # other sequences than this one
    "NON_TER", "NON_CONS",  # how the sequence was obtained
})  # fmt: skip
"""Feature types left out (and counted), since they do not describe the residue itself."""

RENAMED = {"METAL": "BINDING", "NP_BIND": "BINDING", "CA_BIND": "BINDING"}
"""Types of before release 2022_03 (August 2022), which made them ``BINDING`` with a ligand."""

MARKED = {name: f"{name} (UniProt)" for name in STRUCTURE}
"""Concepts that are named otherwise than their type: ``helix`` and ``strand`` are DSSP's."""


class FeatureType(NamedTuple):
    """One type of UniProt's feature table, in its three downloads."""

    json: str
    """``type`` of a JSON feature."""
    column: str
    """Column of a TSV download."""


FEATURE_TYPES = {
    "ACT_SITE": FeatureType("Active site", "Active site"),
    "BINDING": FeatureType("Binding site", "Binding site"),
    "CA_BIND": FeatureType("Calcium binding", "Calcium binding"),
    "CARBOHYD": FeatureType("Glycosylation", "Glycosylation"),
    "CHAIN": FeatureType("Chain", "Chain"),
    "COILED": FeatureType("Coiled coil", "Coiled coil"),
    "COMPBIAS": FeatureType("Compositional bias", "Compositional bias"),
    "CONFLICT": FeatureType("Sequence conflict", "Sequence conflict"),
    "CROSSLNK": FeatureType("Cross-link", "Cross-link"),
    "DISULFID": FeatureType("Disulfide bond", "Disulfide bond"),
    "DNA_BIND": FeatureType("DNA binding", "DNA binding"),
    "DOMAIN": FeatureType("Domain", "Domain [FT]"),
    "HELIX": FeatureType("Helix", "Helix"),
    "INIT_MET": FeatureType("Initiator methionine", "Initiator methionine"),
    "INTRAMEM": FeatureType("Intramembrane", "Intramembrane"),
    "LIPID": FeatureType("Lipidation", "Lipidation"),
    "METAL": FeatureType("Metal binding", "Metal binding"),
    "MOD_RES": FeatureType("Modified residue", "Modified residue"),
    "MOTIF": FeatureType("Motif", "Motif"),
    "MUTAGEN": FeatureType("Mutagenesis", "Mutagenesis"),
    "NON_CONS": FeatureType("Non-adjacent residues", "Non-adjacent residues"),
    "NON_STD": FeatureType("Non-standard residue", "Non-standard residue"),
    "NON_TER": FeatureType("Non-terminal residue", "Non-terminal residue"),
    "NP_BIND": FeatureType("Nucleotide binding", "Nucleotide binding"),
    "PEPTIDE": FeatureType("Peptide", "Peptide"),
    "PROPEP": FeatureType("Propeptide", "Propeptide"),
    "REGION": FeatureType("Region", "Region"),
    "REPEAT": FeatureType("Repeat", "Repeat"),
    "SIGNAL": FeatureType("Signal", "Signal peptide"),
    "SITE": FeatureType("Site", "Site"),
    "STRAND": FeatureType("Beta strand", "Beta strand"),
    "TOPO_DOM": FeatureType("Topological domain", "Topological domain"),
    "TRANSIT": FeatureType("Transit peptide", "Transit peptide"),
    "TRANSMEM": FeatureType("Transmembrane", "Transmembrane"),
    "TURN": FeatureType("Turn", "Turn"),
    "UNSURE": FeatureType("Sequence uncertainty", "Sequence uncertainty"),
    "VARIANT": FeatureType("Natural variant", "Natural variant"),
    "VAR_SEQ": FeatureType("Alternative sequence", "Alternative sequence"),
    "ZN_FING": FeatureType("Zinc finger", "Zinc finger"),
}
"""By its key in the flat file. Names of JSON types: UniProt's ``UniprotKBFeatureType``; of columns:
its help page ``return_fields``."""

BY_NAME = frozenset({
    "ACT_SITE", "COMPBIAS", "DNA_BIND", "DOMAIN", "LIPID", "MOD_RES", "MOTIF", "NON_STD", "REGION",
    "REPEAT", "SITE", "TOPO_DOM", "ZN_FING",
})  # fmt: skip
"""Types whose whole cleaned description is their kind."""

_CERTAINTY = re.compile(r"\s*(\((By similarity|Potential|Probable)\)|\{ECO:[^{}]*\})\s*", re.I)
_ONLY_CERTAINTY = re.compile(r"(By similarity|Potential|Probable)\.?$", re.I)
_COPY = re.compile(r"(^|\s+)\d+([-.]\d+)?$")
_BY_ENZYME = re.compile(r"\s+\(by [^()]*\)$")
_GLYCAN = re.compile(r"[CNOPS]-linked(?: \([^()]*\))?(?: \(glycation\))?")
_PARTNER = re.compile(r"\s+\((?:inter|intra)chain with [A-Z]-\d+.*\)$")
_WORDS = {
    "TRANSMEM": ("Helical", "Beta stranded"),
    "INTRAMEM": ("Helical", "Pore-forming", "Discontinuously helical"),
    "SIGNAL": ("Tat-type signal", "Not cleaved"),
    "DISULFID": ("Interchain", "Redox-active"),
}
"""Controlled words with which the description of a type begins; other words are remarks."""


@lru_cache(maxsize=1 << 16)
def concept_names(kind: str, note: str, ligand: str) -> tuple[str, ...]:
    """Concepts that a feature belongs to: its type and, where it says so, its kind.

    Args:
        kind: type as in flat files, old names included.
        note: description as it stands in the file; may be empty.
        ligand: ``/ligand`` of ``BINDING``; may be empty.
    """
    name = RENAMED.get(kind, kind)
    name = MARKED.get(name, name)
    qualifier = _qualifier(kind, clean(note), ligand)
    return (name, f"{name} {qualifier}") if qualifier else (name,)


def clean(note: str) -> str:
    """A description without what is said of this one site and of how sure it is."""
    text = _CERTAINTY.sub(" ", note.replace('"', "'")).strip()
    if text.endswith(".") and not text.endswith("..."):
        text = text[:-1]
    text = text.split(";")[0].strip()
    if _ONLY_CERTAINTY.match(text):
        return ""
    return " ".join(text.split())


def _qualifier(kind: str, text: str, ligand: str) -> str:
    if kind in ("BINDING", "METAL", "NP_BIND", "CA_BIND"):
        return " ".join(ligand.split()) or ligand_of(kind, text)
    if kind in _WORDS:
        return next((word for word in _WORDS[kind] if text.startswith(word)), "")
    if kind == "MOD_RES":
        return _BY_ENZYME.sub("", text)
    if kind == "CARBOHYD":
        found = _GLYCAN.match(text)
        return found.group() if found else ""
    if kind == "CROSSLNK":
        return _PARTNER.sub("", text)
    if kind == "TRANSIT":
        return re.split(r"[,(]", text)[0].strip()
    if kind in BY_NAME:
        return _COPY.sub("", text.split(", ")[0] if _numbered(text) else text)
    return ""


def _numbered(text: str) -> bool:
    """Whether the name's copy number stands before a comma (``EGF-like 3, calcium-binding``)."""
    return bool(re.search(r" \d+, ", text))
