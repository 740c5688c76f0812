"""The latent store: exact, resumable to the same bytes, refusing what does not fit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from orbax.checkpoint import v1 as ocp

from extract.errors import UserError, run_cli
from extract.store import ActivationStore
from saejax import latent_arrays, latent_writer
from saejax.architectures import ARCHITECTURES
from saejax.checkpoint import RUN_FORMAT_VERSION, LoadedSAE, load_sae
from saejax.config import SAEConfig
from saejax.latent_arrays import ShardLog
from saejax.latent_store import LatentStore
from saejax.latent_writer import RowWriter, write_columns
from saejax.latents import encode_store, main
from saejax.model import Constants
from saejax.sparse import SparseLatents
from tests.helpers import make_store, random_proteins, tiny_esm2
from tests.saejax.resuming import Killed

ROOT = Path(__file__).parents[2]
SMALL = {"SHARD_ENTRIES": 2048, "CHUNK_ENTRIES": 256, "POINTERS_PER_FILE": 1024}
SEVERAL_PARTS = 1e-4
"""GB: room for six shards of 2,048 entries, of eleven."""


@pytest.fixture(autouse=True, scope="module")
def small_shards():
    with mock.patch.multiple(latent_arrays, **SMALL):
        yield


@pytest.fixture(scope="module")
def other_store(tmp_path_factory) -> ActivationStore:
    """Other proteins of the same parent."""
    return make_store(tmp_path_factory.mktemp("other"), random_proteins(10, 30, 120, seed=1))


def loaded_of(store, architecture="topk", seed=0, d_sae=48):
    """A run of random weights, in memory."""
    config = SAEConfig(16, d_sae, 5, 8, architecture)
    constants = Constants(store.mean, store.scale)
    sae = ARCHITECTURES[architecture](config, constants, rngs=nnx.Rngs(seed)).for_inference(0.5)
    return LoadedSAE(Path("runs/random"), sae, config, {"store": store.manifest})


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("architecture", ["topk", "relu", "batchtopk"])
def test_equals_encode(architecture, tiny_store, other_store, tmp_path):
    stores = [tiny_store, other_store]
    loaded = loaded_of(tiny_store, architecture)
    latents = LatentStore.build(loaded, stores, tmp_path / "l", memory_gb=SEVERAL_PARTS)
    in_memory = [encode_store(loaded.sae, store) for store in stores]
    n_rows = tiny_store.n_rows + other_store.n_rows
    assert (latents.n_rows, latents.d_sae) == (n_rows, 48)

    dense = np.zeros((n_rows, 48), np.float32)
    for part, first in zip(in_memory, (0, tiny_store.n_rows), strict=True):
        row, slot = np.nonzero(part.values)
        dense[first + row, part.indices[row, slot]] = part.values[row, slot]
    x = np.concatenate([s.read(0, s.n_rows) for s in stores])
    np.testing.assert_allclose(dense, loaded.sae.encode_dense(x), rtol=1e-5, atol=1e-6)

    found = np.zeros_like(dense)
    rows = latents.row_block(0, n_rows)
    found[np.repeat(np.arange(n_rows), np.diff(rows.indptr)), rows.indices] = rows.values
    np.testing.assert_array_equal(found, dense)
    assert latents.n_entries == len(rows.values) == (dense > 0).sum()
    some = latents.row_block(4090, 4200)
    assert some.indptr[0] == 0
    np.testing.assert_array_equal(some.values, rows.values[slice(*rows.indptr[[4090, 4200]])])

    columns = latents.columns()
    for latent in range(48):
        for at, values in (columns.column(latent), latents.column(latent)):
            np.testing.assert_array_equal(at, np.flatnonzero(dense[:, latent]))
            np.testing.assert_array_equal(values, dense[at, latent])
    np.testing.assert_array_equal(latents.max_value, dense.max(axis=0))
    np.testing.assert_array_equal(latents.n_fires, (dense > 0).sum(axis=0))


def test_columns_are_those_of_memory(tiny_store, tmp_path):
    loaded = loaded_of(tiny_store)
    whole = encode_store(loaded.sae, tiny_store).by_latent()
    latents = LatentStore.build(loaded, [tiny_store], tmp_path / "l")
    for mine, theirs in zip(latents.columns(), whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert np.asarray(mine).dtype == np.asarray(theirs).dtype
    part = latents.columns(7, 20)
    assert part.n_rows == tiny_store.n_rows
    assert part.indptr[0] == 0
    for latent in range(7, 20):
        for mine, theirs in zip(part.column(latent - 7), whole.column(latent), strict=True):
            np.testing.assert_array_equal(mine, theirs)


@st.composite
def sparse_rows(draw):
    """(values, indices, d_sae): rows of distinct latents with some empty slots."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    d_sae, n_rows = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    k = draw(st.integers(1, d_sae))
    indices = rng.permuted(np.tile(np.arange(d_sae), (n_rows, 1)), axis=1)[:, :k]
    dropped = rng.random((n_rows, k)) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    values = np.where(dropped, 0, rng.integers(1, 100, (n_rows, k))).astype(np.float32)
    return values, indices, d_sae


