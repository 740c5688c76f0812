"""Many edits of one batch for the price of the blocks behind the site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from extract.plm import PackedTokens, ProteinLM
from steering.hooks import check_rows, edit_residual, replace_residual


class EditedPasses:
    """Forward passes over one batch with different changes at the same rows of one site.

    Blocks before the site run once, whatever the number of changes. Changes run together, the
    batch repeated once for each.
    """

    def __init__(
        self,
        model: ProteinLM,
        site: str,
        tokens: PackedTokens,
        rows: Int[Tensor, " rows"] | None = None,
        *,
        batch_tokens: int = 4096,
    ) -> None:
        """Run the unedited pass.

        Args:
            model: the parent.
            site: where changes apply.
            tokens: the batch.
            rows: packed rows that changes apply to; by default every residue's.
            batch_tokens: most tokens that run together; at least one copy of the batch does.
        """
        self._model, self._site, self._tokens = model, site, tokens
        self.rows = check_rows(tokens, rows)
        self._copies = max(1, batch_tokens // len(tokens.ids))
        self._stream_site = model.stream_site(site)
        found = model.residuals(tokens, (self._stream_site, site))
        self._stream = found[self._stream_site]
        self.x_RD: Float[Tensor, "rows d_model"] = found[site][self.rows]
        self.base_logits: Float[Tensor, "tokens vocabulary"] = model.logits_from(
            self._stream, tokens, self._stream_site
        )

    def logits(self, delta_RD: Float[Tensor, "rows d_model"]) -> Float[Tensor, "tokens vocabulary"]:
        """Logits with ``delta_RD`` added at the rows; no pass when all of it is zero."""
        return next(self.each([delta_RD]))

    def each(
        self, deltas: Sequence[Float[Tensor, "rows d_model"]]
    ) -> Iterator[Float[Tensor, "tokens vocabulary"]]:
        """Logits with each change added at the rows, in turn; no pass for one that is all zero."""
        for start in range(0, len(deltas), self._copies):
            chunk = deltas[start : start + self._copies]
            changes = [bool(delta.any()) for delta in chunk]
            changing = [delta for delta, any_ in zip(chunk, changes, strict=True) if any_]
            edited = iter(self._together(changing))
            for any_ in changes:
                yield next(edited) if any_ else self.base_logits

    def spliced(self, x_RD: Float[Tensor, "rows d_model"]) -> Float[Tensor, "tokens vocabulary"]:
        """Logits with ``x_RD`` in place of the rows' own activations at the site."""
        if self._stream_site == self._site:
            put = x_RD.to(self._stream.dtype)
            return self._run(self._stream.index_copy(0, self.rows, put), self._tokens)
        with replace_residual(
            self._model, self._site, lambda _: x_RD, self._tokens, rows=self.rows
        ):
            return self._run(self._stream, self._tokens)

    def _together(self, deltas: Sequence[Tensor]) -> Sequence[Tensor]:
        """Logits of several changes in one pass over as many copies of the batch."""
        n, size = len(deltas), len(self._tokens.ids)
        if not n:
            return ()
        tokens, stream = self._tokens, self._stream
        copies = tokens._replace(ids=tokens.ids.repeat(n), lengths=tokens.lengths * n)
        starts = size * torch.arange(n, device=self.rows.device)
        rows = (starts[:, None] + self.rows).flatten()
        change = torch.cat(list(deltas)).to(stream.dtype)
        stream = stream.repeat(n, 1)
        if self._stream_site == self._site:
            logits = self._run(stream.index_add_(0, rows, change), copies)
        else:
            with edit_residual(self._model, self._site, lambda _: change, copies, rows=rows):
                logits = self._run(stream, copies)
        return logits.split(size)

    def _run(self, x: Tensor, tokens: PackedTokens) -> Tensor:
        return self._model.logits_from(x, tokens, self._stream_site)
