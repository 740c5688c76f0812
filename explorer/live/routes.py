"""Routes of the live half. Sequences come and go: nothing that a person sends is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from explorer.live import answers, schema
from explorer.live.dispatch import Dispatcher
from explorer.live.python_code import Code
from explorer.live.runs import LiveSource
from explorer.live.sequences import check_length, read_upload
from explorer.live.settings import WorkerSettings
from explorer.live.streams import LINES, Lines, Told, answer_once, wants_lines
from explorer.schema import Problem
from explorer.server.answers import fresh, to_json
from explorer.server.errors import NotFound
from explorer.server.library import Library
from explorer.server.source import Source
from extract.errors import UserError
from extract.fasta import check_sequence

LIVE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such thing, or its parent is not loaded"},
    413: {"model": Problem, "description": "The body is too large"},
    422: {"model": Problem, "description": "A value breaks a rule: names the record and position"},
    429: {"model": Problem, "description": "Too much is waiting; Retry-After says how long"},
    503: {"model": Problem, "description": "The worker can't do it now"},
}
CLIENT = "x-explorer-client"
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {LINES: {"schema": schema.Progress.model_json_schema()}}}
}
Name = Annotated[str, Query(max_length=500)]


class Live:
    """What the routes share."""

    def __init__(
        self, library: Library, sources: dict[str, LiveSource], settings: WorkerSettings,
        limits: schema.LiveLimits, dispatcher: Dispatcher | None,
    ) -> None:  # fmt: skip
        """``dispatcher``: None for a server that only reads, whose routes say so."""
        self.library, self.sources, self.limits = library, sources, limits
        self.dispatcher = dispatcher
        self.code = Code(sources, settings)
        self.threads = ThreadPoolExecutor(1, thread_name_prefix="live")

    def source(self, sae: str) -> Source:
        """A dictionary whose parent is loaded."""
        source = self.library.get(sae)
        if self.dispatcher is None:
            raise NotFound("this server only reads; start it with --live to encode and to steer")
        if sae not in self.sources:
            raise NotFound(f"the run of {sae} is not here, so nothing can be encoded; see --runs")
        return source

    def sequence(self, source: Source, asked: schema.SequenceIn) -> str:
        """The sequence that a request is about.

        Raises:
            UserError: neither or both are given, an illegal letter, or too long.
        """
        if (asked.sequence is None) == (asked.accession is None):
            raise UserError("give a sequence or an accession, one of them")
        if asked.accession is not None:
            sequence = source.sequence(source.protein(asked.accession))
        else:
            letters = "".join((asked.sequence or "").split()).removesuffix("*")
            sequence = check_sequence(letters, "the sequence")
        check_length(sequence, self.limits, "the sequence")
        return sequence

    async def answer(
        self, request: Request, task: str, prepare: Callable[[], dict[str, Any]],
        build: Callable[[dict[str, Any], Any], BaseModel],
    ) -> Response:  # fmt: skip
        """Run a task and answer with the model that ``build`` makes of it."""
        loop = asyncio.get_running_loop()
        arguments = await loop.run_in_executor(self.threads, prepare)
        assert self.dispatcher is not None  # or ``prepare`` would have refused
        dispatcher, client = self.dispatcher, client_of(request)

        async def work(told: Told) -> bytes:
            found = await dispatcher.run(client, task, arguments, told)
            return await loop.run_in_executor(
                self.threads, lambda: to_json(build(arguments, found))
            )

        return Lines(work) if wants_lines(request) else await answer_once(request, work)

    def close(self) -> None:
        """End the threads."""
        self.threads.shutdown(wait=False, cancel_futures=True)


def client_of(request: Request) -> str:
    """Who takes turns: an address; on this machine each page, by the name it gives itself."""
    host = request.client.host if request.client else ""
    if host in ("127.0.0.1", "::1", "localhost", ""):
        return f"{host} {request.headers.get(CLIENT, '')[:64]}"
    return host


def live_router() -> APIRouter:
    """For all routes of the live half."""
    return APIRouter(prefix="/api/v1", responses=LIVE_PROBLEMS)


def add_sequence_routes(api: APIRouter, live: Live) -> None:
    """Sequences and their latents."""

    @api.get("/live", response_model=schema.LiveInfo)
    async def info() -> Response:
        """What can be encoded here, and what is taken."""
        return fresh(live_info(live))

    @api.post("/sequences", response_model=schema.Uploaded)
    async def sequences(upload: schema.UploadIn) -> Response:
        """Read FASTA, a PDB or an mmCIF file; nothing is kept."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            live.threads, lambda: to_json(read_upload(upload.text, upload.name, live.limits))
        )
        return Response(found, media_type="application/json", headers={"cache-control": "no-store"})

    @api.post("/encode", response_model=schema.Encoded, responses=_STREAMED)
    async def encode(request: Request, asked: schema.EncodeIn) -> Response:
        """Which latents fire on a sequence."""

        def prepare() -> dict[str, Any]:
            source = live.source(asked.sae)
            return {"sae": asked.sae, "sequence": live.sequence(source, asked)}

        return await live.answer(request, "encode", prepare, lambda given, found: answers.encoded(
            live.source(asked.sae), given["sequence"], found, live.code))  # fmt: skip

    @api.post("/mutate", response_model=schema.Mutated, responses=_STREAMED)
    async def mutate(request: Request, asked: schema.MutateIn) -> Response:
        """Wild type against mutant: latents that appear, vanish or change."""

        def prepare() -> dict[str, Any]:
            source = live.source(asked.sae)
            return {"sae": asked.sae, "sequence": live.sequence(source, asked),
                    "mutations": asked.mutations}  # fmt: skip

        return await live.answer(request, "mutate", prepare, lambda given, found: answers.mutated(
            live.source(asked.sae), given["sequence"], asked, found, live.code,
        ))  # fmt: skip

    @api.post("/scan", response_model=schema.Scanned, responses=_STREAMED)
    async def scan(request: Request, asked: schema.ScanIn) -> Response:
        """One latent under every substitution."""

        def prepare() -> dict[str, Any]:
            source = live.source(asked.sae)
            sequence = live.sequence(source, asked)
            source.check_latent(asked.latent)
            start, end = (asked.start or 1) - 1, asked.end or len(sequence)
            at = None if asked.at is None else asked.at - 1
            if not 0 <= start < end <= len(sequence) or not (at or 0) < len(sequence):
                raise UserError(f"residues to scan must lie in 1 to {len(sequence)}, in order")
            return {"sae": asked.sae, "sequence": sequence, "latent": asked.latent,
                    "start": start, "end": end, "at": at}  # fmt: skip

        return await live.answer(request, "scan", prepare, lambda given, found: answers.scanned(
            live.source(asked.sae), given["sequence"], asked.latent, given["start"], found,
            live.code,
        ))  # fmt: skip


