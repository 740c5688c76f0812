"""How a live request is answered: at once as JSON, or line by line with its progress.

With ``Accept: application/x-ndjson`` every line is a ``Progress``. In both ways a client that goes
away gives its request up, and with it the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from explorer.live.dispatch import GivenUp
from explorer.server.answers import JSON, NEVER_KEEP
from explorer.server.errors import Refusal
from extract.errors import UserError

LINES = "application/x-ndjson"
Told = Callable[[dict[str, Any]], None]
Work = Callable[[Told], Awaitable[bytes]]
"""Does the work, tells of its progress, gives the answer as JSON."""


def wants_lines(request: Request) -> bool:
    """Whether the client asks for progress."""
    return LINES in request.headers.get("accept", "")


async def answer_once(request: Request, work: Work) -> Response:
    """The answer, when it is there.

    Raises:
        Refusal: why there is none.
    """
    task = asyncio.ensure_future(work(lambda _: None))
    gone = asyncio.ensure_future(_gone(request.receive))
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not task.done():
        await _end(task)
        return Response(status_code=499)
    return Response(task.result(), media_type=JSON, headers={"cache-control": NEVER_KEEP})


class Lines(Response):
    """Progress line by line, and the answer as the last one."""

    media_type = LINES

    def __init__(self, work: Work) -> None:
        super().__init__(headers={"cache-control": NEVER_KEEP, "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what happens; give up when the client is gone."""
        told: asyncio.Queue[dict[str, Any] | bytes] = asyncio.Queue()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        work = asyncio.ensure_future(self._to_the_end(told))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            while True:
                following = asyncio.ensure_future(told.get())
                await asyncio.wait({following, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    return
                line = following.result()
                body = line if isinstance(line, bytes) else json.dumps(line).encode()
                last = isinstance(line, bytes) or line["state"] == "failed"
                await send(
                    {"type": "http.response.body", "body": body + b"\n", "more_body": not last}
                )
                if last:
                    return
        finally:
            gone.cancel()
            await _end(work)

    async def _to_the_end(self, told: asyncio.Queue[dict[str, Any] | bytes]) -> None:
        try:
            body = await self._work(told.put_nowait)
            told.put_nowait(b'{"state": "done", "result": ' + body + b"}")
        except (Refusal, UserError) as error:
            status = error.status if isinstance(error, Refusal) else 422
            told.put_nowait({"state": "failed", "status": status, "detail": str(error)})
        except GivenUp:
            told.put_nowait({"state": "failed", "status": 499, "detail": "given up"})
        except Exception:
            words = "this failed inside the server; please report it"
            told.put_nowait({"state": "failed", "status": 500, "detail": words})
            raise


async def _gone(receive: Receive) -> None:
    """Until the client closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
