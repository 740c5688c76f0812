"""The same entry as flat file, JSON and TSV gives the same concepts; damaged tables; streaming."""

import json
from pathlib import Path

import pytest

from extract.errors import UserError
from extract.selection import read_fasta
from probes.sources import json_stream
from probes.sources.swissprot import swissprot_concepts
from probes.sources.uniprot import UniprotFormat, uniprot_concepts
from probes.sources.uniprot_tables import parse_features
from tests.probes.helpers import concept, make_rows, write, yes
from tests.probes.uniprot_files import FEATURES, GO, LABELS, SEQUENCE, flat_entry, json_entry, tsv

ROWS = make_rows(P0="GGG", P1=SEQUENCE, P2=SEQUENCE)


def as_values(concepts):
    return {
        c.name: (c.kind, c.level, c.spans.tolist(), c.defined.tolist())
        for c in concepts
    }  # fmt: skip


def test_three_formats_give_the_same_concepts(tmp_path):
    files: dict[UniprotFormat, Path] = {
        "flat": write(tmp_path / "a.dat.gz", flat_entry()),
        "json": write(tmp_path / "a.json", json.dumps({"results": [json_entry()]}, indent=1)),
        "tsv": write(tmp_path / "a.tsv.gz", tsv()),
    }
    read = {f: uniprot_concepts(ROWS, [(path, f)]) for f, path in files.items()}
    values = {f: as_values(concepts) for f, (concepts, _) in read.items()}
    assert values["flat"] == values["json"] == values["tsv"]
    for _, (report,) in read.values():
        assert report.left_out == {"VARIANT": 1}
        assert report.uncertain == {"SIGNAL": 1, "PROPEP": 1}
        assert report.n_features == len(FEATURES) - 3
    found, _ = read["flat"]
    start = 3  # P1 begins at row 3
    expected = {
        "BINDING heme c": [3], "BINDING 3',5'-cyclic AMP": [8, 9, 10],
        "DOMAIN EGF-like": range(7, 12),
        "DOMAIN Protein kinase": [12, 13, 14], "MOD_RES N6-acetyllysine": [4],
        "CARBOHYD N-linked (GlcNAc...)": [6], "DISULFID": [2, 15, 20], "DISULFID Interchain": [15],
        "SITE Cleavage": [16, 17], "ZN_FING C2H2-type": [26, 27, 28],
        "TRANSMEM Helical": range(5, 10),
        "TOPO_DOM Lumenal, vesicle": [10, 11, 12], "HELIX (UniProt)": range(21, 26),
        "REGION Interaction with REGION": [29, 30],
    }  # fmt: skip
    for name, positions in expected.items():
        assert [i - start + 1 for i in yes(found, name, ROWS)] == list(positions), name
    names = {c.name for c in found if c.level == "protein"}
    assert names == {
        "Pfam PF00069", "Pfam PF07714", "InterPro IPR000719", *GO, "EC 2.-.-.-", "EC 2.7.-.-",
        "EC 2.7.11.-", "EC 2.7.11.1", "EC 3.-.-.-", "EC 3.4.-.-",
        *(f"family {name}" for name in LABELS["family"]),
    }  # fmt: skip
    kinase = concept(found, "Pfam PF00069")
    assert (kinase.spans.tolist(), kinase.kind) == ([[3, 33]], "protein")


def test_a_column_that_was_not_downloaded_is_unknown(tmp_path):
    files: list[tuple[Path, UniprotFormat]] = [
        (write(tmp_path / "a.tsv", tsv(("P1",), columns=["Site"])), "tsv"),
        (write(tmp_path / "b.json", json.dumps(json_entry("P2"))), "json"),
    ]
    concepts, _ = uniprot_concepts(ROWS, files)
    assert concept(concepts, "SITE").defined.tolist() == [False, True, True]
    assert concept(concepts, "DOMAIN").defined.tolist() == [False, False, True]


