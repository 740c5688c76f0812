"""Which devices the SAE runs on, and how batches get there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.dlpack
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from saejax.data import Rows


def sae_devices(parent: str | None) -> list[Any]:
    """The JAX devices that train: all but the GPU that the parent is on, or that one if alone.

    Not run on a GPU.

    Args:
        parent: the parent's Torch device, such as ``"cuda:0"``; None without a parent. A parent
            on the CPU takes no device away.
    """
    devices = jax.devices()
    if not on_jax_gpu(parent):
        return devices
    return [d for d in devices if d.local_hardware_id != _index(parent)] or devices


def shares_gpu(parent: str | None, devices: Sequence[Any]) -> bool:
    """Whether the parent runs on a GPU that the SAE trains on: they then take turns."""
    return on_jax_gpu(parent) and _index(parent) in [d.local_hardware_id for d in devices]


def on_jax_gpu(parent: str | None) -> bool:
    """Whether the parent is on a GPU and JAX has GPUs too."""
    return parent is not None and parent.startswith("cuda") and jax.default_backend() == "gpu"


def _index(parent: str | None) -> int:
    return int((parent or "").partition(":")[2] or 0)


def place(rows: Rows, sharding: NamedSharding) -> Float[Array, "devices batch d_model"]:
    """A batch on the devices, an equal share each.

    A Torch tensor is handed over by DLPack, which copies nothing where JAX can use the memory as
    it is: on a GPU, and on a CPU when it is aligned to 64 bytes. Neither does the placement when
    there is one device and the memory lies on it; so the tensor must not be written to afterwards,
    and the result must be kept until the computation that reads it is done, since Torch may use
    the memory again once JAX lets go of it. Not run on a GPU.

    Args:
        rows: raw activations ``[batch, d_model]``; a NumPy array or a Torch tensor.
        sharding: over the first axis of the result.
    """
    n_shards = sharding.mesh.shape[sharding.spec[0]]
    shards = rows.reshape(n_shards, -1, rows.shape[1])
    if jax.process_count() > 1:
        assert isinstance(shards, np.ndarray), "the config refuses streams in several processes"
        return _place_own_share(shards, sharding)
    if not isinstance(shards, np.ndarray):
        if shards.is_cuda and jax.default_backend() != "gpu":
            shards = shards.cpu()  # this JAX has no GPUs
        shards = jax.dlpack.from_dlpack(shards.contiguous())
    return jax.device_put(shards, sharding)


def _place_own_share(shards: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """This process's part of a batch that every process has read.

    Put explicitly: the transfer guard of the loop stops ``make_array_from_callback``.
    """
    own = sharding.addressable_devices_indices_map(shards.shape)
    arrays = [jax.device_put(shards[index], device) for device, index in own.items()]
    return jax.make_array_from_single_device_arrays(shards.shape, sharding, arrays)
