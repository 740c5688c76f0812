"""Products of a transformer block on a packed batch, in the form that runs fastest.

For inference on a CPU they go to oneDNN, whose float32 products are as exact as PyTorch's default
ones and twice as fast where MKL leaves half of the processor unused (AMD). Elsewhere (GPU,
autograd, processors on which oneDNN would round float32 to bfloat16) plain PyTorch runs.

oneDNN compiles a kernel for every shape it meets and keeps the last 1,024, so rows and keys are
rounded up to a few shapes. Results do not depend on the number of threads.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

TILE_ROWS = 512
"""Rows of a linear layer's input per call: what a core's cache holds of the wider outputs."""
ROW_MULTIPLE = 32
"""The last tile is filled up with zero rows to a multiple of this."""
KEY_MULTIPLE = 16
"""A sequence's scores are computed for this multiple of keys and queries."""
SCORES_AT_ONCE = 2**20
"""Attention scores in memory at a time (4 MiB): as many heads as fit, at least one."""
SAFE_SUM = 2.0**100
"""Softmax sums outside 1/this to this are computed again with the maximum taken off first."""

_precision_setting = threading.Lock()
"""Held while PyTorch's process-wide setting is changed."""


def linear(layer: nn.Linear, x: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_out"]:
    """``layer(x)``."""
    if not _for_onednn(x, layer):
        return layer(x)
    return _by_tiles(x, layer.out_features, lambda rows: _product(layer, rows))


def mlp(fc1: nn.Linear, fc2: nn.Linear, x: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
    """``fc2(gelu(fc1(x)))`` with the exact (erf) GELU."""
    if not _for_onednn(x, fc1, fc2):
        return fc2(F.gelu(fc1(x)))
    return _by_tiles(x, fc2.out_features, lambda rows: _product(fc2, _product(fc1, rows, "gelu")))


def attention(
    qkv: Float[Tensor, "tokens d3"],
    lengths: Sequence[int],
    n_heads: int,
    rotation: Complex[Tensor, "rows half_d"] | None,
) -> Float[Tensor, "tokens d"]:
    """Softmax attention within each sequence of a packed batch.

    Rotations, and on a CPU scores and averages, are float32 whatever the type of the input.

    Args:
        qkv: queries, keys and values of every head, side by side: ``d3 = 3 d``.
        lengths: tokens of each sequence.
        n_heads: number of heads.
        rotation: of queries and keys, from :func:`rotation_of`, ``half_d = d / 2``; None for a
            model that adds positions to its input.
    """
    n, d = len(qkv), qkv.shape[1] // 3
    if not (_for_onednn(qkv) and exact_onednn_products()):
        qk = qkv[:, : 2 * d]
        if rotation is not None:
            qk = torch.view_as_real(_pairs(qk.float(), d) * rotation[:n, None]).to(qkv.dtype)
        q, k = qk.reshape(n, 2, n_heads, -1).unbind(1)
        return _attend(q, k, qkv[:, 2 * d :].view(n, n_heads, -1), lengths).flatten(1)
    turned = n if rotation is None else len(rotation)
    rows = torch.empty(turned + KEY_MULTIPLE, 3 * d)
    rows[:n], rows[n:] = qkv, 0  # zeros are the keys behind the last sequence
    if rotation is not None:
        _pairs(rows[:turned, : 2 * d], d).mul_(rotation[:, None])
    rows[:, :d] *= math.log2(math.e) / math.sqrt(d // n_heads)  # exp(x) = 2^(x log2 e)
    q, k, v = rows.view(-1, 3, n_heads, d // n_heads).permute(1, 2, 0, 3)
    return _attend_onednn(q, k, v, lengths).flatten(1).to(qkv.dtype)


def rotation_of(
    lengths: Sequence[int], n_heads: int, d_head: int, device: torch.device
) -> Complex[Tensor, "rows half_d"]:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864) of a packed batch.

    Dimensions 2i and 2i + 1 of a head are one complex number, which position p multiplies by
    exp(1j p / 10000^(2i / d_head)). There may be a few rows more than tokens, for even shares of
    every thread.
    """
    n = sum(lengths)
    positions = torch.zeros(_shared_evenly(n, size=n_heads * d_head, multiple=1), device=device)
    positions[:n] = torch.cat([torch.arange(length, device=device) for length in lengths])
    exponents = torch.arange(0, d_head, 2, device=device).float() / d_head
    angles = positions[:, None] * (1.0 / 10000**exponents)
    return torch.polar(torch.ones_like(angles), angles).repeat(1, n_heads)


def _pairs(qk: Tensor, d: int) -> Tensor:
    """Queries and keys ``[tokens, 2 d]`` as complex ``[tokens, 2, d / 2]``, without a copy."""
    return torch.view_as_complex(qk.unflatten(1, (2, d // 2, 2)))


def _attend(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attention of a packed ``[tokens, heads, d_head]`` batch with PyTorch's own kernels."""
    varlen = _varlen_attn() if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) else None
    if varlen is not None:
        stops = torch.tensor([0, *itertools.accumulate(lengths)], device=q.device).int()
        packed = (t.contiguous() for t in (q, k, v))
        return varlen(*packed, stops, stops, max(lengths), max(lengths))
    outputs, start = [], 0
    for n, group in itertools.groupby(lengths):  # neighbours of one length share a call
        count = sum(1 for _ in group)
        rows = slice(start, start + n * count)
        q4, k4, v4 = (t[rows].unflatten(0, (count, n)).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q4, k4, v4)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
        start = rows.stop
    return torch.cat(outputs)


@functools.cache
def _varlen_attn() -> Callable[..., Tensor] | None:
    """PyTorch's flash attention over packed sequences (2.10 and later; GPU), or None."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn  # type: ignore[return-value]


def _attend_onednn(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attention of float32 ``[heads, tokens, d_head]``, queries times log2(e) / sqrt(d_head).

    Returns ``[tokens, heads, d_head]``. A sequence's scores are taken for its next few rows too
    (the following sequence's, ``KEY_MULTIPLE`` spare ones behind the last) and those set to 0.
    """
    n_heads, _, d_head = q.shape
    out = torch.empty(sum(lengths), n_heads, d_head)
    largest = _round_up(max(lengths), KEY_MULTIPLE)
    size = min(n_heads * largest**2, max(SCORES_AT_ONCE, largest**2))
    scratch = torch.empty(_shared_evenly(size) + 32 * torch.get_num_threads())
    start = 0
    with onednn_products():
        for n in lengths:
            rows = slice(start, start + _round_up(n, KEY_MULTIPLE))
            _attend_one(q[:, rows], k[:, rows], v[:, rows], scratch, out[start : start + n])
            start += n
    return out


def _attend_one(q: Tensor, k: Tensor, v: Tensor, scratch: Tensor, out: Tensor) -> None:
    """Attention of one sequence, ``[heads, n rounded up, d_head]``, into ``out [n, heads, d]``.

    softmax(s) v = 2^s v / sum 2^s, with no maximum taken off: float32's exponent has room for
    scores (in bits) of -100 to 100, and what needs more is computed again by PyTorch's kernel.
    """
    n, (n_heads, padded, _) = len(out), q.shape
    sums = torch.empty(n_heads, padded)
    values = F.pad(v[:, :n], (0, 0, 0, padded - n))  # a neighbour's NaN would pass a weight of 0
    at_once = max(1, min(n_heads, SCORES_AT_ONCE // padded**2))
    for first in range(0, n_heads, at_once):
        heads = slice(first, min(first + at_once, n_heads))
        size = (heads.stop - first) * padded**2
        scores = scratch[:size].view(-1, padded, padded)
        torch.bmm(q[heads], k[heads].transpose(1, 2), out=scores)
        scratch[: _shared_evenly(size)].exp2_()
        scores[:, :, n:] = 0
        torch.sum(scores, -1, out=sums[heads])
        averages = torch.bmm(scores, values[heads])[:, :n]
        torch.div(averages, sums[heads, :n, None], out=out[:, heads].transpose(0, 1))
    low, high = sums[:, :n].aminmax()
    if not (low > 1 / SAFE_SUM and high < SAFE_SUM):
        q4, k4, v4 = (t[None, :, :n] for t in (q, k, v))
        again = F.scaled_dot_product_attention(q4, k4, v4, scale=math.log(2))
        out.copy_(again[0].transpose(0, 1))


def _by_tiles(x: Tensor, width: int, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """``apply`` to the rows of x, ``TILE_ROWS`` at a time and zero rows in the last tile."""
    out = x.new_empty(len(x), width)
    for first in range(0, len(x), TILE_ROWS):
        rows = x[first : first + TILE_ROWS]
        missing = -len(rows) % ROW_MULTIPLE
        filled = F.pad(rows, (0, 0, 0, missing)) if missing else rows
        if len(rows) == len(x):
            return apply(filled)[: len(x)]
        out[first : first + TILE_ROWS] = apply(filled)[: len(rows)]
    return out


def _product(layer: nn.Linear, x: Tensor, after: str = "none") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, after, [], "none")


def _for_onednn(x: Tensor, *layers: nn.Linear) -> bool:
    """Whether oneDNN is to multiply x: on a CPU, in a type that it has, no gradient wanted."""
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    wanted = x.requires_grad or any(layer.weight.requires_grad for layer in layers)
    if wanted and torch.is_grad_enabled():
        return False
    return x.dtype == torch.float32 or (
        x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


@contextmanager
def onednn_products() -> Iterator[None]:
    """Let oneDNN, not MKL, multiply batches of float32 matrices.

    PyTorch asks it only when it may round to bfloat16. It rounds on processors with matrix units
    of bfloat16 alone, which is what :func:`exact_onednn_products` finds out.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    with _precision_setting:
        before = matmul.fp32_precision
        matmul.fp32_precision = "bf16"
        try:
            yield
        finally:
            matmul.fp32_precision = before


@functools.cache
def exact_onednn_products() -> bool:
    """Whether :func:`onednn_products` is there and multiplies in full float32 precision here."""
    has_matrix_unit = getattr(torch.cpu, "_is_amx_tile_supported", lambda: True)()
    if has_matrix_unit or not hasattr(torch.backends.mkldnn, "matmul"):
        return False
    x = torch.linspace(-1, 1, 128 * 64).view(1, 128, 64)
    with onednn_products():
        found = torch.bmm(x, x.transpose(1, 2))
    exact = x.double() @ x.double().transpose(1, 2)
    return bool((found - exact).abs().max() < 1e-5 * exact.abs().max())


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _shared_evenly(n: int, size: int = 1, multiple: int = 32) -> int:
    """At least n, so that in elementwise operations every thread gets whole vectors.

    PyTorch gives equal shares to at most one thread per 32,768 numbers, and computes what is left
    over behind a share's last whole vector with another function, whose last bit differs.

    Args:
        n: number of items.
        size: numbers in each.
        multiple: every share is to be a multiple of this many items.
    """
    for _ in range(4):  # rounding up may let one more thread in
        threads = max(1, min(torch.get_num_threads(), -(-n * size // 32768)))
        n = _round_up(n, multiple * threads)
    return n
