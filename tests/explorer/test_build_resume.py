"""A build that is killed ends with the same bytes; what is not whole is refused by name."""

import json
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

import explorer.build.arrays
import explorer.build.workshop
from explorer import layout
from explorer.__main__ import main
from explorer.build.command import build
from explorer.build.config import BuildConfig
from explorer.build.inputs import BuildInputs
from explorer.bundle import Bundle, manifest_hash
from extract.errors import UserError, run_cli
from extract.files import file_sha256, write_atomically
from tests.explorer.build_inputs import again, config, files_of, known, run, run_of, small_parts
from tests.helpers import make_store, random_proteins

__all__ = ["config", "known", "run", "small_parts"]


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.fixture
def kill_at(monkeypatch):
    """Makes the n-th file of this bundle be cut off while it is written."""

    def arm(n):
        count = 0

        def cut(path, write):
            nonlocal count
            count += 1
            if count == n:
                path.with_name(path.name + ".tmp").write_bytes(b"half")
                raise Killed
            write_atomically(path, write)

        for module in (explorer.build.arrays, explorer.build.workshop):
            monkeypatch.setattr(module, "write_atomically", cut)

    return arm


@pytest.fixture(scope="module")
def whole(config):
    return files_of(build(config))


def test_killed_builds_go_on_to_the_same_bytes(config, whole, kill_at, small_parts, tmp_path):
    """Parts of other sizes, and cut off again and again: in parts, in arrays, before the end."""
    out = tmp_path / "b"
    kills = 0
    for n in (1, 3, 9, 14, 20, 26, 30, 32):
        kill_at(n)
        try:
            build(again(config, out))
        except Killed:
            kills += 1
            with pytest.raises(UserError, match=r"is not finished; run the same `python -m expl"):
                Bundle.open(out)
    kill_at(0)
    build(again(config, out))
    assert kills == 8
    assert files_of(out) == whole


def test_order_of_building_changes_nothing(config, whole, tmp_path, capsys):
    """A second build, then the same command on the finished one."""
    out = build(again(config, tmp_path / "b"))
    assert files_of(out) == whole
    build(again(config, out))
    assert files_of(out) == whole


def test_other_inputs_are_refused(config, whole, kill_at, tmp_path):
    with pytest.raises(UserError, match="holds a finished bundle of other inputs or settings"):
        build(again(config, config.out, tracks_gb=0.5))
    kill_at(9)
    with pytest.raises(Killed):
        build(again(config, tmp_path / "b"))
    kill_at(0)
    with pytest.raises(UserError, match=r"was begun with another settings: .*tracks_gb"):
        build(again(config, tmp_path / "b", tracks_gb=0.5))
    with pytest.raises(UserError, match=r"was begun with another files"):
        build(again(config, tmp_path / "b", dssp=None))


