"""``verify``, ``info`` and what they find when a store is damaged."""

import json
import shutil

import numpy as np
import pytest

from extract import parents
from extract.errors import UserError
from extract.info import InfoConfig, info
from extract.store import ActivationStore, open_array
from extract.verify import VerifyConfig, relative_error, verify
from tests.helpers import make_store, random_proteins, tiny_esm2


@pytest.fixture
def store(tmp_path, tiny_store, monkeypatch):
    """A copy of the tiny store, whose parent can be loaded."""
    shutil.copytree(tiny_store.folder, tmp_path / "acts")
    monkeypatch.setattr(parents, "load_parent", lambda name, **_: tiny_esm2(name=name))
    return tmp_path / "acts"


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_good_store_passes(store, capsys):
    verify(VerifyConfig(store, proteins=7))
    said = capsys.readouterr().out
    assert "5 shards, 4,504 residues: checksums, side arrays and statistics are right" in said
    assert "7 proteins computed again" in said


@pytest.mark.parametrize("array", ["activations", "pos", "token_id", "protein_idx"])
def test_one_flipped_byte_is_found(store, array):
    chunk = max((store / array / "c").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[40] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(UserError, match=rf"shard \d .*damaged: the checksum of {array} differs"):
        verify(VerifyConfig(store, proteins=0))


def test_statistics_are_checked(store):
    record = json.loads((store / "shards" / "000001.json").read_text())
    record["mean"][3] += 1e-9
    (store / "shards" / "000001.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="shard 1 .*its statistics differ"):
        verify(VerifyConfig(store, proteins=0))


def test_the_manifest_is_checked(store):
    scale = json.loads((store / "manifest.json").read_text())["scale"]
    edit_json(store / "manifest.json", scale=scale * 1.0001)
    with pytest.raises(UserError, match="scale differs from the shards'"):
        verify(VerifyConfig(store, proteins=0))


def test_records_that_lie_about_their_rows(store):
    edit_json(store / "shards" / "000002.json", start=0)
    with pytest.raises(UserError, match=r"shards/000002\.json: missing or damaged"):
        verify(VerifyConfig(store, proteins=0))


def test_proteins_that_are_not_those_of_the_rows(store, tmp_path):
    other = make_store(tmp_path / "b", random_proteins(60, 30, 120, seed=5))
    shutil.copy(other.folder / "proteins" / "000000.parquet", store / "proteins")
    with pytest.raises(UserError, match="is wrong from row|damaged|differs"):
        verify(VerifyConfig(store, proteins=0))
    (store / "proteins" / "000000.parquet").unlink()
    with pytest.raises(UserError, match=r"proteins/000000\.parquet is missing or damaged"):
        verify(VerifyConfig(store, proteins=0))


def test_activations_of_another_parent_are_found_by_recomputing(store, monkeypatch):
    """Equal names and hashes, other numbers: what no checksum can see."""

    def impostor(name, **_):
        model = tiny_esm2(seed=1, name=name)
        model.weights = tiny_esm2().weights
        return model

    monkeypatch.setattr(parents, "load_parent", impostor)
    with pytest.raises(UserError, match="differs from its parent"):
        verify(VerifyConfig(store))
    monkeypatch.setattr(parents, "load_parent", lambda name, **_: tiny_esm2(seed=1, name=name))
    with pytest.raises(UserError, match="do not fit: weights sha256"):
        verify(VerifyConfig(store))


def test_relative_error():
    x = np.array([[3.0, 4.0], [1.0, 0.0]])
    assert relative_error(x + np.array([[0, 0.5], [0, 0]]), x) == pytest.approx(0.1)
    assert relative_error(x * np.nan, x) == np.inf


def test_info_of_a_finished_and_an_unfinished_store(store, capsys):
    info(InfoConfig(store))
    said = capsys.readouterr().out
    for words in ("complete, 5 of 5 shards, 4,504 of 4,504 residues", "tiny, token dropout on",
                  "block1, 16 dimensions", "60 from given proteins", "gamma"):  # fmt: skip
        assert words in said, words
    (store / "shards" / "000004.json").unlink()
    edit_json(store / "manifest.json", state="incomplete")
    info(InfoConfig(store))
    assert "incomplete, 4 of 5 shards, 4,096 of 4,504 residues" in capsys.readouterr().out
    with pytest.raises(UserError, match="is not an activation store"):
        info(InfoConfig(store / "none"))


def test_arrays_open_as_they_were_written(store):
    from extract.location import Location

    assert open_array(Location.of(store), "pos", read=True).dtype.name == "uint16"


def test_a_shard_that_verify_names_is_repaired_by_extracting_again(tmp_path):
    proteins = random_proteins(60, 30, 120)
    store = make_store(tmp_path / "acts", proteins).folder
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    chunk = store / "activations" / "c" / "3" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-100] + bytes(100))
    with pytest.raises(UserError, match=r"shard 3 .*can't be read; remove .*/000003\.json and run"):
        verify(VerifyConfig(store, proteins=0))
    with pytest.raises(UserError, match="rows 3080 to 3090 can't be read, the store is damaged"):
        ActivationStore.open(store).read(3080, 3090)
    (store / "shards" / "000003.json").unlink()
    make_store(tmp_path / "acts", proteins)
    assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before


def test_a_folder_of_stores_names_them(store):
    with pytest.raises(UserError, match="holds the stores acts: give one of them"):
        info(InfoConfig(store.parent))