@settings(deadline=None, max_examples=15)
@given(
    data=sparse_rows(),
    shard=st.sampled_from([8, 32]),
    block=st.integers(1, 40),
    stops=st.lists(st.integers(1, 9), max_size=3),
    shards_at_a_time=st.integers(1, 4),
)
def test_any_rows_any_stops(data, shard, block, stops, shards_at_a_time):
    """Written in blocks, stopped after so many shards, sorted in parts."""
    values, indices, d_sae = data
    sizes = {"SHARD_ENTRIES": shard, "CHUNK_ENTRIES": 4, "POINTERS_PER_FILE": 8}
    memory_gb = shard * (8 * shards_at_a_time + latent_writer.WORKING_BYTES) / 1e9
    with tempfile.TemporaryDirectory() as name, mock.patch.multiple(latent_arrays, **sizes):
        folder = Path(name)
        for stop in [*stops, None]:
            log = ShardLog(folder / "rows.jsonl")
            writer = RowWriter(folder, log, len(values), d_sae)
            first = writer.done.rows // block * block
            if writer.done.rows < len(values):
                writer.start_at(first)
            for start in range(first, len(values), block):
                part = slice(start, start + block)
                writer.add(start, SparseLatents(values[part], indices[part]))  # type: ignore[arg-type]
                if stop is not None and len(log.lines) > stop:
                    break
            else:
                writer.finish()
                break
        write_columns(folder, log, ShardLog(folder / "columns_log"), len(values), memory_gb)
        rows = [_whole(folder, name) for name in latent_arrays.ROW_ARRAYS]
        columns = {name[8:]: _whole(folder, name) for name in latent_arrays.COLUMN_ARRAYS}
    fires = values > 0
    np.testing.assert_array_equal(rows[0], np.append(0, np.cumsum(fires.sum(axis=1))))
    np.testing.assert_array_equal(rows[1], indices[fires])
    np.testing.assert_array_equal(rows[2], values[fires])
    dense = np.zeros((len(values), d_sae), np.float32)
    np.put_along_axis(dense, indices, values, axis=1)
    latent, row = np.nonzero(dense.T)
    np.testing.assert_array_equal(columns["rows"], row)
    np.testing.assert_array_equal(columns["values"], dense[row, latent])
    np.testing.assert_array_equal(np.diff(columns["indptr"]), (dense > 0).sum(axis=0))
    np.testing.assert_array_equal(columns["max_value"], dense.max(axis=0))


def _whole(folder, name):
    array = latent_arrays.open_array(folder, name)
    return latent_arrays.read(folder, array, 0, array.shape[0])


