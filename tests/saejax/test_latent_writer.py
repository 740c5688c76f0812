"""Writing the latent store: any rows, any stops, the same bytes, in bounded memory."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import UserError
from saejax import latent_arrays, latent_writer
from saejax.checkpoint import load_sae
from saejax.latent_arrays import ShardLog
from saejax.latent_store import LatentStore
from saejax.latent_writer import RowWriter, write_columns
from saejax.latents import main
from saejax.sparse import SparseLatents
from tests.saejax.resuming import Killed
from tests.saejax.stored_latents import SEVERAL_PARTS, SMALL, files_of, loaded_of, shards_of

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("small_shards")


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
    memory_gb = shard * (8 * shards_at_a_time + latent_writer.WORKING_BYTES) / 1e9
    with tempfile.TemporaryDirectory() as name, shards_of(shard, 4, 8):
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
def test_stopped_at_every_shard(before, tiny_store, other_store, tmp_path, monkeypatch):
    """Stopped before and after every line of both logs, in turn, with other memory each time."""
    loaded, stores = loaded_of(tiny_store, "relu", d_sae=16), [tiny_store, other_store]
    whole = LatentStore.build(loaded, stores, tmp_path / "whole")
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
            LatentStore.build(loaded, stores, tmp_path / "l", memory_gb=memory_gb)
            break
        except Killed:
            stops += 1
        with pytest.raises(UserError, match="is not finished; run the same"):
            LatentStore.open(tmp_path / "l")
    assert stops >= 2 * (whole.n_entries // SMALL["SHARD_ENTRIES"])
    assert files_of(tmp_path / "l") == files_of(tmp_path / "whole")


def test_a_torn_line_is_forgotten(tmp_path):
    log = ShardLog(tmp_path / "log")
    log.append(entries=1)
    with log.path.open("ab") as f:
        f.write(b'{"entries": 2, "last": tr')
    log = ShardLog(tmp_path / "log")
    assert not log.finished
    log.append(entries=2, last=True)
    log = ShardLog(tmp_path / "log")
    assert log.lines == [{"entries": 1}, {"entries": 2, "last": True}]
    assert log.finished


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
def test_kill_9(log, random_run, tiny_store, tmp_path):
    """The real signal in either pass, after a shard was written and before that is known."""
    code = DEADLY.format(sizes=SMALL, log=log)
    flags = ["--run", random_run, "--activations", tiny_store.folder, "--out", tmp_path / "l"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, flags)], capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    stale = tmp_path / "l" / "rows" / "values" / "c" / "9.__lock"
    stale.touch()
    loaded = load_sae(random_run)
    LatentStore.build(loaded, [tiny_store], tmp_path / "l")
    LatentStore.build(loaded, [tiny_store], tmp_path / "whole")
    assert files_of(tmp_path / "l") == files_of(tmp_path / "whole")


def test_memory_is_bounded(tiny_store, tmp_path):
    """Sorting 2 MB of entries in 0.5 MB."""
    folder, memory_gb = tmp_path / "l", 5e-4
    with shards_of(4096, 1024, 1024), mock.patch.object(latent_writer, "BLOCK_ENTRIES", 4096):
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


def test_a_store_given_twice_is_refused(random_run, tiny_store, tmp_path):
    """Its residues would count twice."""
    flags = ["--run", random_run, "--out", tmp_path / "l", "--activations", tiny_store.folder]
    argv = ["latents", *map(str, [*flags, tiny_store.folder])]
    with mock.patch.object(sys, "argv", argv), pytest.raises(UserError, match=r"'p0' is in .*once"):
        main()
    assert not (tmp_path / "l").exists()
