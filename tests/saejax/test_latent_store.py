"""The latent store: exact, knowing what it is, refusing what does not fit."""

import shutil
import sys
from unittest import mock

import numpy as np
import pytest

from extract.errors import UserError, run_cli
from extract.store import ActivationStore
from saejax.checkpoint import load_sae
from saejax.latent_arrays import ShardLog
from saejax.latent_store import LatentStore
from saejax.latents import encode_store, main
from tests.helpers import make_store, random_proteins, tiny_esm2
from tests.saejax.resuming import Killed
from tests.saejax.stored_latents import SEVERAL_PARTS, files_of, loaded_of

pytestmark = pytest.mark.usefixtures("small_shards")


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


# ---------------------------------------------------------------- the command line


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["latents", *map(str, words)])
    run_cli(main)


def test_command_line(random_run, tiny_store, monkeypatch, capsys):
    words = "--run", random_run, "--activations", tiny_store.folder
    call(monkeypatch, *words)
    latents = LatentStore.open(random_run / "latents")
    latents.require_run(load_sae(random_run))
    assert (
        f"{latents.n_entries:,} latents of {latents.n_rows:,} residues" in capsys.readouterr().err
    )
    before = files_of(random_run / "latents")
    call(monkeypatch, *words)
    assert files_of(random_run / "latents") == before
    shutil.rmtree(random_run / "latents")


def test_mistakes_are_told_in_one_line(random_run, tiny_store, tmp_path, monkeypatch, capsys):
    def refuse(*more):
        with pytest.raises(SystemExit) as stop:
            call(monkeypatch, "--run", random_run, "--out", tmp_path / "l", *more)
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