def test_wide_dictionaries_have_wide_indices(tmp_path):
    log = ShardLog(tmp_path / "log")
    writer = RowWriter(tmp_path, log, 2, 70_000)
    writer.start_at(0)
    indices = np.array([[65_535, 69_999], [0, 65_536]])
    writer.add(0, SparseLatents(np.array([[2, 1], [4, 3]], np.float32), indices))  # type: ignore[arg-type]
    writer.finish()
    write_columns(tmp_path, log, ShardLog(tmp_path / "columns_log"), 2, 1.0)
    assert _whole(tmp_path, "rows/indices").tolist() == [65_535, 69_999, 0, 65_536]
    assert _whole(tmp_path, "columns/rows").tolist() == [1, 0, 1, 0]
    assert latent_arrays.index_dtype(65_536) == np.uint16
    assert latent_arrays.row_dtype(2**31) == np.int64


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("before", [True, False])
def test_stopped_at_every_shard(before, tiny_store, tmp_path, monkeypatch):
    """Stopped before and after every line of both logs, in turn, with other memory each time."""
    loaded = loaded_of(tiny_store, "relu", d_sae=16)
    whole = LatentStore.build(loaded, [tiny_store], tmp_path / "whole")
    append, stops = ShardLog.append, 0

    def deadly(self, **line):
        if not before:
            append(self, **line)
            raise Killed
        if armed:
            armed.pop()
            return append(self, **line)
        raise Killed

    monkeypatch.setattr(ShardLog, "append", deadly)
    while True:
        armed = [True]  # one line is let through, so that there is an end
        memory_gb = (SEVERAL_PARTS, 1.0)[stops % 2]
        try:
            LatentStore.build(loaded, [tiny_store], tmp_path / "l", memory_gb=memory_gb)
            break
        except Killed:
            stops += 1
        with pytest.raises(UserError, match="is not finished; run the same"):
            LatentStore.open(tmp_path / "l")
    assert stops >= 2 * (whole.n_entries // SMALL["SHARD_ENTRIES"])
    assert files_of(tmp_path / "l") == files_of(tmp_path / "whole")


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory) -> Path:
    """A finished run of random weights, on the disk."""
    out = tmp_path_factory.mktemp("runs") / "random"
    loaded = loaded_of(tiny_store)
    found = {name: np.asarray(getattr(loaded.sae, name)[...]) for name in
             ("W_enc_T", "W_dec", "b_enc", "b_dec", "mean", "scale")}  # fmt: skip
    ocp.save_checkpointables(str(out / "checkpoints" / "000000001"), {"sae": found})
    record = {"format_version": RUN_FORMAT_VERSION, "state": "complete", "results": {"l0": 5.0},
              "sae": asdict(loaded.config), "store": tiny_store.manifest}  # fmt: skip
    (out / "run.json").write_text(json.dumps(record))
    return out


DEADLY = """
import os, signal, sys
from saejax import latent_arrays
from saejax.latent_arrays import ShardLog
for name, value in {sizes}.items():
    setattr(latent_arrays, name, value)
append = ShardLog.append
def deadly(self, **line):
    if self.path.name == {log!r} and len(self.lines) == 3:
        with self.path.open("ab") as f:
            f.write(b'{{"rows": 17')  # torn
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, **line)
ShardLog.append = deadly
from saejax.latents import main
main()
"""


@pytest.mark.parametrize("log", ["rows.jsonl", "columns.jsonl"])
def test_kill_9(log, run, tiny_store, tmp_path):
    """The real signal in either pass, after a shard was written and before that is known."""
    code = DEADLY.format(sizes=SMALL, log=log)
    flags = ["--run", run, "--activations", tiny_store.folder, "--out", tmp_path / "l"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, flags)], capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    stale = tmp_path / "l" / "rows" / "values" / "c" / "9.__lock"
    stale.touch()
    loaded = load_sae(run)
    LatentStore.build(loaded, [tiny_store], tmp_path / "l")
    LatentStore.build(loaded, [tiny_store], tmp_path / "whole")
    assert files_of(tmp_path / "l") == files_of(tmp_path / "whole")


