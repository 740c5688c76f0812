"""Matryoshka BatchTopK against the written equations."""

import numpy as np
import pytest

from extract.errors import UserError
from tests.saejax.architectures import equations
from tests.saejax.architectures.problems import (
    ALIVE,
    K_AUX,
    PREFIXES,
    B,
    F,
    K,
    assert_as_written,
    ours,
    random_dead,
    random_params,
    random_rows,
    sae_config,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = random_rows()


def written(p, x, dead=ALIVE, k=K, prefixes=PREFIXES, weights=()):
    return equations.batch_topk(
        p, x, budget=k * len(x), dead=dead, k_aux=K_AUX, prefixes=prefixes, weights=weights
    )


@pytest.mark.parametrize("weights", [(), (3.0, 1.0, 2.0)])
def test_loss_and_gradients(weights):
    config = sae_config("matryoshka", prefix_weights=weights)
    p, dead = random_params(config), random_dead(9)
    assert_as_written(ours(config, p, X, dead=dead), written(p, X, dead, weights=weights))


def test_many_prefixes():
    prefixes = (1, 2, 3, 12, 23, F)
    config = sae_config("matryoshka", prefixes=prefixes)
    p = random_params(config)
    assert_as_written(ours(config, p, X), written(p, X, prefixes=prefixes))


def test_a_row_that_takes_all_the_budget():
    config = sae_config("matryoshka")
    p, rows = random_params(config), X.copy()
    p["W_enc_T"], rows[4] = np.abs(p["W_enc_T"]), 40 * np.abs(rows[4])
    expected = written(p, rows)
    assert (expected.z > 0).sum(1).max() > 4 * K
    assert_as_written(ours(config, p, rows), expected)


def test_through_dense_arrays():
    """Equal values are all kept, and are too many for the lists of entries."""
    config = sae_config("matryoshka")
    p = random_params(config)
    p |= {"W_enc_T": np.zeros_like(p["W_enc_T"]), "b_enc": np.ones_like(p["b_enc"])}
    expected = written(p, X)
    assert (expected.z > 0).all()
    assert_as_written(ours(config, p, X), expected)


def test_one_prefix_is_batch_topk():
    p = random_params(sae_config("batchtopk"))
    plain, plain_grads, _ = ours(sae_config("batchtopk"), p, X)
    nested, grads, _ = ours(sae_config("matryoshka", prefixes=(F,)), p, X)
    assert plain == pytest.approx(nested, rel=1e-6)
    for name in grads:
        np.testing.assert_allclose(grads[name], plain_grads[name], rtol=1e-5, atol=1e-7)


def test_by_hand():
    """x = (1, 2), each latent an axis: the first prefix leaves 2² over, the second nothing."""
    config = sae_config("matryoshka", d_model=2, d_sae=2, k=2, k_aux=1, prefixes=(1, 2))
    p = {"W_dec": np.eye(2), "W_enc_T": np.eye(2), "b_enc": np.zeros(2), "b_dec": np.zeros(2)}
    loss, grads, parts = ours(config, p, np.array([[1.0, 2.0]]))
    assert loss == pytest.approx((2**2 / 2 + 0) / 2)
    assert parts.squared_error == 0  # of the whole dictionary
    assert parts.l0 == 2
    # only the first prefix has an error, −2 in the second axis: d/db_dec = 2·(−2) / 2 / 2 = −1
    np.testing.assert_allclose(grads["b_dec"], [0, -1], atol=1e-7)
    np.testing.assert_allclose(grads["W_dec"], [[0, -1], [0, 0]], atol=1e-7)


def test_later_latents_do_not_feel_the_earlier_prefixes():
    """With all the weight on the first prefix, only its latents have gradients."""
    config = sae_config("matryoshka", prefix_weights=(1.0, 0.0, 0.0))
    _, grads, _ = ours(config, random_params(config), X)
    for name in ("W_dec", "W_enc_T", "b_enc"):
        assert grads[name][: PREFIXES[0]].any()
        assert not grads[name][PREFIXES[0] :].any(), name


def test_k_of_this_step():
    config = sae_config("matryoshka", k_max=5)
    p = random_params(config)
    found = ours(config, p, X, k=2)
    assert_as_written(found, written(p, X, k=2))
    assert found[2].l0 * B == 2 * B


@pytest.mark.parametrize("prefixes", [(), (0, F), (4, 4, F), (10, 4, F), (4, F - 1)])
def test_prefixes_are_checked(prefixes):
    with pytest.raises(UserError, match="prefixes"):
        sae_config("matryoshka", prefixes=prefixes)
