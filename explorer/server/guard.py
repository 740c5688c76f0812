"""What every request passes first: its host, its size, and where a write comes from.

Other pages in the same browser can send requests to a server on this machine. They can't read the
answers, but a name that they point at 127.0.0.1 (DNS rebinding) would let them: so the ``Host``
must be ours. An address in numbers can't be pointed anywhere and is always allowed.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explorer.server.answers import KEEP
from explorer.server.door import Door

MAX_BODY_BYTES = 2_000_000
MAX_UPLOAD_BYTES = 13_000_000
"""Of ``/sequences``, which takes structure files; and of ``/labels`` (their JSON is larger)."""
UPLOADS = {"/api/v1/sequences": MAX_UPLOAD_BYTES, "/api/v1/labels": 5_000_000}
MAX_URL_BYTES = 16_384
_WRITES = frozenset({"POST", "PUT", "DELETE", "PATCH"})
_API = "/api/v1/"
CHANGING = ("notes", "lists", "rate", "ratings")
"""First segments of what can be written: never answered with 304."""

CONTENT_SECURITY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
"""Nothing from elsewhere; Mol* needs workers from blobs and WebAssembly."""

SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class Guard:
    """ASGI middleware."""

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str], tag: str, token: str | None = None
    ) -> None:
        """``hosts``: names that this server goes by; ``tag``: of all answers of the bundles;
        ``token``: what a request must show, if any."""
        self._app = app
        self._hosts = frozenset(host.casefold() for host in hosts)
        self._tag = tag
        self._door = None if token is None else Door(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, answer 304, or pass on; and add the security headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = [pair for pair in _HEADERS if pair[0] not in present]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused:
            await _refuse(send_guarded, *refused)
        elif self._door is not None and not self._door.is_open(scope, headers):
            await self._door.answer(scope, send_guarded)
        elif self._unchanged(scope, headers):
            await _unchanged(send_guarded, self._tag)
        else:
            await self._app(scope, _limited(receive, _most(scope["path"])), send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, (
                f"this server does not go by the name {host[:60]!r}; open it by its address, or "
                "start it with --allow-host"
            )
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_URL_BYTES:
            return 414, f"the address is longer than {MAX_URL_BYTES:,} bytes; ask for less"
        if scope["method"] in _WRITES:
            return self._write_refusal(scope["method"], host, headers, _most(scope["path"]))
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.casefold()
        name = name[: name.rfind("]") + 1] if name.startswith("[") else name.split(":")[0]
        if name.rstrip(".") in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    @staticmethod
    def _write_refusal(
        method: str, host: str, headers: Headers, most: int
    ) -> tuple[int, str] | None:
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "writes are taken from this server's own pages only"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "writes are taken from this server's own pages only"
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:15]) > most:
            return _too_large(most)
        kind = headers.get("content-type", "").split(";")[0].strip().casefold()
        if kind != "application/json" and not (method == "DELETE" and not kind):
            return 415, "send JSON, with Content-Type: application/json"
        return None

    def _unchanged(self, scope: Scope, headers: Headers) -> bool:
        if scope["method"] not in ("GET", "HEAD") or not scope["path"].startswith(_API):
            return False
        first = scope["path"][len(_API) :].split("/")[0].split(".")[0]
        known = headers.get("if-none-match", "")
        return first not in CHANGING and f'"{self._tag}"' in known


def _most(path: str) -> int:
    """Bytes that a body may have."""
    return UPLOADS.get(path, MAX_BODY_BYTES)


def _too_large(most: int) -> tuple[int, str]:
    return 413, f"the body is larger than {most:,} bytes; send less at a time"


def _limited(receive: Receive, most: int) -> Receive:
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(*_too_large(most))
        return message

    return limited


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _unchanged(send: Send, tag: str) -> None:
    headers = [
        (b"etag", f'W/"{tag}"'.encode()),
        (b"cache-control", KEEP.encode()),
        (b"vary", b"accept-encoding"),
    ]
    await send({"type": "http.response.start", "status": 304, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
