"""Routes that read bundles. Each is one call: the answers are in the other modules."""

from __future__ import annotations

import gzip
import importlib.metadata
from functools import cached_property
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from explorer import schema
from explorer.server import concepts, examples, latents, library, proteins
from explorer.server.answers import answer, answer_model, to_json
from explorer.server.library import Library
from explorer.server.motif import MotifSearch
from explorer.server.pool import Pool
from explorer.server.search import Search
from explorer.server.source import Source

MAX_PAGE = 200
MAX_QUERY_CHARS = 5_000
"""Of a search: a long sequence."""
MAX_NAME_CHARS = 500

Sae = Annotated[str, Path(max_length=MAX_NAME_CHARS, examples=["esm2_8m_block4"])]
Latent = Annotated[int, Path(ge=0, le=2**31 - 1)]
Name = Annotated[str, Path(min_length=1, max_length=MAX_NAME_CHARS)]
Text = Annotated[str, Query(max_length=MAX_QUERY_CHARS)]
SaeQuery = Annotated[str | None, Query(max_length=MAX_NAME_CHARS)]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": schema.Problem, "description": "There is no such thing"},
    422: {"model": schema.Problem, "description": "A value breaks a rule"},
    429: {"model": schema.Problem, "description": "Too much is waiting; Retry-After says how long"},
}


def text_of(media_type: str) -> dict[int | str, dict[str, Any]]:
    """The description of an answer that is text."""
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}


def count(default: int) -> Any:
    """How many rows to answer at most."""
    return Query(ge=1, le=MAX_PAGE, description=f"At most {MAX_PAGE}; {default} if not given.")


class Prepared:
    """Answers that are the same for everybody, made at start-up."""

    def __init__(self, library: Library, notes: bool, live: bool = False) -> None:
        """``notes``: whether notes can be written; ``live``: whether a parent can be run."""
        self.library = library
        self.capabilities = schema.Capabilities(
            mode="live" if live else "read-only",
            notes=notes,
            version=importlib.metadata.version("protein-latents"),
            max_query_chars=MAX_QUERY_CHARS,
            max_page=MAX_PAGE,
        )
        self.saes = [library_summary(source) for source in library]
        self.columns = {source.id: _both(to_json(latents.columns(source))) for source in library}

    @cached_property
    def concepts(self) -> tuple[bytes, bytes]:
        """All concepts, as they are and in gzip."""
        return _both(to_json(concepts.concept_summaries(self.library)))

    def warm(self) -> None:
        """Make what the first request of each sort would wait for."""
        _ = self.concepts
        for source in self.library:
            _ = source.labels, source.kinds, source.latent_max, source.n_active, source.alive
            _ = source.tracked_share


def library_summary(source: Source) -> schema.SAESummary:
    """The card of a dictionary."""
    return library.summary(source)


def _both(body: bytes) -> tuple[bytes, bytes]:
    return body, gzip.compress(body, compresslevel=6, mtime=0)


def add_sae_routes(api: APIRouter, prepared: Prepared, pool: Pool) -> None:
    """Dictionaries as a whole."""
    books = prepared.library

    @api.get("/capabilities", response_model=schema.Capabilities)
    async def capabilities(request: Request) -> Response:
        """What this server can do."""
        return answer_model(request, prepared.capabilities)

    @api.get("/saes", response_model=list[schema.SAESummary])
    async def saes(request: Request) -> Response:
        """All dictionaries."""
        return answer_model(request, prepared.saes)

    @api.get("/saes/{sae}", response_model=schema.SAEDetail)
    async def sae_detail(request: Request, sae: Sae) -> Response:
        """One dictionary and where it is from."""
        return answer_model(request, library.detail(books.get(sae)))

    @api.get("/saes/{sae}/columns", response_model=schema.LatentColumns)
    async def columns(request: Request, sae: Sae) -> Response:
        """Every latent, column by column: for the map, the table and the histograms."""
        body, zipped = prepared.columns[books.get(sae).id]
        return answer(request, body, zipped=zipped)

    @api.get("/saes/{sae}/latents.csv", response_class=Response,
             responses=text_of("text/csv"))  # fmt: skip
    @pool.answering
    def latents_csv(request: Request, sae: Sae) -> Response:
        """The table of latents, to download."""
        text = latents.columns_csv(books.get(sae))
        response = answer(request, text.encode(), media_type="text/csv")
        response.headers["content-disposition"] = f'attachment; filename="{books.get(sae).id}.csv"'
        return response


