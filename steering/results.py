"""What the commands share: where results go, and where they come from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import UserError
from steering.changes import JOIN_RULE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from extract.plm import ProteinLM
    from saejax.checkpoint import LoadedSAE
    from steering.config import SteerConfig

FORMAT_VERSION = 2
RECORD = "steering.json"
"""Written last: a folder without it is no result."""
FILES = (
    RECORD, "page.html", "delta_log_p.csv", "delta_log_p.png", "sweep.csv", "proteins.csv",
    "dose_response.png", "variants.csv", "variants.fasta", "composition.png", "benchmark.csv",
)  # fmt: skip
"""Everything the commands write."""


def require_result_folder(out: Path) -> None:
    """Refuse a folder that holds something other than an earlier steering result."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder with --out")
    known = {*FILES, *(f"{name}.tmp" for name in FILES), "structures", "structures.tmp"}
    if out.is_dir() and any(p.name not in known for p in out.iterdir()):
        raise UserError(f"{out}: is not empty and not a steering result; give a new --out folder")


def begin_result(out: Path) -> None:
    """Make the folder; what an earlier result of it holds goes, its record first.

    Raises:
        UserError: as :func:`require_result_folder`.
    """
    require_result_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def provenance(
    config: SteerConfig, loaded: LoadedSAE, model: ProteinLM, latents: Sequence[int]
) -> dict[str, Any]:
    """What a record says about where its numbers come from."""
    from extract.files import plain_settings, versions

    kept = "x + decode(z') - decode(z): the SAE's error term is kept"
    dropped = "decode(z') at edited residues: the SAE's error term is dropped"
    return {
        "config": plain_settings(config),
        "parent": model.describe(),
        "site": loaded.site,
        "run": {
            "folder": str(loaded.folder),
            "sae": loaded.run["sae"],
            "results": loaded.run["results"],
        },
        "latents": [
            {
                "latent": latent,
                "frequency": float(loaded.latent_frequency[latent]),
                "maximum": float(loaded.latent_max[latent]),
            }
            for latent in latents
        ],
        "edit_rule": f"{kept if config.error_term == 'keep' else dropped}; {JOIN_RULE}; all later "
        "blocks run",
        "units": "natural log; log p over the 20 amino acids, positions from 1; strengths in the "
        "SAE's latent units; maxima over the run's held-out residues",
        "versions": versions("torch", "numpy"),
    }
