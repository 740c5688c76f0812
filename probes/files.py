"""Tables from disk, plain or gzipped, with one-line errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from extract.errors import UserError
from extract.files import open_text


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
