"""The written losses of all architectures in float64 NumPy, their gradients derived by hand.

Nothing here comes from ``saejax``; ``test_equations.py`` checks the gradients by differences.
Every function returns the loss, the gradient of every parameter, and the latents.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Params = dict[str, np.ndarray]


class Written(NamedTuple):
    loss: float
    grads: Params
    z: np.ndarray


def pre_activations(p: Params, x: np.ndarray, transcoder: bool = False) -> np.ndarray:
    bias = 0 if transcoder else p["b_dec"]
    return (x - bias) @ p["W_enc_T"].T + p["b_enc"]


def largest(h: np.ndarray, k: int) -> np.ndarray:
    """Mask of each row's k largest; of equal ones, the first."""
    order = np.argsort(-h, axis=1, kind="stable")[:, :k]
    mask = np.zeros(h.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask


def no_grads(p: Params) -> Params:
    return {name: np.zeros_like(value) for name, value in p.items()}


def through_decoder(p: Params, grads: Params, z: np.ndarray, g_out: np.ndarray) -> np.ndarray:
    """Adds what x̂ = z W_dec + b_dec gives; returns the gradient of z."""
    grads["W_dec"] += z.T @ g_out
    grads["b_dec"] += g_out.sum(0)
    return g_out @ p["W_dec"].T


def through_encoder(
    p: Params, grads: Params, x: np.ndarray, g_h: np.ndarray, transcoder: bool = False
) -> None:
    """Adds what h = (x − b_dec) W_enc + b_enc gives."""
    bias = 0 if transcoder else p["b_dec"]
    grads["W_enc_T"] += g_h.T @ (x - bias)
    grads["b_enc"] += g_h.sum(0)
    if not transcoder:
        grads["b_dec"] -= g_h.sum(0) @ p["W_enc_T"]


def auxk(
    p: Params, grads: Params, x: np.ndarray, e: np.ndarray, dead: np.ndarray, k_aux: int,
    weight: float, transcoder: bool = False,
) -> float:  # fmt: skip
    """Adds ``weight`` times AuxK's gradient; returns ``weight`` times AuxK. e is a constant."""
    if not dead.any():
        return 0.0
    rectified = np.maximum(pre_activations(p, x, transcoder), 0)
    chosen = largest(np.where(dead, rectified, -1), min(k_aux, int(dead.sum())))
    z = np.where(chosen, rectified, 0)
    variance = ((e - e.mean(0)) ** 2).mean()
    if variance == 0:
        return 0.0
    error = z @ p["W_dec"] - e
    g_out = weight * 2 * error / error.size / variance
    grads["W_dec"] += z.T @ g_out
    through_encoder(p, grads, x, (g_out @ p["W_dec"].T) * (z > 0), transcoder)
    return weight * float((error**2).mean() / variance)


def topk(
    p: Params, x: np.ndarray, y: np.ndarray | None = None, *, k: int, dead: np.ndarray,
    k_aux: int, weight: float = 1 / 32, multi: bool = False, transcoder: bool = False,
    residual: np.ndarray | None = None,
) -> Written:  # fmt: skip
    """MSE(y, ŷ) + α AuxK [+ MSE(y, ŷ of 4k) / 8]."""
    y = x if y is None else y
    grads, total = no_grads(p), 0.0
    h = pre_activations(p, x, transcoder)
    z = np.zeros_like(h)
    for width, share in ((4 * k, 1 / 8), (k, 1.0)):
        if width != k and not multi:
            continue
        z = np.where(largest(h, width), np.maximum(h, 0), 0)
        error = z @ p["W_dec"] + p["b_dec"] - y
        total += share * float((error**2).mean())
        g_z = through_decoder(p, grads, z, share * 2 * error / error.size)
        through_encoder(p, grads, x, g_z * (z > 0), transcoder)
        e = -error
    e = e if residual is None else residual
    total += auxk(p, grads, x, e, dead, k_aux, weight, transcoder)
    return Written(total, grads, z)


def batch_topk(
    p: Params, x: np.ndarray, *, budget: int, dead: np.ndarray, k_aux: int,
    weight: float = 1 / 32, prefixes: tuple[int, ...] = (), weights: tuple[float, ...] = (),
    residual: np.ndarray | None = None,
) -> Written:  # fmt: skip
    """Mean over nested dictionaries of MSE, + α AuxK of the last; the budget is of the batch."""
    grads, total, d_sae = no_grads(p), 0.0, p["b_enc"].size
    h = pre_activations(p, x)
    rectified = np.maximum(h, 0)
    tau = np.sort(rectified, axis=None)[::-1][budget - 1]
    z = np.where((rectified >= tau) & (rectified > 0), rectified, 0)
    prefixes = prefixes or (d_sae,)
    weights = weights or (1.0,) * len(prefixes)
    error = np.zeros_like(x)
    for size, share in zip(prefixes, np.array(weights) / sum(weights)):
        inside = np.where(np.arange(d_sae) < size, z, 0)
        error = inside @ p["W_dec"] + p["b_dec"] - x
        total += share * float((error**2).mean())
        g_z = through_decoder(p, grads, inside, share * 2 * error / error.size)
        through_encoder(p, grads, x, g_z * (inside > 0))
    e = -error if residual is None else residual
    total += auxk(p, grads, x, e, dead, k_aux, weight)
    return Written(total, grads, z)


def jumprelu(
    p: Params, x: np.ndarray, *, sparsity: float = 0.0, target_l0: float | None = None
) -> Written:
    """‖x − x̂‖² + λ Σ tanh(4 z ‖w‖) + 3e-6 Σ ReLU(e^t − h) ‖w‖, or + 2/L0* (L0 − L0*)².

    The gradient in t goes through the rectangle of width 2: ∂z/∂t = −(e^t / 2) 1[|h − e^t| < 1],
    and the same for ∂1[h > e^t]/∂t.
    """
    grads, n = no_grads(p), len(x)
    h, theta = pre_activations(p, x), np.exp(p["log_threshold"])
    norms = np.linalg.norm(p["W_dec"], axis=1)
    active = h > theta
    z = np.where(active, h, 0)
    error = z @ p["W_dec"] + p["b_dec"] - x
    total = float((error**2).sum(1).mean())
    g_z = through_decoder(p, grads, z, 2 * error / n)
    g_h = np.zeros_like(h)
    if target_l0 is None:
        t = np.tanh(4 * z * norms)
        gap = np.maximum(theta - h, 0)
        total += float(sparsity * t.sum(1).mean() + 3e-6 * (gap * norms).sum(1).mean())
        g_z = g_z + sparsity / n * (1 - t**2) * 4 * norms
        g_h -= 3e-6 / n * norms * (gap > 0)
        grads["log_threshold"] += (3e-6 / n * norms * theta * (gap > 0)).sum(0)
        g_norm = (sparsity / n * (1 - t**2) * 4 * z + 3e-6 / n * gap).sum(0)
        grads["W_dec"] += (g_norm / norms)[:, None] * p["W_dec"]
        g_active = np.zeros_like(h)
    else:
        l0 = active.sum(1).mean()
        total += float(2 / target_l0 * (l0 - target_l0) ** 2)
        g_active = np.full_like(h, 4 / target_l0 * (l0 - target_l0) / n)
    near = np.abs(h - theta) < 1
    grads["log_threshold"] += (-theta / 2 * near * (g_z + g_active)).sum(0)
    through_encoder(p, grads, x, g_h + g_z * active)
    return Written(total, grads, z)


def gated(p: Params, x: np.ndarray, *, sparsity: float, frozen: Params | None = None) -> Written:
    """‖x − x̂‖² + λ ‖ReLU(π)‖₁ + ‖x − x̂_frozen(ReLU(π))‖²."""
    frozen = p if frozen is None else frozen
    grads, n = no_grads(p), len(x)
    u = (x - p["b_dec"]) @ p["W_enc_T"].T
    gate = u + p["b_enc"]
    magnitude = np.maximum(np.exp(p["r_mag"]) * u + p["b_mag"], 0)
    z = np.where(gate > 0, magnitude, 0)
    error = z @ p["W_dec"] + p["b_dec"] - x
    opened = np.maximum(gate, 0)
    by_gate = opened @ frozen["W_dec"] + frozen["b_dec"] - x
    total = (error**2).sum(1).mean() + sparsity * opened.sum(1).mean()
    total += (by_gate**2).sum(1).mean()
    g_m = through_decoder(p, grads, z, 2 * error / n) * (z > 0)
    g_gate = (sparsity / n + 2 / n * by_gate @ frozen["W_dec"].T) * (gate > 0)
    grads["r_mag"] += (g_m * np.exp(p["r_mag"]) * u).sum(0)
    grads["b_mag"] += g_m.sum(0)
    grads["b_enc"] += g_gate.sum(0)
    g_u = g_m * np.exp(p["r_mag"]) + g_gate
    grads["W_enc_T"] += g_u.T @ (x - p["b_dec"])
    grads["b_dec"] -= g_u.sum(0) @ p["W_enc_T"]
    return Written(float(total), grads, z)


def relu(p: Params, x: np.ndarray, *, sparsity: float) -> Written:
    """‖x − x̂‖² + λ Σ z ‖w‖."""
    grads, n = no_grads(p), len(x)
    z = np.maximum(pre_activations(p, x), 0)
    norms = np.linalg.norm(p["W_dec"], axis=1)
    error = z @ p["W_dec"] + p["b_dec"] - x
    total = (error**2).sum(1).mean() + sparsity * (z * norms).sum(1).mean()
    g_z = through_decoder(p, grads, z, 2 * error / n) + sparsity / n * norms
    grads["W_dec"] += (sparsity / n * z.sum(0) / norms)[:, None] * p["W_dec"]
    through_encoder(p, grads, x, g_z * (z > 0))
    return Written(float(total), grads, z)
