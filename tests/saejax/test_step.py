"""The step's gradients, counters and schedule; on many devices: test_devices.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from saejax.config import SAEConfig, TrainConfig
from saejax.model import Constants
from saejax.schedules import schedules
from saejax.state import init_state
from saejax.step import device_step, make_train_step

D, F, BATCH = 8, 64, 64


def setup(tmp_path, *, plain_gradient=False, **settings):
    """``plain_gradient``: steps of 0.5 times the gradient; Adam would hide one of a wrong scale."""
    if plain_gradient:
        settings |= {"learning_rate": 0.5, "warmup_steps": 0, "decay_fraction": 0.0}
    config = TrainConfig.of(
        tmp_path, tmp_path, d_sae=F, k=4, batch_size_tokens=BATCH, seed=3, **settings
    )
    constants = Constants(np.linspace(-1, 1, D).astype(np.float32), 0.7)
    instead = {"optimizer": optax.identity(), "clip_norm": None} if plain_gradient else {}
    training, state = init_state(config, SAEConfig(D, F, 4, 4), constants, 100, **instead)
    # biases away from zero, so that every gradient is exercised
    keys = jax.random.split(jax.random.key(9), 2)
    params = state.params | {
        "b_enc": 0.1 * jax.random.normal(keys[0], (F,)),
        "b_dec": 0.1 * jax.random.normal(keys[1], (D,)),
    }
    return training, state._replace(params=params)


def batches(n, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(D, D))
    return [(rng.normal(size=(BATCH, D)) @ mixing).astype(np.float32) for _ in range(n)]


def run(training, state, data, n_devices):
    step = make_train_step(training, devices=jax.devices()[:n_devices])
    state = jax.tree.map(jnp.array, state)  # the step donates its state
    history = []
    for batch in data:
        state, metrics = step(state, batch.reshape(n_devices, -1, D))
        history.append(jax.device_get(metrics))
    return jax.device_get(state), history


def test_unwrapped_body_is_the_same_step(tmp_path):
    training, state = setup(tmp_path, plain_gradient=True)
    batch = batches(1)[0]
    wrapped, _ = run(training, state, [batch], 8)
    plain, _ = device_step(training, state, jnp.array(batch))
    for name in wrapped.params:
        np.testing.assert_allclose(wrapped.params[name], plain.params[name], rtol=1e-4, atol=1e-6)


def test_gradient_is_that_of_the_written_loss(tmp_path):
    """One SGD step against jax.grad of the dense formula, projected, with nothing dead."""
    training, state = setup(tmp_path, plain_gradient=True)
    batch = batches(1)[0]
    mean, scale = np.linspace(-1, 1, D).astype(np.float32), 0.7

    def loss(params):
        x = (batch - mean[None]) * scale
        h = (x - params["b_dec"][None]) @ params["W_enc_T"].T + params["b_enc"][None]
        z = jnp.where(h >= jnp.sort(h, axis=1)[:, [-4]], jax.nn.relu(h), 0.0)
        return ((z @ params["W_dec"] + params["b_dec"][None] - x) ** 2).mean()

    value, grads = jax.value_and_grad(loss)(state.params)
    after, history = run(training, state, [batch], 8)
    np.testing.assert_allclose(history[0].loss, value, rtol=1e-5)
    for name in ("W_enc_T", "b_enc", "b_dec"):
        expected = state.params[name] - 0.5 * grads[name]
        np.testing.assert_allclose(after.params[name], expected, rtol=1e-4, atol=1e-5)
    W, g = state.params["W_dec"], grads["W_dec"]
    moved = W - 0.5 * (g - (g * W).sum(1, keepdims=True) * W)
    moved /= jnp.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(after.params["W_dec"], moved, rtol=1e-4, atol=1e-5)


def test_decoder_rows_stay_unit_norm(tmp_path):
    training, state = setup(tmp_path)
    after, _ = run(training, state, batches(5), 8)
    np.testing.assert_allclose(np.linalg.norm(after.params["W_dec"], axis=1), 1, rtol=1e-5)


def test_silence_is_counted_in_tokens_over_all_devices(tmp_path):
    training, state = setup(tmp_path)
    params = dict(state.params)
    # Only latents 0..3 can fire: all others have a hopeless bias.
    params["b_enc"] = jnp.where(jnp.arange(F) < 4, 50.0, -50.0)
    after, history = run(training, state._replace(params=params), batches(3), 8)
    assert (after.tokens_since_fired[:4] == 0).all()
    assert (after.tokens_since_fired[4:] == 3 * BATCH).all()
    assert history[0].l0 == 4


def test_zero_valued_winners_did_not_fire(tmp_path):
    training, state = setup(tmp_path)
    params = dict(state.params) | {"b_enc": jnp.full(F, -100.0)}
    after, history = run(training, state._replace(params=params), batches(1), 8)
    assert (after.tokens_since_fired == BATCH).all()
    assert history[0].l0 == 0


def test_learning_rate_warms_up_holds_and_decays(tmp_path):
    config = TrainConfig.of(tmp_path, tmp_path, d_sae=F, warmup_steps=10)
    schedule = schedules(config, 1000).learning_rate
    values = [float(np.asarray(schedule(i))) for i in (0, 9, 10, 799, 800, 900, 999, 1000)]
    expected = [0.1, 1, 1, 1, 1, 0.5, 5e-3, 0]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-9)
