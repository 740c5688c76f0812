"""Newton's method on many two-parameter logistic regressions at once, in JAX and float64.

A pair (latent, concept) is the problem::

    minimise over (w, b):  ½ l2 w² + Σ_j W_j softplus(w t_j + b) − w s_x − b s_1 + zeros(b)

whose labels have gone into ``s_x = Σ_i c_i y_i x_i`` and ``s_1 = Σ_i c_i y_i``; ``t, W`` are the
entries (or their nodes, ``probes/fit/nodes.py``), and the rows where z = 0 are two counts. Where
most entries are positive, the same is written for 1 − y, −w and −b.

**Line search.** Let r be the largest change of a margin that the Newton step would make. Since
|σ''| ≤ σ', the curvature along the step grows at most like e^{r s} at a share s of it, so that the
objective falls by at least λ² (s − (e^{r s} − 1 − r s) / r²), λ the Newton decrement. That is
positive for the whole step if r ≤ 1; and at s = ln(1 + r) / r the slope cannot yet be positive
(Sun & Tran-Dinh 2019, *Generalized self-concordant functions*, ν = 2). Where r > 1 the whole step
is tried first, then where the slope's chord is zero, and at last that share, which is small for a
latent of large range. The first point where the slope is not positive is taken. So every step
descends, and no objective is computed.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

STEP_TOLERANCE = 1e-5
"""A step that changes no margin by more is the last one: what remains is of the order of its
square."""
CURVED = 1e-9
"""Curvature and determinant, as shares of what they are differences of or compared with, below
which a step is mostly rounding and never the last one."""
CHORDS, TRIALS = 2, 4
"""Trials at the chord's zero after the whole step, and trials before the step that needs none."""
SHY = 0.95
"""Of the chord's zero, so that rounding does not put it just behind the minimum."""
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


class _Search(NamedTuple):
    """A line search under way: the point ``(w, b) + s · step`` is to be looked at."""

    w: Array
    b: Array
    d_w: Array
    d_b: Array
    slope: Array
    r: Array
    s: Array
    trial: Array
    done: Array
    beyond: Array

    def point(self) -> tuple[Array, Array]:
        return self.w + self.s * self.d_w, self.b + self.s * self.d_b

    def shorter(self, slope: Array) -> Array:
        """The next share of the step, where the slope is positive at this one."""
        safe = jnp.log1p(self.r) / jnp.maximum(self.r, 1.0)
        chord = SHY * self.s * self.slope / jnp.minimum(self.slope - slope, -1e-300)
        between = jnp.where(self.trial < CHORDS, chord, jnp.sqrt(self.s * safe))
        return jnp.where(self.trial < TRIALS - 1, jnp.maximum(between, safe), safe)


class _Sums(NamedTuple):
    """Gradient and Hessian, ``[pairs]`` each."""

    g_w: Array
    g_b: Array
    h_ww: Array
    h_wb: Array
    h_bb: Array

    def newton_step(self) -> tuple[Array, Array]:
        det = jnp.maximum(self.h_ww * self.h_bb - self.h_wb**2, 1e-300)
        d_w = (self.h_wb * self.g_b - self.h_bb * self.g_w) / det
        d_b = (self.h_wb * self.g_w - self.h_ww * self.g_b) / det
        return d_w, d_b


def _terms(t: Array, weight: Array, w: Array, b: Array) -> _Sums:
    margin = w * t + b
    small = jnp.exp(-jnp.abs(margin))
    share = 1.0 / (1.0 + small)
    part = weight * share
    sigma = jnp.where(margin >= 0, part, small * part)
    variance = small * part * share
    return _Sums(sigma * t, sigma, variance * t * t, variance * t, variance)


def _sums(p: Problems, w: Array, b: Array, l2: Array) -> tuple[_Sums, Array]:
    """The sums, and whether they are exact enough for a last step."""
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
    sums = _Sums(
        p.side * (on.g_w - p.s_x) + neg.g_w - pos.g_w + l2 * w,
        p.side * (on.g_b - p.s_1) + neg.g_b - pos.g_b,
        on.h_ww + neg.h_ww + pos.h_ww + l2,
        on.h_wb + neg.h_wb + pos.h_wb,
        on.h_bb + neg.h_bb + pos.h_bb,
    )
    gross = on.g_b + p.s_1 + neg.g_b + pos.g_b
    det = sums.h_ww * sums.h_bb - sums.h_wb**2
    return sums, (sums.h_bb > CURVED * gross) & (det > CURVED * sums.h_ww * sums.h_bb)


@jax.jit
def advance(p: Problems, w: Array, b: Array, l2: Array, n_steps: Int[Array, ""]) -> Progress:
    """At most ``n_steps`` looks at every pair; fewer once all are done or beyond reach."""

    def unfinished(carry: tuple[Array, _Search]) -> Array:
        i, at = carry
        return (i < n_steps) & jnp.any(~(at.done | at.beyond))

    def look(carry: tuple[Array, _Search]) -> tuple[Array, _Search]:
        i, at = carry
        w, b = at.point()
        sums, exact = _sums(p, w, b, l2)
        slope = sums.g_w * at.d_w + sums.g_b * at.d_b
        taken = (slope <= 0) | (at.r <= 1.0) | (at.trial >= TRIALS)
        d_w, d_b = sums.newton_step()
        r = jnp.maximum(jnp.abs(d_w * p.low + d_b), jnp.abs(d_w * p.high + d_b))
        last = exact & (r <= STEP_TOLERANCE)
        next_step = _Search(
            w + last * d_w, b + last * d_b, d_w, d_b, sums.g_w * d_w + sums.g_b * d_b, r,
            jnp.ones_like(w), jnp.zeros_like(at.trial), last, at.beyond,
        )  # fmt: skip
        again = at._replace(s=at.shorter(slope), trial=at.trial + 1)
        new = _where(taken, next_step, again)
        beyond = ~new.done & (jnp.abs(new.point()[0]) > p.reach)
        return i + 1, _where(at.done | at.beyond, at, new._replace(beyond=beyond))

    zero, none = jnp.zeros_like(w), jnp.zeros(w.shape, dtype=bool)
    trial = jnp.zeros(w.shape, jnp.int32)
    first = _Search(w, b, zero, zero, zero, zero, zero, trial, none, none)
    found = jax.lax.while_loop(unfinished, look, (jnp.zeros_like(n_steps), first))[1]
    return Progress(found.w, found.b, found.done, found.beyond)


def _where(condition: Array, yes: _Search, no: _Search) -> _Search:
    return _Search(*(jnp.where(condition, a, b) for a, b in zip(yes, no, strict=True)))
