"""Sampling, filters and duplicates, against a plain model in memory; and any bytes at all."""

import contextlib
import gzip
import hashlib
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract import sampling
from extract.alphabet import LEGAL_RESIDUES
from extract.errors import UserError
from extract.fasta import MAX_LETTERS, Protein, read_records
from extract.sampling import HashSample, SeenIds, by_hash, sequence_hash
from extract.selection import FastaSource, Selection
from tests.helpers import random_proteins


def write_fasta(path, pairs):
    path.write_text("".join(f">{i}\n{s}\n" for i, s in pairs))
    return path


def draw(path, **rules):
    source = FastaSource(path, Selection(**rules))
    return [(p.id, p.sequence) for p in source], source.report


@pytest.fixture
def many(tmp_path):
    """500 records, 100 of them duplicates under another id."""
    pairs = [(p.id, p.sequence) for p in random_proteins(400, 5, 60)]
    pairs += [(f"copy{i}", s) for i, (_, s) in enumerate(pairs[:100])]
    return write_fasta(tmp_path / "a.fasta", pairs), pairs


def test_sample_is_the_smallest_hashes_in_their_order(many):
    path, pairs = many
    first_id = {s: i for i, s in reversed(pairs)}
    order = sorted(first_id, key=lambda s: sequence_hash(s, 7))
    found, report = draw(path, sample=50, seed=7)
    assert found == [(first_id[s], s) for s in order[:50]]
    kept = Counter(s for _, s in pairs)
    duplicates = sum(kept[s] - 1 for s in order[:50])
    assert (report.n_kept, report.n_duplicates) == (50, duplicates)
    assert report.n_not_sampled == 500 - 50 - duplicates
    assert draw(path, sample=20, seed=7)[0] == found[:20]
    assert draw(path, sample="all", seed=7)[0] == [(first_id[s], s) for s in order]
    assert draw(path, sample=50, seed=8)[0] != found


def test_sample_does_not_depend_on_the_order_of_the_file(many, tmp_path):
    path, pairs = many
    other = write_fasta(tmp_path / "b.fasta", pairs[::-1])
    sequences = [[s for _, s in draw(p, sample=60)[0]] for p in (path, other)]
    assert sequences[0] == sequences[1]


def test_bound_is_lowered_without_losing_a_candidate(tmp_path, monkeypatch):
    """With a tiny margin the bound falls many times; the sample must not notice."""
    monkeypatch.setattr(sampling, "_MARGIN", 5)
    proteins = random_proteins(3000, 4, 5, seed=3)
    sample = HashSample(tmp_path, 0, 20)
    found = [p.sequence for p in sample.draw(proteins)]
    distinct = {p.sequence for p in proteins}
    assert found == sorted(distinct, key=lambda s: sequence_hash(s, 0))[:20]
    spilled = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert spilled < 3000 * (30 + 6) / 4, "the bound never fell"
    assert len(found) + sample.n_duplicates + sample.n_not_drawn == 3000


def test_filters_are_counted(tmp_path):
    pairs = [("a", "MK"), ("b", "MKTAYI"), ("c", "MK1"), ("d", "MKTA*"), ("e", "MKT"), ("f", "*")]
    path = write_fasta(tmp_path / "a.fasta", pairs)
    found, report = draw(path, min_residues=3, max_residues=5, illegal="skip")
    assert found == [("d", "MKTA"), ("e", "MKT")]
    counts = (report.n_records, report.n_kept, report.n_illegal_skipped, report.n_stop_stripped)
    assert counts == (6, 2, 2, 1)
    assert (report.n_too_short_skipped, report.n_too_long_skipped) == (1, 1)
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"min_residues": 0}, r"--min-residues \(0\)"),
        ({"min_residues": 9, "max_residues": 8}, r"--min-residues \(9\) must be from 1 to --max"),
        ({"max_residues": 70000}, r"--max-residues \(70000\) must be from 1 to 65535"),
        ({"sample": 0}, r"--sample \(0\) must be at least 1, or all"),
    ],
)
def test_rules_are_checked(rules, message):
    with pytest.raises(UserError, match=message):
        Selection(**rules)


def test_nothing_left_says_why(tmp_path):
    path = write_fasta(tmp_path / "a.fasta", [("a", "MK"), ("b", "MKTAYI")])
    with pytest.raises(UserError, match=r"none of 2 records is left \(1 .*too short.*1 .*too long"):
        draw(path, min_residues=3, max_residues=5)


def test_ids_twice_are_named_also_in_a_sample(tmp_path):
    path = write_fasta(tmp_path / "a.fasta", [("a", "MK"), ("b", "MT"), ("a", "MY")])
    for sample in (None, "all"):
        with pytest.raises(UserError, match="records 1 and 3 have the same id 'a'"):
            draw(path, sample=sample)


def test_repeated_ids_are_found_in_every_range(tmp_path, monkeypatch):
    monkeypatch.setattr(SeenIds, "_BLOCK", 16)
    names = [f"id{i}" for i in range(1000)]
    with SeenIds(tmp_path) as seen:
        for name in [*names, "id3", "id500"]:
            seen.add(name)
        assert seen.repeated() == {sampling.id_hash("id3"), sampling.id_hash("id500")}


