"""The search box and the motif matcher."""

import hashlib
import re
import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.server import scan
from explorer.server.pattern import LETTERS, Motif, parse
from explorer.server.query import concept_expression, match_expression, read_query
from extract.errors import UserError
from tests.explorer.serving import API, ask, serving
from tests.explorer.tiny_bundle import HOSTILE


@pytest.fixture(scope="module")
def client(bundle_folder):
    with serving(bundle_folder) as client:
        yield client


@pytest.fixture(scope="module")
def tiny(tiny_bundles):
    return tiny_bundles[0]


def plain_matches(sequence: str, motif: Motif) -> list[tuple[int, int]]:
    """By sets of states, residue by residue: the longest from each start, none inside another."""
    found, reached = [], -1
    for start in range(1 if motif.at_start else len(sequence)):
        ends = {start}
        for letters, low, high in motif.elements:
            following = set()
            for end in ends:
                for n in range(high + 1):
                    if n >= low:
                        following.add(end + n)
                    if end + n >= len(sequence) or sequence[end + n] not in letters:
                        break
            ends = following
        if motif.at_end:
            ends &= {len(sequence)}
        if ends and max(ends) > reached:
            reached = max(ends)
            found.append((start, reached))
    return found


def corpus_of(sequences: list[str]) -> scan.Corpus:
    letters = np.frombuffer("".join(sequences).encode(), dtype=np.uint8)
    return scan.Corpus(letters, np.cumsum([0, *map(len, sequences)]))


elements = st.tuples(
    st.sampled_from(["A", "C", "x", "[AC]", "{A}"]),
    st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 6))),
).map(lambda e: e[0] + ("" if e[1] is None else f"({e[1][0]},{e[1][0] + max(e[1][1], 1)})"))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text("ACD", min_size=1, max_size=25), min_size=1, max_size=8),
    st.lists(elements, min_size=1, max_size=5), st.booleans(), st.booleans(),
    st.sampled_from([7, 1 << 16]),
)  # fmt: skip
def test_matches_equal_plain_search(sequences, parts, at_start, at_end, chunk):
    try:
        motif = parse("<" * at_start + "-".join(parts) + ">" * at_end)
    except UserError:
        return  # matches anything
    before, scan.CHUNK_RESIDUES = scan.CHUNK_RESIDUES, chunk
    try:
        found = scan.find_motif(corpus_of(sequences), motif)
    finally:
        scan.CHUNK_RESIDUES = before
    expected = [(p, a, b) for p, s in enumerate(sequences) for a, b in plain_matches(s, motif)]
    assert list(zip(*(column.tolist() for column in found))) == expected


def test_regex_for_people_is_the_same_pattern():
    motif = parse("C-x(2,4)-C-{P}-[LIVM](3)-x.")
    assert motif.pattern == "C-x(2,4)-C-{P}-[ILMV](3)-x"
    assert motif.regex == "C.{2,4}C[^P][ILMV]{3}."
    assert re.search(motif.regex, "AACAACAILVA")
    assert parse("<M-X(3)>").regex == "^M.{3}$"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "empty"),
        ("C-x(4,2)-C", "0 ≤ n ≤ m"),
        ("C-J-C", "not the letter of a residue"),
        ("C--C", "element 2"),
        ("C-[AB", "element 2"),
        ("(a+)+$", "element 1"),
        ("x(3)-x", "matches anything"),
        ("A(0,3)-x", "matches anything"),
        ("A-x(0,9999)-A", "0 ≤ n ≤ m"),
        ("-".join(["A-x(0,300)"] * 4), "can span"),
        ("-".join(["A"] * 100), "elements; 64"),
        ("A-" * 300 + "A", "characters; 400"),
    ],
)
def test_patterns_that_are_refused(pattern, said, client):
    with pytest.raises(UserError, match=re.escape(said)):
        parse(pattern)
    response = client.get(f"{API}/search/motif", params={"pattern": pattern})
    assert response.status_code == 422
    assert said in response.json()["detail"]


