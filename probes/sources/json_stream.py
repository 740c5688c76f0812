"""JSON objects out of a file of any size, one at a time.

The standard library's decoder is run on a bounded buffer: a streaming parser would be one more
dependency for what UniProt's three layouts need.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extract.errors import UserError
from extract.files import open_text

CHUNK = 1 << 20
"""Letters read at once."""
MAX_OBJECT = 1 << 26
"""Letters of the longest object that is read; titin's entry has some 10 million."""

_RESULTS = re.compile(r'\s*\{\s*"results"\s*:\s*\[')
_ARRAY = re.compile(r"\s*\[")
_BETWEEN = re.compile(r"[\s,]*")


def json_objects(path: Path) -> Iterator[tuple[int, Any]]:
    """(1-based number, object) of ``{"results": [...]}``, of an array, or of JSON lines.

    Raises:
        UserError: not JSON, cut off, or an object longer than ``MAX_OBJECT``.
    """
    with open_text(path) as text:
        buffer = _Buffer(path, text)
        closes = buffer.skip(_RESULTS) or buffer.skip(_ARRAY)
        number = 0
        while True:
            buffer.skip(_BETWEEN)
            if not buffer.fill(1):
                break
            if closes and buffer.next_is("]"):
                return
            number += 1
            yield number, buffer.decode(number)
        if closes:
            raise UserError(
                f"{path}: ends after record {number}, before the list of entries is closed; fetch "
                "it again"
            )


class _Buffer:
    """The part of a text that is being read."""

    def __init__(self, path: Path, text: Any) -> None:
        self.path, self.text = path, text
        self.buffer, self.at = "", 0
        self.decoder = json.JSONDecoder()
        self.fill(256)

    def fill(self, n: int) -> bool:
        """Have ``n`` letters ahead; False when the file has fewer."""
        while len(self.buffer) - self.at < n:
            more = self.text.read(max(CHUNK, n - len(self.buffer) + self.at))
            if not more:
                return False
            self.buffer = self.buffer[self.at :] + more
            self.at = 0
        return True

    def skip(self, pattern: re.Pattern) -> bool:
        """Go past ``pattern`` if it comes next."""
        match = pattern.match(self.buffer, self.at)
        while match and match.end() == len(self.buffer) and self.fill(len(self.buffer) + 1):
            match = pattern.match(self.buffer, self.at)  # it may go on in the next chunk
        if match:
            self.at = match.end()
        return match is not None

    def next_is(self, letter: str) -> bool:
        """Whether ``letter`` comes next."""
        return self.buffer.startswith(letter, self.at)

    def decode(self, number: int) -> Any:
        """The object that comes next; a longer piece is tried while it may be cut off."""
        size = CHUNK
        while True:
            more = self.fill(size)
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.at)
            except (ValueError, RecursionError) as error:
                if more and size < MAX_OBJECT and isinstance(error, json.JSONDecodeError):
                    size *= 2
                    continue
                raise UserError(
                    f"{self.path}: record {number} is damaged or cut off ({str(error)[:80]}); "
                    "give UniProt JSON, or fetch it again"
                ) from error
            if end == len(self.buffer) and not isinstance(value, (dict, list)) and more:
                size *= 2
                continue  # a number may go on
            self.at = end
            return value
