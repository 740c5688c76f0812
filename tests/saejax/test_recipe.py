"""What a step does besides the loss: schedules, averaged weights, parts of a batch."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saejax.axes import NOWHERE
from saejax.config import TrainConfig
from saejax.model import Constants
from saejax.schedules import schedules
from saejax.state import init_state
from saejax.step import _now, device_step

pytestmark = pytest.mark.usefixtures("quick_compilation")

D, F, BATCH, N_STEPS = 4, 16, 32, 40


def config_of(**settings):
    plain = {"d_sae": F, "k": 2, "batch_size_tokens": BATCH, "warmup_steps": 0,
             "decay_fraction": 0.0, "learning_rate": 0.3}  # fmt: skip
    return TrainConfig.of(Path("acts"), Path("run"), **plain | settings)


def begin(config):
    constants = Constants(np.linspace(-1, 1, D).astype(np.float32), 0.7)
    return init_state(
        config, config.sae(D), constants, N_STEPS, optimizer=optax.identity(), clip_norm=None
    )


def batch(seed=0):
    rows = 2 * np.random.default_rng(seed).normal(size=(BATCH, D))
    return jnp.asarray(rows, jnp.float32)


def steps(training, state, n):
    """States and metrics of n steps."""
    one = jax.jit(lambda state, rows: device_step(training, state, rows))
    states, history = [state], []
    for i in range(n):
        state, metrics = one(state, batch(i))
        states.append(state)
        history.append(metrics)
    return states, history


def sparsity_at(training, state, step):
    state = state._replace(step=jnp.int32(step))
    return float(_now(training, state, jnp.zeros(F, bool), NOWHERE).sparsity)


def k_at(training, state, step):
    now = _now(training, state._replace(step=jnp.int32(step)), jnp.zeros(F, bool), NOWHERE)
    return None if now.k is None else int(now.k)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("jumprelu", {0: 0, 10: 1 / 4, 39: 39 / 40, 40: 1}),  # over the whole run
        ("relu", {0: 0, 1: 1 / 2, 2: 1, 39: 1}),  # over the first 5 %
        ("gated", {0: 1, 39: 1}),
    ],
)
def test_sparsity_rises_as_the_recipe_says(architecture, expected):
    training, state = begin(config_of(architecture=architecture, sparsity=4.0))
    found = {step: sparsity_at(training, state, step) for step in expected}
    assert found == pytest.approx({step: 4 * share for step, share in expected.items()})


def test_sparsity_rises_as_asked():
    config = config_of(architecture="gated", sparsity=4.0, sparsity_warmup_fraction=0.5)
    training, state = begin(config)
    found = [sparsity_at(training, state, step) for step in (0, 5, 10, 20, 30)]
    assert found == pytest.approx([0, 1, 2, 4, 4])


def test_sparsity_reaches_the_loss():
    """The first step's loss has no penalty; the same step with λ in force has."""
    training, state = begin(config_of(architecture="relu", sparsity=4.0))
    early = steps(training, state, 1)[1][0].loss
    late = steps(training, state._replace(step=jnp.int32(N_STEPS)), 1)[1][0].loss
    assert late > early * 1.01


@pytest.mark.parametrize(
    ("k_start", "expected"), [(10, [10, 8, 6, 4, 2, 2]), (1, [1, 1, 2, 2, 2, 2])]
)
def test_k_goes_straight_from_start_to_end(k_start, expected):
    config = config_of(k_start=k_start, k_anneal_fraction=0.5)
    assert config.sae(D).width == max(k_start, 2)
    training, state = begin(config)
    assert [k_at(training, state, step) for step in (0, 5, 10, 15, 20, 39)] == expected


def test_k_that_stays_is_compiled_in():
    assert k_at(*begin(config_of()), 5) is None


def test_l0_follows_k():
    config = config_of(k_start=5, k_anneal_fraction=0.1)  # over 4 steps
    training, state = begin(config)
    all_positive = state.params | {"b_enc": jnp.full(F, 20.0)}
    still = state.hyper._replace(learning_rate=jnp.float32(0))
    state = state._replace(params=all_positive, hyper=still)
    _, history = steps(training, state, 6)
    assert [float(m.l0) for m in history] == [5, 4, 4, 3, 2, 2]  # 5, 4.25, 3.5, 2.75, 2


def test_learning_rate():
    config = config_of(warmup_steps=4, decay_fraction=0.25)
    rate = schedules(config, N_STEPS).learning_rate
    found = [float(np.asarray(rate(i))) for i in (0, 1, 2, 3, 29, 30, 35, 39)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.1])


def test_averaged_weights_by_hand():
    training, state = begin(config_of(ema_decay=0.8))
    np.testing.assert_array_equal(state.ema["W_dec"], state.params["W_dec"])
    states, _ = steps(training, state, 3)
    for name in state.params:
        p = [np.asarray(s.params[name], np.float64) for s in states]
        expected = 0.8**3 * p[0] + 0.2 * (0.64 * p[1] + 0.8 * p[2] + p[3])
        np.testing.assert_allclose(states[3].ema[name], expected, rtol=1e-5, atol=1e-7)


def test_no_average_unless_asked():
    training, state = begin(config_of())
    assert not steps(training, state, 1)[0][1].ema


def test_parts_of_a_batch_are_the_whole_batch():
    whole = steps(*begin(config_of()), 2)
    split = steps(*begin(config_of(accumulate_steps=4)), 2)
    for name, value in whole[0][2].params.items():
        assert np.abs(value - whole[0][0].params[name]).max() > 1e-3
        np.testing.assert_allclose(split[0][2].params[name], value, rtol=1e-6, atol=1e-6)
    for a, b in zip(whole[1], split[1]):
        for name, x, y in zip(a._fields, a, b):
            np.testing.assert_allclose(y, x, rtol=2e-6, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(whole[0][2].tokens_since_fired, split[0][2].tokens_since_fired)
