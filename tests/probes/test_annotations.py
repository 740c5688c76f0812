"""Labels by hand, what is unknown, and every damaged DSSP file."""

import gzip
from typing import Any

import pytest

from extract.errors import UserError
from probes.annotations import (
    Annotations,
    amino_acid_class_concepts,
    amino_acid_concepts,
    dssp_concepts,
)
from probes.data.amino_acid_classes import PUBLISHED
from tests.probes.helpers import concept, flat_file_record, make_rows, write, yes

SEQUENCE = "MKTAYIAKQR"


def read_dssp(rows, *paths):
    """Concepts, and the report of the last file."""
    concepts, reports = dssp_concepts(rows, paths)
    return concepts, reports[-1]


def test_amino_acids_by_hand():
    rows = make_rows(a="AXC", b="CU")
    concepts = amino_acid_concepts(rows)
    assert [c.name for c in concepts] == list("ACDEFGHIKLMNPQRSTVWY")
    assert yes(concepts, "A", rows) == [0]
    assert yes(concepts, "C", rows) == [2, 3]
    assert concept(concepts, "C").spans.tolist() == [[2, 3], [3, 4]]  # two proteins, two spans
    proteins, counts = concept(concepts, "C").positives(rows)
    assert (proteins.tolist(), counts.tolist()) == ([0, 1], [1, 1])
    assert all(c.defined.all() and len(c.defined) == 2 for c in concepts)
    assert sum(c.n_positive for c in concepts) == 3


def test_amino_acid_classes():
    rows = make_rows(a="FWKX", b="DEKRH")
    concepts = amino_acid_class_concepts(rows)
    assert yes(concepts, "aromatic", rows) == [0, 1, 8]
    assert yes(concepts, "positive", rows) == [2, 6, 7, 8]
    assert yes(concepts, "negative", rows) == [4, 5]
    assert set(PUBLISHED["charged"]) == set("DEHKR")
    assert concept(concepts, "charged").spans.tolist() == [[2, 3], [4, 9]]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_dssp_by_hand(tmp_path, name):
    path = write(tmp_path / name, "dssp\tid\tmore\tsequence\nHGIEBTSC\tb\tx\tAAAAAAAA\n")
    rows = make_rows(a="AA", b="A" * 8)
    concepts, report = read_dssp(rows, path)
    assert yes(concepts, "helix", rows) == [2, 3, 4]
    assert yes(concepts, "strand", rows) == [5, 6]
    assert concept(concepts, "helix").spans.tolist() == [[2, 5]]
    assert concept(concepts, "helix").defined.tolist() == [False, True]
    assert concept(concepts, "helix").defined_rows(rows).tolist() == [False] * 2 + [True] * 8
    assert (report.n_records, report.n_matched) == (1, 1)


def test_a_cropped_protein_keeps_the_labels_of_its_prefix(tmp_path):
    path = write(tmp_path / "a.tsv", "id\tsequence\tdssp\na\tAAAA\tCHHH\n")
    rows = make_rows(a="AAA")
    concepts, report = read_dssp(rows, path)
    assert yes(concepts, "helix", rows) == [1, 2]
    assert report.n_cropped == 1


def test_another_sequence_is_counted_and_undefined(tmp_path):
    table = "id\tsequence\tdssp\na\tAAC\tHHH\nb\tAAA\tHHH\nz\tA\tH\n"
    rows = make_rows(a="AAA", b="AAA")
    concepts, report = read_dssp(rows, write(tmp_path / "a.tsv", table))
    assert concept(concepts, "helix").defined.tolist() == [False, True]
    assert report.n_sequence_mismatch == 1
    assert report.mismatched_ids == ["a"]
    assert report.n_not_in_store == 1
    assert report.not_in_store_ids == ["z"]


def test_a_longer_stored_sequence_is_no_match(tmp_path):
    path = write(tmp_path / "a.tsv", "id\tsequence\tdssp\na\tAAA\tHHH\n")
    with pytest.raises(UserError, match=r"none of its 1 records .* 1 have another sequence"):
        read_dssp(make_rows(a="AAAA"), path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tsequence\tss\na\tAAA\tHHH\n", r"line 1 lacks the column\(s\) dssp"),
        ("", r"line 1 lacks the column\(s\) id, sequence, dssp \(found: nothing\)"),
        ("id\tsequence\tdssp\na\tAAA\n", "line 2 has 2 fields, the header 3"),
        ("id\tsequence\tdssp\na\tAAA\tHH\n", r"line 2 \(a\): 2 DSSP states for 3 residues"),
        ("id\tsequence\tdssp\na\tAAA\tHQH\n", "unknown DSSP state 'Q' at position 2"),
        ("id\tsequence\tdssp\na\tAAA\tHHH\na\tAAA\tHHH\n", r"line 3 \(a\): the id is also on"),
        ("id\tsequence\tdssp\nb\tAAA\tHHH\n", "none of its 1 records .*1 ids are not there"),
    ],
)
def test_bad_dssp(tmp_path, text, message):
    path = write(tmp_path / "bad.tsv", text)
    with pytest.raises(UserError, match=message) as error:
        read_dssp(make_rows(a="AAA"), path)
    assert "bad.tsv" in str(error.value)


