"""The whole path, small: real proteins, real weights, every command line, the report."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extract.selection import read_fasta
from saejax import load_sae

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.weights


def write_fasta(path, proteins):
    text = "".join(f">{p.id}\n{p.sequence}\n" for p in proteins)
    path.write_bytes(gzip.compress(text.encode()))


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """A slice of the bundled data: 60 training sequences, 90 chains, 40 short entries."""
    folder = tmp_path_factory.mktemp("data")
    for name, n, longest in (("uniprot", 60, 300), ("pdb", 90, 250), ("swissprot", 40, 400)):
        proteins, _ = read_fasta(ROOT / "data" / f"{name}.fasta.gz")
        short = [p for p in proteins if len(p.sequence) <= longest]
        write_fasta(folder / f"{name}.fasta.gz", short[:n])
    for name in ("pdb_dssp.tsv.gz", "swissprot.dat.gz", "clusters.tsv"):
        shutil.copy(ROOT / "data" / name, folder / name)
    shutil.copytree(ROOT / "data" / "structures", folder / "structures")
    return folder


def run_demo(out, data):
    flags = ["--d-sae", "256", "--k", "8", "--epochs", "8", "--n-steered", "4"]
    flags += ["--min-positives", "30"]
    command = [sys.executable, "-m", "experiments.demo", "--out", str(out), "--data", str(data)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    return subprocess.run([*command, *flags], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, small_data):
    out = tmp_path_factory.mktemp("demo")
    done = run_demo(out, small_data)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done


def test_it_prints_what_it_found_and_where(demo):
    out, done = demo
    headings = ("Amino-acid identity:", "What single latents do not do:", "Steering:")
    for words in (*headings, str(out / "report.html"), f"explorer serve {out / 'bundle'}"):
        assert words in done.stdout
    assert "[9/9] the explorer's bundle" in done.stderr


def test_it_learned_something(demo):
    out, _ = demo
    assert load_sae(out / "sae").run["results"]["fvu"] < 0.8
    probes = pd.read_csv(out / "probes" / "probes.csv")
    identity = probes.loc[probes["kind"] == "amino acid", ["latent_f1", "f1_all_positive"]]
    latent, everything = np.median(identity.to_numpy(), axis=0)
    assert latent > 2 * everything


def test_run_again_reuses_what_is_done(demo, small_data):
    out, _ = demo
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    done = run_demo(out, small_data)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("already done") == 9
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


class Page(HTMLParser):
    """Collects what a browser would fetch, and whether every element is closed."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "use", "rect", "line"})

    def __init__(self):
        super().__init__()
        self.fetched, self.open, self.ids, self.targets = [], [], set(), set()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.add(attributes.get("id"))
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            if value is None:
                continue
            if value.startswith("#"):
                self.targets.add(value[1:])
            else:
                self.fetched.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_report_is_whole_and_self_contained(demo):
    out, _ = demo
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert all(url.startswith("data:") for url in page.fetched)
    assert page.targets <= page.ids
    assert not re.search(r"url\((?!#)", text)
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()
    for section in ("found", "training", "latents", "concepts", "structure", "steering", "how"):
        assert f'id="{section}"' in text


def test_bad_data_folder_is_one_line(tmp_path):
    done = run_demo(tmp_path / "out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"error: {tmp_path}: no bundled data there; run from the repository's folder"
    ]
    assert not (tmp_path / "out").exists()
