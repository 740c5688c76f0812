"""Labels by hand, what is unknown, and every damaged file."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import UserError
from probes.annotations import Annotations, amino_acid_concepts, dssp_concepts
from probes.swissprot import swissprot_concepts
from tests.probes.helpers import flat_file_record, make_rows, write

SEQUENCE = "MKTAYIAKQR"


def concept(concepts, name):
    return next(c for c in concepts if c.name == name)


def read_record(tmp_path, features, sequence=SEQUENCE, rows=None):
    path = write(tmp_path / "a.dat", flat_file_record("P1", sequence, features))
    return swissprot_concepts(rows or make_rows(P0="GG", P1=sequence), path)


def test_amino_acids_by_hand():
    concepts = amino_acid_concepts(make_rows(a="AXC", b="CU"))
    assert [c.name for c in concepts] == list("ACDEFGHIKLMNPQRSTVWY")
    assert concept(concepts, "A").labels.tolist() == [True, False, False, False, False]
    assert concept(concepts, "C").labels.tolist() == [False, False, True, True, False]
    assert all(c.defined.all() for c in concepts)
    assert sum(c.labels.sum() for c in concepts) == 3


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_dssp_by_hand(tmp_path, name):
    path = write(tmp_path / name, "dssp\tid\tmore\tsequence\nHGIEBTSC\tb\tx\tAAAAAAAA\n")
    concepts, report = dssp_concepts(make_rows(a="AA", b="A" * 8), path)
    assert concept(concepts, "helix").labels.tolist() == [False] * 2 + [True] * 3 + [False] * 5
    assert concept(concepts, "strand").labels.nonzero()[0].tolist() == [5, 6]
    assert concept(concepts, "helix").defined.tolist() == [False] * 2 + [True] * 8
    assert (report.n_records, report.n_matched) == (1, 1)


def test_a_cropped_protein_keeps_the_labels_of_its_prefix(tmp_path):
    path = write(tmp_path / "a.tsv", "id\tsequence\tdssp\na\tAAAA\tCHHH\n")
    concepts, report = dssp_concepts(make_rows(a="AAA"), path)
    assert concept(concepts, "helix").labels.tolist() == [False, True, True]
    assert report.n_cropped == 1


def test_another_sequence_is_counted_and_undefined(tmp_path):
    table = "id\tsequence\tdssp\na\tAAC\tHHH\nb\tAAA\tHHH\nz\tA\tH\n"
    concepts, report = dssp_concepts(make_rows(a="AAA", b="AAA"), write(tmp_path / "a.tsv", table))
    assert concept(concepts, "helix").defined.tolist() == [False] * 3 + [True] * 3
    assert report.n_sequence_mismatch == 1
    assert report.mismatched_ids == ["a"]
    assert report.n_not_in_store == 1


def test_a_longer_stored_sequence_is_no_match(tmp_path):
    path = write(tmp_path / "a.tsv", "id\tsequence\tdssp\na\tAAA\tHHH\n")
    with pytest.raises(UserError, match=r"none of its 1 records .* 1 have another sequence"):
        dssp_concepts(make_rows(a="AAAA"), path)


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
        dssp_concepts(make_rows(a="AAA"), path)
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
            dssp_concepts(rows, tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        dssp_concepts(rows, tmp_path / "missing.tsv")
    with pytest.raises(UserError, match="is a folder"):
        dssp_concepts(rows, tmp_path)


def test_swissprot_positions_are_one_based_and_inclusive(tmp_path):
    concepts, report = read_record(tmp_path, [("TRANSMEM", 2, 4), ("ACT_SITE", 10, 10)])
    assert concept(concepts, "TRANSMEM").labels.nonzero()[0].tolist() == [3, 4, 5]
    assert concept(concepts, "ACT_SITE").labels.nonzero()[0].tolist() == [11]
    assert concept(concepts, "TRANSMEM").defined.tolist() == [False] * 2 + [True] * 10
    assert (report.n_matched, report.n_features) == (1, 2)


@given(st.integers(1, 10), st.integers(0, 9))
def test_any_span(tmp_path_factory, start, more):
    end = min(10, start + more)
    concepts, _ = read_record(tmp_path_factory.mktemp("s"), [("REGION", start, end)])
    positions = {int(i) - 1 for i in concepts[0].labels.nonzero()[0]}  # P1 begins at row 2
    assert positions == set(range(start, end + 1))


def test_new_style_features(tmp_path):
    lines = [
        "FT   BINDING         2",
        'FT                   /ligand="ATP"',
        "FT   DISULFID        3..9",
        "FT   MOD_RES         P1-2:5",
        "FT   SIGNAL          ?..4",
    ]
    concepts, report = read_record(tmp_path, lines)
    assert concept(concepts, "BINDING").labels.nonzero()[0].tolist() == [3]
    assert concept(concepts, "DISULFID").labels.nonzero()[0].tolist() == [4, 10]
    assert report.n_isoform == 1
    assert report.uncertain == {"SIGNAL": 1}
    assert {c.name for c in concepts} == {"BINDING", "DISULFID", "SIGNAL"}


def test_a_bond_is_its_two_ends(tmp_path):
    concepts, _ = read_record(tmp_path, [("DISULFID", 2, 8), ("CROSSLNK", 5, 5)])
    assert concept(concepts, "DISULFID").labels.nonzero()[0].tolist() == [3, 9]
    assert concept(concepts, "CROSSLNK").labels.nonzero()[0].tolist() == [6]


def test_old_names_become_binding(tmp_path):
    features = [("METAL", 1, 1), ("NP_BIND", 3, 4), ("CA_BIND", 6, 6), ("BINDING", 8, 8)]
    concepts, _ = read_record(tmp_path, features)
    assert [c.name for c in concepts] == ["BINDING"]
    assert concepts[0].labels[2:].nonzero()[0].tolist() == [0, 2, 3, 5, 7]


@pytest.mark.parametrize("span", [("<1", 4), (2, ">9"), ("?", 4), ("?2", 4)])
def test_uncertain_positions_are_excluded_counted_and_unknown(tmp_path, span):
    text = flat_file_record("P1", SEQUENCE, [("DOMAIN", *span), ("REGION", 1, 2)])
    text += flat_file_record("P2", SEQUENCE, [("DOMAIN", 2, 3)])
    rows = make_rows(P1=SEQUENCE, P2=SEQUENCE)
    concepts, report = swissprot_concepts(rows, write(tmp_path / "a.dat", text))
    domain = concept(concepts, "DOMAIN")
    assert report.uncertain == {"DOMAIN": 1}
    assert domain.labels.nonzero()[0].tolist() == [11, 12]
    assert not domain.defined[:10].any()
    assert domain.defined[10:].all()
    assert concept(concepts, "REGION").defined.all()


def test_structure_is_unknown_where_nobody_looked(tmp_path):
    text = flat_file_record("P1", SEQUENCE, [("HELIX", 1, 3)])
    text += flat_file_record("P2", SEQUENCE, [("REGION", 2, 3)])
    text += flat_file_record("P3", SEQUENCE, [("TURN", 2, 3)])
    rows = make_rows(P1=SEQUENCE, P2=SEQUENCE, P3=SEQUENCE)
    concepts, _ = swissprot_concepts(rows, write(tmp_path / "a.dat", text))
    helix = concept(concepts, "HELIX (UniProt)")
    assert helix.defined.tolist() == [True] * 10 + [False] * 10 + [True] * 10
    assert helix.labels.sum() == 3
    assert concept(concepts, "REGION").defined.all()


def test_what_is_no_property_of_a_residue_is_left_out(tmp_path):
    features = [("CHAIN", 1, 10), ("VARIANT", 2, 2), ("VARIANT", 3, 3), ("SITE", 4, 4)]
    concepts, report = read_record(tmp_path, features)
    assert [c.name for c in concepts] == ["SITE"]
    assert report.left_out == {"CHAIN": 1, "VARIANT": 2}


def test_features_behind_a_crop(tmp_path):
    features = [("REGION", 3, 8), ("REGION", 6, 9), ("DISULFID", 2, 9)]
    concepts, report = read_record(tmp_path, features, rows=make_rows(P1=SEQUENCE[:5]))
    assert concept(concepts, "REGION").labels.tolist() == [False, False, True, True, True]
    assert concept(concepts, "DISULFID").labels.tolist() == [False, True, False, False, False]
    assert (report.n_beyond_crop, report.n_cropped) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (flat_file_record("P1", SEQUENCE, [("REGION", 5, 11)]),
         r"record 1 \(P1\): REGION at 5..11 lies outside the sequence of 10 residues"),
        (flat_file_record("P1", SEQUENCE, [("SITE", 0, 0)]), r"SITE at 0..0 lies outside"),
        (flat_file_record("P1", SEQUENCE, [("SITE", 5, 3)]), r"record 1 .*no UniProt flat-file"),
        (flat_file_record("P1", SEQUENCE) * 2, r"record 2 \(P1\): the accession occurs twice"),
        (flat_file_record("P1", SEQUENCE)[:-4], "record 1 .* no UniProt flat-file record"),
        (flat_file_record("P1", ""), r"record 1 \(P1_TEST\) has no accession or no sequence"),
        ("", "no record in the file"),
        (">P1\nAAA\n", r"record 1 \(after the start of the file\) is no UniProt flat-file"),
        (flat_file_record("P1", SEQUENCE) + "ID   broken\n", r"record 2 \(after P1\)"),
        (flat_file_record("P1", "GGG"), "none of its 1 records"),
    ],
)  # fmt: skip
def test_bad_flat_files(tmp_path, text, message):
    path = write(tmp_path / "bad.dat", text)
    with pytest.raises(UserError, match=message) as error:
        swissprot_concepts(make_rows(P1=SEQUENCE), path)
    assert "bad.dat" in str(error.value)


def test_truncated_flat_file_gzip(tmp_path):
    text = "".join(flat_file_record(f"P{i}", SEQUENCE) for i in range(300))
    path = tmp_path / "cut.dat.gz"
    path.write_bytes(gzip.compress(text.encode())[:-40])
    with pytest.raises(UserError, match="truncated or damaged"):
        swissprot_concepts(make_rows(P1=SEQUENCE), path)


def test_load_lays_the_sources_together(tmp_path):
    rows = make_rows(P1=SEQUENCE, a="AAAA")
    dssp = write(tmp_path / "a.tsv", "id\tsequence\tdssp\na\tAAAA\tHHEC\n")
    swissprot = write(tmp_path / "a.dat.gz", flat_file_record("P1", SEQUENCE, [("SITE", 4, 4)]))
    annotations = Annotations.load(rows, dssp=dssp, swissprot=swissprot)
    assert [c.name for c in annotations.concepts[20:]] == ["helix", "strand", "SITE"]
    helix, site = annotations.concepts[20], annotations.concepts[22]
    assert not (helix.defined & site.defined).any()
    assert [r["file"] for r in annotations.summary()] == ["a.tsv", "a.dat.gz"]
    assert len(Annotations.load(rows).concepts) == 20
    assert np.flatnonzero(site.labels).tolist() == [3]
