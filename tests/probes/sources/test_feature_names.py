"""Which concepts a feature belongs to: real descriptions of UniProt, old and new."""

import pytest

from probes.sources.feature_names import FEATURE_TYPES, clean, concept_names
from probes.sources.ligands import ligand_of


@pytest.mark.parametrize(
    ("kind", "note", "qualifier"),
    [
        ("ACT_SITE", "Proton donor; for acetyltransferase activity", "Proton donor"),
        ("ACT_SITE", "Charge relay system 1", "Charge relay system"),
        ("ACT_SITE", "", ""),
        ("CARBOHYD", "N-linked (GlcNAc...) (complex) asparagine; by host", "N-linked (GlcNAc...)"),
        ("CARBOHYD", "N-linked (GlcNAc...) (Potential).", "N-linked (GlcNAc...)"),
        ("CARBOHYD", "N-linked (Glc) (glycation); in Hb A1c.", "N-linked (Glc) (glycation)"),
        ("CARBOHYD", "Not glycosylated", ""),
        ("COILED", "By similarity", ""),
        ("COMPBIAS", "Basic and acidic residues", "Basic and acidic residues"),
        ("COMPBIAS", "Asp/Glu-rich (acidic)", "Asp/Glu-rich (acidic)"),
        ("CROSSLNK", "Glycyl lysine isopeptide (Lys-Gly) (interchain with G-Cter in SUMO2)",
         "Glycyl lysine isopeptide (Lys-Gly) (interchain with G-Cter in SUMO2)"),
        ("CROSSLNK", "Isoglutamyl cysteine thioester (Cys-Gln) (interchain with C-12 in B)",
         "Isoglutamyl cysteine thioester (Cys-Gln)"),
        ("DISULFID", "Interchain (with C-227 in heavy chain)", "Interchain"),
        ("DISULFID", "Potential.", ""),
        ("DISULFID", "Redox-active", "Redox-active"),
        ("DNA_BIND", "Homeobox; TALE-type", "Homeobox"),
        ("DOMAIN", "Protein kinase 2; inactive", "Protein kinase"),
        ("DOMAIN", "LIM zinc-binding 4.", "LIM zinc-binding"),
        ("DOMAIN", "EGF-like 3, calcium-binding (Potential).", "EGF-like"),
        ("DOMAIN", "C2", "C2"),
        ("DOMAIN", "Ig-like C2-type 2", "Ig-like C2-type"),
        ("DOMAIN", "SH3 {ECO:0000255|PROSITE-ProRule:PRU00192}.", "SH3"),
        ("INTRAMEM", "Helical; Name=Helix B.", "Helical"),
        ("LIPID", "S-palmitoyl cysteine; by host", "S-palmitoyl cysteine"),
        ("MOD_RES", "Phosphoserine; by PKA", "Phosphoserine"),
        ("MOD_RES", "Phosphoserine (by PKC)", "Phosphoserine"),
        ("MOD_RES", "N-acetylalanine; in variant Raleigh.", "N-acetylalanine"),
        ("MOD_RES", "4-aspartylphosphate (By similarity).", "4-aspartylphosphate"),
        ("MOTIF", '"HIGH" region.', "'HIGH' region"),
        ("MOTIF", "LD motif 5", "LD motif"),
        ("NON_STD", "Selenocysteine", "Selenocysteine"),
        ("PROPEP", "Removed in mature form (By similarity)", ""),
        ("REGION", "Disordered", "Disordered"),
        ("REPEAT", "WD 12", "WD"),
        ("REPEAT", "1-2; truncated", ""),
        ("SIGNAL", "Tat-type signal", "Tat-type signal"),
        ("SIGNAL", "Or 21", ""),
        ("SITE", "Cleavage; by thrombin", "Cleavage"),
        ("TOPO_DOM", "Lumenal, thylakoid", "Lumenal, thylakoid"),
        ("TRANSIT", "Mitochondrion; by PINK1", "Mitochondrion"),
        ("TRANSIT", "Chloroplast (Potential)", "Chloroplast"),
        ("TRANSMEM", "Helical; Name=1; (Potential).", "Helical"),
        ("TRANSMEM", "Beta stranded; Name=3", "Beta stranded"),
        ("TRANSMEM", "1 (Potential)", ""),
        ("ZN_FING", "C2H2-type 12; degenerate", "C2H2-type"),
    ],
)  # fmt: skip
def test_qualifiers(kind, note, qualifier):
    expected = (kind, f"{kind} {qualifier}") if qualifier else (kind,)
    assert concept_names(kind, note, "") == expected


def test_structure_is_marked_and_has_no_qualifier():
    assert concept_names("HELIX", "x", "") == ("HELIX (UniProt)",)


@pytest.mark.parametrize(
    ("kind", "note", "ligand", "qualifier"),
    [
        ("BINDING", "axial binding residue", "heme b", "heme b"),
        ("BINDING", "ATP (By similarity).", "", "ATP"),
        ("BINDING", "NAD 2; via amide nitrogen", "", "NAD(+)"),
        ("BINDING", "Heme (covalent)", "", "heme"),
        ("BINDING", "Heme C 1; covalent", "", "heme c"),
        ("BINDING", "Substrate", "", "substrate"),
        ("BINDING", "Coenzyme B12", "", "Coenzyme B12"),
        ("NP_BIND", "NADP (ADP part)", "", "NADP(+)"),
        ("NP_BIND", "cAMP 1", "", "3',5'-cyclic AMP"),
        ("METAL", "Zinc 1; shared with dimeric partner", "", "Zn(2+)"),
        ("METAL", "Iron-sulfur 1 (4Fe-4S)", "", "[4Fe-4S] cluster"),
        ("METAL", "Iron-sulfur (2Fe-2S)", "", "[2Fe-2S] cluster"),
        ("METAL", "Iron (heme B axial ligand)", "", "heme b"),
        ("METAL", "Iron (heme proximal ligand)", "", "heme"),
        ("METAL", "Copper A1", "", "Cu cation"),
        ("METAL", "Copper or zinc 2", "", ""),
        ("CA_BIND", "2", "", "Ca(2+)"),
    ],
)
def test_ligands(kind, note, ligand, qualifier):
    expected = ("BINDING", f"BINDING {qualifier}") if qualifier else ("BINDING",)
    assert concept_names(kind, note, ligand) == expected


def test_names_are_clean():
    assert clean("  A  {ECO:0000250|UniProtKB:P1}. ") == "A"
    assert ligand_of("METAL", "") == ""
    columns = [names.column for names in FEATURE_TYPES.values()]
    assert len(set(columns)) == len(columns)
