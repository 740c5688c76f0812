"""Which training run, and which probes, stand behind each bundle.

A bundle names no path of the machine that made it. A run is a bundle's when its results, to the
last digit, its site and its SAE are those that the bundle records.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.bundle import Bundle
from explorer.server.library import Library
from extract.errors import UserError
from extract.files import without_nan

RUN, PROBES = "run.json", "split.csv"


@dataclass(frozen=True)
class LiveSource:
    """Where a bundle's SAE is, for the worker."""

    sae: str
    """Id of the bundle in URLs."""
    run: Path
    """Folder of the run."""
    probes: Path | None
    """Folder of ``python -m probes`` with its latents, for a person's own labels."""
    sequences: Path
    """The bundle."""


def live_sources(
    library: Library, runs: Sequence[Path], probes: Sequence[Path]
) -> dict[str, LiveSource]:
    """The run of every bundle that has one, by the bundle's id.

    Args:
        library: the bundles.
        runs: runs, or folders of runs; by default the folders beside each bundle.
        probes: folders of probes, or folders of those; by default those beside each run.

    Raises:
        UserError: a folder without a run, or no bundle whose run is here.
    """
    given = [found for folder in runs for found in _found(folder, RUN, "a training run")]
    asked = [found for folder in probes for found in _found(folder, PROBES, "probes")]
    sources: dict[str, LiveSource] = {}
    for source in library:
        bundle = source.bundle
        near = given if runs else _inside(bundle.folder.resolve().parent, RUN)
        run = next((folder for folder in near if _is_of(folder, bundle)), None)
        if run is None:
            continue
        beside = asked if probes else [*_inside(run, PROBES), *_inside(run.parent, PROBES)]
        fitting = next((p for p in beside if _probes_fit(p, run, bundle)), None)
        sources[source.id] = LiveSource(source.id, run, fitting, bundle.folder)
    if not sources:
        where = ", ".join(map(str, runs)) or "the folders beside the bundles"
        raise UserError(
            f"--live: none of the bundles was made from a run in {where}; name the runs with "
            "--runs, or serve without --live"
        )
    return sources


def _found(folder: Path, name: str, what: str) -> list[Path]:
    found = _inside(folder, name)
    if not found:
        raise UserError(f"{folder}: holds no {name}, so it is not {what}; check the path")
    return found


def _inside(folder: Path, name: str) -> list[Path]:
    """The folder itself, and those in it, that have a file of this name."""
    if not folder.is_dir():
        return []
    return [p for p in (folder, *sorted(folder.iterdir())) if (p / name).is_file()]


def _is_of(folder: Path, bundle: Bundle) -> bool:
    """Whether a bundle was made from this run."""
    try:
        run = json.loads((folder / RUN).read_text())
        plain = {k: v for k, v in run["results"].items() if not isinstance(v, list)}
        here = (without_nan(plain), run["store"]["site"], run["sae"]["d_sae"])
    except (ValueError, KeyError, TypeError, OSError):
        return False
    manifest = bundle.manifest
    recorded = manifest.get("provenance", {}).get("results")
    return here == (recorded, manifest["site"], bundle.d_sae)


def _probes_fit(folder: Path, run: Path, bundle: Bundle) -> bool:
    """Whether the folder has latents of this run on the bundle's proteins.

    The worker checks the rest: whose parameters made them.
    """
    manifest, record = _json(folder / "latents" / "manifest.json"), _json(run / RUN)
    try:
        found = (manifest["n_rows"], manifest["run"]["sae"])
        sites = {store["site"] for store in manifest["stores"]}
    except (KeyError, TypeError):
        return False
    return found == (bundle.n_residues, record["sae"]) and sites == {bundle.manifest["site"]}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
