"""The mapped axes that a per-device step reduces over; every one may be absent."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

T = TypeVar("T")


class Axes(NamedTuple):
    """Names of mapped axes: the same step runs on one device, on many, and for many runs."""

    data: str | None = None
    """Devices with other rows of the batch."""
    latent: str | None = None
    """Devices with other latents of the dictionary."""
    sweep: str | None = None
    """Runs that are trained side by side."""

    def mean_data(self, value: Array) -> Array:
        """Mean over the devices that share the batch."""
        return value if self.data is None else jax.lax.pmean(value, self.data)

    def sum_data(self, value: Array) -> Array:
        """Sum over the devices that share the batch."""
        return value if self.data is None else jax.lax.psum(value, self.data)

    def max_data(self, value: Array) -> Array:
        """Maximum over the devices that share the batch."""
        return value if self.data is None else jax.lax.pmax(value, self.data)

    def sum_latent(self, value: Array) -> Array:
        """Sum over the devices that share the dictionary."""
        return value if self.latent is None else jax.lax.psum(value, self.latent)

    def max_latent(self, value: Array) -> Array:
        """Maximum over the devices that share the dictionary."""
        return value if self.latent is None else jax.lax.pmax(value, self.latent)

    def max_sweep(self, value: Array) -> Array:
        """Maximum over runs side by side; the same for each, so a branch on it stays a branch."""
        return value if self.sweep is None else jax.lax.pmax(value, self.sweep)

    def n_latent(self) -> int:
        """Devices that share the dictionary."""
        return 1 if self.latent is None else jax.lax.axis_size(self.latent)

    def first_latent(self, n_local: int) -> Array | int:
        """Number, in the whole dictionary, of the first of this device's ``n_local`` latents."""
        return 0 if self.latent is None else jax.lax.axis_index(self.latent) * n_local

    def on_every_latent_device(self, value: T) -> T:
        """Arrays that are the same on all devices of the dictionary, as each one's own.

        Their gradients are then summed over those devices.
        """
        return jax.tree.map(lambda a: varying(a, self.latent), value)

    def on_every_data_device(self, value: T) -> T:
        """Arrays that are the same on all devices of the batch, as each one's own.

        ``grad`` then gives each device's own gradient, under ``pmap`` and ``shard_map`` alike;
        without it ``shard_map`` sums them, and a later mean is that of equal sums.
        """
        return jax.tree.map(lambda a: varying(a, self.data), value)


NOWHERE = Axes()
"""One device, one run."""


def varying(value: Array, axis: str | None) -> Array:
    """``value``, the same along a mapped axis, marked as differing along it."""
    return value if axis is None else jax.lax.pcast(value, (axis,), to="varying")


def zeros_beside(shape: tuple[int, ...], *others: Array) -> Float[Array, ...]:
    """Zeros that differ along the mapped axes that ``others`` differ along, as a scan needs."""
    zero = jnp.zeros((), others[0].dtype)
    for other in others:
        zero = jnp.where(True, zero, other.ravel()[0].astype(zero.dtype))
    return jnp.broadcast_to(zero, shape)
