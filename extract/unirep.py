"""UniRep (Alley et al. 2019): a multiplicative LSTM that reads a protein from left to right.

The recurrence runs on a packed batch without padding: the sequences still running at step t are
the rows of one matrix product. Build a model with ``unirep_weights.load_unirep``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from extract.plm import PackedTokens, ProteinLM, WeightsInfo


class UniRepShape(NamedTuple):
    """Size of a published UniRep."""

    n_blocks: int
    d_model: int


UNIREP_SHAPES = {
    "unirep_64": UniRepShape(4, 64),
    "unirep_256": UniRepShape(4, 256),
    "unirep_1900": UniRepShape(1, 1900),
}
"""Published UniReps: Alley et al. 2019, Nature Methods 16:1315, and its code."""

D_EMBEDDING = 10
_LETTERS = "-MRHKDESTNQCUGPAVIFYWLOX"
START, STOP = 24, 25
N_TOKENS = 26
"""Padding, 20 amino acids, U, O, unknown, start, stop: ``data_utils.py`` of UniRep's code."""

_TOKEN_OF_BYTE = np.full(256, _LETTERS.index("X"), dtype=np.int64)
for _token_id, _letter in enumerate(_LETTERS):
    _TOKEN_OF_BYTE[ord(_letter)] = _token_id


class TimeSteps(NamedTuple):
    """A packed batch in the order in which a recurrence reads it."""

    rows: Int[Tensor, " tokens"]
    """Packed rows, step by step; within a step, longer sequences first."""
    sizes: list[int]
    """Sequences still running at each step, descending."""
    back: Int[Tensor, " tokens"]
    """The inverse permutation: where each packed row is in ``rows``."""


def time_steps(lengths: Sequence[int], device: torch.device) -> TimeSteps:
    """The reading order of a packed batch whose sequences have these lengths."""
    lengths_S = np.asarray(lengths)
    step = np.concatenate([np.arange(n) for n in lengths])
    rank_S = np.empty(len(lengths), dtype=np.int64)
    rank_S[np.argsort(-lengths_S, kind="stable")] = np.arange(len(lengths))
    rows = np.lexsort((np.repeat(rank_S, lengths_S), step))
    back = np.argsort(rows)
    rows_T, back_T = (torch.from_numpy(order).to(device) for order in (rows, back))
    return TimeSteps(rows_T, np.bincount(step).tolist(), back_T)


class MLSTM(nn.Module):
    """A multiplicative LSTM layer (Krause et al. 2016, arXiv 1609.07959)::

        m = (x_t W_mx) ⊙ (h_{t-1} W_mh)
        i, f, o, u = split(x_t W_x + m W_h + b)
        c_t = σ(f) ⊙ c_{t-1} + σ(i) ⊙ tanh(u)
        h_t = σ(o) ⊙ tanh(c_t)                       h_0 = c_0 = 0

    The matrices here are W = g V / ‖V‖, the norm over a column: weight normalisation (Salimans &
    Kingma 2016) is folded in when weights are loaded. Its output h is a site ``block n``.
    """

    def __init__(self, d_in: int, d_model: int) -> None:
        super().__init__()
        self.wmx = nn.Parameter(torch.zeros(d_in, d_model))
        self.wmh = nn.Parameter(torch.zeros(d_model, d_model))
        self.wx = nn.Parameter(torch.zeros(d_in, 4 * d_model))
        self.wh = nn.Parameter(torch.zeros(d_model, 4 * d_model))
        self.b = nn.Parameter(torch.zeros(4 * d_model))

    def forward(
        self, x: Float[Tensor, "tokens d_in"], steps: TimeSteps
    ) -> Float[Tensor, "tokens d_model"]:
        """h of every token, from a zero state at the start of each sequence."""
        x = x[steps.rows]
        mx = (x @ self.wmx).split(steps.sizes)
        zx = torch.addmm(self.b, x, self.wx).split(steps.sizes)
        h = c = x.new_zeros(steps.sizes[0], len(self.wmh))
        outputs = []
        for mx_t, zx_t in zip(mx, zx, strict=True):
            running = len(mx_t)
            m = mx_t * (h[:running] @ self.wmh)
            i, f, o, u = torch.addmm(zx_t, m, self.wh).chunk(4, dim=-1)
            c = f.sigmoid() * c[:running] + i.sigmoid() * u.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.cat(outputs)[steps.back]


