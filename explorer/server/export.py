"""``python -m explorer export``: the same pages from plain files, for any static host.

The answers are those of the server, asked in this process: a file holds the bytes that a GET
answers, but for ``capabilities`` (its mode is ``static``) and for pages of proteins (the first one,
without a next).
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import tyro
from tqdm import tqdm

from explorer.server.query import FEATURE_WORDS, LIGAND_WORDS
from extract.errors import UserError
from extract.files import without_nan

log = logging.getLogger(__name__)

API = "api/v1"
MAX_NAME_BYTES = 250
"""Of a file's name, on most file systems."""


@dataclass(frozen=True)
class ExportConfig:
    """Write bundles as a static site."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Bundles of ``python -m explorer build``, or folders of them."""
    out: Path = Path("site")
    """Folder of the site; an earlier export there is replaced."""
    base: str = "/"
    """Path under which the host shows the site, such as /protein-latents/."""
    latents: int | None = None
    """Latents of each SAE at most: those that best know a concept first. All if not given."""
    proteins: int | None = None
    """Proteins at most, of those that the latents' pages show. All of these if not given."""
    check: bool = True
    """Compare every file of the bundles with its checksum first."""

    def __post_init__(self) -> None:
        """A base is a path with a slash at both ends."""
        if not (self.base.startswith("/") and self.base.endswith("/")) or '"' in self.base:
            raise UserError(f"--base {self.base}: write a path such as /protein-latents/")
        for name in ("latents", "proteins"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name} {value}: give a number of at least 1")


