"""The live half as the server sees it: on or off. Loads neither torch nor jax."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI

from explorer.live.dispatch import Dispatcher
from explorer.live.process import WorkerProcess
from explorer.live.routes import (
    Live,
    add_knowledge_routes,
    add_sequence_routes,
    add_steering_routes,
    live_router,
)
from explorer.live.runs import live_sources
from explorer.live.schema import LiveLimits
from explorer.live.settings import WorkerSettings
from explorer.server.library import Library

LIMITS = LiveLimits(
    max_residues=1_022, max_records=200, max_total_residues=100_000, max_upload_bytes=12_000_000,
    max_waiting=64, max_waiting_each=8, max_variants=200,
)  # fmt: skip


class LiveHalf:
    """The routes, and the worker behind them."""

    def __init__(self, live: Live) -> None:
        """Use :meth:`of` or :meth:`off`."""
        self.live = live

    @classmethod
    def off(cls, library: Library) -> LiveHalf:
        """A server that only reads: the routes say so."""
        return cls(Live(library, {}, WorkerSettings(), LIMITS, None))

    @classmethod
    def of(
        cls, library: Library, runs: Sequence[Path] = (), probes: Sequence[Path] = (),
        settings: WorkerSettings | None = None, limits: LiveLimits = LIMITS,
    ) -> LiveHalf:  # fmt: skip
        """A server that runs the parents of its bundles' runs.

        Raises:
            UserError: as :func:`explorer.live.runs.live_sources`.
        """
        settings = settings or WorkerSettings()
        sources = live_sources(library, runs, probes)
        dispatcher = Dispatcher(WorkerProcess(sources, settings), limits)
        return cls(Live(library, sources, settings, limits, dispatcher))

    @property
    def on(self) -> bool:
        """Whether there is a worker."""
        return self.live.dispatcher is not None

    def add_routes(self, app: FastAPI) -> None:
        """The routes, which refuse where there is no worker."""
        api = live_router()
        add_sequence_routes(api, self.live)
        add_steering_routes(api, self.live)
        add_knowledge_routes(api, self.live)
        app.include_router(api)

    async def start(self) -> None:
        """Start the worker; it loads while the server already answers."""
        if self.live.dispatcher is not None:
            await self.live.dispatcher.start()

    async def close(self) -> None:
        """End the worker."""
        if self.live.dispatcher is not None:
            await self.live.dispatcher.close()
        self.live.close()