@pytest.mark.parametrize("layout", ["results", "array", "lines", "mapping", "single"])
@pytest.mark.parametrize("chunk", [7, 300, 1 << 20])
def test_json_is_streamed_in_every_layout(tmp_path, monkeypatch, layout, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    entries = [json_entry("P1"), json_entry("Q9"), json_entry("P2")]
    wrapped = [{"from": "x", "to": e} for e in entries]
    text = {
        "results": json.dumps({"results": entries}),
        "array": json.dumps(entries, indent=2),
        "lines": "\n".join(map(json.dumps, entries)) + "\n",
        "mapping": json.dumps({"results": wrapped}),
        "single": json.dumps(entries[0], indent=2),
    }[layout]
    concepts, (report,) = uniprot_concepts(ROWS, [(write(tmp_path / "a.json", text), "json")])
    n = 1 if layout == "single" else 3
    assert (report.n_records, report.n_not_in_store) == (n, n // 3)
    assert concept(concepts, "SITE").defined.tolist() == [False, True, n == 3]


def test_json_buffer_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 1000)
    path = write(tmp_path / "a.json", json.dumps([{"a": "x" * 400}] * 500))
    longest = 0

    def decode(self, number, decode=json_stream._Buffer.decode):
        nonlocal longest
        longest = max(longest, len(self.buffer))
        return decode(self, number)

    monkeypatch.setattr(json_stream._Buffer, "decode", decode)
    assert len(list(json_stream.json_objects(path))) == 500
    assert longest < 4000


def without(entry, *keys):
    return {k: v for k, v in entry.items() if k not in keys}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "no entry in the file"),
        ('{"results": []}', "no entry in the file"),
        ('{"results": [', "before the list of entries is closed"),
        (json.dumps({"results": [json_entry()]})[:-40], "record 1 is damaged or cut off"),
        ("[1, 2]", r"record 1 is no UniProtKB entry \(AttributeError"),
        ('{"messages": ["no such entry"]}', r"record 1 is no UniProtKB entry \(KeyError: 'primary"),
        (json.dumps(json_entry())[:-1] + "}}", "record 2 is damaged"),
        ([json_entry()] * 2, r"record 2 \(P1\): the accession occurs twice"),
        (json_entry() | {"primaryAccession": 7}, "'7' is no text"),
        (json_entry() | {"sequence": {"value": "GGG"}}, "none of its 1 records .* 1 have another"),
        (json_entry() | {"features": [{"type": "Site"}]}, r"KeyError: 'location'"),
        (json_entry() | {"features": [{"type": "Site", "location": {
            "start": {"value": 3, "modifier": "EXACT"}, "end": {"value": 99, "modifier": "EXACT"},
        }}]}, "SITE at 3..99 lies outside the sequence of 30 residues"),
        (json_entry() | {"features": [{"type": "Site", "location": {
            "start": {"value": "3"}, "end": {"value": 9},
        }}]}, "position '3' is no whole number"),
    ],
)  # fmt: skip
def test_bad_json(tmp_path, value, message):
    path = write(tmp_path / "bad.json", value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(UserError, match=message) as error:
        uniprot_concepts(ROWS, [(path, "json")])
    assert "bad.json" in str(error.value)


def test_inactive_entries_are_counted(tmp_path):
    entries = [without(json_entry("P1"), "sequence", "features"), json_entry("P2")]
    path = write(tmp_path / "a.json", json.dumps(entries))
    _, (report,) = uniprot_concepts(ROWS, [(path, "json")])
    assert (report.n_without_sequence, report.n_matched, report.n_records) == (1, 1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Entry\tSite\n", r"lacks the column\(s\) Sequence"),
        ("Entry\tSequence\n", "no entry below the header"),
        (tsv(("P1", "P1")), r"line 3 \(P1\): the accession occurs twice"),
        (tsv().replace("SITE 16..17", "SITE 16,17"), r"line 2 \(P1\), column 'Site': 'SITE 16,17"),
        (tsv().replace("SITE 16", "DOMAIN 16"), "'DOMAIN 16..17; .* is no feature; it must read"),
        (tsv().replace("SITE 16..17", "SITE 16..99"), "SITE at 16..99 lies outside"),
        (tsv().replace('/note="Cleavage', "/note=Cleavage"), "is no feature"),
        (tsv().replace("P1\tX", "\tX"), "line 2 has no accession"),
        (tsv() + "P2\t\n", "line 3 has 2 fields"),
        (tsv().replace("Entry Name", "Entry"), "names the column Entry twice"),
    ],
)
def test_bad_tsv(tmp_path, text, message):
    path = write(tmp_path / "bad.tsv", text)
    with pytest.raises(UserError, match=message) as error:
        uniprot_concepts(ROWS, [(path, "tsv")])
    assert "bad.tsv" in str(error.value)


def test_cells_by_hand():
    cell = ('BINDING 45..52; /ligand="ATP"; /ligand_id="ChEBI:CHEBI:30616"; BINDING P1-2:9; '
            '/ligand="a ""b"""; BINDING ?..>7; /note="x; BINDING; y"')  # fmt: skip
    first, isoform, unsure = parse_features(cell, "BINDING", "here")
    assert first[:3] == ("BINDING", 44, 52)
    assert (first.ligand, isoform.ligand) == ("ATP", 'a "b"')
    assert (isoform.start, isoform.end, isoform.on_isoform) == (8, 9, True)
    assert (unsure.start, unsure.end, unsure.note) == (None, None, "x; BINDING; y")


def test_the_bundled_entries_have_qualifiers(tmp_path):
    """Real records of 2012."""
    data = Path(__file__).parents[3] / "data"
    proteins, _ = read_fasta(data / "swissprot.fasta.gz", max_residues=4000)
    rows = make_rows(**{p.id: p.sequence for p in proteins})
    concepts, report = swissprot_concepts(rows, data / "swissprot.dat.gz")
    assert report.n_matched == 100
    assert concept(concepts, "MOD_RES Phosphoserine").n_positive == 43
    flavodoxin = concept(concepts, "DOMAIN Flavodoxin-like")
    assert (len(flavodoxin.spans), (~flavodoxin.defined).sum()) == (28, 1)  # one begins at <1
    assert len(concept(concepts, "BINDING heme").spans) == 12
    assert len(concept(concepts, "BINDING Mg(2+)").spans) == 4
    assert len(concept(concepts, "BINDING GTP").spans) == 12
    assert len(concept(concepts, "TOPO_DOM Cytoplasmic").spans) == 72
    assert len(concept(concepts, "CARBOHYD N-linked (GlcNAc...)").spans) == 33
    assert len(concept(concepts, "family Flavodoxin family").spans) > 20
    assert concept(concepts, "Pfam PF00042").defined.all()
    assert not concept(concepts, "EC 1.-.-.-").defined.all()
