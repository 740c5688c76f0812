"""One test for each defect that was found in another trainer; each fails when it is put in here.

The defects are in the loss, the constraint or the bookkeeping, and training goes on with them
without a sign, to a worse result.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saejax.calibrate import calibrate_threshold
from saejax.checkpoint import Checkpoints, latest_sae
from saejax.config import TrainConfig
from saejax.evaluate import evaluate
from saejax.model import Constants
from saejax.state import init_state
from saejax.step import device_step
from tests.saejax.architectures import equations
from tests.saejax.architectures.problems import (
    K_AUX,
    B,
    D,
    F,
    K,
    assert_as_written,
    build,
    ours,
    random_dead,
    random_params,
    random_rows,
    sae_config,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = random_rows()
DEAD = random_dead(9)
UNIT = Constants(np.zeros(D, np.float32), 1.0)


def begin(*, b_enc=None, **settings):
    """A run that follows the plain gradient."""
    plain = {"d_sae": F, "k": K, "k_aux": K_AUX, "batch_size_tokens": B, "warmup_steps": 0,
             "decay_fraction": 0.0, "learning_rate": 0.5}  # fmt: skip
    config = TrainConfig.of(Path("acts"), Path("run"), **plain | settings)
    training, state = init_state(
        config, config.sae(D), UNIT, 10, optimizer=optax.identity(), clip_norm=None
    )
    if b_enc is not None:
        state = state._replace(params=state.params | {"b_enc": jnp.asarray(b_enc, jnp.float32)})
    return training, state


_compiled = {}


def one_step(training, state, rows):
    """A step on one device, compiled once for each run and size of batch."""
    key = (id(training), len(rows))
    if key not in _compiled:  # with the run itself, whose id must stay its own
        _compiled[key] = training, jax.jit(lambda state, x: device_step(training, state, x))
    return _compiled[key][1](state, jnp.asarray(rows, jnp.float32))


def auxk_grads(params, **settings):
    """What AuxK adds to the gradients."""
    config = sae_config("topk")
    with_it = ours(config, params, X, dead=DEAD, weight=1.0, **settings)[1]
    without = ours(config, params, X, dead=DEAD, weight=0.0, **settings)[1]
    return {name: with_it[name] - without[name] for name in with_it}


def test_decoder_constraint_acts_on_latents():
    """InterProt, BioNeMo: norms were taken over the other axis."""
    training, state = begin()
    after, _ = one_step(training, state, X)
    W = np.asarray(after.params["W_dec"])
    assert W.shape == (F, D)
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, rtol=1e-6)
    assert np.abs(np.linalg.norm(W, axis=0) - 1).min() > 0.1


def test_decoder_gradient_is_orthogonal_to_each_latents_row():
    """The same axis for the gradient: rows turn, and their lengths have no gradient."""
    training, state = begin(learning_rate=1e-3)
    grads = ours(training.sae_config, jax.tree.map(np.asarray, state.params), X)[1]["W_dec"]
    W = np.asarray(state.params["W_dec"])
    along = (grads * W).sum(axis=1, keepdims=True)
    assert np.abs(along).max() > 1e-2
    _, metrics = one_step(training, state, X)
    others = ours(training.sae_config, jax.tree.map(np.asarray, state.params), X)[1]
    squares = sum((g**2).sum() for name, g in others.items() if name != "W_dec")
    expected = np.sqrt(squares + ((grads - along * W) ** 2).sum())
    assert metrics.grad_norm == pytest.approx(expected, rel=1e-5)


def test_rows_of_a_batch_do_not_mix():
    """InterProt trained on padding. Stores hold residues only; so no row may touch another's part.

    The loss of a batch is the mean of its rows' losses, and a row that isn't there adds nothing.
    """
    config, p = sae_config("topk"), random_params(sae_config("topk"))
    whole, grads, _ = ours(config, p, X)
    halves = [ours(config, p, X[:6]), ours(config, p, X[6:])]
    assert whole == pytest.approx(np.mean([h[0] for h in halves]), rel=1e-6)
    for name in grads:
        mean = (halves[0][1][name] + halves[1][1][name]) / 2
        np.testing.assert_allclose(grads[name], mean, rtol=1e-5, atol=1e-6)


def test_padding_of_a_block_is_not_counted():
    """The same in evaluation and calibration, where blocks are filled up with zeros."""
    p = random_params(sae_config("batchtopk"))
    sae = build(sae_config("batchtopk"), p, Constants(np.full(D, 3.0, np.float32), 1.0))
    raw = (X + 3).astype(np.float32)
    threshold = calibrate_threshold(sae, lambda: [raw], K)
    whole = evaluate(sae.for_inference(threshold), [raw])
    assert whole.n_tokens == B
    assert whole.l0 == K
    z = np.asarray(sae.for_inference(threshold).encode_dense(raw))
    np.testing.assert_allclose(whole.maximum, z.max(0), rtol=1e-5)


def test_auxk_reaches_the_encoder():
    """sparsify: the fused encoder dropped these gradients."""
    grads = auxk_grads(random_params(sae_config("topk")))
    for name in ("W_enc_T", "b_enc", "W_dec"):
        per_latent = np.abs(grads[name]).reshape(F, -1).max(axis=1)
        assert (per_latent[DEAD] > 1e-3).sum() >= 5, name
        assert per_latent[~DEAD].max() < 1e-6, name


def test_multi_topk_reaches_the_encoder():
    """sparsify: the same. Latents that are only among the 4k largest learn."""
    p = random_params(sae_config("topk"))
    _, grads, parts = ours(sae_config("topk", multi_topk=True), p, X[:1])
    only_wide = np.abs(grads["b_enc"]) > 0
    assert parts.fired.sum() == K
    assert (only_wide & (parts.fired == 0)).sum() >= 3
    assert (np.abs(grads["W_enc_T"]).max(axis=1) > 0).sum() == only_wide.sum()


@pytest.mark.parametrize("repeat", [2, 5])
def test_auxk_is_balanced_against_the_main_loss(repeat):
    """DL: a summed loss beside a normalised AuxK. Neither may grow with d_model or the batch."""
    config, p = sae_config("topk"), random_params(sae_config("topk"))
    loss, _, parts = ours(config, p, X, dead=DEAD)
    longer, _, longer_parts = ours(config, p, np.tile(X, (repeat, 1)), dead=DEAD)
    assert loss == pytest.approx(longer, rel=1e-5)
    assert parts.auxk == pytest.approx(longer_parts.auxk, rel=1e-5)
    # every dimension ``repeat`` times, with an encoder that has the same pre-activations
    wide = {name: np.tile(p[name], (1, repeat)) for name in ("W_dec", "W_enc_T")}
    wide |= {"b_dec": np.tile(p["b_dec"], repeat), "b_enc": p["b_enc"]}
    wide["W_enc_T"] = wide["W_enc_T"] / repeat
    wider, _, wider_parts = ours(
        sae_config("topk", d_model=repeat * D), wide, np.tile(X, (1, repeat)), dead=DEAD
    )
    assert loss == pytest.approx(wider, rel=1e-5)
    assert parts.auxk == pytest.approx(wider_parts.auxk, rel=1e-5)
    # and AuxK is of the residual's own size: 1 when the dead latents explain nothing
    silent = p | {"b_enc": np.where(DEAD, -100.0, p["b_enc"])}
    e = X - X.mean(0)
    centred = ours(
        config, silent | {"W_dec": 0 * p["W_dec"], "b_dec": 0 * p["b_dec"]}, e, dead=DEAD
    )
    assert centred[2].auxk == pytest.approx(1, rel=1e-5)


def test_residual_is_detached():
    """llamascopium, overcomplete, BatchTopK: AuxK pushed living latents through the residual."""
    for architecture in ("topk", "batchtopk", "matryoshka"):
        config = sae_config(architecture)
        p = random_params(config)
        with_it = ours(config, p, X, dead=DEAD, weight=1.0)[1]
        without = ours(config, p, X, dead=DEAD, weight=0.0)[1]
        for name in ("W_dec", "W_enc_T", "b_enc"):
            np.testing.assert_allclose(
                with_it[name][~DEAD], without[name][~DEAD], atol=1e-6, err_msg=architecture
            )


def test_dead_pre_activations_are_rectified():
    """SAELens: dead latents with negative pre-activations reconstructed with negative values.

    On half of the rows all dead latents are positive, more than k_aux; on the others, none is.
    """
    config, p = sae_config("topk"), random_params(sae_config("topk"))
    p["W_enc_T"] = np.where(DEAD[:, None], np.linspace(1, 2, F)[:, None] * [3.0, 0, 0, 0, 0], 0)
    p |= {"b_enc": np.zeros(F), "b_dec": np.zeros(D)}
    assert DEAD.sum() > K_AUX
    positive = X[:, 0] > 0
    assert 0 < positive.sum() < B
    loss, grads, parts = ours(config, p, X, dead=DEAD, weight=1.0)
    written = equations.topk(p, X, k=K, dead=DEAD, k_aux=K_AUX, weight=1.0)
    assert_as_written((loss, grads, parts), written)
    # with no positive row left, there is nothing
    p["b_enc"] = np.where(DEAD, -100.0, 0.0)
    added = auxk_grads(p)
    assert all(np.abs(g).max() < 1e-6 for g in added.values())


@pytest.mark.parametrize("rows", [4, B])
def test_dead_is_counted_in_tokens(rows):
    """SAELens counted steps: the meaning of the threshold changed with the batch."""
    training, state = begin(b_enc=np.where(DEAD, -100.0, 1.0), dead_after_tokens=2 * B)
    seen = []
    for _ in range(3 * B // rows + 1):
        state, metrics = one_step(training, state, X[:rows])
        seen.append(float(metrics.frac_dead))
    silent = np.asarray(state.tokens_since_fired)
    assert (silent[DEAD] == 3 * B + rows).all()
    first = next(i for i, share in enumerate(seen) if share > 0)
    assert first * rows == 2 * B + rows  # known at the step after more than 2 B were seen


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_zero_valued_winners_did_not_fire(architecture):
    """DL: latents among the k largest counted as alive with a value of 0."""
    training, state = begin(b_enc=np.full(F, -100.0), architecture=architecture)
    after, metrics = one_step(training, state, X)
    assert (after.tokens_since_fired == B).all()
    assert metrics.l0 == 0


def test_l0_target_reaches_the_thresholds():
    """DL #55: L0 was counted after the jump, which has no gradient in the threshold."""
    config = sae_config("jumprelu", target_l0=1.0)
    p = random_params(config) | {"W_dec": np.zeros((F, D))}  # nothing else reaches them
    _, grads, parts = ours(config, p, X)
    assert parts.l0 > 1
    assert (grads["log_threshold"] < -1e-3).all()  # all of them rise
    # silent ones that are near their thresholds too: the estimate is of h, not of z
    silent = p | {"b_enc": np.full(F, -0.5), "log_threshold": np.full(F, -1.0)}
    silent["W_enc_T"] = np.zeros((F, D))
    _, grads, parts = ours(config, silent, X)
    assert parts.l0 == 0
    assert (grads["log_threshold"] > 1e-3).all()


