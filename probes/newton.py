"""Newton's method on many two-parameter logistic regressions at once, in JAX and float64.

A pair (latent, concept) is the problem::

    minimise over (w, b):  ½ l2 w² + Σ_j W_j softplus(w t_j + b) − w s_x − b s_1 + zeros(b)

whose labels have gone into ``s_x = Σ_i c_i y_i x_i`` and ``s_1 = Σ_i c_i y_i``; ``t, W`` are the
entries (or their nodes, ``probes/nodes.py``), and the rows where z = 0 are two counts. Where most
entries are positive, the same is written for 1 − y, −w and −b.

**Damping.** Let r be the largest change of a margin that the Newton step would make. Since
|σ''| ≤ σ', the curvature along the step grows at most like e^{r s} at a share s of it, so that the
objective falls by at least λ² (s − (e^{r s} − 1 − r s) / r²), λ the Newton decrement. That is
positive for the whole step if r ≤ 1, and largest at s = ln(1 + r) / r, which is taken beyond:
every step descends, without a line search (Sun & Tran-Dinh 2019, *Generalized self-concordant
functions*, ν = 2).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

STEP_TOLERANCE = 1e-5
"""A step that changes no margin by more is the last one: what remains is of the order of its
square."""
VECTOR = 4096
"""Terms computed at a time; what a processor's first cache holds."""


class Problems(NamedTuple):
    """P pairs with J nodes each; values are centred, so that w and b hardly interact."""

    t: Num[Array, "nodes pairs"]
    """Nodes."""
    weight: Num[Array, "nodes pairs"]
    """Their weights; 0 for padding."""
    t_zero: Num[Array, " pairs"]
    """Where z = 0 lies after centring."""
    zero_neg: Num[Array, " pairs"]
    """Weight of the negative rows with z = 0."""
    zero_pos: Num[Array, " pairs"]
    """Weight of the positive rows with z = 0."""
    side: Num[Array, " pairs"]
    """−1 where most entries are positive, else 1: y is then the minority among them, and
    gradients are sums of small terms even for a latent that is always right."""
    s_x: Num[Array, " pairs"]
    """Weighted sum of the values of entries of the minority."""
    s_1: Num[Array, " pairs"]
    """Weighted number of entries of the minority."""
    low: Num[Array, " pairs"]
    """Smallest value of any row."""
    high: Num[Array, " pairs"]
    """Largest value of any row."""
    reach: Num[Array, " pairs"]
    """|w| up to which the nodes stand for the entries."""


class Progress(NamedTuple):
    """Where every pair stands."""

    w: Float[Array, " pairs"]
    """Coefficient."""
    b: Float[Array, " pairs"]
    """Intercept at the centre."""
    done: Bool[Array, " pairs"]
    """Converged."""
    beyond: Bool[Array, " pairs"]
    """The next step would leave ``reach``; it was not made."""


class _Sums(NamedTuple):
    """Gradient and Hessian, ``[pairs]`` each."""

    g_w: Array
    g_b: Array
    h_ww: Array
    h_wb: Array
    h_bb: Array


def _terms(t: Array, weight: Array, w: Array, b: Array) -> _Sums:
    margin = w * t + b
    small = jnp.exp(-jnp.abs(margin))
    share = 1.0 / (1.0 + small)
    part = weight * share
    sigma = jnp.where(margin >= 0, part, small * part)
    variance = small * part * share
    return _Sums(sigma * t, sigma, variance * t * t, variance * t, variance)


def _sums(p: Problems, w: Array, b: Array, l2: Array) -> _Sums:
    n_nodes, n_pairs = p.t.shape
    rows = max(1, min(n_nodes, VECTOR // n_pairs))
    side_w, side_b = p.side * w, p.side * b

    def add(total: _Sums, nodes: tuple[Array, Array]) -> tuple[_Sums, None]:
        terms = _terms(*nodes, side_w[None], side_b[None])
        return _Sums(*(a + x.sum(axis=0) for a, x in zip(total, terms, strict=True))), None

    groups = p.t.reshape(-1, rows, n_pairs), p.weight.reshape(-1, rows, n_pairs)
    on = jax.lax.scan(add, _Sums(*[jnp.zeros_like(w)] * 5), groups)[0]
    neg = _terms(p.t_zero, p.zero_neg, w, b)
    pos = _terms(p.t_zero, p.zero_pos, -w, -b)
    return _Sums(
        p.side * (on.g_w - p.s_x) + neg.g_w - pos.g_w + l2 * w,
        p.side * (on.g_b - p.s_1) + neg.g_b - pos.g_b,
        on.h_ww + neg.h_ww + pos.h_ww + l2,
        on.h_wb + neg.h_wb + pos.h_wb,
        on.h_bb + neg.h_bb + pos.h_bb,
    )


@jax.jit
def advance(p: Problems, w: Array, b: Array, l2: Array, n_steps: Int[Array, ""]) -> Progress:
    """At most ``n_steps`` damped Newton steps; fewer once every pair is done or beyond reach."""

    def unfinished(carry: tuple[Array, Progress]) -> Array:
        step, at = carry
        return (step < n_steps) & jnp.any(~(at.done | at.beyond))

    def step(carry: tuple[Array, Progress]) -> tuple[Array, Progress]:
        i, at = carry
        s = _sums(p, at.w, at.b, l2)
        det = jnp.maximum(s.h_ww * s.h_bb - s.h_wb**2, 1e-300)
        d_w = (s.h_wb * s.g_b - s.h_bb * s.g_w) / det
        d_b = (s.h_wb * s.g_w - s.h_ww * s.g_b) / det
        r = jnp.maximum(jnp.abs(d_w * p.low + d_b), jnp.abs(d_w * p.high + d_b))
        scale = jnp.where(r <= 1.0, 1.0, jnp.log1p(r) / jnp.maximum(r, 1.0))
        w, b = at.w + scale * d_w, at.b + scale * d_b
        finished = at.done | at.beyond
        beyond = at.beyond | (~finished & (jnp.abs(w) > p.reach))
        moves = ~(finished | beyond)
        return i + 1, Progress(
            jnp.where(moves, w, at.w), jnp.where(moves, b, at.b),
            at.done | (moves & (r <= STEP_TOLERANCE)), beyond,
        )  # fmt: skip

    none = jnp.zeros(w.shape, dtype=bool)
    return jax.lax.while_loop(
        unfinished, step, (jnp.zeros_like(n_steps), Progress(w, b, none, none))
    )[1]
