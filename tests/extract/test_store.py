import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from extract.alphabet import residue_tokens
from extract.errors import UserError
from extract.location import Location
from extract.pipeline import residue_activations
from extract.store import (
    ActivationStore,
    committed_shards,
    open_array,
    require_same_parent,
)
from extract.writer import StoreWriter
from tests.helpers import make_store, random_proteins, tiny_esm2


def files_of(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_rows_are_residues_in_order(tiny_store, tiny_model):
    proteins = tiny_store.proteins
    expected = residue_activations(tiny_model, [p.sequence for p in proteins], "block1")
    assert tiny_store.n_rows == sum(len(p.sequence) for p in proteins) > 3 * 1024
    np.testing.assert_allclose(
        tiny_store.read(0, tiny_store.n_rows), np.concatenate(expected), rtol=1e-5, atol=1e-5
    )


def test_side_arrays_say_which_residue_a_row_is(tiny_store):
    protein_idx = tiny_store.side_array("protein_idx")
    pos, token_id = tiny_store.side_array("pos"), tiny_store.side_array("token_id")
    for i, protein in enumerate(tiny_store.proteins):
        rows = np.flatnonzero(protein_idx == i)
        np.testing.assert_array_equal(
            rows, np.arange(tiny_store.offsets[i], tiny_store.offsets[i + 1])
        )
        np.testing.assert_array_equal(pos[rows], np.arange(len(protein.sequence)))
        np.testing.assert_array_equal(token_id[rows], residue_tokens(protein.sequence))


def test_mean_scale_and_gamma_are_exact(tiny_store):
    x = tiny_store.read(0, tiny_store.n_rows).astype(np.float64)
    mean = x.mean(axis=0)
    np.testing.assert_allclose(tiny_store.mean, mean, atol=1e-6)
    scaled = tiny_store.scale * (x - mean)
    assert (scaled**2).sum(axis=1).mean() == pytest.approx(tiny_store.d_model, rel=1e-9)
    gamma = np.linalg.norm(mean) / np.sqrt(x.var(axis=0).sum())
    assert tiny_store.manifest["gamma"] == pytest.approx(gamma, rel=1e-9)


def test_bfloat16_store_rounds_and_describes_what_it_holds(tmp_path, tiny_store):
    store = make_store(tmp_path / "a", tiny_store.proteins, dtype="bfloat16")
    x, exact = store.read(0, store.n_rows), tiny_store.read(0, store.n_rows)
    np.testing.assert_allclose(x, exact, rtol=2**-8)
    assert np.any(x != exact)
    np.testing.assert_allclose(store.mean, x.astype(np.float64).mean(axis=0), atol=1e-6)


def test_resumed_store_is_byte_identical(tmp_path, tiny_store, monkeypatch):
    proteins = tiny_store.proteins
    make_store(tmp_path / "whole", proteins)
    folder = tmp_path / "broken"
    writes = StoreWriter.write_shard

    class Killed(Exception):
        pass

    def dies_after_two(self, shard, rows, side):
        if len(self.committed()) == 2:
            raise Killed
        writes(self, shard, rows, side)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write_shard", dies_after_two)
        with pytest.raises(Killed):
            make_store(folder, proteins)
    with pytest.raises(UserError, match=r"incomplete \(2 of \d+ shards written\)"):
        ActivationStore.open(folder)
    make_store(folder, proteins)
    assert files_of(folder) == files_of(tmp_path / "whole")


def test_shard_without_a_record_is_not_written(tmp_path, tiny_store):
    """A shard whose data are there but whose record is not, or is half there, is written again."""
    make_store(tmp_path / "a", tiny_store.proteins)
    whole = files_of(tmp_path / "a")
    record = tmp_path / "a" / "shards" / "000002.json"
    record.rename(record.with_name("000002.json.__lock"))
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    for key in ("scale", "gamma", "mean"):
        del manifest[key]
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(manifest | {"state": "incomplete"}))
    assert 2 not in committed_shards(Location.of(tmp_path / "a"))
    make_store(tmp_path / "a", tiny_store.proteins)
    assert files_of(tmp_path / "a") == whole


def test_complete_store_is_left_alone(tmp_path, tiny_store, monkeypatch):
    make_store(tmp_path / "a", tiny_store.proteins)
    monkeypatch.setattr(StoreWriter, "write_shard", None)
    make_store(tmp_path / "a", tiny_store.proteins)


