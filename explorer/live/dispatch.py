"""The queue before the worker: bounded, fair, and freed when a client goes away.

Two lanes share the one worker: *quick* requests (a sequence, a mutant, an edit) run between the
steps of a *long* one (a scan, a sweep, variants, labels, a comparison). In each lane clients take
turns, whatever number of requests each has waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from explorer.live.process import WorkerProcess
from explorer.live.schema import LiveLimits
from explorer.live.worker import LONG, QUICK
from explorer.server.errors import Refusal, TooBusy, Unprocessable

log = logging.getLogger(__name__)

LANE_OF = {"encode": QUICK, "mutate": QUICK, "steer": QUICK, "scan": LONG, "sweep": LONG,
           "variants": LONG, "labels": LONG, "compare": LONG}  # fmt: skip
GRACE_SECONDS = 5.0
"""How long a task that was given up may go on before its process is ended."""
MAX_EARLY_DEATHS = 3
Told = Callable[[dict[str, Any]], None]


class Unavailable(Refusal):
    """The worker can't do it now."""

    status = 503


class GivenUp(Exception):
    """The client went away before its request was done."""


class Full(TooBusy):
    """Too much is waiting; says when to come back."""

    def __init__(self, sentence: str, seconds: int) -> None:
        super().__init__(f"{sentence}; try again in {seconds} s")
        self.headers = {"Retry-After": str(seconds)}


@dataclass(eq=False)
class Request:
    """One request on its way."""

    number: int
    client: str
    task: str
    arguments: dict[str, Any]
    told: Told
    future: asyncio.Future[Any]
    started: float = 0.0

    @property
    def lane(self) -> int:
        """Quick or long."""
        return LANE_OF[self.task]


@dataclass
class _Lane:
    waiting: OrderedDict[str, deque[Request]] = field(default_factory=OrderedDict)
    running: Request | None = None
    seconds: float = 1.0
    """Of an average request."""

    @property
    def n_waiting(self) -> int:
        return sum(map(len, self.waiting.values()))

    def add(self, request: Request) -> None:
        self.waiting.setdefault(request.client, deque()).append(request)

    def take(self) -> Request | None:
        """The next client's first request; that client goes behind the others."""
        if not self.waiting:
            return None
        client, requests = self.waiting.popitem(last=False)
        request = requests.popleft()
        if requests:
            self.waiting[client] = requests
        return request

    def remove(self, request: Request) -> bool:
        requests = self.waiting.get(request.client, deque())
        if request not in requests:
            return False
        requests.remove(request)
        if not requests:
            del self.waiting[request.client]
        return True

    def order(self) -> list[Request]:
        """As they would be taken if none came."""
        rounds = itertools.zip_longest(*self.waiting.values())
        return [request for turn in rounds for request in turn if request is not None]