def test_a_pattern_that_matches_too_often_is_refused(monkeypatch):
    monkeypatch.setattr(scan, "MAX_MATCHES", 10)
    with pytest.raises(UserError, match="more specific"):
        scan.find_motif(corpus_of(["A" * 30]), parse("A"))


def test_motif_hits_and_ranked_latents(client, tiny):
    motif = parse("N-{P}-[ST]")
    answer = ask(client, "search/motif", pattern="N-{P}-[ST]", sae="tiny", n=200)
    expected = {
        a: [(s + 1, e) for s, e in plain_matches(q, motif)]
        for a, q in zip(tiny.accessions, tiny.sequences)
    }
    expected = {a: m for a, m in expected.items() if m}
    assert {h["accession"]: [tuple(m) for m in h["matches"]] for h in answer["hits"]} == expected
    assert answer["n_matches"] == sum(map(len, expected.values()))
    assert answer["n_proteins"] == len(expected)
    # latent 1 fires on exactly the first residue of such a match
    best = answer["latents"][0]
    assert (best["latent"], best["precision"], best["recall"]) == (
        1,
        pytest.approx(1, abs=0.2),
        1.0,
    )


def test_precision_and_recall_of_latents(client, tiny):
    answer = ask(client, "search/motif", pattern="[KR]-[KR]", sae="tiny")
    motif = parse("[KR]-[KR]")
    tracked = range(tiny.n_tracked)
    share = sum(len(tiny.sequences[p]) for p in tracked) / sum(map(len, tiny.sequences))
    for x in answer["latents"]:
        inside = matches = hit = 0
        for p in tracked:
            active = tiny.activations[p][:, x["latent"]] > 0
            found = plain_matches(tiny.sequences[p], motif)
            covered = np.zeros(len(active), dtype=bool)
            for start, stop in found:
                covered[start:stop] = True
                hit += active[start:stop].any()
            matches += len(found)
            inside += (active & covered).sum()
        n_active = sum((a[:, x["latent"]] > 0).sum() for a in tiny.activations) * share
        assert x["recall"] == pytest.approx(hit / matches, rel=1e-3)
        assert x["precision"] == pytest.approx(min(inside / n_active, 1), rel=1e-3)


@pytest.mark.parametrize(
    ("query", "read_as"),
    [
        ("1234", "latent"), ("L1234", "latent"), ("#12", "latent"), ("latent 7", "latent"),
        ("P12345", "accession"), ("a0a024r1r8", "accession"), ("1ECA", "accession"),
        ("1eca_A", "accession"), ("C-x(2,4)-C", "motif"), ("N-{P}-[ST]-{P}", "motif"),
        ("[AG]-x(4)-G-K-[ST].", "motif"), ("C-C", "motif"), ("helix-turn-helix", "text"),
        ("zinc finger (C4)", "text"), ("TRYPSIN", "text"), ("MKTAYIAKQRQISFVKSHFS", "sequence"),
        (">my protein\nMKTAYIAKQR\nQISFVKSHFSRQ\n>second\nAAAA", "sequence"),
        ("mktayiakqrqisfvkshfsrqmktayiakqrqisfvkshfsrq", "sequence"), ("", "nothing"),
        (" \0", "nothing"),
    ],
)  # fmt: skip
def test_what_a_query_is_taken_for(query, read_as):
    assert read_query(query).read_as == read_as


def test_search_finds_each_kind(client, tiny):
    def first(query, **more):
        answer = ask(client, "search", q=query, **more)
        assert answer["total"] >= len(answer["hits"])
        return answer["read_as"], answer["hits"]

    read_as, hits = first("#3")
    assert (read_as, [(h["sae"], h["latent"]) for h in hits]) == (
        "latent",
        [("tiny", 3), ("other", 3)],
    )
    assert [h["sae"] for h in first("3", sae="other")[1]] == ["other"]
    assert first("1eca")[1][0]["accession"] == "1ECA_A"
    assert first(tiny.accessions[5].lower())[1][0]["accession"] == tiny.accessions[5]
    read_as, hits = first("heli")
    assert read_as == "text"
    assert [h["type"] for h in hits] == ["concept", "latent", "latent"]
    assert hits[0]["concept"] == "helix"
    assert first("N-{P}-[ST]")[0] == "motif"
    assert first("number 11")[1][0]["accession"] == tiny.accessions[11]
    assert any(h["type"] == "sae" for h in first("tiny")[1])
    assert first("ZN_FING/C4")[1][0]["title"] == HOSTILE
    assert first("")[0] == "nothing"