@pytest.mark.parametrize(
    ("change", "key"), [({"site": "block2"}, "site"), ({"dtype": "bfloat16"}, "dtype")]
)
def test_other_settings_are_refused_with_both_values(tmp_path, change, key):
    proteins = random_proteins(3, 20, 30)
    make_store(tmp_path / "a", proteins)
    before = files_of(tmp_path / "a")
    with pytest.raises(UserError, match=f"another {key} "):
        make_store(tmp_path / "a", proteins, **change)
    with pytest.raises(UserError, match="another parent"):
        make_store(tmp_path / "a", proteins, tiny_esm2(seed=1))
    assert files_of(tmp_path / "a") == before


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="not empty and not a store"):
        make_store(tmp_path, random_proteins(2, 20, 30))
    with pytest.raises(UserError, match="is a file"):
        make_store(tmp_path / "thesis.txt", random_proteins(2, 20, 30))


@pytest.mark.parametrize("name", ["activations", "token_id", "pos", "protein_idx"])
def test_a_missing_file_is_no_zeros(tmp_path, tiny_store, name):
    """TensorStore reads a chunk that is not there as zeros unless it is told not to."""
    shutil.copytree(tiny_store.folder, tmp_path / "a")
    min(p for p in (tmp_path / "a" / name / "c").rglob("*") if p.is_file()).unlink()
    store = ActivationStore.open(tmp_path / "a")
    with pytest.raises(UserError, match=r"can't be read, the store is damaged; .*verify"):
        store.read(0, store.n_rows) if name == "activations" else store.side_array(name)


def test_zeros_are_written_out(tmp_path, tiny_store):
    """Rows of zeros are not taken for a missing file."""
    shutil.copytree(tiny_store.folder, tmp_path / "a")
    array = open_array(Location.of(tmp_path / "a"), "activations", write=True)
    array[:].write(np.zeros(array.shape, np.float32)).result()
    store = ActivationStore.open(tmp_path / "a")
    assert not store.read(0, store.n_rows).any()


def test_opening_what_is_no_store(tmp_path, tiny_store):
    with pytest.raises(UserError, match="is not an activation store"):
        ActivationStore.open(tmp_path)
    shutil.copytree(tiny_store.folder, tmp_path / "a")
    manifest = tmp_path / "a" / "manifest.json"
    good = manifest.read_text()
    manifest.write_text(good[:100])
    with pytest.raises(UserError, match="damaged"):
        ActivationStore.open(tmp_path / "a")
    manifest.write_text(good.replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(UserError, match="store format 9, this version reads 2"):
        ActivationStore.open(tmp_path / "a")
    manifest.write_text(good)
    shutil.rmtree(tmp_path / "a" / "activations")
    with pytest.raises(UserError, match="damaged"):
        ActivationStore.open(tmp_path / "a")


def test_moved_store_still_opens(tmp_path, tiny_store):
    shutil.copytree(tiny_store.folder, tmp_path / "elsewhere")
    moved = ActivationStore.open(tmp_path / "elsewhere")
    np.testing.assert_array_equal(moved.read(5, 9), tiny_store.read(5, 9))


@pytest.mark.parametrize("difference", ["model", "weights sha256", "token dropout", "site"])
def test_parents_must_match(tiny_store, difference):
    other = json.loads(json.dumps(tiny_store.manifest))
    if difference == "model":
        other["parent"]["name"] = "other"
    elif difference == "weights sha256":
        other["parent"]["weights"]["encoder_sha256"] = "other"
    elif difference == "token dropout":
        other["parent"]["token_dropout"] = "other"
    else:
        other["site"] = "other"
    require_same_parent(tiny_store.manifest, tiny_store.manifest, what="both")
    with pytest.raises(UserError, match=f"{difference} is .* in the first and 'other'"):
        require_same_parent(tiny_store.manifest, other, what="both")


def test_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(UserError, match="MB are needed but the disk has 0 MB free"):
        make_store(tmp_path / "a", random_proteins(3, 20, 30))
    assert not (tmp_path / "a").exists()


WORKER = """
import os, sys
os.environ["XLA_FLAGS"] = ""
import torch; torch.set_num_threads(1)
from pathlib import Path
from tests.helpers import make_store, random_proteins
from extract.writer import StoreWriter
import time
write = StoreWriter.write_shard
def slow(self, *args):
    write(self, *args); time.sleep(0.05)
StoreWriter.write_shard = slow
make_store(Path(sys.argv[1]), random_proteins(60, 30, 120))
"""


def test_kill_9_at_any_moment_resumes_to_the_same_bytes(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.getcwd()}

    def start(folder):
        command = [sys.executable, "-c", WORKER, str(folder)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    kills = 0
    for shards in (1, 2, 4):
        process = start(tmp_path / "a")
        while (
            process.poll() is None and len(committed_shards(Location.of(tmp_path / "a"))) < shards
        ):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 2
    assert start(tmp_path / "a").wait() == 0
    assert files_of(tmp_path / "a") == files_of(tmp_path / "whole")
