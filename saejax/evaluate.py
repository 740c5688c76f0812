"""How good an SAE is on activations, residue by residue type, dimension by dimension.

``python -m saejax.evaluate --run runs/x --activations acts/`` prints and writes it; the words of
that command are in ``evaluate_store.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Integer

from extract.alphabet import RESIDUE_TYPES
from extract.errors import UserError
from saejax.calibrate import BLOCK_ROWS, padded
from saejax.data import RowStore
from saejax.losses import fvu
from saejax.model import DENSE_ABOVE, SAE, TopKInference
from saejax.rows import unit_rows

COSINE_SAMPLE = 2048
"""Latents whose decoder rows are compared with all others, evenly spread over the dictionary."""
DUPLICATE_COSINE = 0.9
"""Two latents whose decoder rows have at least this cosine say the same."""
N_TYPES = len(RESIDUE_TYPES)


@dataclass(frozen=True)
class Evaluation:
    """Figures over one set of activations."""

    fvu: float
    """Σ‖x − x̂‖² / Σ‖x − mean(x)‖², with the mean of these activations."""
    normalized_mse: float
    """Squared error per element, over the variance measured before training; of an imported SAE,
    in the units that it works in."""
    l0: float
    """Latents above zero per residue."""
    frac_dead: float
    """Share of latents that never fired here."""
    frac_dense: float
    """Share of latents that fire on more than a tenth of the residues."""
    decoder_cosine_max: float
    """Largest cosine of two latents' decoder rows."""
    decoder_cosine_mean_max: float
    """Mean over latents of the largest cosine with another's decoder row."""
    n_tokens: int
    """Residues."""
    frequency: Float[np.ndarray, " d_sae"]
    """Share of residues on which each latent fired."""
    maximum: Float[np.ndarray, " d_sae"]
    """Largest value of each latent."""
    l0_counts: Int[np.ndarray, " most"]
    """How many residues have 0, 1, 2, … latents above zero."""
    dimensions: Unexplained
    """By dimension d of the activations: Σ(x_d − x̂_d)² against Σ(x_d − mean(x_d))²."""
    types: Unexplained
    """By residue type (``extract.alphabet.RESIDUE_TYPES``), deviations being from the mean of *all*
    residues, so that both columns add up to those of the whole FVU."""
    types_within: Float[np.ndarray, " types"]
    """By residue type a: Σ‖x − mean_a(x)‖², deviations from the mean of residues of that type.

    Their sum over ``types.deviation.sum()`` is the FVU of an SAE that knows amino acids alone."""

    def summary(self) -> dict[str, float]:
        """The scalars."""
        return {k: v for k, v in vars(self).items() if isinstance(v, int | float)}


class Unexplained(NamedTuple):
    """Parts of a sum of squared errors, and what they are compared with."""

    count: Int[np.ndarray, " parts"]
    """Residues of each part."""
    error: Float[np.ndarray, " parts"]
    """Σ(x − x̂)², x normalised."""
    deviation: Float[np.ndarray, " parts"]
    """Σ(x − mean)²."""

    @property
    def fvu(self) -> Float[np.ndarray, " parts"]:
        """Error over deviation; NaN for a part that does not vary."""
        return np.divide(self.error, self.deviation, out=np.full(len(self.error), np.nan),
                         where=self.deviation > 0)  # fmt: skip


def row_blocks(
    store: RowStore, rows: np.ndarray | None = None
) -> Iterator[Float[np.ndarray, "rows d_model"]]:
    """The activations of a store in order, in blocks; of the rows marked in ``rows`` if given.

    Raises:
        UserError: an activation is not finite.
    """
    for start in range(0, store.n_rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, store.n_rows)
        if rows is not None and not rows[start:stop].any():
            continue
        block = store.read(start, stop)
        block = block if rows is None else block[rows[start:stop]]
        if not np.isfinite(block).all():
            raise UserError(
                f"{getattr(store, 'folder', 'the store')}: among rows {start} to {stop} are "
                "activations that are not finite; check it with `python -m extract verify`"
            )
        yield block


@nnx.jit
def _block_sums(
    sae: SAE, block: ArrayLike, n_valid: ArrayLike, types: ArrayLike
) -> dict[str, Array]:
    block, d_model, d_sae = jnp.asarray(block), sae.config.d_model, sae.config.d_sae
    valid_B = jnp.arange(block.shape[0]) < n_valid
    x_BD = jnp.where(valid_B[:, None], sae.normalize(block[:, :d_model]), 0.0)
    y_BD = x_BD
    if sae.config.d_out is not None:
        y_BD = jnp.where(valid_B[:, None], sae.normalize_output(block[:, d_model:]), 0.0)
    if isinstance(sae, TopKInference):
        latents = sae.encode_normalized(x_BD)
        y_hat_BD = sae.decode_normalized(latents)
        values_BK = jnp.where(valid_B[:, None], latents.values, 0.0)
        count_F = jnp.zeros(d_sae).at[latents.indices].add(values_BK > 0)
        maximum_F = jnp.zeros(d_sae).at[latents.indices].max(values_BK)
        active_B = (values_BK > 0).sum(axis=1)
    else:
        z_BF = jnp.where(valid_B[:, None], sae.encode_dense_normalized(x_BD), 0.0)
        y_hat_BD = z_BF @ sae.W_dec[...] + sae.b_dec[...][None]
        count_F, maximum_F = (z_BF > 0).sum(axis=0), z_BF.max(axis=0)
        active_B = (z_BF > 0).sum(axis=1)
    if sae.config.token_zscore is not None:  # each residue has units of its own: compare raw ones
        y_BD = jnp.where(valid_B[:, None], block, 0.0)
        y_hat_BD = sae.denormalize(y_hat_BD, block)
    error_BD = jnp.where(valid_B[:, None], y_BD - y_hat_BD, 0.0)
    is_type_BT = valid_B[:, None] & (jnp.asarray(types)[:, None] == jnp.arange(N_TYPES)[None])
    of_type_TB = is_type_BT.T.astype(y_BD.dtype)
    return {
        "error_D": (error_BD**2).sum(axis=0),
        "y2_D": (y_BD**2).sum(axis=0),
        "n_T": is_type_BT.sum(axis=0),
        "error_T": of_type_TB @ (error_BD**2).sum(axis=1),
        "y2_T": of_type_TB @ (y_BD**2).sum(axis=1),
        "y_TD": of_type_TB @ y_BD,
        "count_F": count_F,
        "maximum_F": maximum_F,
        "active_B": active_B,
    }


