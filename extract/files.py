"""Small files that are found whole or not at all, also after a crash."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import UserError


def write_json_atomically(path: Path, value: Any) -> None:
    """Write JSON so that a reader finds the old file or the whole new one, also after a crash."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def read_json(path: Path, what: str) -> dict:
    """Read a JSON object, or raise a :class:`UserError` that names the file and ``what`` it is."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent}: is not {what} (no {path.name}); check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({error}); make {what} again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged (not a JSON object); make {what} again")
    return value


def versions(*packages: str) -> dict[str, str]:
    """Versions of installed packages, for a manifest."""
    return {name: importlib.metadata.version(name) for name in packages}


def write_lines_atomically(path: Path, lines: list[dict]) -> None:
    """Write JSON lines, all or none of them."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def save_array_atomically(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as f:
        np.save(f, array)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)
