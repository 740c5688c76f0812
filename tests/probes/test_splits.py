"""Clusters stay whole, the split is seeded, and nothing is split at random in silence."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extract.errors import UserError
from probes.config import ProbeConfig
from probes.data.concepts import ConceptTable
from probes.splits import read_clusters, split_proteins
from tests.probes.helpers import make_rows, write


@given(st.lists(st.integers(0, 12), min_size=12, max_size=60), st.integers(0, 5))
def test_no_cluster_lies_in_both_parts(clusters, seed):
    ids = [f"p{i}" for i in range(len(clusters))]
    cluster_of = {i: f"c{c}" for i, c in zip(ids, clusters, strict=True)}
    try:
        split = split_proteins(ids, cluster_of, seed=seed)
    except UserError:
        assume(False)
        return
    parts = {c: set() for c in split.clusters}
    for c, part in zip(split.clusters, split.part, strict=True):
        parts[c].add(int(part))
    assert all(len(p) == 1 for p in parts.values())
    assert {p for found in parts.values() for p in found} == {0, 1, 2}
    assert not split.random


def test_a_protein_keeps_its_part_whatever_the_others_are():
    ids = [f"p{i}" for i in range(50)]
    clusters = {i: f"c{n % 20}" for n, i in enumerate(ids)}
    whole = dict(zip(ids, split_proteins(ids, clusters).part, strict=True))
    half = split_proteins(ids[40:10:-1], clusters)
    assert all(whole[i] == p for i, p in zip(half.ids, half.part, strict=True))


def test_seed_and_fraction():
    ids = [f"p{i}" for i in range(2000)]
    splits = [split_proteins(ids, None, seed=s) for s in (0, 0, 1)]
    assert (splits[0].part == splits[1].part).all()
    assert (splits[0].part != splits[2].part).any()
    assert np.bincount(splits[0].part) / 2000 == pytest.approx([0.5, 0.2, 0.3], abs=0.03)
    assert splits[0].random
    assert splits[0].method == "protein, at random"
    no_validation = split_proteins(ids, None, validation_fraction=0.0)
    assert set(no_validation.part.tolist()) == {0, 2}
    assert (no_validation.is_test == splits[0].is_test).all()


def test_table_and_rows():
    rows = make_rows(p0="AA", p1="AAA", p2="A", p3="AA", p4="A")
    split = split_proteins([p.id for p in rows.proteins], None, seed=2)
    table = split.table()
    assert list(table.columns) == ["id", "cluster", "part"]
    assert np.all((table["part"] == "test") == split.is_test)
    assert set(table["part"]) == {"train", "validation", "test"}
    expected = [t for t, p in zip(table["part"], rows.proteins, strict=True) for _ in p.sequence]
    assert split.test_rows(rows).tolist() == [t == "test" for t in expected]
    assert split.rows_in(rows, "train", "validation").tolist() == [t != "test" for t in expected]


def test_every_protein_needs_a_cluster():
    with pytest.raises(UserError, match=r"2 of 3 proteins are in no homology cluster .*first is b"):
        split_proteins(["a", "b", "c"], {"a": "x"})


def test_a_single_cluster_cannot_be_split():
    message = r"of 3 proteins \(1 clusters\) none falls in the part\(s\) "
    with pytest.raises(UserError, match=message):
        split_proteins(["a", "b", "c"], dict.fromkeys("abc", "x"))


def test_a_random_split_must_be_asked_for():
    with pytest.raises(UserError, match="--allow-random-split"):
        ProbeConfig(Path("run"), (Path("acts"),))
    assert ProbeConfig(Path("run"), (Path("acts"),), allow_random_split=True).clusters is None


def test_read_clusters(tmp_path):
    path = write(tmp_path / "c.tsv.gz", "cluster\tid\nx\ta\ny\tb\nx\ta\n")
    assert read_clusters(path) == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tgroup\na\tx\n", r"lacks the column\(s\) cluster"),
        ("id\tcluster\na\tx\na\ty\n", "line 3 puts a in cluster y, an earlier line in x"),
        ("id\tcluster\na\t\n", "line 2 has an empty id or cluster"),
        ("id\tcluster\na x\n", "line 2 has 1 fields"),
    ],
)
def test_bad_clusters(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_clusters(write(tmp_path / "c.tsv", text))


@pytest.mark.parametrize(
    "settings",
    [
        {"test_fraction": 1.0},
        {"validation_fraction": 0.7},
        {"validation_fraction": -0.1},
        {"min_fires": 0},
        {"activations": ()},
    ],
)
def test_bad_settings(settings):
    given = {"run": Path("r"), "activations": (Path("a"),), "clusters": Path("c")} | settings
    with pytest.raises(UserError, match=next(iter(settings))):
        ProbeConfig(**given)


def test_single_class_parts_are_named():
    rows = make_rows(p0="AA", p1="AAA", p2="A", p3="AA", p4="A")
    split = split_proteins([p.id for p in rows.proteins], None, seed=2)
    part = dict(zip(split.ids, split.table()["part"], strict=True))
    table = ConceptTable(rows, "own")
    for protein in range(5):
        table.define("file", protein)
        at = rows.slice_of(protein)
        table.add("all", ("file",), at.start, at.stop)
        if part[rows.proteins[protein].id] != "test":
            table.add("none in test", ("file",), at.start, at.start + 1)
    concepts = table.concepts()
    found = split.single_class(rows, concepts)
    assert {p: f["all"] for p, f in found.items()} == dict.fromkeys(part.values(), "no negatives")
    assert found["test"]["none in test"] == "no positives"
    counts = split.counts(rows, concepts[1])
    in_test = [len(p.sequence) for p in rows.proteins if part[p.id] == "test"]
    assert (counts["n_positive_test"], counts["n_negative_test"]) == (0, sum(in_test))


@pytest.mark.parametrize(
    "text",
    [
        "x\tx\nx\tb\ny\ty\n",  # MMseqs2: representative, member
        "From\tTo\nx\tx\nb\tx\ny\ty\n",  # UniProt ID mapping
        "From\tCluster ID\tCluster Name\nx\tx\tn\nb\tx\tn\ny\ty\tn\n",
        "Entry\tLength\tCluster ID\nx\t3\tx\nb\t3\tx\ny\t9\ty\n",
    ],
)
def test_other_cluster_tables(tmp_path, text):
    assert read_clusters(write(tmp_path / "c.tsv", text)) == {"x": "x", "b": "x", "y": "y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b\tx\ny\tz\n", "b stands first on a line but is no member of its own cluster"),
        ("x\tx\nx\tb\tc\n", "line 2 has 3 fields; without a header"),
        ("x\tx\ny\tb\ny\ty\nx\tb\n", "line 4 puts b in cluster x, an earlier line in y"),
    ],
)
def test_bad_mmseqs_tables(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_clusters(write(tmp_path / "c.tsv", text))
