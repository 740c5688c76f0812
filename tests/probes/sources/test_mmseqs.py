"""MMseqs2 for real where it is installed, and its failures by stand-ins."""

import shutil

import pytest

from extract.errors import UserError
from extract.fasta import Protein
from probes.sources.mmseqs import mmseqs_clusters
from tests.helpers import random_proteins

PROTEINS = [Protein("sp|a|X", "MKTAYIAKQR"), Protein("b", "MKTAY")]


def program(folder, script):
    """An executable that prints a version, or else runs ``script``."""
    path = folder / "mmseqs"
    path.write_text(f'#!/bin/sh\nif [ "$1" = version ]; then echo 9.9; exit; fi\n{script}\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(shutil.which("mmseqs") is None, reason="needs the program mmseqs")
def test_relatives_share_a_cluster():
    first, second, third = random_proteins(3, 120, 120, seed=3)
    mutated = list(first.sequence)
    mutated[::4] = "A" * len(mutated[::4])
    proteins = [first, second, third, Protein("sp|x|relative", "".join(mutated))]
    clusters, how = mmseqs_clusters(proteins, threads=1)
    assert set(clusters) == {p.id for p in proteins}
    assert clusters[first.id] == clusters["sp|x|relative"]
    assert len(set(clusters.values())) == 3
    assert set(clusters.values()) <= set(clusters)
    assert "--min-seq-id 0.3 -c 0.8 --cov-mode 0" in how


def test_what_it_writes_is_read(tmp_path):
    script = 'printf "s0\\ts0\\ns0\\ts1\\n" > "$3_cluster.tsv"'
    clusters, how = mmseqs_clusters(PROTEINS, program=program(tmp_path, script))
    assert clusters == {"sp|a|X": "sp|a|X", "b": "sp|a|X"}
    assert how.startswith("MMseqs2 9.9 easy-cluster")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('echo "no space left for index" >&2; exit 3', r"status 3 \(no space left for index\)"),
        ("exit 1", "it said nothing"),
        ("kill -9 $$", "status -9"),
        ("true", "ended well but wrote no out_cluster.tsv"),
        ('printf "s0\\ts0\\n" > "$3_cluster.tsv"', r"left out 1 of 2 proteins \(the first is b\)"),
        ('printf "s0" > "$3_cluster.tsv"', "lacks the column"),
    ],
)
def test_failures_are_told(tmp_path, script, message):
    with pytest.raises(UserError, match=message):
        mmseqs_clusters(PROTEINS, program=program(tmp_path, script))


def test_without_the_program(tmp_path):
    with pytest.raises(UserError, match="is not on PATH: install MMseqs2"):
        mmseqs_clusters(PROTEINS, program=str(tmp_path / "none"))
    broken = tmp_path / "mmseqs"
    broken.write_text("no program")
    broken.chmod(0o755)
    with pytest.raises(UserError, match="cannot be run"):
        mmseqs_clusters(PROTEINS, program=str(broken))
