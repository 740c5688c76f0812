"""Masked re-decoding of a sequence under edits: many variants at once.

======  ========================================================================================
method  how a variant comes about
======  ========================================================================================
single  a share of the free positions is masked, the model runs once under the edits, and every
        masked position gets a residue
gibbs   the free positions in random order, ``n_per_step`` of them at a time: they are masked in
        the variant as it is by then and get residues, until the budget of changed positions is
        used up or every position has had its turn in each sweep (Wang & Cho 2019, arXiv
        1902.04094)
======  ========================================================================================

A residue is drawn from p^(1/T) / Σ p^(1/T), where p is over the 20 amino acids, by the Gumbel
trick: argmax_a (log p_a + T · g_a). At temperature T = 0 that is the likeliest residue.

Every variant has its own random numbers, from (seed, its index): which positions it masks, in
which order, and its g. They do not depend on the batch size nor on the edits. So the variants of
no edit, of strength 0, and of other latents are pairs of one another: where an edit does not change
p, they have the same residue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from extract.plm import ProteinLM
from steering.changes import ErrorTerm, change_of, check_edits
from steering.controls import matched_change
from steering.design_settings import DesignSettings, free_positions
from steering.edits import Edit, Residues
from steering.effects import amino_acid_log_p, require_finite
from steering.hooks import edit_residual
from steering.torch_sae import TorchSAE


class Variant(NamedTuple):
    """A sequence that the edited model wrote."""

    index: int
    """Which one; with the seed it says all its random numbers."""
    sequence: str
    """As long as the input; non-standard residues are where they were."""
    changed: Int[np.ndarray, " changed"]
    """0-based positions that differ from the input, ascending."""
    chosen: Int[np.ndarray, " chosen"]
    """0-based positions whose residue the model chose, differing or not, ascending."""
    log_p: Float[np.ndarray, " chosen"]
    """log p of each (its last) choice by the edited model, over the 20 amino acids, at temperature
    1 whatever the temperature of the draw (nats)."""
    edited: Int[np.ndarray, " edited"]
    """0-based residues at which any edit applied, in any of the passes, ascending."""
    n_passes: int
    """Forward passes."""
    n_refused: int
    """Choices that were not taken because the budget of changes was used up."""


@torch.inference_mode()
def design(
    model: ProteinLM,
    sae: TorchSAE,
    sequence: str,
    edits: Sequence[Edit],
    settings: DesignSettings,
    *,
    error_term: ErrorTerm = "keep",
    direction_D: Float[Tensor, " d_model"] | None = None,
) -> list[Variant]:
    """Variants of a sequence that the model writes under the edits, in the order of their index.

    Args:
        model: the parent that the SAE was trained on.
        sae: on the model's device.
        sequence: legal residues.
        edits: see :mod:`steering.edits`; none gives the controls of any. ``@masked`` are the
            positions that are being chosen, ``@active`` goes by the variant as it is by then.
        settings: how.
        error_term: kept or dropped at edited residues.
        direction_D: for a control: a change along this unit vector, at every residue of the norm
            of the edits' own, instead of theirs (see :func:`steering.controls.latent_directions`
            and :func:`~steering.controls.random_directions`).

    Raises:
        UserError: another parent, one without masks or logits, an unknown latent, a range outside
            the sequence, a sequence beyond the parent's limit, no position that may change, or an
            edit so strong that the output overflows.
    """
    sae.require_parent(model)
    check_edits(sae, edits)
    for edit in edits:
        edit.where.check(len(sequence), str(edit))
    _require_masks_and_room(model, sequence)
    free = free_positions(sequence, settings)
    walks = [_Walk(i, sequence, free, settings) for i in range(settings.n_variants)]
    together = max(1, settings.batch_residues // len(sequence))
    edited = np.zeros((len(walks), len(sequence)), dtype=np.bool_)
    with tqdm(total=len(walks), desc="variants", unit="variant", disable=None) as bar:
        while going := [walk for walk in walks if walk.step is not None]:
            for start in range(0, len(going), together):
                batch = going[start : start + together]
                log_p, at = _pass(model, sae, edits, batch, error_term, direction_D)
                edited[[walk.index for walk in batch]] |= at
                for walk, log_p_M20 in zip(batch, log_p, strict=True):
                    walk.take(log_p_M20)
                bar.update(sum(walk.step is None for walk in batch))
    return [walk.variant(np.flatnonzero(edited[walk.index])) for walk in walks]


class _Step(NamedTuple):
    """What is masked in one pass, and the random numbers of its choices."""

    positions: Int[np.ndarray, " masked"]
    gumbel_M20: Float[np.ndarray, "masked 20"]


class _Walk:
    """One variant on its way."""

    def __init__(
        self, index: int, sequence: str, free: Int[np.ndarray, " free"], settings: DesignSettings
    ) -> None:
        self.index, self._input, self.letters = index, sequence, list(sequence)
        self._settings, self._free = settings, free
        self._log_p: dict[int, float] = {}
        self._changed: set[int] = set()
        self._n_passes = self._n_refused = 0
        self._steps = self._plan(np.random.default_rng((settings.seed, index)))
        self.step = next(self._steps, None)

    def _plan(self, rng: np.random.Generator) -> Iterator[_Step]:
        """Every step, were there no budget: the same random numbers whatever is chosen."""
        free, settings = self._free, self._settings
        if settings.method == "single":
            order = rng.permutation(free)[: max(1, round(settings.share * len(free)))]
            yield _Step(order, rng.gumbel(size=(len(order), len(AMINO_ACIDS))))
            return
        for _ in range(settings.n_sweeps):
            order, gumbel = rng.permutation(free), rng.gumbel(size=(len(free), len(AMINO_ACIDS)))
            for start in range(0, len(free), settings.n_per_step):
                now = slice(start, start + settings.n_per_step)
                yield _Step(order[now], gumbel[now])

    def take(self, log_p_M20: Float[np.ndarray, "masked 20"]) -> None:
        """Choose the residues of this step, in its random order, and go to the next."""
        assert self.step is not None
        chosen = (log_p_M20 + self._settings.temperature * self.step.gumbel_M20).argmax(axis=1)
        for i, position in enumerate(self.step.positions.tolist()):
            letter = AMINO_ACIDS[chosen[i]]
            differs = letter != self._input[position]
            if differs and position not in self._changed and self._spent():
                self._n_refused += 1
                continue
            (self._changed.add if differs else self._changed.discard)(position)
            self.letters[position] = letter
            self._log_p[position] = float(log_p_M20[i, chosen[i]])
        self._n_passes += 1
        self.step = None if self._spent() else next(self._steps, None)

    def _spent(self) -> bool:
        budget = self._settings.max_changes
        return budget is not None and len(self._changed) >= budget

    def variant(self, edited: Int[np.ndarray, " edited"]) -> Variant:
        """Where it ended."""
        chosen = sorted(self._log_p)
        return Variant(
            self.index,
            "".join(self.letters),
            np.array(sorted(self._changed), dtype=np.int64),
            np.array(chosen, dtype=np.int64),
            np.array([self._log_p[p] for p in chosen], dtype=np.float64),
            edited,
            self._n_passes,
            self._n_refused,
        )


def _pass(
    model: ProteinLM,
    sae: TorchSAE,
    edits: Sequence[Edit],
    walks: Sequence[_Walk],
    error_term: ErrorTerm,
    direction_D: Tensor | None,
) -> tuple[list[np.ndarray], Bool[np.ndarray, "walks residues"]]:
    """log p ``[masked, 20]`` of each walk's step, and at which residues the edits applied."""
    assert model.mask_token is not None
    tokens = model.tokenize(["".join(walk.letters) for walk in walks])
    rows = tokens.residue_rows().reshape(len(walks), -1)
    steps = [walk.step.positions for walk in walks if walk.step is not None]
    masked = torch.cat([rows[i, torch.from_numpy(p).to(rows)] for i, p in enumerate(steps)])
    tokens = tokens._replace(ids=tokens.ids.index_fill(0, masked, model.mask_token))
    residues = Residues(tokens, model.mask_token)
    edited_R = torch.zeros_like(residues.masked)

    def add(x_RD: Tensor) -> Tensor:
        change = change_of(sae, edits, x_RD, residues, error_term=error_term)
        edited_R.logical_or_(change.edited_R)
        if direction_D is None:
            return change.delta_RD
        norms_R = torch.linalg.vector_norm(change.delta_RD, dim=-1)
        return matched_change(direction_D.to(norms_R), norms_R)

    if edits:
        with edit_residual(model, sae.site, add, tokens):
            logits = model.logits(tokens)
    else:
        logits = model.logits(tokens)
    log_p = amino_acid_log_p(logits[masked], model.amino_acid_tokens)
    require_finite(edits, log_p)
    parts = np.split(log_p.cpu().double().numpy(), np.cumsum([len(p) for p in steps])[:-1])
    return parts, edited_R.reshape(rows.shape).cpu().numpy()


def _require_masks_and_room(model: ProteinLM, sequence: str) -> None:
    if model.mask_token is None:
        raise UserError(f"{model.name} was not trained on masks, so it can't re-decode a sequence")
    if not 1 <= len(sequence) <= model.max_residues:
        raise UserError(
            f"the sequence has {len(sequence)} residues, {model.name} takes 1 to "
            f"{model.max_residues}; give a part of it"
        )