class Dispatcher:
    """Hands requests to the worker. Everything runs in the server's event loop."""

    def __init__(self, process: WorkerProcess, limits: LiveLimits) -> None:
        """``process``: not started yet."""
        self.limits, self._process = limits, process
        self._lanes = {QUICK: _Lane(), LONG: _Lane()}
        self._numbers = itertools.count(1)
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="to-worker")
        self._ready, self._closing = False, False
        self._broken: str | None = None
        self._early_deaths = 0
        self._timers: dict[int, asyncio.TimerHandle] = {}

    async def start(self) -> None:
        """Start the worker; requests may come at once and wait until it is ready."""
        self._loop = asyncio.get_running_loop()
        self._begin()

    def _begin(self) -> None:
        loop = self._loop

        def receive(message: tuple[str, int, Any] | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._on_message, message)

        self._process.start(receive)

    async def close(self) -> None:
        """End the worker."""
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.to_thread(self._process.stop)
        self._sender.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether the worker has loaded what it needs."""
        return self._ready

    async def run(self, client: str, task: str, arguments: dict[str, Any], told: Told) -> Any:
        """The task's result. Cancelled, the request is given up and the worker freed.

        Args:
            client: who asks; clients take turns.
            task: of :data:`LANE_OF`.
            arguments: of the task.
            told: called with what becomes of the request; see ``schema.Progress``.

        Raises:
            TooBusy: too much is waiting.
            Unprocessable: the task refuses, in a sentence.
            Unavailable: the worker stopped, or could not start.
        """
        request = self._enter(client, task, arguments, told)
        try:
            return await request.future
        except asyncio.CancelledError:
            self._give_up(request)
            raise

    def _enter(self, client: str, task: str, arguments: dict[str, Any], told: Told) -> Request:
        if self._broken is not None:
            raise Unavailable(self._broken)
        lane = self._lanes[LANE_OF[task]]
        waiting = sum(each.n_waiting for each in self._lanes.values())
        mine = sum(len(each.waiting.get(client, ())) for each in self._lanes.values())
        if waiting >= self.limits.max_waiting:
            raise Full(f"{waiting} requests are waiting", self._wait_of(lane))
        if mine >= self.limits.max_waiting_each:
            raise Full(f"{mine} of your requests are waiting", self._wait_of(lane))
        request = Request(
            next(self._numbers), client, task, arguments, told, self._loop.create_future()
        )
        lane.add(request)
        self._pump(lane)
        self._tell_waiting(lane)
        return request

    @staticmethod
    def _wait_of(lane: _Lane) -> int:
        return min(600, max(1, math.ceil(lane.seconds * (lane.n_waiting + 1))))

    def _pump(self, lane: _Lane) -> None:
        if not self._ready or lane.running is not None:
            return
        request = lane.take()
        if request is None:
            return
        lane.running, request.started = request, time.monotonic()
        request.told({"state": "running", "done": 0.0})
        message = (request.number, request.lane, request.task, request.arguments)
        # a thread: what is sent may be larger than the pipe, and the worker busy
        self._sender.submit(self._process.send, message)
        self._tell_waiting(lane)

    @staticmethod
    def _tell_waiting(lane: _Lane) -> None:
        first = 0 if lane.running is None else 1
        for ahead, request in enumerate(lane.order(), start=first):
            request.told({"state": "waiting", "ahead": ahead})

    def _on_message(self, message: tuple[str, int, Any] | None) -> None:
        if message is None:
            self._on_death()
            return
        kind, number, value = message
        if kind == "ready":
            self._ready = True
            self._pump_all()
        elif kind == "broken":
            self._break(value)
        else:
            for lane in self._lanes.values():
                if lane.running is not None and lane.running.number == number:
                    self._on_answer(lane, lane.running, kind, value)
                    break

    def _on_answer(self, lane: _Lane, request: Request, kind: str, value: Any) -> None:
        if kind == "progress":
            done, doing = value
            request.told({"state": "running", "done": done, "doing": doing})
            return
        lane.running, self._early_deaths = None, 0
        if timer := self._timers.pop(request.number, None):
            timer.cancel()
        took = time.monotonic() - request.started
        if kind == "result":
            lane.seconds += 0.2 * (took - lane.seconds)
            _settle(request, (value, took))
        elif kind == "refused":
            _settle(request, error=Unprocessable(value))
        elif kind == "given up":
            _settle(request, error=GivenUp())
        else:
            log.error("a live request failed:\n%s", value)
            _settle(request, error=Unavailable(
                "this failed inside the server, which has written down why; please report it"
            ))  # fmt: skip
        self._pump(lane)

    def _give_up(self, request: Request) -> None:
        lane = self._lanes[request.lane]
        if lane.remove(request):
            self._tell_waiting(lane)
        elif lane.running is request:
            self._process.give_up(request.lane, request.number)
            self._timers[request.number] = self._loop.call_later(GRACE_SECONDS, self._process.kill)

    def _on_death(self) -> None:
        """The worker's process has ended: fail what ran, and start another."""
        self._ready = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for lane in self._lanes.values():
            if lane.running is not None:
                _settle(lane.running, error=Unavailable(
                    "the process that computes has stopped and starts again; try again in a moment"
                ))  # fmt: skip
                lane.running = None
        if self._closing:
            return
        self._early_deaths += 1
        if self._early_deaths > MAX_EARLY_DEATHS:
            self._break("the process that computes keeps stopping; see the server's log")
            return
        log.warning("the process that computes has stopped; starting another")
        self._begin()

    def _break(self, why: str) -> None:
        log.error("live: %s", why)
        self._broken = why
        for lane in self._lanes.values():
            for request in lane.order():
                _settle(request, error=Unavailable(why))
            lane.waiting.clear()

    def _pump_all(self) -> None:
        for lane in self._lanes.values():
            self._pump(lane)


def _settle(request: Request, value: Any = None, error: Exception | None = None) -> None:
    if request.future.done():
        return
    if error is None:
        request.future.set_result(value)
    else:
        request.future.set_exception(error)
