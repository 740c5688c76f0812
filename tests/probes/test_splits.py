"""Clusters stay whole, the split is seeded, and nothing is split at random in silence."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extract.errors import UserError
from probes.config import ProbeConfig
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
    in_test = {c for c, t in zip(split.clusters, split.is_test, strict=True) if t}
    in_select = {c for c, t in zip(split.clusters, split.is_test, strict=True) if not t}
    assert not in_test & in_select
    assert not split.random


def test_a_protein_keeps_its_part_whatever_the_others_are():
    ids = [f"p{i}" for i in range(50)]
    clusters = {i: f"c{n % 20}" for n, i in enumerate(ids)}
    whole = dict(zip(ids, split_proteins(ids, clusters).is_test, strict=True))
    half = split_proteins(ids[40:10:-1], clusters)
    assert all(whole[i] == t for i, t in zip(half.ids, half.is_test, strict=True))


def test_seed_and_fraction():
    ids = [f"p{i}" for i in range(2000)]
    splits = [split_proteins(ids, None, seed=s, test_fraction=0.3) for s in (0, 0, 1)]
    assert (splits[0].is_test == splits[1].is_test).all()
    assert (splits[0].is_test != splits[2].is_test).any()
    assert abs(splits[0].is_test.mean() - 0.3) < 0.05
    assert splits[0].random


def test_table_and_rows():
    rows = make_rows(p0="AA", p1="AAA", p2="A", p3="AA", p4="A")
    split = split_proteins([p.id for p in rows.proteins], None)
    table = split.table()
    assert list(table.columns) == ["id", "cluster", "part"]
    assert np.all((table["part"] == "test") == split.is_test)
    expected = [t for t, p in zip(split.is_test, rows.proteins, strict=True) for _ in p.sequence]
    assert split.test_rows(rows).tolist() == expected


def test_every_protein_needs_a_cluster():
    with pytest.raises(UserError, match=r"2 of 3 proteins are in no homology cluster .*first is b"):
        split_proteins(["a", "b", "c"], {"a": "x"})


def test_a_single_cluster_cannot_be_split():
    with pytest.raises(UserError, match=r"all 3 proteins \(1 clusters\) fall in one part"):
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
    [{"test_fraction": 1.0}, {"min_fires": 0}, {"activations": ()}],
)
def test_bad_settings(settings):
    given = {"run": Path("r"), "activations": (Path("a"),), "clusters": Path("c")} | settings
    with pytest.raises(UserError, match=next(iter(settings))):
        ProbeConfig(**given)


def test_parts_are_boolean():
    assert split_proteins(list("abcdefgh"), None).is_test.dtype == np.bool_
