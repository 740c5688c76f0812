"""The process that computes: one task at a time, a short one between the steps of a long one.

It gets ``(number, lane, task, arguments)`` and answers ``(kind, number, …)``. A long task reports
after each of its steps; there a short one that has come in runs at once, so that a person who
encodes a sequence does not wait for somebody's sweep. Giving a request up is a signal: wherever the
task is, it ends with :class:`GivenUp`. Results are arrays and plain values: a class of ours in them
would have the server import torch to read it.
"""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from explorer.live.runs import LiveSource
from explorer.live.settings import WorkerSettings
from extract.errors import UserError

SIGNAL = signal.SIGUSR1
QUICK, LONG = 0, 1
NICENESS = 10
"""Reads of bundles go first on a busy machine."""


class GivenUp(BaseException):
    """The client of this request is gone. No Exception, so that no library takes it for one."""


class Worker:
    """Runs tasks until the other end of the connection is closed."""

    def __init__(self, connection: Connection, given_up: Any) -> None:
        """``given_up``: a shared array, the number last given up in each lane."""
        self._connection, self._given_up = connection, given_up
        self._running: list[int] = []
        self._interruptible = False
        self._tasks: dict[str, Any] = {}
        self._context: Any = None

    def start(self, sources: Mapping[str, LiveSource], settings: WorkerSettings) -> None:
        """Load what every task needs; tell the other side when that is done."""
        import torch

        from explorer.live import clamping, encoding, knowing
        from explorer.live.context import Context

        torch.set_num_threads(settings.threads)
        self._context = Context(sources, settings, self._report)
        modules = (encoding, clamping, knowing)
        names = ("encode", "mutate", "scan", "steer", "sweep", "variants", "labels", "compare")
        self._tasks = {
            name: getattr(module, name)
            for module in modules for name in names if hasattr(module, name)
        }  # fmt: skip
        try:
            _ = self._context.ready
        except UserError as error:
            self._connection.send(("broken", 0, str(error)))
            return
        self._connection.send(("ready", 0, None))

    def serve(self) -> None:
        """Until the connection closes."""
        signal.signal(SIGNAL, self._on_signal)
        while True:
            try:
                self._run(*self._connection.recv())
            except (EOFError, BrokenPipeError, ConnectionResetError):
                return

    def _run(self, number: int, lane: int, task: str, arguments: dict[str, Any]) -> None:
        outer, self._interruptible = self._interruptible, False
        self._running.append(number)
        try:
            answer = self._attempt(number, task, arguments)
        except GivenUp:
            answer = ("given up", number, None)
        self._interruptible = False
        self._running.pop()
        self._connection.send(answer)
        self._interruptible = outer

    def _attempt(self, number: int, task: str, arguments: dict[str, Any]) -> tuple[str, int, Any]:
        if self._is_given_up(number):
            raise GivenUp
        try:
            self._interruptible = True
            result = self._tasks[task](self._context, **arguments)
            self._interruptible = False
            return "result", number, result
        except UserError as error:
            self._interruptible = False
            return "refused", number, str(error)
        except Exception:
            self._interruptible = False
            return "failed", number, traceback.format_exc()

    def _report(self, done: float, doing: str) -> None:
        """Between two steps of a task."""
        number = self._running[-1]
        self._interruptible = False
        self._connection.send(("progress", number, (done, doing)))
        while len(self._running) == 1 and self._connection.poll():
            self._run(*self._connection.recv())
        if self._is_given_up(number):
            raise GivenUp
        self._interruptible = True

    def _is_given_up(self, number: int) -> bool:
        return number in self._given_up[:]

    def _on_signal(self, _number: int, _frame: Any) -> None:
        if self._interruptible and self._running and self._is_given_up(self._running[-1]):
            self._interruptible = False
            raise GivenUp


def main(
    connection: Connection,
    given_up: Any,
    sources: Mapping[str, LiveSource],
    settings: WorkerSettings,
) -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's: it closes the connection
    signal.signal(SIGNAL, signal.SIG_IGN)
    os.nice(NICENESS)
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    logging.basicConfig(level=logging.WARNING)
    worker = Worker(connection, given_up)
    try:
        worker.start(sources, settings)
        worker.serve()
    except (EOFError, BrokenPipeError):
        return
