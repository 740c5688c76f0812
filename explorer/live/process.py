"""The worker's process, seen from the server."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from explorer.live.runs import LiveSource
from explorer.live.settings import WorkerSettings
from explorer.live.worker import SIGNAL, main

Receive = Callable[[tuple[str, int, Any] | None], None]


class WorkerProcess:
    """Starts, feeds and ends one process at a time."""

    def __init__(self, sources: Mapping[str, LiveSource], settings: WorkerSettings) -> None:
        """Not started yet."""
        self._sources, self._settings = dict(sources), settings
        # spawned: a copy of a server with threads and open sockets would not be clean
        self._spawn = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._connection: Any = None
        self._given_up: Any = None

    def start(self, receive: Receive) -> None:
        """Start it. ``receive`` is called, in a thread, with each message, and None at its end."""
        self._connection, theirs = self._spawn.Pipe()
        self._given_up = self._spawn.Array("q", [0, 0])
        self._process = self._spawn.Process(
            target=main, name="explorer-worker", daemon=True,
            args=(theirs, self._given_up, self._sources, self._settings),
        )  # fmt: skip
        self._process.start()
        theirs.close()
        threading.Thread(
            target=_read, args=(self._connection, receive), name="from-worker", daemon=True
        ).start()

    def send(self, message: tuple[int, int, str, dict[str, Any]]) -> None:
        """Hand a task over; if the process is gone, its end tells of that."""
        with contextlib.suppress(OSError, ValueError):
            self._connection.send(message)

    def give_up(self, lane: int, number: int) -> None:
        """Have the running task of a lane end at once."""
        self._given_up[lane] = number
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, SIGNAL)

    def kill(self) -> None:
        """End the process whatever it does."""
        self._process.kill()

    def stop(self) -> None:
        """End the process and wait for it."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return None if self._process is None else self._process.pid


def _read(connection: Any, receive: Receive) -> None:
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            receive(None)
            return
        receive(message)