def add_latent_routes(api: APIRouter, books: Library, pool: Pool) -> None:
    """One latent."""

    @api.get("/saes/{sae}/latents/{latent}", response_model=schema.LatentDetail)
    @pool.answering
    def latent_detail(request: Request, sae: Sae, latent: Latent) -> Response:
        """Everything about a latent but its examples."""
        source = books.get(sae)
        others = [other for other in books if other is not source]
        return answer_model(request, latents.detail(source, latent, others))

    @api.get("/saes/{sae}/latents/{latent}/examples", response_model=schema.Examples)
    @pool.answering
    def group_examples(
        request: Request, sae: Sae, latent: Latent, group: schema.Group = "top",
        n: Annotated[int, count(64)] = 64,
    ) -> Response:  # fmt: skip
        """Examples that the bundle keeps of a group: at most 64 of the top, 16 of any other."""
        return answer_model(request, examples.group_examples(books.get(sae), latent, group, n))

    @api.get("/saes/{sae}/latents/{latent}/concepts/{concept:path}/examples",
             response_model=schema.Examples)  # fmt: skip
    @pool.answering
    def concept_examples(
        request: Request, sae: Sae, latent: Latent, concept: Name, outcome: schema.Outcome,
        n: Annotated[int, count(24)] = 24,
    ) -> Response:  # fmt: skip
        """Proteins where the latent hits, wrongly calls or misses a concept. Hits and wrong calls
        are sought in the 512 proteins with the latent's highest maxima, misses in 512 proteins
        with the concept; ``total`` counts among these."""
        source = books.get(sae)
        found = examples.concept_examples(source, latent, concept, outcome, n)
        return answer_model(request, found)

    @api.get("/saes/{sae}/latents/{latent}/proteins", response_model=schema.ProteinHits)
    @pool.answering
    def protein_hits(
        request: Request, sae: Sae, latent: Latent,
        cursor: Annotated[str | None, Query(max_length=20)] = None,
        n: Annotated[int, count(50)] = 50,
    ) -> Response:  # fmt: skip
        """Proteins in which the latent is active, highest maximum first."""
        return answer_model(request, latents.protein_hits(books.get(sae), latent, cursor, n))

    @api.get("/saes/{sae}/latents/{latent}/neighbours", response_model=list[schema.Neighbour])
    @pool.answering
    def neighbours(
        request: Request, sae: Sae, latent: Latent, kind: schema.NeighbourKind = "cosine"
    ) -> Response:
        """Latents beside this one."""
        return answer_model(request, latents.neighbours(books.get(sae), latent, kind))

    @api.get(
        "/saes/{sae}/latents/{latent}/proteins/{accession:path}", response_model=schema.Example
    )
    @pool.answering
    def along(request: Request, sae: Sae, latent: Latent, accession: Name) -> Response:
        """This latent along one protein."""
        return answer_model(request, examples.example_in(books.get(sae), latent, accession))


def add_other_routes(api: APIRouter, prepared: Prepared, pool: Pool) -> None:
    """Proteins, structures and concepts."""
    books = prepared.library

    @api.get("/proteins/{accession:path}/latents", response_model=schema.ProteinLatents)
    @pool.answering
    def protein_latents(
        request: Request, accession: Name, sae: Annotated[str, Query(max_length=MAX_NAME_CHARS)],
        n: Annotated[int, count(100)] = 100,
    ) -> Response:  # fmt: skip
        """Active latents of a protein; what is active everywhere comes last."""
        return answer_model(request, proteins.protein_latents(books.get(sae), accession, n))

    @api.get("/proteins/{accession:path}", response_model=schema.ProteinDetail)
    @pool.answering
    def protein(request: Request, accession: Name) -> Response:
        """A protein and its annotations."""
        return answer_model(request, proteins.protein_detail(books, accession))

    @api.get("/structures/{accession:path}", response_class=Response,
             responses=text_of("chemical/x-pdb"))  # fmt: skip
    @pool.answering
    def structure(request: Request, accession: Name) -> Response:
        """The backbone in PDB format: chain A, numbered by position in the sequence."""
        text = proteins.structure(books, accession)
        return answer(request, text.encode(), media_type="chemical/x-pdb")

    @api.get("/concepts", response_model=list[schema.ConceptSummary])
    @pool.answering
    def concept_list(request: Request) -> Response:
        """All concepts and the latent that each dictionary chose for each."""
        body, zipped = prepared.concepts
        return answer(request, body, zipped=zipped)

    @api.get("/concepts/{concept:path}", response_model=schema.ConceptDetail)
    @pool.answering
    def concept(request: Request, concept: Name) -> Response:
        """A concept, dictionary by dictionary."""
        return answer_model(request, concepts.concept_detail(books, concept))


def add_search_routes(api: APIRouter, books: Library, pool: Pool, scans: Pool) -> None:
    """The search box. What scans all sequences has a queue of its own."""
    motifs = MotifSearch(books)
    search = Search(books, motifs)
    quick = pool.answering(search.answer)
    scanning = scans.answering(search.answer)

    @api.get("/search", response_model=schema.SearchResults)
    async def find(
        request: Request, q: Text, sae: SaeQuery = None, n: Annotated[int, count(20)] = 20
    ) -> Response:
        """Concept or label text, a latent's number, an accession, a PDB id, a motif, a sequence."""
        route = scanning if search.scans(q) else quick
        return answer_model(request, await route(q, sae, n))

    @api.get("/search/motif", response_model=schema.MotifResults)
    @scans.answering
    def find_motif(
        request: Request, pattern: Text, sae: SaeQuery = None,
        n: Annotated[int, count(50)] = 50,
    ) -> Response:  # fmt: skip
        """Where a PROSITE pattern matches, and the latents that fire there."""
        return answer_model(request, motifs.answer(pattern, sae, n))
