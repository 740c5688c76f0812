"""Several processes, ranks and Ray fill a store to the bytes that one process writes."""

import importlib.util
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments.soak_extraction import SoakConfig, soak
from extract import claims, pipeline
from extract.claims import Claims
from extract.errors import UserError
from extract.location import Location
from extract.pipeline import ExtractConfig, extract, fill
from extract.prepare import Worker, prepare
from extract.selection import GivenProteins
from extract.store import ActivationStore, committed_shards
from extract.writer import StoreWriter
from tests.extract.test_store import files_of
from tests.helpers import make_store, make_stores, random_proteins, tiny_esm2

ROOT = Path(__file__).parents[2]
PARENT = "tests.tiny_parent:load"


def start(*arguments, **environment):
    command = [sys.executable, "-m", "extract", *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)


def run(*arguments, **environment):
    process = start(*arguments, **environment)
    _, error = process.communicate()
    return process.returncode, error


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Flags of an extraction of two sites, and the stores that one process makes of it."""
    folder = tmp_path_factory.mktemp("engines")
    fasta = folder / "a.fasta"
    fasta.write_text("".join(f">{p.id}\n{p.sequence}\n" for p in random_proteins(120, 30, 120)))
    flags = ["--fasta", fasta, "--model", PARENT, "--site", "block1", "block2.mlp",
             "--shard-rows", 1024, "--sample", 100]  # fmt: skip
    status, error = run(*flags, "--out", folder / "one")
    assert status == 0, error
    return flags, files_of(folder / "one")


def test_two_processes(task, tmp_path):
    flags, expected = task
    status, error = run(*flags, "--out", tmp_path / "two", "--processes", 2)
    assert status == 0, error
    assert files_of(tmp_path / "two") == expected


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="the ray extra is not installed")
def test_ray(task, tmp_path):
    flags, expected = task
    status, error = run(*flags, "--out", tmp_path / "ray", "--engine", "ray", "--processes", 2)
    assert status == 0, error
    assert files_of(tmp_path / "ray") == expected


def test_ranks_of_slurm_and_torchrun_together(task, tmp_path):
    """Three processes under two launchers, started at once; each may find nothing left to do."""
    flags, expected = task
    slurm = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0"}
    processes = [
        start(*flags, "--out", tmp_path / "a", **slurm, SLURM_ARRAY_TASK_ID="0"),
        start(*flags, "--out", tmp_path / "a", **slurm, SLURM_ARRAY_TASK_ID="1"),
        start(*flags, "--out", tmp_path / "a", RANK="2", WORLD_SIZE="3", LOCAL_RANK="0"),
    ]
    for process in processes:
        _, error = process.communicate()
        assert process.returncode == 0, error
    assert files_of(tmp_path / "a") == expected


def test_a_process_that_dies_is_made_good_by_the_other(task, tmp_path):
    flags, expected = task
    process = start(*flags, "--out", tmp_path / "a", "--processes", 2)
    workers = []
    while process.poll() is None and not workers:
        children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"],
                                  capture_output=True, text=True).stdout.split()  # fmt: skip
        workers = [int(pid) for pid in children]
    os.kill(workers[0], signal.SIGKILL)
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert "ended with status -9; the others take over" in error
    assert files_of(tmp_path / "a") == expected


def test_children_do_not_outlive_a_killed_parent(task, tmp_path):
    flags, _ = task
    process = start(*flags, "--out", tmp_path / "a", "--processes", 2)
    workers = []
    while process.poll() is None and len(workers) < 2:
        workers = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"],
                                 capture_output=True, text=True).stdout.split()  # fmt: skip
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_without_ray_one_line_says_how_to_get_it(task, tmp_path, monkeypatch):
    from extract.engines import run as run_engine

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'protein-latents\[ray\]'"):
        run_engine(ExtractConfig(tmp_path / "a", tmp_path / "b", engine="ray"))


# ---- claims


def _hold(folder, held, release):
    mine = Claims(Location.of(folder))
    assert mine.take(3)
    held.set()
    release.wait()


@pytest.fixture
def holder(tmp_path):
    """Another process that has claimed shard 3."""
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()  # not release.set(), which would wait for a killed process to wake up
    process.join()


def test_two_processes_never_have_one_shard(tmp_path, holder):
    mine = Claims(Location.of(tmp_path))
    assert mine.take(2)
    assert not mine.take(3)
    holder.kill()
    holder.join()
    assert mine.take(3), "a dead process still holds its claim"
    mine.close()


def test_a_shard_in_other_hands_is_waited_for(tmp_path, monkeypatch):
    """One process has claimed a shard; a second writes the rest, waits, and takes it over."""
    proteins = random_proteins(60, 30, 120)
    whole = make_store(tmp_path / "whole", proteins)
    config = ExtractConfig(tmp_path / "x", tmp_path / "a", site=("block1",), shard_rows=1024,
                           batch_residues=300)  # fmt: skip
    prepare(config, tiny_esm2(), GivenProteins(proteins))
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "a", held, release))
    process.start()
    assert held.wait(60)
    filler = threading.Thread(target=fill, args=(config, tiny_esm2()), kwargs={"quiet": True})
    filler.start()
    place = Location.of(tmp_path / "a")
    while len(committed_shards(place)) < len(whole.shards) - 1:
        time.sleep(0.01)
    time.sleep(0.5)
    assert committed_shards(place) == set(range(len(whole.shards))) - {3}
    release.set()
    process.join()
    filler.join()
    assert files_of(tmp_path / "a") == files_of(tmp_path / "whole")


def test_without_locks_each_keeps_to_its_own_shards(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    proteins = random_proteins(60, 30, 120)
    expected = files_of(make_store(tmp_path / "whole", proteins).folder)
    monkeypatch.setattr(claims.fcntl, "lockf", no_locks)
    config = ExtractConfig(tmp_path / "x", tmp_path / "a", site=("block1",), shard_rows=1024,
                           batch_residues=300)  # fmt: skip
    model, source = tiny_esm2(), GivenProteins(proteins)
    for rank in (1, 0):
        prepare(config, model, source, worker=Worker(rank, 2))
        fill(config, model, worker=Worker(rank, 2), quiet=True)
        if rank:
            assert committed_shards(Location.of(tmp_path / "a")) == {1, 3}
            with pytest.raises(UserError, match=r"incomplete \(2 of 5"):
                ActivationStore.open(tmp_path / "a")
    assert files_of(tmp_path / "a") == expected


# ---- several sites, interruptions


def note_passes(monkeypatch):
    """The sites of every forward pass from now on."""
    passes = []
    passing = pipeline.site_activations

    def noted(model, sequences, sites, **settings):
        passes.append(tuple(sites))
        return passing(model, sequences, sites, **settings)

    monkeypatch.setattr(pipeline, "site_activations", noted)
    return passes


def test_several_sites_share_a_pass_and_equal_single_stores(tmp_path, monkeypatch):
    proteins = random_proteins(30, 30, 120)
    sites = ("block2", "block1.attn", "final")
    passes = note_passes(monkeypatch)
    stores = make_stores(tmp_path / "all", proteins, site=sites)
    assert set(passes) == {sites}
    for store, site in zip(stores, sites, strict=True):
        assert store.site == site
        assert store.folder == tmp_path / "all" / site
        alone = make_store(tmp_path / f"only {site}", proteins, site=site)
        assert files_of(store.folder) == files_of(alone.folder)


def test_a_site_can_be_added_later(tmp_path, monkeypatch):
    proteins = random_proteins(30, 30, 120)
    make_stores(tmp_path / "a", proteins, site=("block1", "block2"))
    before = files_of(tmp_path / "a")
    passes = note_passes(monkeypatch)
    make_stores(tmp_path / "a", proteins, site=("block1", "final", "block2"))
    assert set(passes) == {("final",)}
    after = files_of(tmp_path / "a")
    assert {k: after[k] for k in before} == before
    make_stores(tmp_path / "b", proteins, site=("final", "block2"))
    final = {k: v for k, v in files_of(tmp_path / "b").items() if k.startswith("final/")}
    assert {k: v for k, v in after.items() if k.startswith("final/")} == final


def test_interrupted_creation_starts_over(tmp_path, monkeypatch):
    proteins = random_proteins(30, 30, 120)
    expected = files_of(make_store(tmp_path / "whole", proteins).folder)
    writes = Location.write

    def dies_at_the_manifest(self, key, data):
        if key == "manifest.json":
            raise KeyboardInterrupt
        writes(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write", dies_at_the_manifest)
        with pytest.raises(KeyboardInterrupt):
            make_store(tmp_path / "a", proteins)
    assert (tmp_path / "a" / "proteins").is_dir()
    (tmp_path / "a" / "proteins" / "000007.parquet").touch()  # of a larger first attempt
    make_store(tmp_path / "a", proteins)
    assert files_of(tmp_path / "a") == expected


def test_a_bad_record_leaves_nothing_behind(tmp_path):
    fasta = tmp_path / "a.fasta"
    fasta.write_text(">a\nMKT\n>b\nMK1\n")
    status, error = run("--fasta", fasta, "--out", tmp_path / "acts", "--model", PARENT,
                        "--site", "block1")  # fmt: skip
    assert status == 2
    assert "record 2 (b): illegal character '1'" in error
    assert not (tmp_path / "acts").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--sample", 99], r"another source \(selection\)"),
        (["--dtype", "bfloat16"], r"another dtype \(\"float32\", now \"bfloat16\"\)"),
    ],
)
def test_another_extraction_in_the_same_place_is_refused(task, tmp_path, change, words):
    flags, _ = task
    flags = [*flags, "--out", tmp_path / "a"]
    assert run(*flags)[0] == 0
    before = files_of(tmp_path / "a")
    status, error = run(*flags, *change)
    assert status == 2
    assert re.search(words, error), error
    assert files_of(tmp_path / "a") == before


def test_the_file_may_move_but_not_change(task, tmp_path):
    flags, _ = task
    fasta = shutil.copy(flags[1], tmp_path / "other name.fasta")
    run(*flags, "--out", tmp_path / "a")
    moved = ["--fasta", fasta, *flags[2:], "--out", tmp_path / "a"]
    assert run(*moved)[0] == 0
    text = Path(fasta).read_text()
    Path(fasta).write_text(text[:-2] + ("A" if text[-2] != "A" else "G") + "\n")
    status, error = run(*moved)
    assert status == 2
    assert "another source (sha256)" in error


def test_dry_run_writes_nothing(task, tmp_path):
    flags, _ = task
    done = subprocess.run(
        [sys.executable, "-m", "extract", *map(str, flags), "--out", str(tmp_path / "a"),
         "--dry-run", "--processes", "2"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in ("100 of 120 records", "residues/s, measured here", "2 sites", "with 2 if they"):
        assert words in done.stdout, words
    assert not (tmp_path / "a").exists()


def test_soak_of_a_few_kills(tmp_path):
    """The full soak is ``python -m experiments.soak_extraction``; here it must work at all."""
    config = SoakConfig(out=tmp_path / "soak", kills=3, model=PARENT, sites=("block1",),
                        longest_seconds=8)  # fmt: skip
    tally = soak(config)
    assert tally.kills == 3
    assert tally.stores_compared >= 1


def test_extract_returns_the_stores(tmp_path):
    config = ExtractConfig(tmp_path / "x", tmp_path / "a", site=("block1",), shard_rows=1024)
    stores = extract(config, tiny_esm2(), random_proteins(3, 20, 30))
    assert [s.site for s in stores] == ["block1"]
    assert StoreWriter(stores[0].place).complete