class UniRep(nn.Module, ProteinLM):
    """UniRep, packed. Layer n's output h is site ``block n``; there are no others.

    The embedding has 10 dimensions, not ``d_model``, so there is no ``block0``; nothing follows the
    last layer but the output layer, so ``final`` would be the last block. Layers replace what they
    read, they do not add to it. An edit at residue i of ``block n`` reaches layer n+1 at i and
    behind, and the logits behind i; the recurrence of layer n itself does not see it.
    """

    token_dropout = False
    max_residues = 2000
    """The longest sequence UniRep was trained on; the recurrence itself has no limit."""
    mask_token = None
    amino_acid_tokens = _TOKEN_OF_BYTE[np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)] - 1
    """The output layer has no column for padding, so token t is column t - 1."""

    def __init__(self, name: str, shape: UniRepShape) -> None:
        super().__init__()
        self.name, self.shape = name, shape
        self.n_blocks, self.d_model = shape
        self.weights = WeightsInfo("none", "", "none", "")
        self.embedding = nn.Embedding(N_TOKENS, D_EMBEDDING)
        widths = [D_EMBEDDING] + [self.d_model] * (self.n_blocks - 1)
        self.layers = nn.ModuleList(MLSTM(d_in, self.d_model) for d_in in widths)
        self.output: nn.Linear | None = nn.Linear(self.d_model, N_TOKENS - 1)

    def tokenize(self, sequences: Sequence[str]) -> PackedTokens:
        """``start residues`` of every sequence, packed; B, Z and X share the unknown token."""
        ids = [
            np.concatenate(([START], _TOKEN_OF_BYTE[np.frombuffer(s.encode("ascii"), np.uint8)]))
            for s in sequences
        ]
        packed = torch.from_numpy(np.concatenate(ids)).to(self.device)
        return PackedTokens(packed, tuple(len(i) for i in ids), n_before=1, n_after=0)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.embedding.weight.device

    @property
    def sites(self) -> list[str]:
        """``block1`` to ``blockN``: the output of each layer."""
        return [f"block{n}" for n in range(1, self.n_blocks + 1)]

    def residual(self, tokens: PackedTokens, site: str) -> Float[Tensor, "tokens d_model"]:
        """h of the layer at ``site``; later layers do not run.

        Raises:
            UserError: unknown site.
        """
        return self._run(self.embedding(tokens.ids), tokens, 0, self._layers_to(site))

    def logits(self, tokens: PackedTokens) -> Float[Tensor, "tokens vocabulary"]:
        """Logits of every token given those before it in its sequence.

        UniRep predicts the next token, so row i is the output layer on h of row i - 1. Nothing is
        before the start token: its row is the output layer on the zero state.

        Raises:
            UserError: when the weights have no output layer.
        """
        return self._scores(self._run(self.embedding(tokens.ids), tokens, 0, self.n_blocks), tokens)

    def logits_from(
        self, x: Float[Tensor, "tokens d_model"], tokens: PackedTokens, site: str
    ) -> Float[Tensor, "tokens vocabulary"]:
        """Logits when h at ``site`` is ``x``: only later layers run.

        ``logits_from(residual(tokens, site), tokens, site)`` equals ``logits(tokens)`` bit for bit.

        Raises:
            UserError: unknown site, or weights without an output layer.
        """
        first = self._layers_to(site)
        return self._scores(self._run(x, tokens, first, self.n_blocks), tokens)

    def site_module(self, site: str) -> nn.Module:
        """The layer whose output is the activations at ``site``."""
        return self.layers[self._layers_to(site) - 1]

    def _layers_to(self, site: str) -> int:
        return int(self.check_site(site).removeprefix("block"))

    def _run(self, x: Tensor, tokens: PackedTokens, first: int, stop: int) -> Tensor:
        steps = time_steps(tokens.lengths, x.device)
        for layer in itertools.islice(self.layers, first, stop):
            x = layer(x, steps)
        return x

    def _scores(self, h: Tensor, tokens: PackedTokens) -> Tensor:
        if self.output is None:
            raise UserError(
                f"{self.name} was loaded from weights without a known output layer "
                f"({self.weights.source}), so it has no logits; use the published weights"
            )
        starts = np.cumsum((0, *tokens.lengths[:-1]))
        before = F.pad(h[:-1], (0, 0, 1, 0))
        before = before.index_fill(0, torch.from_numpy(starts).to(h.device), 0.0)
        return self.output(before)