@nnx.jit
def _largest_cosines(sae: SAE, latents: ArrayLike) -> Array:
    latents = jnp.asarray(latents)
    rows_FD = unit_rows(sae.W_dec[...])  # an average of weights has shorter ones
    cosines = rows_FD[latents] @ rows_FD.T
    itself = jnp.arange(rows_FD.shape[0])[None] == latents[:, None]
    return jnp.where(itself, -1.0, cosines).max(axis=1)


def decoder_cosines(sae: SAE, sample: int | None = COSINE_SAMPLE) -> Float[np.ndarray, " latents"]:
    """The largest cosine of each latent's decoder row with another's.

    Args:
        sae: with its decoder.
        sample: how many latents at most, evenly spread; None for all of them.
    """
    step = max(1, -(-sae.config.d_sae // (sample or sae.config.d_sae)))
    chosen = np.arange(0, sae.config.d_sae, step)
    parts = [np.asarray(_largest_cosines(sae, chosen[i : i + 256]))
             for i in range(0, len(chosen), 256)]  # fmt: skip
    return np.concatenate(parts)


def evaluate(
    sae: SAE, blocks: Iterable[np.ndarray], types: Integer[np.ndarray, " rows"] | None = None
) -> Evaluation:
    """Stream raw activations through an SAE; sums are kept in float64 on the host.

    Args:
        sae: as it is used, not as it is trained (``for_inference``).
        blocks: raw activations, at most ``BLOCK_ROWS`` rows each; a transcoder's targets lie beside
            its inputs.
        types: of all the rows, from ``extract.alphabet.residue_types``; without it every residue
            counts as "other".
    """
    sums: dict[str, np.ndarray] = {}
    maximum, l0_counts, n = np.zeros(sae.config.d_sae), np.zeros(1, np.int64), 0
    for block in blocks:
        own = np.full(BLOCK_ROWS, N_TYPES - 1, np.int32)
        if types is not None:
            own[: len(block)] = types[n : n + len(block)]
        found = jax.device_get(_block_sums(sae, padded(block), len(block), own))
        maximum = np.maximum(maximum, found.pop("maximum_F"))
        now = np.bincount(found.pop("active_B")[: len(block)], minlength=len(l0_counts))
        l0_counts = np.pad(l0_counts, (0, len(now) - len(l0_counts))) + now
        sums = {k: sums.get(k, 0) + v.astype(np.float64) for k, v in found.items()}
        n += len(block)
    if not n:
        raise ValueError("evaluate needs at least one residue; got none")
    return _evaluation(sae, sums, maximum, l0_counts, n)


def _evaluation(
    sae: SAE, sums: dict[str, np.ndarray], maximum: np.ndarray, l0_counts: np.ndarray, n: int
) -> Evaluation:
    """Figures from sums over ``n`` residues."""
    count_F, n_T, y_TD = sums["count_F"], sums["n_T"].astype(np.int64), sums["y_TD"]
    mean_D = y_TD.sum(axis=0) / n
    dimensions = Unexplained(
        np.full(len(mean_D), n), sums["error_D"], np.maximum(sums["y2_D"] - n * mean_D**2, 0.0)
    )
    # Σ‖x − m‖² = Σ‖x‖² − 2 m·Σx + n‖m‖² for any m
    from_mean_T = sums["y2_T"] - 2 * y_TD @ mean_D + n_T * (mean_D @ mean_D)
    within_T = sums["y2_T"] - (y_TD**2).sum(axis=1) / np.maximum(n_T, 1)
    cosines = decoder_cosines(sae)
    return Evaluation(
        fvu=fvu(float(sums["error_D"].sum()), float(dimensions.deviation.sum())),
        normalized_mse=float(sums["error_D"].sum()) / (n * sae.config.output_size),
        l0=float(count_F.sum() / n),
        frac_dead=float((count_F == 0).mean()),
        frac_dense=float((count_F > DENSE_ABOVE * n).mean()),
        decoder_cosine_max=float(cosines.max()),
        decoder_cosine_mean_max=float(cosines.mean()),
        n_tokens=n,
        frequency=(count_F / n).astype(np.float32),
        maximum=maximum.astype(np.float32),
        l0_counts=l0_counts,
        dimensions=dimensions,
        types=Unexplained(n_T, sums["error_T"], np.maximum(from_mean_T, 0.0)),
        types_within=np.maximum(within_T, 0.0),
    )


if __name__ == "__main__":
    from extract.errors import run_cli
    from saejax.evaluate_store import main

    run_cli(main)
