"""Trained SAEs that come with the package: ``load_sae("zoo:esm2_8m_block4_1024_k32")``.

Each is a folder here: ``sae.safetensors`` and ``config.json`` as ``saejax.interop.plain`` writes
them, the run's ``run.json`` and ``latent_stats.parquet``, and a model card, ``README.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from extract.errors import UserError
from extract.files import read_json

if TYPE_CHECKING:
    from saejax.loaded_sae import LoadedSAE

PREFIX = "zoo:"
FOLDER = Path(__file__).parent


def names() -> list[str]:
    """What there is to load, without the prefix."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def zoo_name(path: str | Path) -> str | None:
    """The name in ``zoo:name``; None for the path of a run."""
    text = str(path)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def load_zoo(name: str) -> LoadedSAE:
    """Load one of :func:`names`.

    Raises:
        UserError: no such name, or its files are damaged.
    """
    from saejax.interop.importing import sae_of  # which needs what loads runs
    from saejax.interop.plain import read
    from saejax.interop.published import Given
    from saejax.loaded_sae import LoadedSAE

    if name not in names():
        raise UserError(f"{PREFIX}{name}: not in the zoo, which has {', '.join(names())}")
    folder = FOLDER / name
    sae = sae_of(read(folder, Given()))
    return LoadedSAE(folder, sae, sae.config, read_json(folder / "run.json", "a training run"))