def export(config: ExportConfig) -> None:
    """Write the site.

    Raises:
        UserError: a bundle that is refused, or a folder that holds something else.
    """
    from explorer.server.app import create_app
    from explorer.server.library import open_bundles

    _check_place(config.out)
    library = open_bundles(config.bundles, verify=config.check)
    partial = config.out.with_name(config.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    crawl = Crawl(create_app(library), library, partial)
    asyncio.run(crawl.run(config))
    _write_pages(partial, config.base)
    if config.out.exists():
        shutil.rmtree(config.out)
    partial.rename(config.out)
    size = sum(path.stat().st_size for path in config.out.rglob("*") if path.is_file())
    log.info("%s: %d answers, %.1f MB", config.out, crawl.n_files, size / 1e6)
    if crawl.left_out:
        log.info("%d answers were left out: their names are too long", crawl.left_out)


def _check_place(out: Path) -> None:
    marker = out / API / "capabilities.json"
    if out.exists() and not marker.is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: holds something else than an export; give another --out")


def file_name(path: str, query: dict[str, str] | None = None) -> str:
    """File of ``GET /api/v1/<path>?<query>``; ``path`` is percent-encoded already."""
    tail = "&".join(f"{encoded(k)}={encoded(v)}" for k, v in sorted((query or {}).items()))
    own = path.endswith((".csv", ".jsonl", ".json")) or path.startswith("structures/")
    return f"{API}/{path}{'~' + tail if tail else ''}{'' if own else '.json'}"


def encoded(text: str) -> str:
    """A segment of a path as JavaScript's ``encodeURIComponent`` writes it."""
    return quote(text, safe="!'()*~")


class Crawl:
    """Asks the application and keeps what it answers."""

    def __init__(self, app: Any, library: Any, out: Path) -> None:
        """Into the folder ``out``."""
        self.app, self.library, self.out = app, library, out
        self.n_files = self.left_out = 0

    async def run(self, config: ExportConfig) -> None:
        """All answers, with a progress bar."""
        capabilities = await self._ask("capabilities") | {"mode": "static", "notes": False}
        accessions: dict[str, None] = {}
        chosen = {source.id: choose_latents(source, config.latents) for source in self.library}
        concepts = [row["concept"] for row in await self.keep("concepts")]
        await self.keep("saes")
        with tqdm(total=sum(map(len, chosen.values())), unit="latent", disable=None) as bar:
            for sae, latents in chosen.items():
                for path in ("", "/columns", "/latents.csv"):
                    await self.keep(f"saes/{sae}{path}")
                for latent in latents:
                    await self._latent(sae, latent, accessions)
                    bar.update()
        for concept in tqdm(concepts, unit="concept", disable=None):
            await self.keep(f"concepts/{encoded(concept)}")
        some = list(accessions)[: config.proteins]
        proteins = []
        for accession in tqdm(some, unit="protein", disable=None):
            proteins.append([accession, (await self._protein(accession))["description"]])
        names = [
            row for source in self.library for row in searched_latents(source, chosen[source.id])
        ]
        index = {
            "latents": names, "concepts": concepts, "proteins": proteins,
            "features": FEATURE_WORDS, "ligands": LIGAND_WORDS,
        }  # fmt: skip
        self._write(file_name("search-index.json"), _compact(index))
        # last: a folder without it is no export
        self._write(file_name("capabilities"), _compact(capabilities))

    async def _latent(self, sae: str, latent: int, accessions: dict[str, None]) -> None:
        from explorer.layout import GROUPS

        path = f"saes/{sae}/latents/{latent}"
        detail = await self.keep(path)
        for kind in ("cosine", "coactivation"):
            await self.keep(f"{path}/neighbours", kind=kind)
        answers = [await self.keep(f"{path}/examples", group=group) for group in GROUPS]
        for concept in detail["concepts"] or []:
            for outcome in ("true_positive", "false_positive", "near_miss"):
                place = f"{path}/concepts/{encoded(concept['concept'])}/examples"
                answers.append(await self.keep(place, outcome=outcome))
        hits = await self._ask(f"{path}/proteins")
        self._write(file_name(f"{path}/proteins"), _compact(hits | {"next": None}))
        for answer in answers:
            accessions.update((e["accession"], None) for e in answer["examples"])
        accessions.update((hit["accession"], None) for hit in hits["proteins"])

    async def _protein(self, accession: str) -> dict:
        path = f"proteins/{encoded(accession)}"
        detail = await self.keep(path)
        for sae in detail["saes"]:
            await self.keep(f"{path}/latents", sae=sae)
        if detail["structure"]:
            await self.keep(f"structures/{encoded(accession)}")
        return detail

    async def keep(self, path: str, **query: str) -> Any:
        """Ask and write the answer as it is; JSON is also returned."""
        body, kind = await get(self.app, f"/{API}/{path}", query)
        self._write(file_name(path, query), body)
        return json.loads(body) if kind.startswith("application/json") else None

    async def _ask(self, path: str) -> Any:
        body, _ = await get(self.app, f"/{API}/{path}", {})
        return json.loads(body)

    def _write(self, name: str, body: bytes) -> None:
        path = self.out / name
        if any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
            self.left_out += 1
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        self.n_files += 1


def choose_latents(source: Any, most: int | None) -> list[int]:
    """All latents, or the ``most`` that best know a concept, then any that fire."""
    if most is None or most >= source.d_sae:
        return list(range(source.d_sae))
    f1, confirmed = source.column("f1"), source.column("confirmed")
    alive = set(source.alive.tolist())
    order = sorted(
        range(source.d_sae),
        key=lambda j: (j not in alive, not confirmed[j], -(f1[j] or 0.0), j),
    )
    return sorted(order[:most])


def searched_latents(source: Any, latents: Sequence[int]) -> list[list[Any]]:
    """Of each latent what a page searches: dictionary, number, label, the concepts that it is
    confirmed to mean or was chosen for, and its merit, by which hits are ordered."""
    known: dict[int, list[str]] = {}
    for name, found in source.precise.items():
        for latent in found:
            known.setdefault(latent, []).append(name)
    for concept in source.concepts:
        if concept.best is not None and concept.name not in known.get(concept.best, ()):
            known.setdefault(concept.best, []).append(concept.name)
    return [
        [source.id, j, source.labels[j], "; ".join(known.get(j, [])),
         round(float(source.merit[j]), 3)]
        for j in latents
    ]  # fmt: skip


def _compact(value: Any) -> bytes:
    return json.dumps(without_nan(value), separators=(",", ":"), ensure_ascii=False).encode()


async def get(app: Any, path: str, query: dict[str, str]) -> tuple[bytes, str]:
    """A GET of an ASGI application: the body and its media type. Anything but 200 is our bug."""
    from urllib.parse import unquote

    text = "&".join(f"{encoded(k)}={encoded(v)}" for k, v in query.items())
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": unquote(path), "raw_path": path.encode(),
        "query_string": text.encode(), "root_path": "", "headers": [(b"host", b"localhost")],
        "server": ("localhost", 80), "client": ("127.0.0.1", 0),
    }  # fmt: skip
    parts: list[bytes] = []
    start: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    assert start["status"] == 200, f"{path}?{text}: {start['status']} {b''.join(parts)[:200]!r}"
    return b"".join(parts), dict(start["headers"])[b"content-type"].decode()


def _write_pages(out: Path, base: str) -> None:
    from explorer.server.pages import DIST, REMEDY, index_html, page_files

    if not (DIST / "index.html").exists():
        log.warning("the pages are not built, the site has only data: %s", REMEDY)
    for name, path in page_files(DIST).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / name)
    html = index_html(DIST, base)
    for name in ("index.html", "404.html"):  # hosts answer unknown addresses with the second
        (out / name).write_text(html)
    (out / ".nojekyll").touch()
