"""Threads that answer requests, and a bounded queue before them."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from explorer.server.errors import TooBusy


class Pool:
    """A fixed number of threads: each has its own SQLite connections, so they must not multiply."""

    def __init__(self, name: str, n_threads: int, most_waiting: int) -> None:
        """Refuses work when more than ``most_waiting`` requests wait or run."""
        self._executor = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._room = threading.BoundedSemaphore(most_waiting)

    def answering(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as a route that runs in this pool.

        Raises:
            TooBusy: the queue is full.
        """

        @functools.wraps(function)
        async def route(*args: Any, **kwargs: Any) -> Any:
            if not self._room.acquire(blocking=False):
                raise TooBusy("too many requests are waiting; try again in a second")
            try:
                work = self._executor.submit(function, *args, **kwargs)
            except BaseException:
                self._room.release()
                raise
            work.add_done_callback(lambda _: self._room.release())
            return await asyncio.wrap_future(work)

        return route

    def close(self) -> None:
        """Let running work end and start no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)
