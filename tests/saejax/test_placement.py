"""Batches on devices: handed over without a copy where that can be, correctly otherwise."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import torch
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from saejax import placement
from saejax.placement import place, sae_devices, shares_gpu


def sharding_over(n):
    return NamedSharding(Mesh(np.array(jax.devices()[:n]), ("data",)), PartitionSpec("data"))


def tensor_at(offset):
    """A ``[64, 16]`` tensor this many floats behind an address that 64 divides."""
    base = torch.arange(64 * 16 + 64, dtype=torch.float32)
    start = (-base.data_ptr() // 4) % 16 + offset
    return base[start : start + 64 * 16].view(64, 16)


def test_an_aligned_tensor_is_not_copied():
    rows = tensor_at(0)
    assert rows.data_ptr() % 64 == 0
    batch = place(rows, sharding_over(1))
    assert batch.shape == (1, 64, 16)
    assert batch.addressable_data(0).unsafe_buffer_pointer() == rows.data_ptr()
    np.testing.assert_array_equal(batch[0], rows.numpy())


def test_the_memory_lives_as_long_as_the_batch():
    rows = tensor_at(0)
    expected, pointer = rows.numpy().copy(), rows.data_ptr()
    batch = place(rows, sharding_over(1))
    del rows
    others = [torch.full((64, 16), -1.0) for _ in range(50)]
    assert all(other.data_ptr() != pointer for other in others)
    np.testing.assert_array_equal(batch[0], expected)


@pytest.mark.parametrize("offset", [1, 3, 8])
def test_an_unaligned_tensor_arrives_whole(offset):
    rows = tensor_at(offset)
    batch = place(rows, sharding_over(1))
    assert batch.addressable_data(0).unsafe_buffer_pointer() != rows.data_ptr()
    np.testing.assert_array_equal(batch[0], rows.numpy())


@pytest.mark.parametrize("kind", ["torch", "sliced", "inference", "numpy"])
def test_every_device_gets_its_share(kind):
    rows = torch.arange(64 * 16, dtype=torch.float32).view(64, 16)
    expected = rows.numpy()
    if kind == "sliced":
        rows = torch.stack((rows, rows), dim=2)[:, :, 0]  # not contiguous
    if kind == "inference":
        with torch.inference_mode():
            rows = rows.clone()
    with jax.transfer_guard("disallow"):
        batch = place(expected if kind == "numpy" else rows, sharding_over(8))
    assert batch.shape == (8, 8, 16)
    for i, shard in enumerate(batch.addressable_shards):
        assert shard.device == jax.devices()[i]
        np.testing.assert_array_equal(shard.data[0], expected[8 * i : 8 * i + 8])


@pytest.mark.parametrize("parent", [None, "cpu", "cuda:0"])
def test_on_cpu_every_device_trains(parent):
    assert sae_devices(parent) == jax.devices()
    assert not shares_gpu(parent, jax.devices())


@pytest.mark.parametrize(
    ("n_gpus", "parent", "train", "shared"),
    [
        (1, None, [0], False),
        (1, "cpu", [0], False),
        (1, "cuda:0", [0], True),
        (4, "cuda:0", [1, 2, 3], False),
        (4, "cuda:2", [0, 1, 3], False),
        (4, None, [0, 1, 2, 3], False),
    ],
)
def test_the_parents_gpu_is_left_to_it(monkeypatch, n_gpus, parent, train, shared):
    """Emulated: the devices are stand-ins, no GPU is used."""
    gpus = [SimpleNamespace(local_hardware_id=i) for i in range(n_gpus)]
    monkeypatch.setattr(placement.jax, "devices", lambda: gpus)
    monkeypatch.setattr(placement.jax, "default_backend", lambda: "gpu")
    devices = sae_devices(parent)
    assert [d.local_hardware_id for d in devices] == train
    assert shares_gpu(parent, devices) == shared