def test_memory_is_bounded(tiny_store, tmp_path):
    """Sorting 2 MB of entries in 0.5 MB."""
    sizes = {"SHARD_ENTRIES": 4096, "CHUNK_ENTRIES": 1024}
    folder, memory_gb = tmp_path / "l", 5e-4
    with (
        mock.patch.multiple(latent_arrays, **sizes),
        mock.patch.object(latent_writer, "BLOCK_ENTRIES", 4096),
    ):
        latents = LatentStore.build(loaded_of(tiny_store, "relu", d_sae=128), [tiny_store], folder)
        before = files_of(folder)
        log = ShardLog(tmp_path / "rows.jsonl")
        ends, n = latents.row_block(0, latents.n_rows).indptr, latents.n_entries
        for stop in [*range(4096, n, 4096), n]:
            log.append(rows=int(np.searchsorted(ends, stop, side="right")) - 1, entries=stop)
        for name in ("rows", "values"):
            shutil.rmtree(folder / "columns" / name)
        tracemalloc.start()
        try:
            write_columns(folder, log, ShardLog(tmp_path / "log"), latents.n_rows, memory_gb)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert files_of(folder) == before
    assert peak < memory_gb * 1e9 < 8 * n / 4


# ---------------------------------------------------------------- refusing


@pytest.fixture
def latents(tiny_store, tmp_path) -> LatentStore:
    return LatentStore.build(loaded_of(tiny_store), [tiny_store], tmp_path / "l")


def test_knows_itself(latents, tiny_store, other_store):
    loaded = loaded_of(tiny_store)
    latents.require_run(loaded)
    latents.require_stores([tiny_store])
    assert latents.manifest["state"] == "complete"
    assert latents.manifest["stores"][0]["source"] == tiny_store.manifest["source"]
    with pytest.raises(UserError, match=r"run 'random', not of runs/random: parameters_sha256 is"):
        latents.require_run(loaded_of(tiny_store, seed=1))
    with pytest.raises(UserError, match="sae.d_sae is 48 in the first and 32 in the second"):
        latents.require_run(loaded_of(tiny_store, d_sae=32))
    with pytest.raises(UserError, match=r"store 'acts', not of .*: n_rows is \d+ in the first"):
        latents.require_stores([other_store])
    with pytest.raises(UserError, match=r"of 1 activation stores \(acts\), not of 2"):
        latents.require_stores([tiny_store, other_store])


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_something_else(finished, tiny_store, other_store, tmp_path, monkeypatch):
    folder, loaded = tmp_path / "l", loaded_of(tiny_store)
    if finished:
        LatentStore.build(loaded, [tiny_store], folder)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(ShardLog, "append", mock.Mock(side_effect=Killed))
            with pytest.raises(Killed):
                LatentStore.build(loaded, [tiny_store], folder)
    before = files_of(folder)
    with pytest.raises(UserError, match="parameters_sha256"):
        LatentStore.build(loaded_of(tiny_store, seed=1), [tiny_store], folder)
    with pytest.raises(UserError, match="n_rows"):
        LatentStore.build(loaded, [other_store], folder)
    assert files_of(folder) == before
    LatentStore.build(loaded, [tiny_store], folder)
    if finished:
        assert files_of(folder) == before


