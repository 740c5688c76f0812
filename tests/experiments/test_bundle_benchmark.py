"""The benchmark of the bundle's build at a tiny size: nothing is timed."""

import json
from collections import namedtuple

import numpy as np
import pytest

from experiments.benchmarks import bundle as benchmark
from experiments.benchmarks.bundle_inputs import Point, write_codes
from explorer.build import command
from explorer.bundle import Bundle
from extract.errors import UserError

POINT = Point(24, 30, mean_length=40, k=4, d_model=8)


def test_a_bundle_of_synthetic_codes(tmp_path):
    write_codes(POINT, tmp_path / "codes")
    before = command.write_proteins
    found = benchmark.build(POINT, tmp_path, memory_gb=1.0)
    assert command.write_proteins is before
    assert set(found["steps"]) == set(benchmark.STEPS.values())
    assert sum(found["steps"].values()) <= found["seconds"] + 0.1
    assert found["n_residues"] == POINT.lengths().sum()
    # every residue has 1 to k latents, and the bundle has all of them
    assert found["n_residues"] < found["n_entries"] <= 4 * found["n_residues"]
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle["histogram/counts"].sum() == found["n_entries"]
    assert bundle["tracks/indptr"][-1] == found["n_entries"]
    assert np.array_equal(bundle["by_protein/indptr"][[0, -1]], bundle["by_latent/indptr"][[0, -1]])
    assert found["bytes"] == sum(p.stat().st_size for p in (tmp_path / "bundle").rglob("*.*"))
    json.dumps(found)
    text = benchmark.table([found])
    assert text.count("\n") == 3
    assert f"| 24 | {found['n_living']} | 30 | {found['n_residues']:,} |" in text


def test_what_the_disk_has_no_room_for_is_said(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(benchmark.shutil, "disk_usage", lambda _: usage(9e9, 8e9, 1e9))
    found = benchmark.measure(Point(4096, 500_000), benchmark.BundleConfig(work=tmp_path / "w"))
    assert "not run: 12 GB of disk, 1 GB free" in benchmark.table([found])
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("size", ["4096", "0x5", "ax9", "4x"])
def test_sizes_that_are_none(size):
    with pytest.raises(UserError, match="4096x1000"):
        benchmark.point_of(size, benchmark.BundleConfig())
