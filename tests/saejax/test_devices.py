"""One device, eight under pmap, and meshes that split the dictionary: the same training.

The plain gradient is followed, since Adam would hide one of the wrong scale.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saejax.architectures.batch_topk import SPARE
from saejax.config import TrainConfig
from saejax.model import Constants
from saejax.state import StepMetrics, TrainState, init_state
from saejax.step import make_train_step

pytestmark = pytest.mark.usefixtures("quick_compilation")

D, F, K, BATCH, STEPS = 4, 16, 2, 32, 4
PLAIN = ["jumprelu", "jumprelu_l0", "gated", "relu"]
CASES: dict[str, dict[str, Any]] = {
    "topk": {"k_start": 3},
    "multi": {"multi_topk": True},
    "batchtopk": {},
    "matryoshka": {"prefixes": (3, 8, 16)},
    "jumprelu": {"sparsity": 0.5},
    "jumprelu_l0": {"target_l0": 3.0},
    "gated": {"sparsity": 0.5},
    "relu": {"sparsity": 0.5},
}
ARCHITECTURE = {"multi": "topk", "jumprelu_l0": "jumprelu"}
LAYOUTS = {"pmap8": (8, 1), "mesh1x4": (1, 4), "mesh4x2": (4, 2)}


@dataclass(frozen=True)
class Ran:
    start: TrainState
    state: TrainState
    history: list[StepMetrics]


def rows(n=STEPS):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(D, D))
    return [(rng.normal(size=(BATCH, D)) @ mixing).astype(np.float32) for _ in range(n)]


def start(case):
    config = TrainConfig.of(
        Path("acts"), Path("run"), architecture=ARCHITECTURE.get(case, case), d_sae=F, k=K,
        k_aux=3, batch_size_tokens=BATCH, seed=3, warmup_steps=0, decay_fraction=0.0,
        learning_rate=0.01 if case in PLAIN else 0.5, dead_after_tokens=BATCH,
        k_anneal_fraction=1.0, auxk_coefficient=1.0, ema_decay=0.9, **CASES[case],
    )  # fmt: skip
    constants = Constants(np.linspace(-1, 1, D).astype(np.float32), 0.7)
    training, state = init_state(
        config, config.sae(D), constants, STEPS, optimizer=optax.identity(), clip_norm=None
    )
    rng = np.random.default_rng(5)  # biases away from 0, so that every gradient takes part
    moved = {name: value + jnp.asarray(0.2 * rng.normal(size=value.shape), jnp.float32)
             for name, value in sorted(state.params.items()) if value.ndim == 1}  # fmt: skip
    params = state.params | moved
    # two latents that can hardly fire, and are dead from the second step on
    params["b_enc"] = params["b_enc"].at[jnp.array([5, 11])].add(-30.0)
    if "log_threshold" in params:
        params["log_threshold"] = params["log_threshold"] - 2.0  # the encoder starts small
    return training, state._replace(params=params, ema=dict(params))


def run(training, state, batches, n_data, n_latent):
    step = make_train_step(training, jax.devices()[: n_data * n_latent], latent_devices=n_latent)
    now, history = jax.tree.map(jnp.array, state), []  # the step donates its state
    for batch in batches:
        now, metrics = step(now, jnp.asarray(batch.reshape(n_data, -1, D)))
        history.append(jax.device_get(metrics))
    return Ran(jax.device_get(state), jax.device_get(now), history)


@lru_cache
def on_one(case):
    return run(*start(case), rows(), 1, 1)


def assert_same(one, many):
    for a, b in zip(one.history, many.history, strict=True):
        for name, x, y in zip(StepMetrics._fields, a, b, strict=True):
            np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(a.frequency_histogram, b.frequency_histogram)
        np.testing.assert_allclose(a.l0, b.l0, rtol=1e-6)
    for name in one.state.params:
        for kind in ("params", "ema"):
            x, y = getattr(one.state, kind)[name], getattr(many.state, kind)[name]
            np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(one.state.tokens_since_fired, many.state.tokens_since_fired)
    np.testing.assert_allclose(one.state.frequency, many.state.frequency, rtol=1e-6)
    assert one.state.step == many.state.step == len(one.history)


@pytest.mark.parametrize("case", CASES)
def test_every_part_of_the_step_is_exercised(case):
    one = on_one(case)
    for name, value in one.state.params.items():
        assert np.abs(value - one.start.params[name]).max() > 1e-4, name
    assert (one.state.tokens_since_fired == STEPS * BATCH).sum() >= 1
    assert (one.state.tokens_since_fired == 0).any()
    assert one.history[-1].l0 > 0.5
    assert np.isfinite([m.loss for m in one.history]).all()
    if case not in PLAIN:
        assert one.history[-1].auxk > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_devices_change_nothing(case, layout):
    assert_same(on_one(case), run(*start(case), rows(), *LAYOUTS[layout]))


@pytest.mark.parametrize("layout", ["pmap8", "mesh4x2"])
def test_one_device_has_nearly_all_of_the_batchs_budget(layout):
    """More than its room for entries, so that every device takes the dense branch."""
    training, state = start("batchtopk")
    batch = rows(1)[0]
    n_data = LAYOUTS[layout][0]
    share = BATCH // n_data
    batch[:share] *= 50
    one = run(training, state, [batch], 1, 1)
    sae = training.sae(jax.tree.map(jnp.asarray, state.params))
    h = np.maximum(np.asarray(sae.pre_activations(jnp.asarray(batch))), 0)
    kept = h >= np.sort(h, axis=None)[-K * BATCH]
    assert kept[:share].sum() > SPARE * share * K
    assert_same(one, run(training, state, [batch], *LAYOUTS[layout]))
