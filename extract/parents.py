"""Every parent model by name, and a user's own by ``package.module:function``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from extract.custom_parent import check_loader_name, load_custom
from extract.errors import UserError
from extract.esm import ESM2, ESM2_SHAPES
from extract.plm import ProteinLM
from extract.unirep import UNIREP_SHAPES
from extract.unirep_weights import load_unirep
from extract.weights import load_esm2


class Family(NamedTuple):
    """Parents that share a loader."""

    names: Collection[str]
    """What ``--model`` calls them."""
    load: Callable[..., ProteinLM]
    """Called with a name, ``weights``, ``token_dropout``, ``device``, and ``dtype`` if that is not
    float32."""


FAMILIES = (Family(ESM2_SHAPES, load_esm2), Family(UNIREP_SHAPES, load_unirep))
"""The parents that come with this project; ``docs/parents.md`` shows how to bring another."""


def parent_names() -> list[str]:
    """The parents that come with this project."""
    return [name for family in FAMILIES for name in family.names]


def check_parent_name(name: str) -> str:
    """Return ``name`` if :func:`load_parent` may know it; loads and imports nothing.

    Raises:
        UserError: no such parent (lists the names), or no such module.
    """
    if ":" in name:
        return check_loader_name(name)
    if name not in parent_names():
        raise UserError(
            f"unknown model {name!r}; known: {', '.join(parent_names())}, and loaders of your own "
            "as package.module:function"
        )
    return name


def load_parent(
    name: str,
    *,
    weights: str | Path | None = None,
    token_dropout: bool = True,
    device: str | None = None,
    dtype: str = "float32",
) -> ProteinLM:
    """Load a parent for inference.

    Args:
        name: one of :func:`parent_names`, or ``package.module:function``, a function of your own
            that is called with the other arguments as keywords.
        weights: a file (or folder, if the family has them) to load instead of looking for one.
        token_dropout: ESM2's 0.88 embedding scale (the default of fair-esm and Hugging Face).
            Parents that have none, such as UniRep, ignore it and record False.
        device: a torch device; by default the first GPU, else the CPU.
        dtype: number format of the forward pass, "float32" or "bfloat16".

    Raises:
        UserError: unknown model or format, no weights to be had, a file that does not fit the
            model, or a loader of your own that fails.
    """
    if ":" in check_parent_name(name):
        load = partial(load_custom, name)
    else:
        load = partial(next(f.load for f in FAMILIES if name in f.names), name)
    check_device(device)
    settings = {} if dtype == "float32" else {"dtype": dtype}
    return load(weights=weights, token_dropout=token_dropout, device=device, **settings)


def check_device(device: str | None) -> None:
    """Raise a :class:`UserError` unless Torch can put a tensor on ``device`` here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {device}: can't be used here ({str(error).splitlines()[0][:120]}); give "
            "cpu, or cuda:0 and up on a machine with GPUs"
        ) from error


def check_sites(name: str, sites: Sequence[str]) -> None:
    """Refuse a site that the named parent lacks, without its weights where they are not needed.

    Raises:
        UserError: naming the sites there are. UniRep and a user's own are checked when loaded.
    """
    if name in ESM2_SHAPES:
        with torch.device("meta"):
            model = ESM2(name, ESM2_SHAPES[name])
        for site in sites:
            model.check_site(site)


def load_parent_of(
    manifest: Mapping,
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    dtype: str = "float32",
    model: str | None = None,
) -> ProteinLM:
    """Load the parent that a store's manifest names; whether its weights fit is checked later.

    Args:
        manifest: of a store, or of the store that an SAE was trained on.
        weights: as in :func:`load_parent`.
        device: a torch device; by default the first GPU, else the CPU.
        dtype: number format of the forward pass, whatever the store's was.
        model: must name the parent when its loader is a user's own: a manifest may come from a
            stranger, so it alone never decides which code is imported and called.

    Raises:
        UserError: as :func:`load_parent`, or a user's loader that ``model`` does not name.
    """
    parent = manifest["parent"]
    if ":" in parent["name"] and model != parent["name"]:
        raise UserError(
            f"the parent is {parent['name']}, code that does not come with this project; if you "
            f"know it, allow it with --model {parent['name']}"
        )
    return load_parent(
        parent["name"],
        weights=weights,
        token_dropout=parent["token_dropout"],
        device=device,
        dtype=dtype,
    )
