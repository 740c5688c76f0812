"""Small SAEs with every parameter away from its start, and their compiled losses."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from saejax.architectures import ARCHITECTURES
from saejax.axes import NOWHERE
from saejax.model import SAE, Constants, LossParts, Now, ThresholdSAE
from saejax.sae_config import Architecture, SAEConfig
from tests.saejax.architectures.equations import Params, Written

B, D, F, K, K_AUX = 12, 5, 24, 3, 4
PREFIXES = (4, 10, 24)
ALIVE = np.zeros(F, bool)
CONSTANTS = Constants(np.linspace(-1, 1, D).astype(np.float32), 0.7)


def sae_config(architecture: Architecture, **settings: Any) -> SAEConfig:
    sizes: dict[str, Any] = {"d_model": D, "d_sae": F, "k": K, "k_aux": K_AUX}
    if architecture == "matryoshka":
        sizes["prefixes"] = PREFIXES
    sizes |= {"architecture": architecture} | settings
    return SAEConfig(**sizes)


def random_params(config: SAEConfig, seed: int = 0) -> Params:
    """Decoder rows of no special norm, all biases and thresholds away from 0; float32 values."""
    rng = np.random.default_rng(seed)
    own = {"jumprelu": ("log_threshold",), "gated": ("r_mag", "b_mag")}
    shapes = {"W_dec": (config.d_sae, config.output_size),
              "W_enc_T": (config.d_sae, config.d_model),
              "b_enc": (config.d_sae,), "b_dec": (config.output_size,)}  # fmt: skip
    shapes |= dict.fromkeys(own.get(config.architecture, ()), (config.d_sae,))
    scales = {"W_dec": 0.4, "W_enc_T": 0.5}
    drawn = {name: scales.get(name, 0.3) * rng.normal(size=shape) for name, shape in shapes.items()}
    return {name: value.astype(np.float32).astype(np.float64) for name, value in drawn.items()}


def random_rows(n: int = B, d: int = D, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32).astype(np.float64)


def random_dead(n: int, seed: int = 2, d_sae: int = F) -> np.ndarray:
    return np.isin(np.arange(d_sae), np.random.default_rng(seed).permutation(d_sae)[:n])


def build(config: SAEConfig, params: Params, constants: Constants = CONSTANTS) -> SAE:
    sae = ARCHITECTURES[config.architecture](config, constants, rngs=nnx.Rngs(0))
    for name, value in params.items():
        getattr(sae, name)[...] = jnp.asarray(value, jnp.float32)
    return sae


def thresholded(config: SAEConfig, params: Params) -> ThresholdSAE:
    """In the form for use, of an architecture that knows its own thresholds."""
    used = build(config, params).for_inference()
    assert isinstance(used, ThresholdSAE)
    return used


@lru_cache
def _compiled(config: SAEConfig, weight: float):
    out = {} if config.d_out is None else {"mean_out": np.zeros(config.d_out, np.float32)}
    constants = Constants(np.zeros(config.d_model, np.float32), 1.0, **out,
                          scale_out=1.0 if out else None)  # fmt: skip
    sae = ARCHITECTURES[config.architecture](config, constants, rngs=nnx.Rngs(0))
    graphdef, _, rest = nnx.split(sae, nnx.Param, ...)

    # most of these tests' time is compilation
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def value_and_grad(params, x, y, dead, k, sparsity):
        def loss(params):
            sae = nnx.merge(graphdef, params, rest)
            return sae.loss(x, y, weight, Now(dead, k, sparsity, NOWHERE))

        return jax.value_and_grad(loss, has_aux=True)(params)

    return value_and_grad


def ours(
    config: SAEConfig, params: Params, x: np.ndarray, y: np.ndarray | None = None, *,
    dead: np.ndarray | None = None, k: int | None = None, sparsity: float = 0.0,
    weight: float = 1 / 32,
) -> tuple[float, Params, LossParts]:  # fmt: skip
    """Loss, gradients and parts as training gets them."""
    single = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    dead = np.zeros(config.d_sae, bool) if dead is None else dead
    rows = jnp.asarray(x, jnp.float32)
    (loss, parts), grads = _compiled(config, weight)(
        single, rows, rows if y is None else jnp.asarray(y, jnp.float32), jnp.asarray(dead),
        None if k is None else jnp.int32(k), jnp.float32(sparsity),
    )  # fmt: skip
    return float(loss), jax.tree.map(np.asarray, dict(grads)), jax.device_get(parts)


def assert_as_written(found: tuple[float, Params, LossParts], written: Written) -> None:
    """The loss, every gradient, and what the loss tells beside them."""
    loss, grads, parts = found
    np.testing.assert_allclose(loss, written.loss, rtol=1e-5)
    assert set(grads) == set(written.grads)
    for name, expected in written.grads.items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            grads[name], expected, rtol=1e-4, atol=1e-5 * scale + 1e-9, err_msg=name
        )
    np.testing.assert_allclose(parts.l0, (written.z > 0).sum(1).mean(), rtol=1e-6)
    np.testing.assert_array_equal(parts.fired, (written.z > 1e-3).sum(0))
