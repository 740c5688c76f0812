"""``python -m explorer serve``: bundles in a browser."""

from __future__ import annotations

import gc
import logging
import os
import re
import secrets
import socket
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from extract.command_line import Optional, Several
from extract.errors import UserError

if TYPE_CHECKING:
    from explorer.live.half import LiveHalf
    from explorer.server.library import Library

log = logging.getLogger(__name__)

TOKEN = re.compile(r"[A-Za-z0-9._-]{8,200}", re.ASCII)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeConfig:
    """Show bundles in a browser. Nothing leaves this machine."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Bundles of ``python -m explorer build``, or folders of them."""
    port: int = 8000
    """Port; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen at. 0.0.0.0 lets the whole network read, and write notes."""
    notes: Path = Path("notes.sqlite")
    """File of notes, lists and ratings; made if it is not there."""
    read_only: bool = False
    """Keep no notes, and run no model: --live is refused."""
    live: bool = False
    """Run the parent models, so that people can encode, mutate and steer their own sequences.
    Nothing that they send is stored."""
    runs: Several[Path] = ()
    """With --live: runs of `python -m saejax.train`, or folders of them; by default those beside
    the bundles."""
    probes: Several[Path] = ()
    """With --live: folders of `python -m probes`, for people's own labels and for comparisons by
    activation; by default those beside the runs."""
    token: Optional[str] = None
    """What a browser must show to be let in, for a server that others can reach; the address that
    is printed has it."""
    max_residues: int = 1022
    """With --live: longest sequence."""
    max_waiting: int = 64
    """With --live: requests that wait for the worker before the next is answered with 429."""
    threads: int = 0
    """With --live: of Torch on the CPU; 0 leaves one core to the server."""
    weights: Optional[Path] = None
    """With --live: weights of the parent; by default looked for as `python -m extract` does."""
    device: Optional[str] = None
    """With --live: Torch device; by default the first GPU, else the CPU."""
    model: Optional[str] = None
    """With --live, for a parent of your own: its package.module:function, to allow that code."""
    open: bool = False
    """Open the start page in the browser."""
    allow_host: tuple[str, ...] = ()
    """Further names by which browsers may call this server, such as that of a proxy."""
    check: bool = True
    """Compare every file with its checksum first (some seconds per 10 GB)."""

    def __post_init__(self) -> None:
        """A port is a number of 16 bits."""
        if not 0 <= self.port < 65_536:
            raise UserError(f"--port {self.port}: ports are 0 to 65535; try 8000")
        if self.live and self.read_only:
            raise UserError("--live and --read-only: a server that only reads runs no model")
        for name in ("runs", "probes", "weights", "device", "model"):
            if getattr(self, name) and not self.live:
                raise UserError(f"--{name} is for --live; give that, too")
        if self.max_residues < 1 or self.max_waiting < 1 or self.threads < 0:
            raise UserError("--max-residues and --max-waiting must be at least 1, --threads 0")
        if self.token is not None and not TOKEN.fullmatch(self.token):
            raise UserError(
                "--token: must be 8 to 200 letters, digits, '-', '_' or '.'; "
                f"such as {secrets.token_urlsafe(18)}"
            )


def serve(config: ServeConfig) -> None:
    """Serve until Ctrl-C.

    Raises:
        UserError: a bundle that is refused, a file of notes that can't be written, a port in use.
    """
    import uvicorn

    from explorer.server.app import create_app
    from explorer.server.database import Database
    from explorer.server.library import open_bundles

    library = open_bundles(config.bundles, verify=config.check)
    live = _live_half(config, library) if config.live else None
    listening = _listen(config)
    database = None if config.read_only else Database(config.notes)
    names = {*_LOOPBACK, "[::1]", config.host, socket.gethostname(), *config.allow_host}
    app = create_app(library, database, hosts=names, live=live, token=config.token)
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=3, timeout_keep_alive=30,
    )  # fmt: skip

    class Server(uvicorn.Server):
        """Says where it is once it listens."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            _announce(config, library, listening)

    _settle()
    try:
        Server(settings).run(sockets=[listening])
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        if database is not None:
            database.close()


def _live_half(config: ServeConfig, library: Library) -> LiveHalf:
    from explorer.live.half import LIMITS, LiveHalf
    from explorer.live.settings import WorkerSettings

    threads = config.threads or max(1, (os.cpu_count() or 1) - 1)
    settings = WorkerSettings(config.weights, config.device, config.model, threads)
    asked = {"max_residues": config.max_residues, "max_waiting": config.max_waiting}
    limits = LIMITS.model_copy(update=asked)
    half = LiveHalf.of(library, config.runs, config.probes, settings, limits)
    for source in half.live.sources.values():
        probes = f", probes {source.probes}" if source.probes else "; no probes, so no own labels"
        log.info("live: %s from %s%s", source.sae, source.run, probes)
    return half


def _settle() -> None:
    """What is there at the start stays: looking through it for garbage takes up to 40 ms, and an
    answer of many examples makes Python look now and then."""
    gc.collect()
    gc.freeze()


def _listen(config: ServeConfig) -> socket.socket:
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((config.host, config.port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"can't listen at {config.host} port {config.port} ({error}); "
            "another server may run there: give another --port, such as --port 0"
        ) from None


def _announce(config: ServeConfig, library: Library, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        shown = socket.gethostname()
    url = f"http://{shown}:{port}/" + (f"?token={config.token}" if config.token else "")
    ids = [source.id for source in library]
    notes = "read-only" if config.read_only else f"notes in {config.notes}"
    log.info("%s (%s) at %s; Ctrl-C stops", ", ".join(ids), notes, url)
    if host not in _LOOPBACK and not config.read_only and config.token is None:
        log.info(
            "anyone who reaches this machine can write notes; --token or --read-only prevents it"
        )
    if config.open:
        webbrowser.open(url)


def openapi() -> str:
    """The OpenAPI of the server as JSON, from which the pages' types are made."""
    import json

    from explorer.server.app import create_app
    from explorer.server.library import Library

    return json.dumps(create_app(Library([])).openapi(), indent=1)
