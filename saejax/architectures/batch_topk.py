"""BatchTopK with AuxK: Bussmann, Leask and Nanda 2024, arXiv 2412.06410."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saejax.axes import Axes
from saejax.kernels import first_true
from saejax.losses import auxk_loss, reconstruction_loss
from saejax.model import FIRED_ABOVE, SAE, LossParts, Now, ThresholdSAE
from saejax.sparse import Entries, chosen_entries, decode_entries, pre_activations

SPARE = 1.25
"""Room for one device's uneven share of the budget of all."""


class _Selected(NamedTuple):
    """What a selection leads to."""

    parts: Float[Array, "groups batch d_model"]
    """Σ z_i w_i over the latents of each group."""
    l0: Float[Array, " batch"]
    """Latents above 0."""
    fired: Int[Array, " d_sae"]
    """Rows on which each latent fired."""


class BatchTopKSAE(SAE):
    """The B·k largest pre-activations of a batch of B rows, over all devices::

        h = (x − b_dec) W_enc + b_enc;   z = h·1[h ≥ τ], h > 0;   x̂ = z W_dec + b_dec
        L = MSE(x, x̂) + α·AuxK;          after training  z = h·1[h > θ]

    τ is the B·k-th largest of ReLU(h) in the batch. θ is found on held-out data, so that L0 = k
    there (``saejax.calibrate``). Differs: values equal to τ are all kept.
    """

    def loss(
        self,
        x_BD: Float[Array, "batch d_model"],
        y_BD: Float[Array, "batch d_out"],
        auxk_coefficient: float,
        now: Now,
    ) -> tuple[Float[Array, ""], LossParts]:
        """See the class."""
        selected = self._select(x_BD, now)
        prefixes_GBD = jnp.cumsum(now.axes.sum_latent(selected.parts), axis=0)
        prefixes_GBD = prefixes_GBD + self.b_dec[...][None, None]
        residual_BD = y_BD - prefixes_GBD[-1]
        auxk = auxk_loss(self, x_BD, residual_BD, now.dead, axes=now.axes)
        total = self._reconstruction_loss(y_BD, prefixes_GBD) + auxk_coefficient * auxk
        l0 = now.axes.sum_latent(selected.l0).mean()
        return total, LossParts((residual_BD**2).sum(), (y_BD**2).sum(), auxk, l0, selected.fired)

    def _reconstruction_loss(self, y_BD: Array, prefixes_GBD: Array) -> Array:
        return reconstruction_loss(y_BD, prefixes_GBD[-1])

    @property
    def _prefixes(self) -> tuple[int, ...]:
        """Sizes of the nested dictionaries: one, the whole."""
        return (self.config.d_sae,)

    def _select(self, x_BD: Array, now: Now) -> _Selected:
        """Through lists of entries; through dense arrays in the rare batch that doesn't fit them.

        It does not fit when a device has more than its room: values tie at τ, or its rows use far
        more than their share.
        """
        axes, config = now.axes, self.config
        x_BD, bias_D = axes.on_every_latent_device((x_BD, self.input_bias))
        arguments = (x_BD, self.W_enc_T[...], self.b_enc[...], bias_D)
        h_BF = pre_activations(*arguments, config.encode_dtype)
        fixed_BF = jax.nn.relu(jax.lax.stop_gradient(h_BF))
        n_rows, n_latents = fixed_BF.shape
        k = config.k if now.k is None else now.k
        budget = k * n_rows * (1 if axes.data is None else jax.lax.axis_size(axes.data))
        tau = kth_largest(fixed_BF, budget, axes)
        keep_BF = (fixed_BF >= tau) & (fixed_BF > 0)
        n_kept = keep_BF.sum()
        spare = 1.0 if axes.data is None else SPARE
        room = min(n_rows * n_latents, int(spare * n_rows * config.width))
        overflow = (n_kept > room).astype(jnp.int32)
        overflow = axes.max_sweep(axes.max_data(axes.max_latent(overflow)))

        def through_entries() -> _Selected:
            rows_N, latents_N = first_true(keep_BF, room)
            real_N = jnp.arange(room) < n_kept
            found = Entries(fixed_BF[rows_N, latents_N], rows_N, latents_N)
            found = chosen_entries(found, *arguments)
            return self._sum_entries(found._replace(values=jnp.where(real_N, found.values, 0.0)),
                                     n_rows, axes)  # fmt: skip

        def through_dense() -> _Selected:
            # the encoder once more, so that its gradient is made in this branch only
            again_BF = pre_activations(*arguments, config.encode_dtype)
            z_BF = jnp.where(keep_BF, again_BF, 0.0)
            return self._sum_dense(z_BF, axes)

        return jax.lax.cond(overflow == 0, through_entries, through_dense)

    def _sum_entries(self, entries: Entries, n_rows: int, axes: Axes) -> _Selected:
        values_N, rows_N, latents_N = entries
        group_N = self._group(latents_N, axes)
        n_groups = len(self._prefixes)
        parts = decode_entries(values_N, group_N * n_rows + rows_N, latents_N, self.W_dec[...],
                               n_groups * n_rows, n_rows)  # fmt: skip
        l0_B = jnp.zeros(n_rows).at[rows_N].add(values_N > 0)
        fired_F = jnp.zeros(self.b_enc.shape[0], jnp.int32)
        fired_F = fired_F.at[latents_N].add((values_N > FIRED_ABOVE).astype(jnp.int32))
        return _Selected(parts.reshape(n_groups, n_rows, -1), l0_B, fired_F)

    def _sum_dense(self, z_BF: Array, axes: Axes) -> _Selected:
        group_F = self._group(jnp.arange(z_BF.shape[1]), axes)
        parts = [
            jnp.where((group_F == g)[None], z_BF, 0.0) @ self.W_dec[...]
            for g in range(len(self._prefixes))
        ]
        l0_B = (z_BF > 0).sum(axis=1).astype(jnp.float32)
        return _Selected(jnp.stack(parts), l0_B, (z_BF > FIRED_ABOVE).sum(axis=0).astype(jnp.int32))

    def _group(self, latents: Array, axes: Axes) -> Array:
        """In which of the nested dictionaries a latent of this device comes in."""
        latents = latents + axes.first_latent(self.b_enc.shape[0])
        return jnp.searchsorted(jnp.array(self._prefixes), latents, side="right")

    def for_inference(self, threshold: float | None = None) -> ThresholdSAE:
        """With the calibrated threshold for every latent."""
        assert threshold is not None, "calibrate_threshold finds it"
        theta_F = jnp.full(self.config.d_sae, threshold, jnp.float32)
        return ThresholdSAE(self, self.W_enc_T[...], self.b_enc[...], theta_F)


def kth_largest(values: Float[Array, ...], k: int | Array, axes: Axes) -> Float[Array, ""]:
    """The k-th largest of non-negative values over all devices; 0 when fewer than k are above 0.

    Non-negative floats are ordered as their bits are, so it is found bit by bit: 31 counts.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)

    def decide(i: Array, found: Array) -> Array:
        trial = found | (jnp.int32(1) << (30 - i))
        count = axes.sum_data(axes.sum_latent((bits >= trial).sum()))
        return jnp.where(count >= k, trial, found)

    found = jax.lax.fori_loop(0, 31, decide, jnp.int32(0))
    return jax.lax.bitcast_convert_type(found, jnp.float32)
