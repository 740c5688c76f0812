"""ESM2, ESM-1b and ESM-1v on fair-esm's weights, with a forward pass of our own.

It is packed, stops at the site that is asked for, and multiplies as ``kernels.py`` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from extract import kernels
from extract.alphabet import AMINO_ACID_TOKENS, CLS, EOS, ESM_TOKENS, MASK, PAD, residue_tokens
from extract.errors import UserError
from extract.plm import PackedTokens, ProteinLM, WeightsInfo


class ESM2Shape(NamedTuple):
    """Size of a published ESM2 or ESM-1, and how it knows positions."""

    n_blocks: int
    d_model: int
    n_heads: int
    positions: Literal["rotary", "learned"] = "rotary"
    """Queries and keys are rotated (ESM2), or a learned vector is added to the input (ESM-1)."""


ESM2_SHAPES = {
    "esm2_t6_8M_UR50D": ESM2Shape(6, 320, 20),
    "esm2_t12_35M_UR50D": ESM2Shape(12, 480, 20),
    "esm2_t30_150M_UR50D": ESM2Shape(30, 640, 20),
    "esm2_t33_650M_UR50D": ESM2Shape(33, 1280, 20),
    "esm2_t36_3B_UR50D": ESM2Shape(36, 2560, 40),
    "esm2_t48_15B_UR50D": ESM2Shape(48, 5120, 40),
}
"""Published ESM2 models: Lin et al. 2023, Science 379:1123, table S1."""

ESM2_SHAPES |= {
    name: ESM2Shape(33, 1280, 20, positions="learned")
    for name in ("esm1b_t33_650M_UR50S", *(f"esm1v_t33_650M_UR90S_{n}" for n in range(1, 6)))
}
"""ESM-1b (Rives et al. 2021, PNAS 118:e2016239118) and the five ESM-1v (Meier et al. 2021)."""

N_POSITIONS = 1024
"""Learned positions, of tokens; their table begins with ``PAD + 1`` rows that are never used."""

Rotation = Complex[Tensor, "rows half_d"]


class _Embedding(nn.Module):
    """Token embeddings with ESM2's token dropout, and for ESM-1 positions: ``block0``.

    A masked token embeds to zero; each sequence is scaled by (1 - 0.15·0.8) / (1 - its masked
    fraction), special tokens counted in the fraction (fair-esm, ``esm/model/esm2.py``).
    """

    def __init__(self, shape: ESM2Shape, token_dropout: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(len(ESM_TOKENS), shape.d_model)
        self.token_dropout = token_dropout
        self.positions: nn.Embedding | None = None
        self.norm: nn.LayerNorm | None = None
        if shape.positions == "learned":
            self.positions = nn.Embedding(PAD + 1 + N_POSITIONS, shape.d_model)
            self.norm = nn.LayerNorm(shape.d_model)

    def forward(self, tokens: PackedTokens) -> Float[Tensor, "tokens d_model"]:
        """Embeddings of a packed batch, summed in float32."""
        x = self.tokens(tokens.ids).float()
        if self.token_dropout:
            masked = tokens.ids == MASK
            x = x.masked_fill(masked[:, None], 0.0) * _dropout_scale(masked, tokens.lengths)
        if self.positions is not None:
            x = x + self.positions(_positions(tokens.lengths, x.device) + PAD + 1)
        x = x.to(self.tokens.weight.dtype)
        return x if self.norm is None else self.norm(x)


def _dropout_scale(masked: Tensor, lengths: Sequence[int]) -> Float[Tensor, "tokens 1"]:
    """Scale of every token of a packed batch, that of its sequence."""
    counts = torch.tensor(lengths, device=masked.device)
    sequence = torch.repeat_interleave(torch.arange(len(counts), device=masked.device), counts)
    n_masked = torch.zeros(len(counts), device=masked.device)
    n_masked = n_masked.index_add_(0, sequence, masked.float())
    return ((1 - 0.15 * 0.8) / (1 - n_masked / counts))[sequence][:, None]


def _positions(lengths: Sequence[int], device: torch.device) -> Int[Tensor, " tokens"]:
    """0, 1, 2 ... within each sequence."""
    return torch.cat([torch.arange(n, device=device) for n in lengths])


def pair_order(shape: ESM2Shape) -> Int[Tensor, " d_model"]:
    """Rows of fair-esm's query and key weights in our order.

    fair-esm rotates dimensions i and i + d_head / 2 together; we keep such pairs side by side,
    where they are one complex number. Scores do not notice. ESM-1 rotates nothing.
    """
    rows = torch.arange(shape.d_model)
    if shape.positions == "learned":
        return rows
    return rows.view(shape.n_heads, 2, -1).transpose(1, 2).flatten()


class _Attention(nn.Module):
    """What the attention of a block adds to the stream: the output of site ``block n.attn``."""

    def __init__(self, shape: ESM2Shape) -> None:
        super().__init__()
        self.n_heads = shape.n_heads
        self.norm = nn.LayerNorm(shape.d_model)
        self.qkv = nn.Linear(shape.d_model, 3 * shape.d_model)
        self.out = nn.Linear(shape.d_model, shape.d_model)

    def forward(self, x: Tensor, lengths: tuple[int, ...], rotation: Rotation | None) -> Tensor:
        """Attention within each sequence of the stream ``x [tokens, d_model]``."""
        qkv = kernels.linear(self.qkv, self.norm(x))
        return kernels.linear(self.out, kernels.attention(qkv, lengths, self.n_heads, rotation))


class _MLP(nn.Module):
    """What the MLP of a block adds to the stream: the output of site ``block n.mlp``."""

    def __init__(self, shape: ESM2Shape) -> None:
        super().__init__()
        d = shape.d_model
        self.norm = nn.LayerNorm(d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        """Two layers on every token of ``x [tokens, d_model]``."""
        return kernels.mlp(self.fc1, self.fc2, self.norm(x))


class _Block(nn.Module):
    """One pre-norm transformer block; its output is the residual stream after it."""

    def __init__(self, shape: ESM2Shape) -> None:
        super().__init__()
        self.attention, self.mlp = _Attention(shape), _MLP(shape)

    def forward(self, x: Tensor, lengths: tuple[int, ...], rotation: Rotation | None) -> Tensor:
        """Attention and MLP, each added to the stream ``x [tokens, d_model]``."""
        x = x + self.attention(x, lengths, rotation)
        return x + self.mlp(x)


class LMHead(nn.Module):
    """Dense → GELU → LayerNorm → tied embedding + bias (fair-esm's ``RobertaLMHead``)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.layer_norm = nn.LayerNorm(d_model)
        self.bias = nn.Parameter(torch.zeros(len(ESM_TOKENS)))

    def forward(self, x: Tensor, embedding: Tensor) -> Float[Tensor, "tokens vocabulary"]:
        """Logits from the ``final`` representation, in float32."""
        x = self.layer_norm(F.gelu(self.dense(x)))
        return F.linear(x.float(), embedding.float(), self.bias.float())


class ESM2(nn.Module, ProteinLM):
    """An ESM2, ESM-1b or ESM-1v, packed. Build it with ``weights.load_esm2``."""

    max_residues = 1022
    mask_token = MASK
    amino_acid_tokens = AMINO_ACID_TOKENS

    def __init__(self, name: str, shape: ESM2Shape, *, token_dropout: bool = True) -> None:
        super().__init__()
        self.name, self.shape = name, shape
        self.d_model, self.n_blocks = shape.d_model, shape.n_blocks
        self.token_dropout = token_dropout
        self.weights = WeightsInfo("random", "", "none", "")
        self.embedding = _Embedding(shape, token_dropout)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.n_blocks))
        self.final_norm = nn.LayerNorm(shape.d_model)
        self.lm_head: LMHead | None = LMHead(shape.d_model)

    def tokenize(self, sequences: Sequence[str]) -> PackedTokens:
        """``<cls> residues <eos>`` of every sequence, packed.

        Raises:
            UserError: an ESM-1 and a sequence with more residues than it has positions for.
        """
        longest = max(map(len, sequences))
        if self.shape.positions == "learned" and longest > self.max_residues:
            raise UserError(
                f"a sequence has {longest} residues, but {self.name} has positions for "
                f"{self.max_residues}; lower --max-residues"
            )
        ids = [np.concatenate(([CLS], residue_tokens(s), [EOS])) for s in sequences]
        packed = torch.from_numpy(np.concatenate(ids)).to(self.device)
        return PackedTokens(packed, tuple(len(i) for i in ids))

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.embedding.tokens.weight.device

    @property
    def compute_dtype(self) -> str:
        """Number format of weights, products and the residual stream."""
        return str(self.embedding.tokens.weight.dtype).removeprefix("torch.")

    @property
    def sites(self) -> list[str]:
        """``block0``, then attention, MLP and stream of every block, then ``final``."""
        blocks = range(1, self.n_blocks + 1)
        within = [f"block{n}{part}" for n in blocks for part in (".attn", ".mlp", "")]
        return ["block0", *within, "final"]

    def residual(self, tokens: PackedTokens, site: str) -> Float[Tensor, "tokens d_model"]:
        """Activations at ``site``; blocks behind it do not run."""
        block, part = self._locate(site)
        x = self._run_blocks(self.embedding(tokens), tokens.lengths, 0, block - bool(part))
        if site == "final":
            return self.final_norm(x)
        if not part:
            return x
        last = self._block(block)
        attention = last.attention(x, tokens.lengths, self._rotation(tokens.lengths))
        return attention if part == "attn" else last.mlp(x + attention)

    def logits(self, tokens: PackedTokens) -> Float[Tensor, "tokens vocabulary"]:
        """Masked-LM logits of every token.

        Raises:
            UserError: when the weights have no masked-LM head.
        """
        return self.logits_from(self.embedding(tokens), tokens, "block0")

    def logits_from(
        self, x: Float[Tensor, "tokens d_model"], tokens: PackedTokens, site: str
    ) -> Float[Tensor, "tokens vocabulary"]:
        """Logits when the residual stream at ``site`` is ``x``: only what lies behind it runs.

        ``logits_from(residual(tokens, site), tokens, site)`` equals ``logits(tokens)`` bit for bit.

        Raises:
            UserError: unknown site, or weights without a masked-LM head.
        """
        if self.lm_head is None:
            raise UserError(
                f"{self.name} was loaded from weights without a masked-LM head "
                f"({self.weights.source}), so it has no logits; give stock weights with --weights"
            )
        first, part = self._locate(site)
        if part:
            raise ValueError(f"{site} is a part of a block, not the whole residual stream")
        if site != "final":
            x = self.final_norm(self._run_blocks(x, tokens.lengths, first, self.n_blocks))
        return self.lm_head(x, self.embedding.tokens.weight)

    def site_module(self, site: str) -> nn.Module:
        """The module whose output is the activations at ``site``."""
        n, part = self._locate(site)
        if site == "final":
            return self.final_norm
        if not n:
            return self.embedding
        block = self._block(n)
        return {"": block, "attn": block.attention, "mlp": block.mlp}[part]

    def stream_site(self, site: str) -> str:
        """``site`` itself, or for a part of block n, the stream before that block."""
        n, part = self._locate(site)
        return f"block{n - 1}" if part else site

    def _locate(self, site: str) -> tuple[int, str]:
        """Blocks up to and with the one the site is in, and which part of it ("": all of it)."""
        if self.check_site(site) == "final":
            return self.n_blocks, ""
        block, _, part = site.removeprefix("block").partition(".")
        return int(block), part

    def _block(self, n: int) -> _Block:
        block = self.blocks[n - 1]
        assert isinstance(block, _Block)
        return block

    def _run_blocks(self, x: Tensor, lengths: tuple[int, ...], first: int, stop: int) -> Tensor:
        rotation = self._rotation(lengths)
        for block in itertools.islice(self.blocks, first, stop):
            x = block(x, lengths, rotation)
        return x

    def _rotation(self, lengths: tuple[int, ...]) -> Rotation | None:
        if self.shape.positions == "learned":
            return None
        n_heads = self.shape.n_heads
        return kernels.rotation_of(lengths, n_heads, self.d_model // n_heads, self.device)
