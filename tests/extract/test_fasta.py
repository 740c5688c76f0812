import gzip
import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import UserError
from extract.fasta import check_sequence
from extract.selection import read_fasta


def write(folder, text, name="a.fasta"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def ids_and_sequences(path, **options):
    return [(p.id, p.sequence) for p in read_fasta(path, **options)[0]]


def test_reads_headers_wrapped_lines_and_rare_residues(tmp_path):
    path = write(tmp_path, ">sp|P12345|NAME_X some text\nMKT\nbzuox\n\n>two words\nACD EFG\n")
    assert ids_and_sequences(path) == [("P12345", "MKTBZUOX"), ("two", "ACDEFG")]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_newline_and_byte_order_mark(tmp_path, newline):
    path = write(tmp_path, b"\xef\xbb\xbf" + newline.join([">a", "MK", "TA", ">b", "C"]).encode())
    assert ids_and_sequences(path) == [("a", "MKTA"), ("b", "C")]


def test_gzip_is_told_by_content(tmp_path):
    path = write(tmp_path, gzip.compress(b">a\nMKT\n"), "a.fasta")
    proteins, report = read_fasta(path)
    assert proteins[0].sequence == "MKT"
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_final_stop_is_stripped_with_a_warning(tmp_path, caplog):
    proteins, report = read_fasta(write(tmp_path, ">a\nMKT*\n>b\nMK\n"))
    assert [p.sequence for p in proteins] == ["MKT", "MK"]
    assert report.n_stop_stripped == 1
    assert "final '*' stripped from 1 records" in caplog.text


def test_too_long_is_skipped_or_cropped_and_counted(tmp_path):
    path = write(tmp_path, ">a\nMKTAY\n>b\nMK\n")
    proteins, report = read_fasta(path, max_residues=4)
    assert [p.id for p in proteins] == ["b"]
    assert (report.n_records, report.n_kept, report.n_too_long_skipped) == (2, 1, 1)
    proteins, report = read_fasta(path, max_residues=4, too_long="crop")
    assert [p.sequence for p in proteins] == ["MKTA", "MK"]
    assert (report.n_too_long_cropped, report.n_residues) == (1, 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no sequence in the file"),
        ("\n\n", "no sequence in the file"),
        (">a\n>b\nMKT\n", r"record 1 \(a\): no sequence"),
        (">a\n*\n", r"record 1 \(a\): no sequence"),
        (">a\nMKT\n>b\nMK1T\n", r"record 2 \(b\): illegal character '1' at position 3"),
        (">a\nMK*T\n", r"illegal character '\*' at position 3"),
        (">a\nMJT\n", "illegal character 'J' at position 2"),
        (">a\nMK-T\n", "illegal character '-' at position 3"),
        (">a\nMKß\n", "illegal character 'ß' at position 3"),
        (">a\nMK\u0131\n", "position 3"),
        (">a\nMK\x00T\n", "position 3"),
        (">a\nMK\n>a\nMT\n", "records 1 and 2 have the same id 'a'"),
        ("MKT\n>a\nMKT\n", "line 1 comes before any record"),
        (">\nMKT\n", "record 1 has no id"),
        (">a\x00b\nMKT\n", "control characters"),
        (">" + "a" * 256 + "\nMKT\n", "more than 255 letters"),
        (">a\nMKTAY\n", "all 1 sequences are longer than 4"),
    ],
)
def test_bad_records_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_fasta(write(tmp_path, text), max_residues=4)
    assert "a.fasta" in str(caught.value)


def test_missing_file_folder_and_truncated_gzip(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_fasta(tmp_path / "none.fasta")
    with pytest.raises(UserError, match="is a folder"):
        read_fasta(tmp_path)
    whole = gzip.compress(b">a\n" + b"MKT" * 1000)
    for n in (12, len(whole) // 2, len(whole) - 4):
        with pytest.raises(UserError, match="truncated or damaged"):
            read_fasta(write(tmp_path, whole[:n], "t.fasta.gz"))


@pytest.mark.parametrize("limit", [0, -1, 65536])
def test_limit_must_fit_a_store(tmp_path, limit):
    with pytest.raises(UserError, match="--max-residues"):
        read_fasta(write(tmp_path, ">a\nMKT\n"), max_residues=limit)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.one_of(
        st.binary(max_size=200), st.text(">ACDMKT*\n\r \t-1", max_size=80).map(str.encode)
    )
)
def test_any_bytes_give_proteins_or_one_clear_error(tmp_path, data):
    path = write(tmp_path, data)
    try:
        proteins, report = read_fasta(path)
    except UserError as error:
        assert "a.fasta" in str(error)
    else:
        assert proteins
        assert report.n_residues == sum(len(p.sequence) for p in proteins)
        assert all(check_sequence(p.sequence, "x") == p.sequence for p in proteins)
