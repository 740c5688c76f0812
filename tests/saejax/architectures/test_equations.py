"""The hand-derived gradients of ``equations.py`` against central differences."""

import numpy as np
import pytest

from tests.saejax.architectures import equations
from tests.saejax.architectures.problems import (
    K_AUX,
    PREFIXES,
    B,
    K,
    random_dead,
    random_params,
    random_rows,
    sae_config,
)

X = random_rows()
E = random_rows(seed=5)
DEAD = random_dead(7)
Y = random_rows(d=3, seed=6)

CASES = {
    "topk": ("topk", {}, lambda p: equations.topk(
        p, X, k=K, dead=DEAD, k_aux=K_AUX, residual=E)),
    "multi": ("topk", {}, lambda p: equations.topk(
        p, X, k=K, dead=DEAD, k_aux=K_AUX, residual=E, multi=True)),
    "transcoder": ("topk", {"d_out": 3}, lambda p: equations.topk(
        p, X, Y, k=K, dead=DEAD, k_aux=K_AUX, residual=E[:, :3], transcoder=True)),
    "batchtopk": ("batchtopk", {}, lambda p: equations.batch_topk(
        p, X, budget=K * B, dead=DEAD, k_aux=K_AUX, residual=E)),
    "matryoshka": ("matryoshka", {}, lambda p: equations.batch_topk(
        p, X, budget=K * B, dead=DEAD, k_aux=K_AUX, residual=E, prefixes=PREFIXES,
        weights=(3.0, 1.0, 2.0))),
    "jumprelu": ("jumprelu", {}, lambda p: equations.jumprelu(p, X, sparsity=0.7)),
    "jumprelu_l0": ("jumprelu", {}, lambda p: equations.jumprelu(p, X, target_l0=2.0)),
    "relu": ("relu", {}, lambda p: equations.relu(p, X, sparsity=0.7)),
    "gated": ("gated", {}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_gradients_by_differences(case):
    architecture, settings, function = CASES[case]
    p = random_params(sae_config(architecture, **settings))
    if function is None:
        start = {name: value.copy() for name, value in p.items()}

        def function(p):
            return equations.gated(p, X, sparsity=0.7, frozen=start)

    rng, grads = np.random.default_rng(0), function(p).grads
    for name in p:
        if name == "log_threshold":
            continue  # a straight-through estimate is not the derivative
        direction, eps = rng.normal(size=p[name].shape), 1e-6
        up = function(p | {name: p[name] + eps * direction}).loss
        down = function(p | {name: p[name] - eps * direction}).loss
        expected = (grads[name] * direction).sum()
        assert abs(expected) > 1e-6, name
        np.testing.assert_allclose((up - down) / (2 * eps), expected, rtol=1e-5, err_msg=name)
