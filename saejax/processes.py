"""Several processes, on one or many machines, that train one SAE. Not run on GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from extract.errors import UserError
from saejax.settings import Layout


def join(layout: Layout) -> None:
    """Find the other processes; nothing to do when there are none.

    Raises:
        UserError: they can't be found.
    """
    if layout.coordinator is None or jax.distributed.is_initialized():
        return
    try:
        if layout.coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(layout.coordinator, layout.num_processes, layout.process_id)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"--coordinator {layout.coordinator}: the processes can't find each other ({reason}); "
            "start all of them, with one address of process 0"
        ) from error


def primary() -> bool:
    """Whether this process writes the files."""
    return jax.process_index() == 0


def wait_for_all(where: str) -> None:
    """Until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


@contextmanager
def losses_told() -> Iterator[None]:
    """Say in one line that another process is gone, when a collective operation fails.

    Raises:
        UserError: instead of JAX's error, when there are several processes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"training with {jax.process_count()} processes failed, most likely since another one "
            f"is gone ({reason}); see what it said, and start all of them again: they go on from "
            "the last checkpoint"
        ) from error


def require_same(value: int, what: str) -> None:
    """Refuse to go on when processes differ in a number.

    Args:
        value: this process's.
        what: it is, and the remedy.

    Raises:
        UserError: another process has another; in all of them.
    """
    if jax.process_count() > 1:
        values = multihost_utils.process_allgather(np.int32(value)).tolist()
        if len(set(values)) > 1:
            raise UserError(f"processes differ ({', '.join(map(str, values))}) in {what}")


def to_host(state: Any, mesh: Mesh) -> Any:
    """A state's arrays in this process's memory, whole, and copied: a step may overwrite them."""
    if not all(a.is_fully_addressable or a.is_fully_replicated for a in jax.tree.leaves(state)):
        everywhere = NamedSharding(mesh, PartitionSpec())
        state = jax.jit(lambda s: s, out_shardings=everywhere)(state)
    return jax.tree.map(lambda a: np.array(a), state)
