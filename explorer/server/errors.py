"""Refusals: each becomes a status and one sentence, ``{"detail": …}``."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is answered with a 4xx."""

    status = 400
    headers: dict[str, str] = {}  # noqa: RUF012


class NotFound(Refusal):
    """There is no such thing."""

    status = 404


class Forbidden(Refusal):
    """This server does not do that."""

    status = 403


class Unprocessable(Refusal):
    """A value that breaks a rule."""

    status = 422


class TooBusy(Refusal):
    """Too much is waiting already."""

    status = 429
    headers = {"Retry-After": "1"}  # noqa: RUF012