def test_foreign_folders_and_full_disks(config, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty and not a bundle"):
        build(again(config, tmp_path / "mine"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        build(again(config, tmp_path / "file"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1))
    with pytest.raises(UserError, match="MB are needed but the disk has 0 MB"):
        build(again(config, tmp_path / "b"))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def changed(bundle, name, change):
    """The bundle with one file changed, its manifest made to agree."""
    path = bundle / name
    change(path)
    manifest = json.loads((bundle / layout.MANIFEST).read_text())
    manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    manifest["hash"] = manifest_hash(manifest)
    (bundle / layout.MANIFEST).write_text(json.dumps(manifest))


def wrong_shape(path):
    np.save(path, np.load(path)[:-1])


def wrong_type(path):
    np.save(path, np.load(path).astype(np.float64))


def no_table(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE spans")
    connection.close()


def other_rows(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM proteins WHERE protein = 0")
    connection.close()


def without_column(path):
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(path).drop_columns(["label"]), path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("by_latent/max.npy", wrong_shape, r"by_latent/max.npy: its shape is [\d,]+, [\d,]+ was"),
        ("histogram/edges.npy", wrong_shape, "edges.npy: its shape is 47 × 41, 48 × 41 was exp"),
        ("examples/value.npy", wrong_type, "value.npy: holds float64, a bundle has float16 there"),
        ("tracks/indptr.npy", wrong_shape, "tracks/indptr.npy: its shape is"),
        ("neurons/protein.npy", lambda p: p.write_bytes(b"x"), "neurons/protein.npy: can't be"),
        ("index.sqlite", no_table, "index.sqlite: can't be read .no such table: spans"),
        ("index.sqlite", other_rows, "index.sqlite: 59 proteins, 60 were expected"),
        ("index.sqlite", lambda p: p.write_bytes(b"x" * 5000), "index.sqlite: can't be read"),
        ("latents.parquet", without_column, "'label' is missing, string was expected"),
        ("latents.parquet", lambda p: p.write_bytes(b"x"), "latents.parquet: can't be read"),
    ],
)
def test_parts_that_do_not_fit(config, whole, tmp_path, name, change, words):
    shutil.copytree(config.out, tmp_path / "b")
    changed(tmp_path / "b", name, change)
    with pytest.raises(UserError, match=words):
        Bundle.open(tmp_path / "b")


def test_damaged_bundles(config, whole, tmp_path):
    out = tmp_path / "b"
    shutil.copytree(config.out, out)
    path = out / "tracks" / "value.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert Bundle.open(out, verify=False).id == "A-tiny-SAE"
    with pytest.raises(UserError, match=r"tracks/value.npy: checksum mismatch"):
        Bundle.open(out)
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"tracks/value.npy: [\d,]+ bytes were written, [\d,]+ are"):
        Bundle.open(out, verify=False)
    path.unlink()
    with pytest.raises(UserError, match=r"tracks/value.npy: the bundle lacks this file"):
        Bundle.open(out)
    manifest = json.loads((config.out / layout.MANIFEST).read_text())
    for change, words in (
        ({"format_version": 2}, "bundle format 2, this version reads 1"),
        ({"name": "mine"}, "manifest.json: checksum mismatch"),
        ({"files": {}}, "is not a bundle of the explorer"),
        ({"files": manifest["files"] | {"../x": {"bytes": 1, "sha256": ""}}}, "lacks this file"),
        ({"files": {"sequences.npy": {"bytes": 1}}}, "does not list by_latent/argmax.npy"),
    ):
        (out / layout.MANIFEST).write_text(json.dumps(manifest | change))
        shutil.copy(config.out / "tracks" / "value.npy", path)
        with pytest.raises(UserError, match=words):
            Bundle.open(out)
    del manifest["d_sae"]
    (out / layout.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"damaged \('d_sae' is missing\)"):
        Bundle.open(out)
    (out / layout.MANIFEST).write_text("{")
    with pytest.raises(UserError, match=r"manifest.json: damaged"):
        Bundle.open(out)
    with pytest.raises(UserError, match="is not a bundle"):
        Bundle.open(tmp_path / "none")


def _count_proteins(bundle):
    return bundle.index.execute("SELECT COUNT(*) FROM proteins").fetchone()[0]


def test_threads_have_their_own_connection(config, whole):
    from concurrent.futures import ThreadPoolExecutor

    bundle = Bundle.open(config.out, verify=False)
    with ThreadPoolExecutor(4) as pool:
        found = [f.result() for f in [pool.submit(_count_proteins, bundle) for _ in range(40)]]
        connections = {id(c) for c in pool.map(lambda _: bundle.index, range(40))}
    assert found == [60] * 40
    assert id(bundle.index) not in connections
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        bundle.index.execute("DELETE FROM proteins")
    bundle.close()


def test_opening_loads_no_framework(config, whole):
    folder = config.out
    opened = f"import sys, explorer.bundle as b; b.Bundle.open({str(folder)!r}).latents"
    code = f"{opened}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "jax", "pandas", "tensorstore", "saejax", "probes"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--run", "none"], "none: is not a training run"),
        (["--tracks-gb", "-1"], "tracks_gb (-1.0) must not be negative"),
        (["--probes", "none"], "none: is not a folder of probes"),
        (["--structures", "none"], "none: is not a folder"),
        (["--labels"], "--labels: no file is given"),
        (["--go-obo", "go.obo"], "give them with --swissprot or --uniprot"),
        (["--fidelity", "none.json"], "is not a fidelity record"),
        (["--latents", "none"], "none"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, config, tmp_path, flags, words):
    given = {"--run": str(config.run), "--activations": str(config.activations[0]),
             "--out": str(tmp_path / "b")}  # fmt: skip
    for flag in flags[::2]:
        given.pop(flag, None)
    words_of = [word for pair in given.items() for word in pair]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["explorer", "build", "--no-check", *words_of, *flags])
    with pytest.raises(SystemExit) as stop:
        run_cli(main)
    assert stop.value.code == 2
    lines = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "b").exists()


def test_a_store_of_other_proteins_twice(config, tmp_path):
    make_store(tmp_path / "acts", random_proteins(3, 10, 20))
    both = (*config.activations, tmp_path / "acts")
    with pytest.raises(UserError, match="protein 'p0' is in"):
        build(again(config, tmp_path / "b", activations=both))


def test_activations_of_another_site_under_the_right_name(
    tiny_store, tmp_path, monkeypatch, capsys
):
    """Names and shapes agree, and the SAE reconstructs them far worse than its record says."""
    folder = run_of(tmp_path / "sae", tiny_store, fitted=True)
    mine = BuildConfig(folder, (tiny_store.folder,), tmp_path / "b")
    assert BuildInputs.of(mine).rows.n_rows == tiny_store.n_rows
    other = make_store(tmp_path / "acts", tiny_store.proteins, site="block1.mlp")
    manifest = json.loads((other.folder / "manifest.json").read_text())
    (other.folder / "manifest.json").write_text(json.dumps(manifest | {"site": "block1"}))
    words = ["--run", str(folder), "--activations", str(other.folder), "--out", str(tmp_path / "b")]
    monkeypatch.setattr(sys, "argv", ["explorer", "build", *words])
    with pytest.raises(SystemExit) as stop:
        run_cli(main)
    assert stop.value.code == 2
    lines = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
    assert len(lines) == 1
    assert "FVU is" in lines[0]
    assert str(other.folder) in lines[0]
    assert not (tmp_path / "b").exists()