def test_gated_auxiliary_reconstruction_is_detached():
    """SAELens #543: the gate's own reconstruction trained the decoder."""
    config = sae_config("gated")
    p = random_params(config)
    p["b_mag"], p["r_mag"] = np.full(F, -100.0), np.zeros(F)  # the main path is silent
    _, grads, parts = ours(config, p, X)
    assert parts.l0 == 0
    assert not grads["W_dec"].any()
    assert np.abs(grads["b_enc"]).max() > 1e-2  # it trains the gate
    # b_dec: of ‖x − b_dec‖², and of the gate through x − b_dec, and no more
    gate = np.maximum((X - p["b_dec"]) @ p["W_enc_T"].T + p["b_enc"], 0)
    error = gate @ p["W_dec"] + p["b_dec"] - X
    to_gate = 2 / B * (error @ p["W_dec"].T) * (gate > 0)
    expected = 2 * (p["b_dec"] - X.mean(0)) - to_gate.sum(0) @ p["W_enc_T"]
    np.testing.assert_allclose(grads["b_dec"], expected, rtol=1e-4, atol=1e-5)


def test_matryoshka_does_not_grow_with_its_groups():
    """DL scales by 1/G², SAELens sums: learning rate and AuxK's weight would depend on G.

    Only latents of the first group fire, so each prefix has the same loss, whatever their number.
    """
    p = random_params(sae_config("matryoshka"))
    p["b_enc"] = np.where(np.arange(F) < 2, p["b_enc"], -100.0)
    found = [ours(sae_config("matryoshka", prefixes=prefixes), p, X)
             for prefixes in ((F,), (2, 3, 4, 8, F))]  # fmt: skip
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for name, grad in found[0][1].items():
        np.testing.assert_allclose(found[1][1][name], grad, rtol=1e-4, atol=1e-6)


