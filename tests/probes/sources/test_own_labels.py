"""A person's labels in three formats, what they leave open, and every damaged line."""

import pytest

from extract.errors import UserError
from probes.annotations import Annotations
from probes.data.rows import ProteinRows
from probes.sources.own_labels import own_concepts
from tests.probes.helpers import concept, make_rows, write, yes

ROWS = make_rows(P0="GG", P1="MKTAYIAKQR", P2="MKTAY")
TSV = "id\tstart\tend\tlabel\nP1\t2\t4\tpatch\nP1\t10\t10\tend\nP2\t\t\t\n"
GFF3 = (
    "##gff-version 3\n##sequence-region P2 1 5\n# a comment\n"
    "P1\tme\tpatch\t2\t4\t.\t.\t.\tID=1\nP1\tme\tend\t10\t10\t.\t.\t.\t.\n##FASTA\n>P1\nMKT\n"
)
BED = "track name=x\nP1\t1\t4\tpatch\nP1 9 10 end 0 +\nP2\n"


def read(tmp_path, name, text, rows=ROWS):
    concepts = Annotations.load(rows, labels=[write(tmp_path / name, text)])
    return [c for c in concepts.concepts if c.kind == "own"], concepts.reports[0]


@pytest.mark.parametrize(
    ("name", "text"), [("a.tsv", TSV), ("a.gff3.gz", GFF3), ("a.gff", GFF3), ("a.bed", BED)]
)
def test_three_formats_give_the_same_labels(tmp_path, name, text):
    concepts, report = read(tmp_path, name, text)
    assert [c.name for c in concepts] == ["end", "patch"]
    assert yes(concepts, "patch", ROWS) == [3, 4, 5]
    assert yes(concepts, "end", ROWS) == [11]
    for found in concepts:
        assert found.defined.tolist() == [False, True, True]  # P2 was examined and has none
        assert found.level == "residue"
    assert (report.n_matched, report.n_features) == (3, 2)


def test_single_residues_and_bare_ids(tmp_path):
    concepts, _ = read(tmp_path, "a.tsv", "label\tid\tposition\npatch\tP1\t2\npatch\tP1\t3\n")
    assert yes(concepts, "patch", ROWS) == [3, 4]
    assert concept(concepts, "patch").defined.tolist() == [False, True, False]
    concepts, _ = read(tmp_path, "b.tsv", "id\tlabel\tposition\nP1\tpatch\t2\nP2\n")
    assert concept(concepts, "patch").defined.tolist() == [False, True, True]


def test_labels_of_whole_proteins(tmp_path):
    concepts, _ = read(tmp_path, "a.tsv", "id\tlabel\nP1\tsoluble\nP2\t\n")
    (soluble,) = concepts
    assert (soluble.level, soluble.spans.tolist()) == ("protein", [[2, 12]])
    assert soluble.defined.tolist() == [False, True, True]


def test_gff3_names_are_concepts_too(tmp_path):
    text = "##gff-version 3\nP1\tx\tDomain\t1\t3\t.\t.\t.\tID=a%20b;Name=SH3%2C like\n"
    concepts, _ = read(tmp_path, "a.gff3", text)
    assert [c.name for c in concepts] == ["Domain", "Domain SH3, like"]


def test_bed_without_names_has_the_name_of_its_file(tmp_path):
    concepts, _ = read(tmp_path, "epitopes.bed", "P1\t0\t3\n")
    assert yes(concepts, "epitopes", ROWS) == [2, 3, 4]


def test_two_files_share_a_label_and_not_what_they_examined(tmp_path):
    first = write(tmp_path / "a.tsv", "id\tposition\tlabel\nP1\t1\tx\nP1\t2\ty\n")
    second = write(tmp_path / "b.tsv", "id\tposition\tlabel\nP2\t1\tx\n")
    concepts, reports = own_concepts(ROWS, [(first, "labels tsv"), (second, "labels tsv")])
    assert yes(concepts, "x", ROWS) == [2, 12]
    assert concept(concepts, "x").defined.tolist() == [False, True, True]
    assert concept(concepts, "y").defined.tolist() == [False, True, False]
    assert [r.file for r in reports] == ["a.tsv", "b.tsv"]


def test_another_sequence_version_is_counted(tmp_path):
    text = "id\tposition\tlabel\tsequence\nP1\t1\tx\tMKTAYIAKQR\nP2\t1\tx\tMKAAY\nQ9\t1\tx\tMK\n"
    concepts, report = read(tmp_path, "a.tsv", text)
    assert concept(concepts, "x").defined.tolist() == [False, True, False]
    assert (report.n_sequence_mismatch, report.mismatched_ids) == (1, ["P2"])
    assert (report.n_not_in_store, report.not_in_store_ids) == (1, ["Q9"])
    # GFF3 tells the length, also after the features
    gff3 = GFF3.replace("##FASTA", "##sequence-region P1 1 11\n##FASTA")
    concepts, report = read(tmp_path, "a.gff3", gff3)
    assert concept(concepts, "patch").defined.tolist() == [False, False, True]
    assert concept(concepts, "patch").n_positive == 0
    assert report.mismatched_ids == ["P1"]


