"""Walks through the pages in Chromium (``explorer/web/e2e``), on small bundles."""

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from explorer.server.app import create_app
from explorer.server.database import Database
from explorer.server.export import ExportConfig, export
from explorer.server.library import open_bundles
from tests.explorer.serving import listening
from tests.explorer.test_web import run


@pytest.fixture
def walk(monkeypatch):
    """Run one project of the walks at an address."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "chromium not found: install it (apt-get install chromium)"
    monkeypatch.setenv("CHROMIUM", chromium)

    def go(project: str, variable: str, url: str) -> None:
        monkeypatch.setenv(variable, f"{url}/")
        said = run("npx", "playwright", "test", "--project", project)
        assert " passed" in said
        assert "skipped" not in said, said

    return go


def test_pages(walk, bundle_folder, tmp_path):
    database = Database(tmp_path / "notes.sqlite")
    library = open_bundles([bundle_folder])
    with listening(create_app(library, database)) as url:
        walk("pages", "EXPLORER_URL", url)
    database.close()


def test_static_export(walk, bundle_folder, tmp_path):
    export(ExportConfig((bundle_folder,), tmp_path / "site"))
    with files(tmp_path / "site") as url:
        walk("static", "EXPLORER_STATIC_URL", url)


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """A plain static host, which answers what it has not with ``404.html``."""

    class Handler(SimpleHTTPRequestHandler):
        def send_error(self, code, message=None, explain=None):
            page = (folder / "404.html").read_bytes()
            self.send_response(code)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=os.fspath(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
