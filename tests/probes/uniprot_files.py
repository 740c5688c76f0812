"""One entry of UniProtKB as flat file, JSON and TSV."""

from tests.probes.helpers import flat_file_record

SEQUENCE = "MKTAYIAKQRMKTAYIAKQRMKTAYIAKQR"

FEATURES = [
    # type, JSON type, column, from, to, note, ligand
    ("SIGNAL", "Signal", "Signal peptide", "<1", "4", "", ""),
    ("PROPEP", "Propeptide", "Propeptide", "?", "6", "Removed in mature form", ""),
    ("TRANSMEM", "Transmembrane", "Transmembrane", "5", "9", "Helical; Name=1", ""),
    ("TOPO_DOM", "Topological domain", "Topological domain", "10", "12", "Lumenal, vesicle", ""),
    ("DOMAIN", "Domain", "Domain [FT]", "7", "11", "EGF-like 2; calcium-binding", ""),
    ("DOMAIN", "Domain", "Domain [FT]", "12", "14", "Protein kinase", ""),
    ("BINDING", "Binding site", "Binding site", "3", "3", "covalent", "heme c"),
    ("BINDING", "Binding site", "Binding site", "8", "10", "", "3',5'-cyclic AMP"),
    ("MOD_RES", "Modified residue", "Modified residue", "4", "4", "N6-acetyllysine; alternate", ""),
    ("CARBOHYD", "Glycosylation", "Glycosylation", "6", "6",
     "N-linked (GlcNAc...) (high mannose) asparagine", ""),
    ("DISULFID", "Disulfide bond", "Disulfide bond", "2", "20", "", ""),
    ("DISULFID", "Disulfide bond", "Disulfide bond", "15", "15",
     "Interchain (with C-9 in HTR1B)", ""),
    ("SITE", "Site", "Site", "16", "17", "Cleavage; by furin", ""),
    ("VARIANT", "Natural variant", "Natural variant", "18", "18", "in XYZ; dbSNP:rs1", ""),
    ("HELIX", "Helix", "Helix", "21", "25", "", ""),
    ("ZN_FING", "Zinc finger", "Zinc finger", "26", "28", "C2H2-type 3; atypical", ""),
    ("REGION", "Region", "Region", "29", "30", "Interaction with REGION 5; DOMAIN 3", ""),
]  # fmt: skip
GO = ["GO:0005524", "GO:0016020"]
LABELS = {
    "Pfam": ["PF00069", "PF07714"], "InterPro": ["IPR000719"], "GO": GO,
    "EC": ["2.7.11.1", "3.4.-.-"],
    "family": ["Protein kinase superfamily", "CMGC Ser/Thr protein kinase family"],
}  # fmt: skip


def flat_entry(accession="P1", features=FEATURES):
    """A flat-file record as UniProt writes them now."""
    lines = []
    for kind, _, _, start, end, note, ligand in features:
        at = start if start == end else f"{start}..{end}"
        lines.append(f"FT   {kind:<8}        {at}")
        for key, value in (("ligand", ligand), ("note", note), ("evidence", "ECO:0000269")):
            words = f'/{key}="{value}"' if value else ""
            if len(words) > 50:  # wrapped, as UniProt does
                cut = words.rindex(" ", 0, 50)
                lines += [
                    f"FT                   {words[:cut]}",
                    f"FT                   {words[cut + 1 :]}",
                ]
            elif words:
                lines.append(f"FT                   {words}")
    head = [
        "DE   RecName: Full=Some kinase {ECO:0000305};", "DE            EC=2.7.11.1 {ECO:0000269};",
        "DE   Contains:", "DE     RecName: Full=Peptidase;", "DE              EC=3.4.-.-;",
        "CC   -!- SIMILARITY: Belongs to the protein kinase superfamily. CMGC Ser/Thr",
        "CC       protein kinase family. {ECO:0000305}.",
        *(f"DR   Pfam; {p}; Pkinase; 1." for p in LABELS["Pfam"]),
        "DR   InterPro; IPR000719; Prot_kinase_dom.",
        *(f"DR   GO; {g}; F:something; IEA:InterPro." for g in GO),
    ]  # fmt: skip
    record = flat_file_record(accession, SEQUENCE, lines)
    return record.replace("\nFT", "\n" + "\n".join(head) + "\nFT", 1)


def json_entry(accession="P1", features=FEATURES):
    """The same as the REST service gives it."""

    def position(text):
        modifier = {"<": "OUTSIDE", ">": "OUTSIDE", "?": "UNKNOWN"}.get(text[0], "EXACT")
        digits = text.lstrip("<>?")
        return {"value": int(digits) if digits else None, "modifier": modifier}

    def feature(kind, start, end, note, ligand):
        found = {"type": kind, "location": {"start": position(start), "end": position(end)}}
        found["description"] = note
        if ligand:
            found["ligand"] = {"name": ligand, "id": "ChEBI:CHEBI:1"}
        return found

    references = [(k, term) for k in ("Pfam", "InterPro", "GO") for term in LABELS[k]]
    name = {"fullName": {"value": "Some kinase"}}
    return {
        "entryType": "UniProtKB reviewed (Swiss-Prot)",
        "primaryAccession": accession,
        "proteinDescription": {
            "recommendedName": {**name, "ecNumbers": [{"value": "2.7.11.1"}]},
            "contains": [{"recommendedName": {**name, "ecNumbers": [{"value": "3.4.-.-"}]}}],
        },
        "comments": [{
            "commentType": "SIMILARITY",
            "texts": [{"value": "Belongs to the protein kinase superfamily. CMGC Ser/Thr protein "
                                "kinase family"}],
        }],
        "features": [feature(k, s, e, n, lig) for _, k, _, s, e, n, lig in features],
        "uniProtKBCrossReferences": [{"database": d, "id": i} for d, i in references],
        "sequence": {"value": SEQUENCE, "length": len(SEQUENCE)},
    }  # fmt: skip


ALL_COLUMNS = [
    "Binding site", "Active site", "Site", "DNA binding", "Intramembrane", "Topological domain",
    "Transmembrane", "Cross-link", "Disulfide bond", "Glycosylation", "Lipidation",
    "Modified residue", "Propeptide", "Signal peptide", "Transit peptide", "Beta strand", "Helix",
    "Turn", "Coiled coil", "Compositional bias", "Domain [FT]", "Motif", "Region", "Repeat",
    "Zinc finger", "Natural variant",
]  # fmt: skip


def tsv(accessions=("P1",), columns=ALL_COLUMNS, features=FEATURES):
    """The same as the website's table."""
    cells = dict.fromkeys(columns, "")
    for kind, _, column, start, end, note, ligand in features:
        at = start if start == end else f"{start}..{end}"
        words = [f"{kind} {at}"]
        words += [f'/ligand="{ligand}"'] if ligand else []
        words += [f'/note="{note}"'] if note else []
        words += ['/evidence="ECO:0000269|PubMed:1, ECO:0000305"']
        if column in cells:
            cells[column] += ("; " if cells[column] else "") + "; ".join(words)
    cells |= {
        "Pfam": "".join(f"{p};" for p in LABELS["Pfam"]), "InterPro": "IPR000719;",
        "Gene Ontology IDs": "; ".join(GO), "EC number": "2.7.11.1; 3.4.-.-",
        "Protein families": ", ".join(LABELS["family"]),
    }  # fmt: skip
    lines = ["\t".join(["Entry", "Entry Name", "Sequence", *cells])]
    lines += ["\t".join([a, "X", SEQUENCE, *cells.values()]) for a in accessions]
    return "\n".join(lines) + "\n"