def test_positions_behind_a_crop_are_counted(tmp_path):
    rows = ProteinRows(ROWS.proteins, ROWS.token_id, frozenset({5}))
    text = "id\tstart\tend\tlabel\nP2\t4\t7\tx\nP2\t6\t7\tx\n"
    concepts, report = read(tmp_path, "a.tsv", text, rows)
    assert yes(concepts, "x", rows) == [15, 16]
    assert (report.n_features, report.n_beyond_crop) == (1, 1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "id\tstart\tlabel\nP1\t1\tx\n", "must name start and end, or position"),
        ("a.tsv", "id\tstart\tend\tlabel\nP1\t4\t2\tx\n", r"line 2 \(P1\): 4..2 is no stretch"),
        ("a.tsv", "id\tstart\tend\tlabel\nP1\t0\t2\tx\n", "0..2 is no stretch; it counts from 1"),
        ("a.tsv", "id\tstart\tend\tlabel\nP1\t1\t11\tx\n", "'x' at 1..11 .* outside .* of 10"),
        ("a.tsv", "id\tposition\tlabel\nP1\tK2\tx\n", "'K2' is no position"),
        ("a.tsv", "id\tposition\tlabel\nP1\t²\tx\n", "'²' is no position"),
        ("a.tsv", "id\tposition\tlabel\nP1\t\tx\n", "label 'x' without a position"),
        ("a.tsv", "id\tposition\tlabel\nP1\t2\t\n", "a position without a label"),
        ("a.tsv", "id\tposition\tlabel\n\t2\tx\n", "line 2 has no id"),
        ("a.tsv", "id\tposition\tlabel\nP1\t2\n", "line 2 has 2 fields"),
        ("a.tsv", "id\tposition\tlabel\nQ9\t2\tx\n", "none of its 1 records .*the first is 'Q9'"),
        ("a.tsv", "id\tlabel\n", "a.tsv: has no record"),
        ("a.tsv", "id\tpos\tlabel\nP1\t3\tx\n", "unknown column.s. 'pos' and none with a position"),
        ("a.tsv", "id\tPosition\tlabel\nP1\t3\tx\n", "unknown column.s. 'Position'"),
        ("a.tsv", "P1\t1\t5\tx\n", "has no header, and is not named .bed"),
        ("a.txt", "P1 1 5 x\n", "has no header, and is not named .bed"),
        ("a.tsv", "", "a.tsv: is empty; this must be"),
        ("a.bed", "\n", "a.bed: is empty; this must be"),
        ("a.tsv", "\x7fELF\0\0\1\n", "a.tsv: is binary; this must be"),
        ("a.dat.gz", "hello\n", "is named like a UniProt flat file .* begins with 'hello'"),
        ("a.bed", "P1\t3\t3\tx\n", "3..3 is no stretch; it counts from 0"),
        ("a.bed", "P1\t3\n", "has 2 fields; a BED line has at least 3"),
        ("a.gff3", "##gff-version 3\nP1\tx\ty\t1\t2\n", "line 2 has 5 fields"),
        ("a.gff3", "##gff-version 3\nP1\tx\ty\t1\t99\t.\t.\t.\t.\n", "'y' at 1..99 .* outside"),
        ("a.gff3", "##gff-version 3\nP1\tx\t\t1\t9\t.\t.\t.\t.\n", "an empty id or type"),
        ("a.gff3", "##gff-version 3\n##sequence-region P1 1\n", "'##sequence-region ID 1 LENGTH'"),
    ],
)
def test_bad_labels(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, name, text)
    assert name in str(error.value)


def test_a_label_of_residues_and_of_proteins(tmp_path):
    first = write(tmp_path / "a.tsv", "id\tposition\tlabel\nP1\t1\tx\n")
    second = write(tmp_path / "b.tsv", "id\tlabel\nP2\tx\n")
    with pytest.raises(UserError, match="'x' labels a protein here and a residue in .*a.tsv"):
        Annotations.load(ROWS, labels=[first, second])


def test_the_terminal_says_how_a_file_was_read(tmp_path, caplog):
    """From which number it counts, and which columns it does not know."""
    caplog.set_level("INFO")
    read(tmp_path, "a.bed", "P1\t0\t3\tx\n")
    assert "a.bed: read as BED, counting from 0" in caplog.text
    read(tmp_path, "a.tsv", "id\tposition\tscore\tlabel\nP1\t3\t.5\tx\n")
    assert "a.tsv: read as a label TSV, counting from 1" in caplog.text
    assert "a.tsv: ignores the column(s) 'score'" in caplog.text
