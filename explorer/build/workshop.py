"""A bundle's folder while it is made: what it is made from, and the parts that are done.

Parts lie in ``building/parts``; each is written whole or not at all and depends on the plan alone,
so a build that goes on after a kill ends with the same bytes. The bundle's own files are put
together from the parts, and its manifest comes last.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from explorer import layout
from explorer.bundle import BUILDING
from extract.claims import Claims
from extract.errors import UserError
from extract.files import read_json, write_atomically, write_json_atomically
from extract.location import Location

PLAN = "plan.json"
_WHAT = "a bundle"


class Workshop:
    """Parts of a bundle that is being made. Use :func:`open_workshop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.building = folder / BUILDING
        self.parts = self.building / "parts"

    def has(self, name: str) -> bool:
        """Whether a part is done."""
        return (self.parts / name).exists()

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a part's arrays."""
        self._write(name, lambda f: np.savez(f, allow_pickle=False, **arrays))

    def load(self, name: str) -> Mapping[str, np.ndarray]:
        """A part's arrays, each read when it is asked for."""
        return np.load(self.parts / name, allow_pickle=False)

    def save_table(self, name: str, table: pd.DataFrame) -> None:
        """Keep a part that is a table."""
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        self._write(name, lambda f: f.write(buffer.getvalue()))

    def load_table(self, name: str) -> pd.DataFrame:
        """A part that is a table."""
        return pd.read_parquet(self.parts / name)

    def save_facts(self, name: str, facts: Any) -> None:
        """Keep a part that is JSON."""
        self._write(name, lambda f: f.write(json.dumps(facts).encode()))

    def load_facts(self, name: str) -> Any:
        """A part that is JSON."""
        return json.loads((self.parts / name).read_text())

    def finish(self, manifest: layout.Manifest) -> None:
        """The folder becomes a bundle."""
        write_json_atomically(self.folder / layout.MANIFEST, manifest)
        shutil.rmtree(self.building)

    def _write(self, name: str, write: Any) -> None:
        path = self.parts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)


def finished_with(folder: Path, plan_sha256: str) -> bool:
    """Whether the folder is the finished bundle of this plan.

    Raises:
        UserError: it is the finished bundle of another, or a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder with --out")
    if not (folder / layout.MANIFEST).exists():
        return False
    manifest = read_json(folder / layout.MANIFEST, _WHAT)
    if manifest.get("provenance", {}).get("plan_sha256") != plan_sha256:
        raise UserError(
            f"{folder}: holds a finished bundle of other inputs or settings; give another --out, "
            "or remove it"
        )
    shutil.rmtree(folder / BUILDING, ignore_errors=True)
    return True


@contextmanager
def open_workshop(folder: Path, plan: Mapping[str, Any]) -> Iterator[Workshop]:
    """The folder for this process alone.

    Raises:
        UserError: it holds something else, was begun with another plan, or another process is at
            it.
    """
    shop = Workshop(folder)
    begun = shop.building / PLAN
    if not begun.exists() and folder.exists() and {p.name for p in folder.iterdir()} - {BUILDING}:
        raise UserError(f"{folder}: is not empty and not {_WHAT}; give a new folder")
    plan = json.loads(json.dumps(plan))
    if begun.exists():
        _require_same(folder, read_json(begun, _WHAT), plan)
    shop.building.mkdir(parents=True, exist_ok=True)
    claims = Claims(Location.of(shop.building))
    try:
        if not claims.take(0):
            raise UserError(f"{folder}: another process is building it; wait until it is done")
        if not begun.exists():
            write_json_atomically(begun, plan)
        yield shop
    finally:
        claims.close()


def _require_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            values = f"{before.get(key)!r}"[:200], f"{now.get(key)!r}"[:200]
            raise UserError(
                f"{folder}: was begun with another {key}: {values[0]}, not {values[1]}; give "
                "another --out, or remove it"
            )
