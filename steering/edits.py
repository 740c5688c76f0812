"""What an edit is: an operation on one latent, at some of the residues.

=========  ====================================================================================
operation  what becomes of the latent z_j at a residue (s: the strength, in latent units)
=========  ====================================================================================
set        z′_j = s
add        z′_j = max(z_j + s, 0): a latent never goes below zero
scale      z′_j = s · z_j
zero       z′_j = 0
direction  the stream gets s · W_dec[j] / scale, whatever z_j is (no encoding takes part)
ablate     the stream gets −⟨x − mean, u⟩ u with u = W_dec[j] / ‖W_dec[j]‖
=========  ====================================================================================

The last two are no edits of a latent: they are what steering without an SAE does, for comparison
(activation addition, Turner et al. 2023, arXiv 2308.10248; directional ablation, Arditi et al.
2024, arXiv 2406.11717).

As text an edit is ``LATENT:OPERATION[:STRENGTH][@WHERE]``; several are separated by ``;``::

    123:set:1.5xmax         1.5 times the latent's own maximum on the run's held-out residues
    123:add:2.0@active      2.0 latent units, where it fires
    40:zero@120-140,150     residues counted from 1, both ends taken
    7:scale:0.5@masked      masked residues only
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from extract.errors import UserError
from extract.plm import PackedTokens

if TYPE_CHECKING:
    from saejax.checkpoint import LoadedSAE

Operation = Literal["set", "add", "scale", "zero", "direction", "ablate"]
"""What is done; see the module's table."""
OF_STREAM = ("direction", "ablate")
"""Operations that do not touch latents."""
WITHOUT_STRENGTH = ("zero", "ablate")
Places = Literal["all", "active", "masked", "ranges"]

MAX_STRENGTH = torch.finfo(torch.float32).max

FORM = "must be LATENT:OPERATION[:STRENGTH][@WHERE], such as 123:set:1.5xmax@10-20"


@dataclass(frozen=True)
class Where:
    """Residues at which an edit applies."""

    places: Places = "all"
    """All of them, those on which the latent fires, those that are masked, or given ones."""
    ranges: tuple[tuple[int, int], ...] = ()
    """Given ones: 0-based, each from a first to before a last."""

    def __str__(self) -> str:
        """As text, counted from 1."""
        if self.places != "ranges":
            return self.places
        words = (f"{a + 1}-{b}" if b - a > 1 else f"{b}" for a, b in self.ranges)
        return ",".join(words)

    def positions(self) -> list[int]:
        """0-based residues of the ranges, ascending, each once."""
        return sorted({i for first, last in self.ranges for i in range(first, last)})

    def check(self, n_residues: int, name: str) -> None:
        """Refuse ranges that leave a sequence of ``n_residues``."""
        for first, last in self.ranges:
            if last > n_residues:
                raise UserError(
                    f"{name}: residues {first + 1}-{last} are outside the sequence, whose residues "
                    f"are 1 to {n_residues}"
                )


EVERYWHERE = Where()