def test_a_line_without_end_fills_no_memory(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_bytes(b">a " + b"x" * 300_000 + b"\n" + b"MK" * 100_000 + b"\n>b\nMK\n")
    records = list(read_records(path))
    assert [(r.id, len(r.sequence)) for r in records] == [("a", 200_000), ("b", 2)]
    path.write_bytes(b">a\n" + b"M" * (MAX_LETTERS + 1))
    with pytest.raises(UserError, match=r"record 1 \(a\) has more than 1,000,000 letters"):
        list(read_records(path))


MEMORY = """
import resource, sys
from pathlib import Path
from extract.selection import FastaSource, Selection
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n = sum(1 for _ in FastaSource(Path(sys.argv[1]), Selection(sample=eval(sys.argv[2]))))
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    """60 MB in 100,000 records."""
    letters = np.random.default_rng(0).choice(list(b"ACDEFGHIKLMNPQRSTVWY"), size=(100_000, 590))
    path = tmp_path_factory.mktemp("large") / "a.fasta"
    with path.open("wb") as f:
        for i, row in enumerate(letters.astype(np.uint8)):
            f.write(b">p%d\n%s\n" % (i, row.tobytes()))
    return path


@pytest.mark.parametrize("sample", [None, 1000])
def test_memory_is_constant(large_file, sample):
    """Reading 60 MB makes a process grow by less than a third of it."""
    command = [sys.executable, "-c", MEMORY, str(large_file), repr(sample)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=os.getcwd())
    n, grown = map(int, done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    assert n == (sample or 100_000)
    assert grown * unit < 20e6


# ---- any bytes at all

RESIDUES = "".join(sorted(LEGAL_RESIDUES))
ids = st.text("abzXY019|._-", min_size=1, max_size=6)
sequences = st.one_of(
    st.text(RESIDUES, min_size=1, max_size=30),
    st.text(RESIDUES.lower() + "*1 -\x00\u0131ß", max_size=8),
    st.integers(60, 70).map(lambda n: "MK" * n),
)
records = st.lists(st.tuples(ids, sequences), min_size=0, max_size=8)


def test_by_hash_is_the_order_of_sha256_whatever_the_order_given():
    proteins = [Protein(str(i), s) for i, s in enumerate(["MK", "ACDE", "W", "GG"])]
    # by coreutils' sha256sum: MK b2690faa…, GG bee30e5b…, ACDE f50b9a1d…, W fcb5f40d…
    for given_order in (proteins, proteins[::-1]):
        assert [p.sequence for p in by_hash(given_order, 3)] == ["MK", "GG", "ACDE"]
    assert len(by_hash(proteins, 9)) == 4


@st.composite
def fasta_bytes(draw):
    """Records in some newline style, wrapping and encoding, perhaps damaged, perhaps gzipped."""
    newline = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \n"]))
    width = draw(st.sampled_from([1, 3, 60, 10_000]))
    text = draw(st.sampled_from(["", "", "", "\ufeff", "\n", ";note\n"]))
    for name, sequence in draw(records):
        text += f">{name}{draw(st.sampled_from(['', ' x', chr(9) + 'y', ' é', chr(1)]))}{newline}"
        lines = [sequence[i : i + width] for i in range(0, len(sequence), width)]
        text += "".join(line + newline for line in lines)
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-16", "latin-1"]))
    data = text.encode(encoding, errors="replace")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 4)) :]
    if draw(st.integers(0, 3)) == 0:
        data = gzip.compress(data, compresslevel=1)
        if draw(st.booleans()):
            data = data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=3))
    return data


rules = st.fixed_dictionaries({
    "min_residues": st.integers(1, 3),
    "max_residues": st.sampled_from([3, 20, 1022]),
    "too_long": st.sampled_from(["skip", "crop"]),
    "illegal": st.sampled_from(["error", "skip"]),
    "sample": st.sampled_from([None, None, 2, "all"]),
})  # fmt: skip


@settings(
    max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.one_of(fasta_bytes(), st.binary(max_size=120)), rules=rules)
def test_any_bytes_give_proteins_or_one_clear_line(tmp_path, data, rules):
    path = tmp_path / "a.fasta"
    path.write_bytes(data)
    source = FastaSource(path, Selection(**rules), spool=tmp_path / "spool")
    proteins = []
    try:
        proteins = list(source)
    except UserError as error:
        assert str(path) in str(error)
        assert len(" ".join(str(error).split())) < 600
    else:
        check_result(proteins, source.report, rules)
        assert source.report.sha256 == hashlib.sha256(data).hexdigest()
    assert not (tmp_path / "spool").exists()


def check_result(proteins, report, rules):
    assert proteins
    assert len({p.id for p in proteins}) == len(proteins) == report.n_kept
    assert sum(len(p.sequence) for p in proteins) == report.n_residues
    for protein in proteins:
        assert rules["min_residues"] <= len(protein.sequence) <= rules["max_residues"]
        assert set(protein.sequence) <= LEGAL_RESIDUES
    left_out = report.n_illegal_skipped + report.n_too_short_skipped + report.n_too_long_skipped
    drawn = report.n_kept + report.n_duplicates + report.n_not_sampled
    assert drawn + left_out == report.n_records
    if rules["sample"] is not None:
        keys = [sequence_hash(p.sequence, 0) for p in proteins]
        assert keys == sorted(set(keys))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pairs=records, newline=st.sampled_from(["\n", "\r\n", "\r"]), width=st.integers(1, 70))
def test_well_formed_files_are_read_as_they_are(tmp_path, pairs, newline, width):
    """What is read must be what was written, letter by letter."""
    legal = {}
    for name, sequence in pairs:
        cleaned = "".join(c for c in sequence.upper() if c in LEGAL_RESIDUES)
        if cleaned and not name.startswith(("sp|", "tr|")):
            legal[name] = cleaned
    text = ""
    for name, s in legal.items():
        lines = [s[i : i + width] for i in range(0, len(s), width)]
        text += newline.join([f">{name} words", *lines, ""])
    path = tmp_path / "a.fasta"
    path.write_bytes(text.encode())
    with contextlib.nullcontext() if legal else pytest.raises(UserError, match="no sequence"):
        assert draw(path, max_residues=1022)[0] == list(legal.items())
