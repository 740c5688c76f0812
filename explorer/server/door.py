"""A token that lets a browser in, for a server that others can reach.

The address with ``?token=`` gives the browser a cookie and is then left; a script sends
``Authorization: Bearer``. There are no users: who has the token has all that the server offers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.types import Scope, Send

COOKIE = "explorer_token"
_ASK = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Protein latents</title>
</head><body><form method="get" action="/"><p><label>This server asks for a token:
<input name="token" type="password" autofocus autocomplete="off"></label> <button>Open</button></p>
</form></body></html>
"""


class Door:
    """Knows the token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # of the token, not the token: a browser's store of cookies need not hold it
        self._cookie = hashlib.sha256(b"explorer cookie\0" + self._token).hexdigest()

    def is_open(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request shows the token, or the cookie that it gave."""
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.casefold() == "bearer" and hmac.compare_digest(shown.encode(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(
            cookie.value.encode(), self._cookie.encode()
        )

    async def answer(self, scope: Scope, send: Send) -> None:
        """Give the cookie for the token in the address, or ask for it."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = next((value for key, value in query if key == "token"), "")
        if hmac.compare_digest(shown.encode(), self._token):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            to = "/" + quote(scope["path"].lstrip("/")) + (f"?{rest}" if rest else "")
            cookie = f"{COOKIE}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"
            await _send(send, 303, b"", [
                (b"location", to.encode()), (b"set-cookie", cookie.encode()),
            ])  # fmt: skip
        elif scope["path"].startswith("/api/"):
            words = "this server asks for a token; open the address that it printed, or send it as "
            body = json.dumps({"detail": words + "Authorization: Bearer"}).encode()
            await _send(send, 401, body, [(b"content-type", b"application/json"),
                                          (b"www-authenticate", b"Bearer")])  # fmt: skip
        else:
            await _send(send, 401, _ASK, [(b"content-type", b"text/html; charset=utf-8")])


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    plain = [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *plain]})
    await send({"type": "http.response.body", "body": body})
