"""Files: read with one-line errors, written whole or not at all, also after a crash."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.metadata
import io
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from extract.errors import UserError


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let ``write`` fill a file so that a reader finds the old one or the whole new one.

    It goes to ``<name>.tmp`` first, is flushed to the disk, and takes its name last.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as f:
        write(f)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def write_json_atomically(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    text = json.dumps(value, indent=1) + "\n"
    write_atomically(path, lambda f: f.write(text.encode()))


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


def plain(value: Any) -> Any:
    """A setting as a JSON value: a path as text, a tuple as a list, others as they are."""
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def plain_settings(config: Any) -> dict[str, Any]:
    """The fields of a flat dataclass as JSON values, for a record."""
    return {f.name: plain(getattr(config, f.name)) for f in fields(config)}


def versions(*packages: str) -> dict[str, str]:
    """Versions of installed packages, for a manifest."""
    return {name: importlib.metadata.version(name) for name in packages}


def write_lines_atomically(path: Path, lines: list[dict]) -> None:
    """Write JSON lines, all or none of them."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomically(path, lambda f: f.write(text.encode()))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, whole or not at all; lines end with a line feed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, lambda f: f.write(text.getvalue().encode()))


def save_array_atomically(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, whole or not at all."""
    write_atomically(path, lambda f: np.save(f, array))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class _Digested(io.RawIOBase):
    """A file whose bytes are also fed to a hash, in the order in which they are read."""

    def __init__(self, raw: IO[bytes], digest: Any) -> None:
        self._raw, self._digest = raw, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self._digest.update(data)
        return len(data)


@contextmanager
def open_text(
    path: Path, *, errors: str = "strict", digest: Any = None
) -> Iterator[io.TextIOWrapper]:
    """Open UTF-8 text, gzipped or not (told by its content, not its name).

    Args:
        path: the file.
        errors: as of ``open``; "replace" reads anything.
        digest: a ``hashlib`` object that is fed the file's bytes as stored; it has seen all of
            them when the text was read to its end.

    Raises:
        UserError: no such file, a folder, a damaged gzip, or not text; also while it is read.
    """
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stored = raw if digest is None else io.BufferedReader(_Digested(raw, digest), 1 << 20)
            binary = gzip.GzipFile(fileobj=stored) if gzipped else stored
            with io.TextIOWrapper(binary, encoding="utf-8-sig", errors=errors) as text:  # type: ignore[arg-type]
                yield text
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path}: the gzip file is truncated or damaged ({error}); fetch it again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error}); check the file") from error


def without_nan(value: Any) -> Any:
    """A JSON value whose numbers that are not finite are null, which every reader takes."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_place_for(path: Path, kind: str) -> None:
    """Refuse to write a JSON result over anything but an earlier one of its ``kind``.

    Raises:
        UserError: a folder, another file, or a name below a file.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file such as {path / kind}.json with --out")
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir():
        raise UserError(f"{path}: {parent} is a file, not a folder; give another --out")
    if path.exists():
        try:
            found = json.loads(path.read_text()).get("kind")
        except (ValueError, AttributeError):
            found = None
        if found != kind:
            raise UserError(f"{path}: holds something else than {kind}; give another --out")