def test_other_contents_and_other_parents(latents, tiny_store, tmp_path):
    loaded = loaded_of(tiny_store)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(UserError, match="mine: is not empty and not a latent store"):
        LatentStore.build(loaded, [tiny_store], tmp_path / "mine")
    with pytest.raises(UserError, match="is a file"):
        LatentStore.build(loaded, [tiny_store], tmp_path / "mine" / "thesis.txt")
    with pytest.raises(UserError, match=r"is not a latent store \(no manifest.json\)"):
        LatentStore.open(tmp_path / "mine")
    with pytest.raises(UserError, match="is not a latent store of format 1"):
        LatentStore.open(tiny_store.folder)
    with pytest.raises(UserError, match="give at least one"):
        LatentStore.build(loaded, [], tmp_path / "new")
    strange = make_store(tmp_path / "acts", random_proteins(2, 30, 40), tiny_esm2(seed=1))
    with pytest.raises(UserError, match="do not fit: weights sha256"):
        LatentStore.build(loaded, [strange], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for wrong in (lambda: latents.column(48), lambda: latents.row_block(0, latents.n_rows + 1)):
        with pytest.raises(UserError, match="out of range"):
            wrong()


def test_damage_is_seen(latents):
    path = latents.folder / "columns" / "values" / "c" / "1"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"l/columns/values: .* bytes were written, .* are there"):
        LatentStore.open(latents.folder)
    path.unlink()
    with pytest.raises(UserError, match="bytes were written"):
        LatentStore.open(latents.folder)
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(UserError, match=r"can't be read, it is damaged"):
        LatentStore.open(latents.folder).columns()
    path.write_bytes(whole)
    LatentStore.open(latents.folder).columns()


def test_activations_that_are_not_finite(tiny_store, tmp_path, monkeypatch):
    read = ActivationStore.read

    def spoiled(self, start, stop):
        rows = read(self, start, stop)
        rows[4200 - start if start else 0 : 4201 - start if start else 0] = np.nan
        return rows

    monkeypatch.setattr(ActivationStore, "read", spoiled)
    with pytest.raises(UserError, match="row 4200 is not finite; check the store"):
        LatentStore.build(loaded_of(tiny_store), [tiny_store], tmp_path / "l")


def test_one_writer(tiny_store, tmp_path):
    building = tmp_path / "l" / "building"
    building.mkdir(parents=True)
    code = (
        "import sys; from extract.claims import Claims; from extract.location import Location\n"
        f"claims = Claims(Location.of({str(building)!r})); print(claims.take(0), flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=ROOT,
                          stdout=subprocess.PIPE, text=True) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with pytest.raises(UserError, match="another process is writing it"):
            LatentStore.build(loaded_of(tiny_store), [tiny_store], tmp_path / "l")
    LatentStore.build(loaded_of(tiny_store), [tiny_store], tmp_path / "l")


# ---------------------------------------------------------------- the command line


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["latents", *map(str, words)])
    run_cli(main)


def test_command_line(run, tiny_store, monkeypatch, capsys):
    words = "--run", run, "--activations", tiny_store.folder
    call(monkeypatch, *words)
    latents = LatentStore.open(run / "latents")
    latents.require_run(load_sae(run))
    assert (
        f"{latents.n_entries:,} latents of {latents.n_rows:,} residues" in capsys.readouterr().err
    )
    before = files_of(run / "latents")
    call(monkeypatch, *words)
    assert files_of(run / "latents") == before
    shutil.rmtree(run / "latents")


def test_mistakes_are_told_in_one_line(run, tiny_store, tmp_path, monkeypatch, capsys):
    def refuse(*more):
        with pytest.raises(SystemExit) as stop:
            call(monkeypatch, "--run", run, "--out", tmp_path / "l", *more)
        assert stop.value.code == 2
        assert not (tmp_path / "l").exists()
        (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
        return line

    acts = "--activations", tiny_store.folder
    assert "is not an activation store" in refuse("--activations", tmp_path)
    assert "give at least one activation store" in refuse("--activations")
    assert "memory_gb (0.0) must be above 0" in refuse(*acts, "--memory-gb", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    assert "MB are needed but the disk has 0 MB free" in refuse(*acts)
    assert json.loads((run / "run.json").read_text())["state"] == "complete"