def test_batch_topk_of_zeros_is_finite():
    """DL: an all-zero row made the threshold infinite, and the average with it."""
    training, state = begin(architecture="batchtopk", dead_after_tokens=1)
    one_row = np.where(np.arange(B)[:, None] == 0, X, 0)
    for rows, some_fire in ((np.zeros_like(X), False), (one_row, True), (X, True)):
        state, metrics = one_step(training, state, rows)
        assert (metrics.l0 > 0) == some_fire  # values below the budget are kept, zeros are not
        assert np.isfinite(metrics.loss)
        assert all(np.isfinite(p).all() for p in state.params.values())
    sae = build(sae_config("batchtopk"), {}, UNIT)
    assert calibrate_threshold(sae, lambda: [np.zeros((B, D), np.float32)], K) == 0


def test_threshold_gives_k_on_held_out_rows_and_both_l0s_are_told():
    """Nobody calibrates it: L0 in use drifts away from k, and only the one in training is told."""
    p, config = random_params(sae_config("batchtopk")), sae_config("batchtopk")
    _, _, parts = ours(config, p, X)
    assert parts.l0 == K  # in training
    sae, held_out = build(config, p, UNIT), (1.5 * random_rows(200, seed=8)).astype(np.float32)
    threshold = calibrate_threshold(sae, lambda: [held_out], K)
    assert evaluate(sae.for_inference(threshold), [held_out]).l0 == K  # in use
    smallest_in_training = np.sort(np.asarray(sae.pre_activations(X.astype(np.float32))), axis=None)
    assert threshold != pytest.approx(smallest_in_training[-K * B], rel=1e-2)


