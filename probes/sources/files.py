"""Tables from disk, plain or gzipped, with one-line errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from extract.errors import UserError
from extract.files import open_text


def read_table(
    path: Path, columns: Sequence[str], optional: Sequence[str] = (), *, bare_ids: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column) of a tab-separated file with a header line.

    Args:
        path: the file, plain or gzipped.
        columns: must be there.
        optional: are given when they are there; all others are ignored, as are empty lines.
        bare_ids: whether a line may hold its first field alone; the others are then empty.

    Raises:
        UserError: a column is missing or named twice, or a line has another number of fields than
            the header.
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
        wanted = [name for name in (*columns, *optional) if name in header]
        for name in wanted:
            if header.count(name) > 1:
                raise UserError(f"{path}: line 1 names the column {name} twice; remove one")
        at = {name: header.index(name) for name in wanted}
        for number, line in enumerate(text, start=2):
            if not line.strip():
                continue
            fields = line.rstrip("\r\n").split("\t")
            if bare_ids and len(fields) == 1:
                fields += [""] * (len(header) - 1)
            if len(fields) != len(header):
                raise UserError(
                    f"{path}: line {number} has {len(fields)} fields, the header {len(header)}; "
                    "separate fields by single tabs"
                )
            yield number, {name: fields[i] for name, i in at.items()}


def read_tsv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, the named columns); see :func:`read_table`."""
    for number, cells in read_table(path, columns):
        yield number, [cells[name] for name in columns]
