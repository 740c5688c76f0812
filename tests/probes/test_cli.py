"""``python -m probes``: its files, and one line with status 2 for every mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extract.alphabet import AMINO_ACIDS
from extract.errors import run_cli
from probes.__main__ import main
from tests.helpers import make_store, random_proteins, tiny_esm2
from tests.probes.helpers import write

ROOT = Path(__file__).parents[2]
FILES = {
    "associations.parquet", "best.csv", "calibration.csv", "coverage.csv", "families.csv",
    "found.csv", "interplm.parquet", "interprot.csv", "latents", "latents.csv", "latents.parquet",
    "logos.parquet", "precise_latents.csv", "probes.csv", "probes.parquet", "report.html",
    "sparse_probes.csv", "split.csv", "summary.json",
}  # fmt: skip


@pytest.fixture
def command(tiny_run, tiny_store, sources, tmp_path):
    """Flags of a working command, by name."""
    return {
        "--run": tiny_run,
        "--activations": tiny_store.folder,
        "--dssp": sources["dssp"],
        "--swissprot": sources["swissprot"],
        "--clusters": sources["clusters"],
        "--out": tmp_path / "probes",
        "--min-positives": 20,
        "--min-fires": 20,
        "--min-proteins": 3,
        "--sparse-min-positives": 200,
        "--sparse-k": 2,
        "--bootstrap": 50,
    }


def call(monkeypatch, flags, *more):
    words = [str(w) for flag, value in flags.items() if value is not None for w in (flag, value)]
    monkeypatch.setattr(sys, "argv", ["probes", *words, *map(str, more)])
    run_cli(main)


def refuse(monkeypatch, capsys, flags, *more):
    """The single error line of a command that must fail with status 2."""
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, flags, *more)
    assert stop.value.code == 2
    lines = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
    assert len(lines) == 1
    if flags.get("--out"):
        assert not flags["--out"].is_dir() or not any(flags["--out"].iterdir())
    return lines[0]


def test_tables_and_top_list(monkeypatch, capsys, command):
    call(monkeypatch, command)
    out = command["--out"]
    assert {p.name for p in out.iterdir()} == FILES
    probes = pd.read_parquet(out / "probes.parquet")
    again = pd.read_csv(out / "probes.csv")
    assert list(probes["concept"]) == list(again["concept"])
    assert probes["latent_f1"].to_numpy() == pytest.approx(again["latent_f1"].to_numpy())
    split = pd.read_csv(out / "split.csv")
    assert np.all(split.groupby("cluster")["part"].nunique() == 1)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["run"] == "tiny"
    assert not summary["split"]["random"]
    assert str(command["--run"].parent) not in (out / "summary.json").read_text()
    text = capsys.readouterr().out
    assert "Split by homology cluster" in text
    assert "No single latent is 'helix'?" in text
    assert "2 latents together reach AUROC" in text
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    call(monkeypatch, command)  # once more, over its own output
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    logos_of_confirmed(monkeypatch, out)


def test_the_page_again(monkeypatch, capsys, command, tmp_path):
    """From the tables alone, byte for byte; one line where there are none."""
    call(monkeypatch, command | {"--dssp": None})
    for path in command["--out"].glob("*.csv"):
        assert len(pd.read_csv(path).columns) > 2, path  # a header, also where there is no row
    page = command["--out"] / "report.html"
    before = page.read_bytes()
    page.unlink()
    monkeypatch.setattr(sys, "argv", ["probes", "report", str(command["--out"])])
    run_cli(main)
    assert page.read_bytes() == before
    (command["--out"] / "found.csv").unlink()
    for folder, words in ((command["--out"], "found.csv: is missing"), (tmp_path, "summary.json")):
        monkeypatch.setattr(sys, "argv", ["probes", "report", str(folder)])
        with pytest.raises(SystemExit) as stop:
            run_cli(main)
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


def logos_of_confirmed(monkeypatch, out):
    """Every confirmed latent shown has its logo, drawn from the table; nothing is loaded."""
    latents = pd.read_csv(out / "latents.csv")
    latents["confirmed"] = latents["concept"].notna()
    latents.to_csv(out / "latents.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["probes", "report", str(out)])
    run_cli(main)
    html = (out / "report.html").read_text()
    shown = {int(n) for n in re.findall(r"around the firing of latent (\d+)<", html)}
    assert shown == {int(n) for n in re.findall(r"<b>Latent (\d+)</b>", html)}
    assert len(shown) >= 3
    assert shown <= set(latents.dropna(subset="concept")["latent"])
    assert set(re.findall(r'href="(#aa-.)"', html)) <= {f"#aa-{a}" for a in AMINO_ACIDS}
    assert not re.search(r'(src|href)="(?!#)', html.replace('xlink:href="#', ""))
    (out / "logos.parquet").unlink()
    run_cli(main)
    html = (out / "report.html").read_text()
    assert "These tables were made before logos were kept" in html
    assert "around the firing of latent" not in html


def test_a_random_split_is_said(monkeypatch, capsys, command):
    call(monkeypatch, command | {"--clusters": None, "--dssp": None}, "--allow-random-split")
    assert "WARNING: a random split" in capsys.readouterr().out
    assert json.loads((command["--out"] / "summary.json").read_text())["split"]["random"]


def test_own_labels_and_clusters_made_now(monkeypatch, capsys, command, tiny_store, tmp_path):
    """Which latents know my labels: a store and a TSV; clusters by MMseqs2 (a stand-in)."""
    script = (
        'i=0; while [ $i -lt 60 ]; do printf "s$i\\\\ts$i\\\\n"; i=$((i+1)); done '
        '> "$3_cluster.tsv"'
    )
    program = tmp_path / "bin" / "mmseqs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nif [ "$1" = version ]; then echo 9.9; exit; fi\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    lines = [f"{p.id}\t3\t9\tmine\n" for p in tiny_store.proteins]
    table = write(tmp_path / "mine.tsv", "id\tstart\tend\tlabel\n" + "".join(lines))
    flags = command | {"--clusters": "mmseqs", "--labels": table, "--swissprot": None,
                       "--uniprot": command["--swissprot"], "--dssp": None}  # fmt: skip
    call(monkeypatch, flags)
    assert "Split by homology cluster (MMseqs2 9.9 easy-cluster" in capsys.readouterr().out
    probes = pd.read_csv(command["--out"] / "probes.csv")
    assert {"mine", "TRANSMEM"} <= set(probes["concept"])
    assert set(probes["kind"]) == {"amino acid", "amino-acid class", "uniprot", "own"}
    split = pd.read_csv(command["--out"] / "split.csv")
    assert set(split["part"]) == {"train", "validation", "test"}
    assert list(split["cluster"]) == list(split["id"])


def test_no_traceback_from_the_shell(tmp_path):
    flags = ["--run", str(tmp_path / "r"), "--activations", "acts"]
    done = subprocess.run(
        [sys.executable, "-m", "probes", *flags], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--allow-random-split" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_two_stores_with_one_protein(monkeypatch, capsys, command):
    line = refuse(monkeypatch, capsys, command | {"--activations": None}, "--activations",
                  command["--activations"], command["--activations"])  # fmt: skip
    assert "protein 'p0' is in" in line


def test_two_stores_are_laid_end_to_end(monkeypatch, capsys, command, tmp_path):
    proteins = [type(p)(f"q{p.id}", p.sequence) for p in random_proteins(8, 30, 60, seed=5)]
    make_store(tmp_path / "acts_q", proteins)
    clusters = command["--clusters"].read_text() + "".join(f"{p.id}\tq\n" for p in proteins)
    flags = command | {"--clusters": write(tmp_path / "c.tsv", clusters), "--activations": None}
    call(monkeypatch, flags, "--activations", command["--activations"], tmp_path / "acts_q")
    assert len(pd.read_csv(command["--out"] / "split.csv")) == 68


def test_a_store_of_another_parent(monkeypatch, capsys, command, tmp_path):
    make_store(tmp_path / "other", random_proteins(5, 30, 40), tiny_esm2(seed=1))
    line = refuse(monkeypatch, capsys, command | {"--activations": tmp_path / "other"})
    assert "do not fit: weights sha256" in line


@pytest.mark.parametrize(
    ("flag", "name", "text", "message"),
    [
        ("--dssp", "d.tsv", "id\tseq\n", "lacks the column(s) sequence, dssp"),
        ("--dssp", "d.tsv", "id\tsequence\tdssp\nx\tA\tH\n", "none of its 1 records"),
        ("--swissprot", "s.dat", ">P1\nAAA\n", "is no UniProt flat-file record"),
        ("--swissprot", "s.dat", "", "no record in the file"),
        ("--clusters", "c.tsv", "id\tcluster\np0\tc\n", "are in no homology cluster"),
        ("--clusters", "c.tsv", None, "no such file"),
        ("--dssp", "d.tsv.gz", None, "no such file"),
        ("--uniprot", "u.txt", "x\ty\n", "this must be a UniProt flat file (.dat), or"),
        ("--labels", "l.bed", "p0\t5\t5\n", "is no stretch; it counts from 0"),
        ("--labels", "l.tsv", "id\tposition\tlabel\np0\t9999\tx\n", "lies outside the sequence"),
    ],
)
def test_bad_files(monkeypatch, capsys, command, tmp_path, flag, name, text, message):
    path = tmp_path / name
    if text is not None:
        write(path, text)
    line = refuse(monkeypatch, capsys, command | {flag: path})
    assert message in line
    assert name in line or flag in line


def test_bad_folders_and_settings(monkeypatch, capsys, command, tmp_path):
    def line(**changes):
        flags = command | {f"--{k.replace('_', '-')}": v for k, v in changes.items()}
        return refuse(monkeypatch, capsys, flags)

    assert "is not a training run" in line(run=tmp_path)
    assert "is not an activation store" in line(activations=tmp_path / "none")
    assert "no concept has 99999 positive" in line(min_positives=99999)
    assert "test_fraction (2.0) must be between" in line(test_fraction=2.0)
    assert "no --clusters given" in line(clusters=None)
    assert "seed (-1) must be at least 0" in line(seed=-1)
    assert "is a file" in line(out=write(tmp_path / "file", "x"))


def test_a_folder_of_something_else_is_left_alone(monkeypatch, capsys, command, tmp_path):
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "thesis.txt", "x")
    with pytest.raises(SystemExit):
        call(monkeypatch, command | {"--out": tmp_path / "mine"})
    assert "holds no probes" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_finished_probes_are_not_overwritten_by_others(monkeypatch, capsys, command, tmp_path):
    """Other settings, or another content of a file of the same name, are refused by name."""
    command |= {"--dssp": None, "--swissprot": None}
    labels = write(tmp_path / "mine.tsv", "id\tstart\tend\tlabel\np0\t3\t9\tmine\n")
    call(monkeypatch, command, "--labels", labels)
    before = {p: p.read_bytes() for p in command["--out"].rglob("*") if p.is_file()}

    def refused(flags, *more):
        with pytest.raises(SystemExit) as stop:
            call(monkeypatch, flags, *more)
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "holds probes made with labels ['mine.tsv'], not []" in refused(command)
    assert "with bootstrap 50, not 51" in refused(command | {"--bootstrap": 51, "--labels": labels})
    write(labels, labels.read_text() + "p1\n")
    assert "with another content of labels: mine.tsv" in refused(command, "--labels", labels)
    assert {p: p.read_bytes() for p in command["--out"].rglob("*") if p.is_file()} == before


def test_own_labels_that_are_lost_are_named(monkeypatch, capsys, command, tiny_store, tmp_path):
    """With their counts and what would help; those that stay come first and are counted apart."""
    ids = [p.id for p in tiny_store.proteins]
    lines = [f"{i}\t3\t9\tkept\n" for i in ids] + [f"{ids[0]}\t3\t9\tlone\n"]
    table = write(tmp_path / "mine.tsv", "id\tstart\tend\tlabel\n" + "".join(lines))
    everyone = "".join(f"{i}\tall\n" for i in ids)
    whole = write(tmp_path / "whole.tsv", "id\tlabel\n" + everyone)
    call(monkeypatch, command | {"--dssp": None, "--swissprot": None}, "--labels", table, whole)
    found = capsys.readouterr()
    [lone] = [s for s in found.err.splitlines() if "'lone'" in s]
    assert "is left out: residues with and without it are " in lone
    assert "every part needs 20 of each (--min-positives)" in lone
    assert "give more proteins with and without it" in lone
    [every] = [s for s in found.err.splitlines() if "'all'" in s]
    assert "every part needs 5 of each (--min-positive-proteins); name proteins without" in every
    rows = found.out[found.out.index("concept ") :].splitlines()
    assert rows[1].startswith("kept ")
    assert re.search(
        r"frozen +latents +\d+ of 30 \([01] of 1 of your labels, \d+ of 29 ", found.out
    )


def test_labels_without_a_file(monkeypatch, capsys, command):
    assert "--labels: no file is given" in refuse(monkeypatch, capsys, command, "--labels")
