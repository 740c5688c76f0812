"""A small cache with a budget of bytes, for answers that take a scan of all sequences."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class BoundedCache(Generic[V]):
    """Keeps what was used last, as long as the sizes add up to at most ``budget_bytes``."""

    def __init__(self, budget_bytes: int, size_of: Callable[[V], int]) -> None:
        """``size_of``: bytes of a value."""
        self.budget_bytes, self._size_of = budget_bytes, size_of
        self._kept: OrderedDict[Hashable, V] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value kept for ``key``, or a new one. Two threads may make the same one at once."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make()
        with self._lock:
            if key not in self._kept and self._size_of(value) <= self.budget_bytes:
                self._kept[key] = value
                self._bytes += self._size_of(value)
                while self._bytes > self.budget_bytes:
                    _, dropped = self._kept.popitem(last=False)
                    self._bytes -= self._size_of(dropped)
        return value

    @property
    def n_bytes(self) -> int:
        """Bytes kept now."""
        return self._bytes
