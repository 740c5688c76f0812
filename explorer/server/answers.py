"""Answers as bytes: JSON by Pydantic, gzip, and the tag by which browsers keep them."""

from __future__ import annotations

import gzip
from typing import Any

from fastapi import Request, Response
from pydantic import TypeAdapter

_ANY = TypeAdapter(Any)
GZIP_FROM_BYTES = 8_192
JSON = "application/json"
KEEP = "no-cache"
"""Keep, but ask each time with the tag: the same address may show another bundle tomorrow."""
NEVER_KEEP = "no-store"


def to_json(value: Any) -> bytes:
    """A model or a list of models as JSON; numbers that are not finite become null."""
    return _ANY.dump_json(value)


def answer(
    request: Request, body: bytes, media_type: str = JSON, zipped: bytes | None = None
) -> Response:
    """An answer that stays the same as long as the bundles do. ``zipped``: the body in gzip."""
    headers = {"cache-control": KEEP, "vary": "accept-encoding"}
    tag = getattr(request.app.state, "tag", None)
    if tag:
        headers["etag"] = f'W/"{tag}"'
    if len(body) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        body = zipped if zipped is not None else gzip.compress(body, compresslevel=1, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, media_type=media_type, headers=headers)


def answer_model(request: Request, value: Any) -> Response:
    """A model or a list of models."""
    return answer(request, to_json(value))


def fresh(value: Any, status: int = 200) -> Response:
    """A model that may change at any time, such as a note."""
    return Response(to_json(value), status, media_type=JSON, headers={"cache-control": NEVER_KEEP})


def fresh_lines(text: str, name: str) -> Response:
    """JSON lines to download."""
    headers = {"cache-control": NEVER_KEEP, "content-disposition": f'attachment; filename="{name}"'}
    return Response(text.encode(), media_type="application/x-ndjson", headers=headers)