@dataclass(frozen=True)
class Edit:
    """One operation on one latent at some residues."""

    latent: int
    """Which latent of the dictionary."""
    operation: Operation
    """What is done to it."""
    strength: float = 0.0
    """In the SAE's own (normalised) latent units; of ``scale`` the factor; else unused."""
    where: Where = EVERYWHERE
    """At which residues."""

    def __post_init__(self) -> None:
        """Check the strength."""
        if not abs(self.strength) <= MAX_STRENGTH:  # also NaN
            raise UserError(
                f"latent {self.latent}: the strength ({self.strength}) must be a finite number of "
                "float32"
            )

    def __str__(self) -> str:
        """As text, which :func:`parse_edits` reads."""
        strength = "" if self.operation in WITHOUT_STRENGTH else f":{self.strength:.9g}"
        where = "" if self.where == EVERYWHERE else f"@{self.where}"
        return f"{self.latent}:{self.operation}{strength}{where}"

    def apply(self, z_R: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """z′ of the latent, from z; the latent as it is if the operation is on the stream."""
        match self.operation:
            case "set":
                return torch.full_like(z_R, self.strength)
            case "add":
                return (z_R + self.strength).clamp_min(0)
            case "scale":
                return z_R * self.strength
            case "zero":
                return torch.zeros_like(z_R)
            case "direction" | "ablate":
                return z_R


@dataclass(frozen=True)
class EditRequest:
    """An edit as a person writes it, before the run is known."""

    latent: int
    operation: Operation
    strength: float
    of_maximum: bool
    """Whether ``strength`` is a multiple of the latent's own maximum."""
    where: Where

    def __str__(self) -> str:
        """As text, which :func:`parse_edits` reads."""
        text = str(Edit(self.latent, self.operation, self.strength, self.where))
        what, at, where = text.partition("@")
        return f"{what}{'xmax' * self.of_maximum}{at}{where}"

    def resolve(self, loaded: LoadedSAE) -> Edit:
        """The edit in latent units.

        Raises:
            UserError: the run has no such latent, or a multiple of a maximum of 0.
        """
        latent, strength = loaded.check_latent(self.latent), self.strength
        if self.of_maximum:
            strength = multiple_of_maximum(loaded, latent, strength)
        return Edit(latent, self.operation, strength, self.where)


def multiple_of_maximum(loaded: LoadedSAE, latent: int, multiple: float) -> float:
    """``multiple`` times the latent's largest value on the run's held-out residues.

    Raises:
        UserError: no such latent, or one that never fired there, so that it has no maximum.
    """
    maximum = float(loaded.latent_max[loaded.check_latent(latent)])
    if maximum <= 0:
        raise UserError(
            f"latent {latent} never fired on the held-out residues of {loaded.folder}, so a "
            f"multiple of its maximum ({multiple:g}xmax) means nothing; give a value without xmax"
        )
    return multiple * maximum


def parse_edits(text: str, *, flag: str = "--edit") -> list[EditRequest]:
    """Edits separated by ``;``; see the module's text. Empty text is no edit.

    Raises:
        UserError: a malformed edit, by name.
    """
    return [_parse_edit(part, flag) for part in text.split(";") if part.strip()]


def _parse_edit(text: str, flag: str) -> EditRequest:
    what, at, place = text.partition("@")
    match = re.fullmatch(r"\s*(\d{1,12})\s*:\s*([a-z]+)\s*(?::\s*([^\s:]+?)(xmax)?\s*)?", what)
    if match is None:
        raise UserError(f"{flag} {text!r}: {FORM}")
    operation = match[2]
    if operation not in get_args(Operation):
        raise UserError(
            f"{flag} {text!r}: unknown operation {operation!r}; it is one of "
            f"{', '.join(get_args(Operation))}"
        )
    if (match[3] is None) != (operation in WITHOUT_STRENGTH):
        rule = "takes no strength" if match[3] else "needs a strength, such as 2.0 or 1.5xmax"
        raise UserError(f"{flag} {text!r}: {operation} {rule}")
    try:
        strength = float(match[3] or 0)
    except ValueError:
        raise UserError(f"{flag} {text!r}: {FORM}") from None
    if not math.isfinite(strength):
        raise UserError(f"{flag} {text!r}: the strength must be a finite number")
    if operation == "scale" and match[4]:
        raise UserError(f"{flag} {text!r}: scale takes a plain factor, without xmax")
    where = parse_where(place, f"{flag} {text!r}") if at else EVERYWHERE
    return EditRequest(int(match[1]), cast(Operation, operation), strength, bool(match[4]), where)


def parse_where(text: str, name: str) -> Where:
    """``all``, ``active``, ``masked``, or ranges counted from 1 such as ``3,10-15``.

    Raises:
        UserError: any other form, a range that is backwards or begins before 1.
    """
    text = text.strip()
    if text in ("all", "active", "masked"):
        return Where(cast(Places, text))
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if match is None:
            raise UserError(
                f"{name}: where must be all, active, masked, or ranges counted from 1 such as "
                "1-20 or 3,10-15"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last:
            raise UserError(f"{name}: residues {part.strip()} are backwards or begin before 1")
        ranges.append((first - 1, last))
    return Where("ranges", tuple(ranges))


class Residues:
    """The residues of a packed batch, and what ``where`` needs to know of them."""

    def __init__(self, tokens: PackedTokens, mask_token: int | None) -> None:
        """Find rows, positions and masks."""
        self.rows, self._has_masks = tokens.residue_rows(), mask_token is not None
        lengths = torch.tensor([n - tokens.n_before - tokens.n_after for n in tokens.lengths])
        self.lengths = lengths.tolist()
        self.sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        starts = lengths.cumsum(0) - lengths
        self.position = torch.arange(len(self.sequence)) - starts[self.sequence]
        self.sequence = self.sequence.to(tokens.ids.device)
        self.position = self.position.to(tokens.ids.device)
        self.masked = (
            torch.zeros_like(self.rows, dtype=torch.bool)
            if mask_token is None
            else tokens.ids[self.rows] == mask_token
        )

    def chosen(self, where: Where, z_R: Float[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """At which residues an edit applies, ``z_R`` being its latent there.

        Raises:
            UserError: a range that leaves a sequence of the batch.
        """
        match where.places:
            case "all":
                return torch.ones_like(self.masked)
            case "active":
                return z_R > 0
            case "masked":
                if not self._has_masks:
                    raise UserError("@masked: this parent was not trained on masks")
                return self.masked
            case "ranges":
                for n in self.lengths:
                    where.check(n, f"@{where}")
                inside = torch.zeros_like(self.masked)
                for first, last in where.ranges:
                    inside |= (self.position >= first) & (self.position < last)
                return inside


def require_distinct(edits: Sequence[Edit] | Sequence[EditRequest]) -> None:
    """Refuse two edits of one latent at the same residues.

    Raises:
        UserError: naming the latent and the residues.
    """
    seen = set()
    for edit in edits:
        if (edit.latent, edit.where) in seen:
            raise UserError(
                f"latent {edit.latent} is edited twice at the same residues ({edit.where}); give "
                "it one edit there"
            )
        seen.add((edit.latent, edit.where))


def latents_of(edits: Sequence[Edit]) -> list[int]:
    """The latents that are edited, each once, in the order of their first edit."""
    return list(dict.fromkeys(edit.latent for edit in edits))