def test_damaged_files(tmp_path):
    rows = make_rows(a="AAA")
    text = "id\tsequence\tdssp\n" + "".join(f"p{i}\tAAA\tHHH\n" for i in range(999))
    whole = gzip.compress(text.encode())
    for name, content, message in (
        ("cut.tsv.gz", whole[:-30], "gzip file is truncated or damaged"),
        ("flipped.tsv.gz", whole[:60] + b"????" + whole[64:], "truncated or damaged"),
        ("latin.tsv", b"id\tsequence\tdssp\n\xe9\tA\tH\n", "is not UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_dssp(rows, tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        read_dssp(rows, tmp_path / "missing.tsv")
    with pytest.raises(UserError, match="is a folder"):
        read_dssp(rows, tmp_path)


def test_an_id_in_two_dssp_files(tmp_path):
    text = "id\tsequence\tdssp\na\tAAA\tHHH\n"
    paths = [write(tmp_path / name, text) for name in ("a.tsv", "b.tsv")]
    with pytest.raises(UserError, match=r"b.tsv: line 2 \(a\): the id is also on line 2 of a.tsv"):
        read_dssp(make_rows(a="AAA"), *paths)


def test_load_lays_the_sources_together(tmp_path):
    rows = make_rows(P1=SEQUENCE, a="AAAA")
    dssp = write(tmp_path / "a.tsv", "id\tsequence\tdssp\na\tAAAA\tHHEC\n")
    swissprot = write(tmp_path / "a.dat.gz", flat_file_record("P1", SEQUENCE, [("SITE", 4, 4)]))
    own = write(tmp_path / "mine.tsv", "id\tposition\tlabel\na\t2\tmine\n")
    annotations = Annotations.load(rows, dssp=dssp, swissprot=swissprot, labels=[own])
    concepts = annotations.concepts
    assert [c.name for c in concepts[29:]] == ["helix", "strand", "SITE", "mine"]
    helix, site = concept(concepts, "helix"), concept(concepts, "SITE")
    assert not (helix.defined & site.defined).any()
    assert [r["file"] for r in annotations.summary()] == ["a.tsv", "a.dat.gz", "mine.tsv"]
    assert len(Annotations.load(rows).concepts) == 29
    assert yes(concepts, "SITE", rows) == [3]
    assert yes(concepts, "mine", rows) == [11]
    again = Annotations.load(rows, sources=[own, swissprot, dssp])
    assert [c.name for c in again.concepts] == [c.name for c in concepts]
    assert [r["format"] for r in again.summary()] == ["DSSP", "UniProt flat", "labels tsv"]


def test_a_label_named_like_another_concept(tmp_path):
    own = write(tmp_path / "mine.tsv", "id\tposition\tlabel\na\t2\taromatic\n")
    with pytest.raises(UserError, match="'aromatic' is also the name of a concept of the kind"):
        Annotations.load(make_rows(a="AAA"), labels=[own])


@pytest.mark.parametrize(
    ("name", "text", "flag", "message"),
    [
        ("a.fasta", ">P1\nMKT\n", "uniprot", "begins with '>P1'; this must be a UniProt flat"),
        ("a.xml", "<?xml version='1.0'?>\n", "uniprot", "begins with .<.xml"),
        ("a.tsv", "id\tlabel\na\tx\n", "uniprot", "is a TSV with columns id, label"),
        ("a.json", "{}", "labels", "is UniProtKB JSON; this must be GFF3, or BED, or a TSV"),
        ("a.tsv", "name\tx\n", "labels", "begins with 'name.tx'; this must be GFF3"),
        ("a.tsv", "", "sources", "is empty; this must be a table with columns id"),
    ],
)
def test_a_file_of_no_known_format(tmp_path, name, text, flag, message):
    given: dict[str, Any] = {flag: [write(tmp_path / name, text)]}
    with pytest.raises(UserError, match=message):
        Annotations.load(make_rows(a="AAA"), **given)