def test_fvu_counts_everything_and_knows_the_mean():
    """Several definitions go round: means of per-row or per-dimension ratios, or about 0."""
    sae = build(sae_config("topk"), random_params(sae_config("topk")), UNIT)
    rng = np.random.default_rng(0)
    raw = (X * rng.uniform(0.1, 4, size=(B, 1)) * rng.uniform(0.1, 4, size=D) + 2).astype(
        np.float32
    )
    error = (raw - np.asarray(sae(raw), np.float64)) ** 2
    about_mean = (raw - raw.mean(0, dtype=np.float64)) ** 2
    found = evaluate(sae, [raw[:5], raw[5:]]).fvu
    assert found == pytest.approx(error.sum() / about_mean.sum(), rel=1e-5)
    for other in (
        (error.sum(1) / about_mean.sum(1)).mean(),
        (error.sum(0) / about_mean.sum(0)).mean(),
        error.sum() / (raw**2).sum(),
    ):
        assert found != pytest.approx(other, rel=0.05)
    # one that gives the mean back has 1, and one whose mean is wrong has more
    p = random_params(sae_config("topk")) | {"b_enc": np.full(F, -100.0)}
    exact = build(sae_config("topk"), p | {"b_dec": raw.mean(0)}, UNIT)
    assert evaluate(exact, [raw]).fvu == pytest.approx(1, rel=1e-5)
    off = build(sae_config("topk"), p | {"b_dec": raw.mean(0) + 1}, UNIT)
    expected = 1 + D * B / about_mean.sum()
    assert evaluate(off, [raw]).fvu == pytest.approx(expected, rel=1e-5)


def test_scale_and_mean_are_saved_with_the_weights(tmp_path):
    """DL, Reticular: without them, the SAE is given inputs it never saw."""
    config = TrainConfig.of(Path("acts"), tmp_path, d_sae=F, k=K, batch_size_tokens=B)
    mean = np.linspace(-3, 3, D).astype(np.float32)
    training, state = init_state(config, config.sae(D), Constants(mean, 0.37), 10)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(training, jax.device_get(state))
    checkpoints.wait()
    sae = latest_sae(tmp_path, config.sae(D))
    np.testing.assert_array_equal(sae.mean[...], mean)
    assert sae.scale[...] == np.float32(0.37)
    raw = X.astype(np.float32)
    x = 0.37 * (X - mean)
    h = (x - np.asarray(sae.b_dec[...])) @ np.asarray(sae.W_enc) + np.asarray(sae.b_enc[...])
    np.testing.assert_allclose(sae.pre_activations(raw), h, rtol=1e-4, atol=1e-5)
