"""Who writes which shard, when several processes fill one store.

On a disk every process claims a shard by a POSIX lock on one byte of the store's ``.writing`` file.
The system frees it when the process ends, however it ends, also over NFS, so any process can take
over what a dead one left. Where there are no locks (object stores, some cluster file systems) each
process keeps to its own shards. A claim saves work; it is not needed for correctness, since
whoever computes a shard writes the same bytes, whole.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from extract.location import Location

log = logging.getLogger(__name__)

MARKER = ".writing"
"""Is in a store's folder from the start of its creation until it is complete."""


class Claims:
    """This process's locks on one store; byte 0 guards creation and completion."""

    def __init__(self, place: Location) -> None:
        """Nothing is opened before the first claim."""
        self._place = place
        self._file: int | None = None
        self._works = place.is_local

    def work(self) -> bool:
        """Whether there are locks here at all; tries one."""
        if self._take(0):
            self._release(0)
        return self._works

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Creation or completion of the store, one process at a time (waits)."""
        said = False
        while not self._take(0):
            if not said:
                log.info("%s: another process is preparing it, waiting", self._place)
            said = True
            time.sleep(0.2)
        try:
            yield
        finally:
            self._release(0)

    def take(self, shard: int) -> bool:
        """Claim a shard; False when another living process has it."""
        return self._take(shard + 1)

    def release(self, shard: int) -> None:
        """Give a shard back."""
        self._release(shard + 1)

    def close(self) -> None:
        """Give everything back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _take(self, byte: int) -> bool:
        if not self._works:
            return True
        if self._file is None:
            self._file = os.open(self._place.path / MARKER, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            log.warning("%s: its file system has no locks (%s): each process keeps to its own "
                        "shards", self._place, error)  # fmt: skip
            self._works = False
        return True

    def _release(self, byte: int) -> None:
        if self._works and self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
