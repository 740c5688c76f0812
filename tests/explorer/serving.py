"""The server on a free port of this machine, asked over HTTP as a browser would."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import uvicorn

from explorer.server.app import create_app
from explorer.server.database import Database
from explorer.server.library import open_bundles

API = "/api/v1"


@contextmanager
def serving(bundles: Path, notes: Path | None = None) -> Iterator[httpx.Client]:
    """A client of the server of some bundles."""
    database = None if notes is None else Database(notes)
    library = open_bundles([bundles])
    try:
        with listening(create_app(library, database)) as url, httpx.Client(base_url=url) as client:
            yield client
    finally:
        if database is not None:
            database.close()
        for source in library:
            source.bundle.close()


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An application's address while it runs in a thread."""
    config = uvicorn.Config(
        app, port=0, log_level="warning", timeout_graceful_shutdown=2, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def ask(client: httpx.Client, path: str, **query: Any) -> Any:
    """The JSON of a GET that must succeed."""
    response = client.get(f"{API}/{path}", params=query)
    assert response.status_code == 200, (path, response.status_code, response.text[:300])
    return response.json()


def segment(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")
