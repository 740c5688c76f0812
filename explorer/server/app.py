"""The application: routes, refusals, and the guard before them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from explorer import schema
from explorer.live.dispatch import GivenUp
from explorer.live.half import LiveHalf
from explorer.server.database import Database
from explorer.server.errors import Refusal
from explorer.server.guard import Guard
from explorer.server.library import Library
from explorer.server.note_routes import (
    Store,
    add_list_routes,
    add_note_routes,
    add_rating_routes,
)
from explorer.server.notes import Notes
from explorer.server.pages import DIST, add_pages
from explorer.server.pool import Pool
from explorer.server.ratings import Ratings
from explorer.server.routes import (
    PROBLEMS,
    Prepared,
    add_latent_routes,
    add_other_routes,
    add_sae_routes,
    add_search_routes,
)
from extract.errors import UserError

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
N_THREADS, MOST_WAITING = 4, 1_000
N_SCANS, MOST_SCANS_WAITING = 2, 32
NOTE_PROBLEMS = {
    403: {"model": schema.Problem, "description": "This server keeps no notes"},
    413: {"model": schema.Problem, "description": "The body is too large"},
    415: {"model": schema.Problem, "description": "The body is not JSON"},
}


def create_app(
    library: Library,
    database: Database | None = None,
    hosts: Iterable[str] = LOCAL_NAMES,
    dist: Path = DIST,
    live: LiveHalf | None = None,
    token: str | None = None,
) -> FastAPI:
    """The server of some bundles.

    Args:
        library: the bundles.
        database: where notes are kept; None for a server that only reads.
        hosts: names in the ``Host`` header that are ours; addresses in numbers always are.
        dist: the built front end.
        live: what can be encoded and steered; None for a server that only reads.
        token: what a request must show; None for none.
    """
    pool = Pool("answer", N_THREADS, MOST_WAITING)
    scans = Pool("scan", N_SCANS, MOST_SCANS_WAITING)
    live = live or LiveHalf.off(library)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await live.start()
        yield
        await live.close()
        pool.close()
        scans.close()

    app = FastAPI(
        title="Protein latents",
        summary="Dictionaries of protein language models, read latent by latent.",
        version=importlib.metadata.version("protein-latents"),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # FastAPI's pages fetch scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.tag = library.tag
    prepared = Prepared(library, notes=database is not None, live=live.on)
    prepared.warm()
    _add_api(app, prepared, database, pool, scans)
    live.add_routes(app)
    add_pages(app, dist)
    _add_refusals(app)
    app.add_middleware(Guard, hosts=hosts, tag=library.tag, token=token)
    return app


def _add_api(
    app: FastAPI, prepared: Prepared, database: Database | None, pool: Pool, scans: Pool
) -> None:
    library = prepared.library
    api = APIRouter(prefix="/api/v1", responses=PROBLEMS)
    add_sae_routes(api, prepared, pool)
    add_latent_routes(api, library, pool)
    add_other_routes(api, prepared, pool)
    add_search_routes(api, library, pool, scans)
    app.include_router(api)
    store = Store(
        None if database is None else Notes(database, library),
        None if database is None else Ratings(database, library),
    )
    written = APIRouter(prefix="/api/v1", responses={**PROBLEMS, **NOTE_PROBLEMS})
    add_note_routes(written, store, pool)
    add_list_routes(written, store, pool)
    add_rating_routes(written, store, pool)
    app.include_router(written)


def _add_refusals(app: FastAPI) -> None:
    """Every refusal is one sentence in ``detail``."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return _problem(error.status, str(error), error.headers)

    @app.exception_handler(GivenUp)
    async def given_up(_: Request, error: GivenUp) -> Response:
        return Response(status_code=499)

    @app.exception_handler(UserError)
    async def mistaken(_: Request, error: UserError) -> Response:
        return _problem(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _problem(422, "; ".join(_sentence(e) for e in error.errors()[:3]))


def _sentence(error: dict[str, Any]) -> str:
    where = " ".join(str(part) for part in error["loc"][1:])[:100]
    return f"{where or error['loc'][0]}: {error['msg']}"


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    detail = detail.encode("utf-8", "replace").decode()
    return JSONResponse(
        {"detail": detail}, status, headers={"cache-control": "no-store", **(headers or {})}
    )
