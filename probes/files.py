"""Text and tables from disk, plain or gzipped, with one-line errors."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from extract.errors import UserError


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open UTF-8 text, gzipped or not (told by its content, not its name).

    Raises:
        UserError: no such file, a folder, a damaged gzip, or not text; also while it is read.
    """
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            binary = gzip.GzipFile(fileobj=raw) if gzipped else raw
            with io.TextIOWrapper(binary, encoding="utf-8-sig") as text:  # type: ignore[arg-type]
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


def read_tsv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, the named columns) of a tab-separated file with a header line.

    Other columns are ignored; empty lines are skipped.

    Raises:
        UserError: a column is missing, or a line has another number of fields than the header.
    """
    with open_text(path) as text:
        header = text.readline().rstrip("\r\n").split("\t")
        missing = [name for name in columns if name not in header]
        if missing:
            found = ", ".join(header)[:200] or "nothing"
            raise UserError(
                f"{path}: line 1 lacks the column(s) {', '.join(missing)} (found: {found}); the "
                f"file must be tab-separated with a header naming {', '.join(columns)}"
            )
        at = [header.index(name) for name in columns]
        for number, line in enumerate(text, start=2):
            if not line.strip():
                continue
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != len(header):
                raise UserError(
                    f"{path}: line {number} has {len(fields)} fields, the header {len(header)}; "
                    "separate fields by single tabs"
                )
            yield number, [fields[i] for i in at]
