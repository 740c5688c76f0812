"""Every format by name, and what reads and writes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from extract.errors import UserError
from extract.files import write_atomically
from saejax.interop import (
    bionemo,
    dictionary_learning,
    esmc,
    interplm,
    interprot,
    openai,
    plain,
    plm_sae,
    saelens,
    sparsify,
)
from saejax.interop.card import model_card
from saejax.interop.exported import Exported
from saejax.interop.published import Given, Published
from saejax.loaded_sae import LoadedSAE

ImportFormat = Literal[
    "interprot", "interplm", "esmc", "plm-sae", "bionemo", "saelens", "dictionary_learning",
    "sparsify", "openai", "plain",
]  # fmt: skip
ExportFormat = Literal["saelens", "dictionary_learning", "sparsify", "plain"]
IMPORT_FORMATS: tuple[str, ...] = get_args(ImportFormat)
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)

READERS: dict[str, Callable[[Path, Given], Published]] = {
    "interprot": interprot.read, "interplm": interplm.read, "esmc": esmc.read,
    "plm-sae": plm_sae.read, "bionemo": bionemo.read, "saelens": saelens.read,
    "dictionary_learning": dictionary_learning.read, "sparsify": sparsify.read,
    "openai": openai.read, "plain": plain.read,
}  # fmt: skip
WRITERS: dict[str, Callable[[Exported, Path], None]] = {
    "saelens": saelens.write, "dictionary_learning": dictionary_learning.write,
    "sparsify": sparsify.write, "plain": plain.write,
}  # fmt: skip


def read_published(format_name: str, path: str | Path, given: Given | None = None) -> Published:
    """Read an SAE that others published.

    Args:
        format_name: one of ``IMPORT_FORMATS``.
        path: the weights file, or the folder that it is in (docs/interop.md).
        given: what the files of that format leave open.

    Raises:
        UserError: no such format or file, damaged, of another format, or with values that are not
            finite.
    """
    if format_name not in READERS:
        raise UserError(f"unknown format {format_name!r}; known: {', '.join(READERS)}")
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    return READERS[format_name](path, given or Given())


def write_published(format_name: str, loaded: LoadedSAE, folder: str | Path) -> None:
    """Write a run's SAE in another's format, with a model card; the folder appears when whole.

    Raises:
        UserError: no such format, the folder is there already, or the format can't say what this
            SAE does.
    """
    if format_name not in WRITERS:
        raise UserError(f"unknown format {format_name!r}; known: {', '.join(WRITERS)}")
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder}: is there already; give a new --out folder")
    exported = Exported.of(loaded)
    building = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        WRITERS[format_name](exported, building)
        card = model_card(exported, loaded, format_name)
        write_atomically(building / "README.md", lambda f: f.write(card.encode()))
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