def add_steering_routes(api: APIRouter, live: Live) -> None:
    """Edits inside the parent."""

    @api.post("/steer", response_model=schema.Steered, responses=_STREAMED)
    async def steer(request: Request, asked: schema.SteerIn) -> Response:
        """A sequence's predictions with and without edits."""

        def prepare() -> dict[str, Any]:
            sequence = live.sequence(live.source(asked.sae), asked)
            return {"sae": asked.sae, "sequence": sequence, "edits": asked.edits,
                    "mask": asked.mask or None, "error_term": asked.error_term}  # fmt: skip

        return await live.answer(request, "steer", prepare, lambda given, found: answers.steered(
            live.source(asked.sae), asked, given["sequence"], found, live.code))  # fmt: skip

    @api.post("/steer/sweep", response_model=schema.Swept, responses=_STREAMED)
    async def sweep(request: Request, asked: schema.SweepIn) -> Response:
        """Dose-response of one latent, beside random latents and directions of the same norm."""

        def prepare() -> dict[str, Any]:
            source = live.source(asked.sae)
            source.check_latent(asked.latent)
            names = ("latent", "operation", "where", "random_latents", "random_directions",
                     "mask_fraction", "amino_acid", "error_term", "seed")  # fmt: skip
            config = {name: getattr(asked, name) for name in names}
            config["strengths"] = tuple(asked.multiples)
            return {"sae": asked.sae, "sequence": live.sequence(source, asked), "config": config}

        return await live.answer(request, "sweep", prepare, lambda given, found: answers.swept(
            live.source(asked.sae), given["sequence"], given["config"], found, live.code,
        ))  # fmt: skip

    @api.post("/steer/variants", response_model=schema.Varied, responses=_STREAMED)
    async def variants(request: Request, asked: schema.VariantsIn) -> Response:
        """Sequences that the edited model writes, and controls."""

        def prepare() -> dict[str, Any]:
            if asked.n > live.limits.max_variants:
                raise UserError(f"{asked.n} variants are more than the {live.limits.max_variants} "
                                "that this server writes at a time")  # fmt: skip
            config = {
                "variants": asked.n, "method": asked.method, "positions": asked.positions or None,
                "mask_fraction": asked.mask_fraction, "max_changes": asked.max_changes,
                "temperature": asked.temperature, "control_variants": asked.controls,
                "random_latents": asked.random_latents, "seed": asked.seed,
                "error_term": asked.error_term,
            }  # fmt: skip
            return {"sae": asked.sae, "sequence": live.sequence(live.source(asked.sae), asked),
                    "edits": asked.edits, "config": config}  # fmt: skip

        return await live.answer(request, "variants", prepare, lambda given, found: answers.varied(
            live.source(asked.sae), asked, given["sequence"], given["config"], found, live.code,
        ))  # fmt: skip


def add_knowledge_routes(api: APIRouter, live: Live) -> None:
    """A person's own labels, and dictionaries compared."""

    @api.post("/labels", response_model=schema.Labelled, responses=_STREAMED)
    async def labels(request: Request, asked: schema.LabelsIn) -> Response:
        """The latents that tell a label, by the frozen split of the probes."""

        def prepare() -> dict[str, Any]:
            live.source(asked.sae)
            if (asked.motif is None) == (asked.tsv is None):
                raise UserError("give a motif or a table, one of them")
            return asked.model_dump()

        return await live.answer(request, "labels", prepare, lambda _, found: answers.labelled(
            live.source(asked.sae), asked, found, live.code))  # fmt: skip

    @api.get("/compare", response_model=schema.Compared, responses=_STREAMED)
    async def compare(
        request: Request, a: Name, b: Name,
        by: Annotated[str | None, Query(pattern="^(cosine|correlation)$")] = None,
    ) -> Response:  # fmt: skip
        """Two dictionaries of one parent, latent by latent."""

        def prepare() -> dict[str, Any]:
            for name in (a, b):
                live.source(name)
            if a == b:
                raise UserError("these are the same dictionary; choose two")
            return {"sae": a, "other": b, "by": by}

        return await live.answer(request, "compare", prepare, lambda _, found: answers.compared(
            live.source(a), live.source(b), found, live.code))  # fmt: skip


def live_info(live: Live) -> schema.LiveInfo:
    """What can be encoded here, and what is taken."""
    on = live.dispatcher is not None
    return schema.LiveInfo(
        live=on,
        ready=live.dispatcher is not None and live.dispatcher.ready,
        saes=[
            schema.LiveSAE(sae=name, labels=source.probes is not None)
            for name, source in (live.sources.items() if on else ())
        ],
        limits=live.limits,
    )