def test_words_for_uniprot_keys(client):
    """People say zinc finger where UniProt's key is ZN_FING."""
    hits = ask(client, "search", q="zinc fing")["hits"]
    assert [h["title"] for h in hits][:1] == [HOSTILE]
    # the latent that training chose for a concept that matches comes first
    latents = [
        h for h in ask(client, "search", q="ZN_FING", sae="tiny")["hits"] if h["type"] == "latent"
    ]
    assert latents[0]["latent"] == 3
    assert concept_expression("or") == '"or"*'


def test_sequences_whole_and_in_part(client, tiny):
    whole = ask(client, "search", q=tiny.sequences[6])
    assert whole["read_as"] == "sequence"
    same = {a for a, s in zip(tiny.accessions, tiny.sequences) if s == tiny.sequences[6]}
    assert {h["accession"] for h in whole["hits"]} == same
    assert "the same sequence" in whole["hits"][0]["subtitle"]
    part = ask(client, "search", q=tiny.sequences[6][30:55])
    assert {(h["accession"], h["position"]) for h in part["hits"]} == {(a, 31) for a in same}
    short = tiny.sequences[6][30:38]
    expected = {a for a, s in zip(tiny.accessions, tiny.sequences) if short in s}
    assert {h["accession"] for h in ask(client, "search", q=short)["hits"]} == expected
    # not across the border of two proteins
    border = tiny.sequences[6][-12:] + tiny.sequences[7][:12]
    assert not any(border in s for s in tiny.sequences)
    assert ask(client, "search", q=border)["hits"] == []


def test_substring_places():
    corpus = corpus_of(["AACA", "CAAC", "GG", "ACAC"])
    assert scan.find_substring(corpus, "AC", 10) == [(0, 1), (1, 2), (3, 0)]
    assert scan.find_substring(corpus, "AC", 2) == [(0, 1), (1, 2)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("AC", min_size=1, max_size=9), min_size=1, max_size=9),
    st.text("AC", min_size=1, max_size=4), st.sampled_from([1, 2, 3, 5, 100]),
)  # fmt: skip
def test_substrings_are_those_of_each_protein(sequences, needle, piece):
    """Whatever the pieces that are read at once, and none across a border of two proteins."""
    before, scan.SUBSTRING_RESIDUES = scan.SUBSTRING_RESIDUES, piece
    try:
        found = scan.find_substring(corpus_of(sequences), needle, 100)
    finally:
        scan.SUBSTRING_RESIDUES = before
    assert found == [(p, s.find(needle)) for p, s in enumerate(sequences) if needle in s]


@given(st.text(max_size=60))
def test_no_text_is_an_operator_of_the_index(text):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5 (a)")
    expression = match_expression(text.replace("\0", " "))
    if expression is not None:
        connection.execute("SELECT * FROM t WHERE t MATCH ?", (expression,)).fetchall()
    connection.close()


@pytest.mark.parametrize(
    "query",
    ['"', "a OR b", "NEAR(a b)", "label:helix", "*", "a*b", "-x", "^a", "'; DROP TABLE", "%"],
)
def test_hostile_texts_are_texts(client, query):
    assert ask(client, "search", q=query)["read_as"] in ("text", "nothing")


def test_all_letters_are_known():
    assert "J" not in LETTERS
    assert hashlib.sha256(LETTERS.encode()).hexdigest()  # a string of single letters
    assert len(set(LETTERS)) == len(LETTERS) == 25
