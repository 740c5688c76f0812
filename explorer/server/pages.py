"""The pages: files of the built front end, found by name in a list made at start-up.

No path of a request reaches the file system, so none can leave the folder.
"""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.responses import FileResponse

DIST = Path(__file__).parents[1] / "web" / "dist"
REMEDY = "cd explorer/web && npm install --no-save && npm run build"

_FOREVER = "public, max-age=31536000, immutable"
_HASHED = re.compile(r"-[A-Za-z0-9_-]{8,}\.\w+$")
"""Vite writes a hash of the content into the names of assets."""
_PAGE = re.compile(
    r"|sae/[^/]+(/latent/[^/]+)?|protein/.+|concepts(/.+)?|lists|rate|play|steer|compare", re.ASCII
)
"""History addresses of the front end."""

PLAIN = f"""<!doctype html>
<html lang="en"><head><base href="/"><meta charset="utf-8"><title>Protein latents</title></head>
<body><p>The pages are not built: run <code>{REMEDY}</code> and start the server again;
the data are served at <a href="api/v1/saes">api/v1/saes</a>.</p></body></html>
"""


def index_html(dist: Path, base: str = "/") -> str:
    """The page, with ``<base href>`` set to where it lies; one that says how to build it if not."""
    path = dist / "index.html"
    html = path.read_text() if path.exists() else PLAIN
    tag = f'<base href="{base}">'
    html, n = re.subn(r"<base\b[^>]*>", tag, html, count=1)
    return html if n else html.replace("<head>", f"<head>{tag}", 1)


def page_files(dist: Path) -> dict[str, Path]:
    """Every file of the built front end but its index, by its address."""
    return {
        path.relative_to(dist).as_posix(): path
        for path in sorted(dist.rglob("*"))
        if path.is_file() and path.name != "index.html"
    }


def add_pages(app: FastAPI, dist: Path = DIST) -> None:
    """Serve the front end at every address that no other route has."""
    files = page_files(dist)
    html = index_html(dist).encode()

    @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(path: str, request: Request) -> Response:
        if path in files:
            kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
            kept = _FOREVER if path.startswith("assets/") and _HASHED.search(path) else "no-cache"
            return FileResponse(
                files[path], media_type=_media(path, kind), headers={"cache-control": kept}
            )
        if path.startswith(("api/", "assets/")) or path == "api":
            detail = b'{"detail": "there is nothing at this address"}'
            return Response(detail, 404, media_type="application/json")
        status = 200 if _PAGE.fullmatch(path) else 404
        headers = {"cache-control": "no-cache"}
        return Response(html, status, media_type="text/html", headers=headers)


def _media(path: str, guessed: str) -> str:
    # what a machine's own table calls these would keep a browser from running them
    known = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
    return known.get(Path(path).suffix, guessed)
