"""Make values ahead of their use in a thread, a bounded number of them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def prefetch(make: Callable[[K], V], keys: Iterable[K], *, buffer: int) -> Generator[V, None, None]:
    """``make(key)`` of every key, in order, made in a thread while the consumer works.

    Closing the generator, or leaving it to the garbage collector, stops the thread and waits for
    it; what ``make`` raises is raised to the consumer, at the value's place in the order.

    Args:
        make: called in the thread, one key at a time.
        keys: read in the thread.
        buffer: values alive at any time: waiting, being made, and the one last handed over until
            the next is asked for (if the consumer drops it by then). 0: no thread, each value is
            made when it is asked for.
    """
    if not buffer:
        yield from map(make, keys)
        return
    room, stopped = threading.Semaphore(buffer), threading.Event()
    made: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    thread = threading.Thread(
        target=_work, args=(make, keys, room, stopped, made), name="prefetch", daemon=True
    )
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
            del value  # gone before the thread may make another
            room.release()
    finally:
        stopped.set()
        room.release()
        thread.join()


def _work(
    make: Callable[[K], V],
    keys: Iterable[K],
    room: threading.Semaphore,
    stopped: threading.Event,
    made: queue.SimpleQueue,
) -> None:
    try:
        for key in keys:
            room.acquire()
            if stopped.is_set():
                return
            made.put(("value", make(key)))
        made.put(("end", None))
    except BaseException as error:  # whatever it is, it is the consumer's to see
        made.put(("error", error))
