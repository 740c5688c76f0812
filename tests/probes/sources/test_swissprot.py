"""Flat files by hand: positions, what is uncertain or left out, and every damaged record."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import UserError
from probes.sources.swissprot import swissprot_concepts
from tests.probes.helpers import concept, flat_file_record, make_rows, write, yes

SEQUENCE = "MKTAYIAKQR"
ROWS = make_rows(P0="GG", P1=SEQUENCE)


def read_record(tmp_path, features, sequence=SEQUENCE, rows=ROWS):
    path = write(tmp_path / "a.dat", flat_file_record("P1", sequence, features))
    return swissprot_concepts(rows, path)


def test_positions_are_one_based_and_inclusive(tmp_path):
    concepts, report = read_record(tmp_path, [("TRANSMEM", 2, 4), ("ACT_SITE", 10, 10)])
    assert yes(concepts, "TRANSMEM", ROWS) == [3, 4, 5]
    assert yes(concepts, "ACT_SITE", ROWS) == [11]
    assert concept(concepts, "TRANSMEM").defined.tolist() == [False, True]
    assert (report.n_matched, report.n_features) == (1, 2)


@settings(deadline=None)  # a file is written, which may wait
@given(st.integers(1, 10), st.integers(0, 9))
def test_any_span(tmp_path_factory, start, more):
    end = min(10, start + more)
    concepts, _ = read_record(tmp_path_factory.mktemp("s"), [("REGION", start, end)])
    positions = {i - 1 for i in yes(concepts, "REGION", ROWS)}  # P1 begins at row 2
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
    assert yes(concepts, "BINDING", ROWS) == [3]
    assert yes(concepts, "DISULFID", ROWS) == [4, 10]
    assert report.n_isoform == 1
    assert report.uncertain == {"SIGNAL": 1}
    assert {c.name for c in concepts} == {"BINDING", "BINDING ATP", "DISULFID", "SIGNAL"}
    assert yes(concepts, "BINDING ATP", ROWS) == [3]


def test_a_bond_is_its_two_ends(tmp_path):
    concepts, _ = read_record(tmp_path, [("DISULFID", 2, 8), ("CROSSLNK", 5, 5)])
    assert yes(concepts, "DISULFID", ROWS) == [3, 9]
    assert yes(concepts, "CROSSLNK", ROWS) == [6]


def test_old_names_become_binding(tmp_path):
    features = [("METAL", 1, 1), ("NP_BIND", 3, 4), ("CA_BIND", 6, 6), ("BINDING", 8, 8)]
    concepts, _ = read_record(tmp_path, features)
    assert [c.name for c in concepts] == ["BINDING", "BINDING Ca(2+)"]
    assert yes(concepts, "BINDING", ROWS) == [2, 4, 5, 7, 9]


@pytest.mark.parametrize("span", [("<1", 4), (2, ">9"), ("?", 4), ("?2", 4)])
def test_uncertain_positions_are_excluded_counted_and_unknown(tmp_path, span):
    text = flat_file_record("P1", SEQUENCE, [("DOMAIN", *span), ("REGION", 1, 2)])
    text += flat_file_record("P2", SEQUENCE, [("DOMAIN", 2, 3)])
    rows = make_rows(P1=SEQUENCE, P2=SEQUENCE)
    concepts, report = swissprot_concepts(rows, write(tmp_path / "a.dat", text))
    domain = concept(concepts, "DOMAIN")
    assert report.uncertain == {"DOMAIN": 1}
    assert domain.spans.tolist() == [[11, 13]]
    assert domain.defined.tolist() == [False, True]
    assert concept(concepts, "REGION").defined.all()


def test_structure_is_unknown_where_nobody_looked(tmp_path):
    text = flat_file_record("P1", SEQUENCE, [("HELIX", 1, 3)])
    text += flat_file_record("P2", SEQUENCE, [("REGION", 2, 3)])
    text += flat_file_record("P3", SEQUENCE, [("TURN", 2, 3)])
    rows = make_rows(P1=SEQUENCE, P2=SEQUENCE, P3=SEQUENCE)
    concepts, _ = swissprot_concepts(rows, write(tmp_path / "a.dat", text))
    helix = concept(concepts, "HELIX (UniProt)")
    assert helix.defined.tolist() == [True, False, True]
    assert helix.n_positive == 3
    assert concept(concepts, "REGION").defined.all()


def test_what_is_no_property_of_a_residue_is_left_out(tmp_path):
    features = [("CHAIN", 1, 10), ("VARIANT", 2, 2), ("VARIANT", 3, 3), ("SITE", 4, 4)]
    concepts, report = read_record(tmp_path, features)
    assert [c.name for c in concepts] == ["SITE"]
    assert report.left_out == {"CHAIN": 1, "VARIANT": 2}


def test_features_behind_a_crop(tmp_path):
    features = [("REGION", 3, 8), ("REGION", 6, 9), ("DISULFID", 2, 9)]
    rows = make_rows(P1=SEQUENCE[:5])
    concepts, report = read_record(tmp_path, features, rows=rows)
    assert yes(concepts, "REGION", rows) == [2, 3, 4]
    assert yes(concepts, "DISULFID", rows) == [1]
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


def test_records_that_nobody_wants_are_counted(tmp_path):
    text = flat_file_record("P1", SEQUENCE) + flat_file_record("Q9", "GGG", [("SITE", 99, 99)])
    _, report = swissprot_concepts(ROWS, write(tmp_path / "a.dat", text))
    assert (report.n_records, report.n_matched, report.n_not_in_store) == (2, 1, 1)
    assert report.not_in_store_ids == ["Q9"]


def test_a_record_without_end_is_not_read_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("probes.sources.swissprot.MAX_RECORD", 1000)
    path = write(tmp_path / "a.dat", "ID   x\n" * 1000)
    with pytest.raises(UserError, match="has no '//' line within 1,000 letters"):
        swissprot_concepts(ROWS, path)


def test_old_descriptions_name_the_ligand(tmp_path):
    lines = [
        "FT   METAL         2      2       Zinc 1.",
        "FT   METAL         3      3       Iron (heme C 1 axial ligand); via tele",
        "FT                                nitrogen.",
        "FT   NP_BIND       4      6       NADP (By similarity).",
        "FT   CA_BIND       7      9       1 (Potential).",
        "FT   BINDING      10     10       Substrate; via amide nitrogen.",
        "FT   METAL         5      5       Copper or zinc 2.",
    ]
    concepts, _ = read_record(tmp_path, lines)
    found = {c.name: [i - 1 for i in yes(concepts, c.name, ROWS)] for c in concepts}
    assert found == {
        "BINDING": [2, 3, 4, 5, 6, 7, 8, 9, 10],
        "BINDING Zn(2+)": [2],
        "BINDING heme c": [3],
        "BINDING NADP(+)": [4, 5, 6],
        "BINDING Ca(2+)": [7, 8, 9],
        "BINDING substrate": [10],
    }
