"""Routes that write and read what people say: notes, lists and ratings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from explorer import schema
from explorer.server.answers import fresh, fresh_lines
from explorer.server.errors import Forbidden
from explorer.server.notes import Notes
from explorer.server.pool import Pool
from explorer.server.ratings import Ratings
from explorer.server.routes import MAX_NAME_CHARS, Latent, Sae, SaeQuery, text_of

ListId = Annotated[str, Path(max_length=100)]
LINES = text_of("application/x-ndjson")


class Store:
    """Notes and ratings, or the refusal of a server without them."""

    def __init__(self, notes: Notes | None, ratings: Ratings | None) -> None:
        """None for a server that keeps none."""
        self._notes, self._ratings = notes, ratings

    @property
    def notes(self) -> Notes:
        """Notes and lists.

        Raises:
            Forbidden: this server keeps none.
        """
        if self._notes is None:
            raise Forbidden("this server keeps no notes: it was started with --read-only")
        return self._notes

    @property
    def ratings(self) -> Ratings:
        """Ratings.

        Raises:
            Forbidden: this server keeps none.
        """
        if self._ratings is None:
            raise Forbidden("this server keeps no ratings: it was started with --read-only")
        return self._ratings


def add_note_routes(api: APIRouter, store: Store, pool: Pool) -> None:
    """Notes on latents."""

    @api.get("/notes", response_model=list[schema.Note])
    @pool.answering
    def notes(sae: SaeQuery = None) -> Response:
        """All notes, or those of one dictionary."""
        return fresh(store.notes.all(sae))

    @api.get("/notes.jsonl", response_class=Response, responses=LINES)
    @pool.answering
    def notes_lines() -> Response:
        """All notes, to download."""
        return fresh_lines(store.notes.lines(), "notes.jsonl")

    @api.get("/notes/{sae}/{latent}", response_model=schema.Note)
    @pool.answering
    def note(sae: Sae, latent: Latent) -> Response:
        """The note on a latent; empty where there is none."""
        return fresh(store.notes.get(sae, latent))

    @api.put("/notes/{sae}/{latent}", response_model=schema.Note)
    @pool.answering
    def keep_note(sae: Sae, latent: Latent, edit: schema.NoteEdit) -> Response:
        """Keep a note; an empty one is removed."""
        return fresh(store.notes.put(sae, latent, edit))


def add_list_routes(api: APIRouter, store: Store, pool: Pool) -> None:
    """Lists of latents."""

    @api.get("/lists", response_model=list[schema.LatentList])
    @pool.answering
    def lists() -> Response:
        """All lists, the last changed first."""
        return fresh(store.notes.lists())

    @api.post("/lists", response_model=schema.LatentList, status_code=201)
    @pool.answering
    def add_list(edit: schema.ListEdit) -> Response:
        """Make a list."""
        return fresh(store.notes.add_list(edit), 201)

    @api.get("/lists/{list_id}", response_model=schema.LatentList)
    @pool.answering
    def one_list(list_id: ListId) -> Response:
        """One list."""
        return fresh(store.notes.list(list_id))

    @api.put("/lists/{list_id}", response_model=schema.LatentList)
    @pool.answering
    def keep_list(list_id: ListId, edit: schema.ListEdit) -> Response:
        """Change a list."""
        return fresh(store.notes.put_list(list_id, edit))

    @api.delete("/lists/{list_id}", status_code=204, response_class=Response)
    @pool.answering
    def remove_list(list_id: ListId) -> Response:
        """Remove a list."""
        store.notes.remove_list(list_id)
        return Response(status_code=204)


def add_rating_routes(api: APIRouter, store: Store, pool: Pool) -> None:
    """Blind rating."""

    @api.get("/rate/next", response_model=schema.RatingTask)
    @pool.answering
    def next_task(
        sae: Annotated[str, Query(max_length=MAX_NAME_CHARS)],
        rater: Annotated[str, Query(min_length=1, max_length=100)],
    ) -> Response:
        """A feature that this rater has not judged yet."""
        return fresh(store.ratings.next(sae, rater))

    @api.post("/rate", status_code=204, response_class=Response)
    @pool.answering
    def rate(edit: schema.RatingEdit) -> Response:
        """Keep a judgement."""
        store.ratings.keep(edit)
        return Response(status_code=204)

    @api.get("/rate/summary", response_model=schema.RatingSummary)
    @pool.answering
    def summary(sae: SaeQuery = None) -> Response:
        """What the raters said, and how far they agree."""
        return fresh(store.ratings.summary(sae))

    @api.get("/ratings.jsonl", response_class=Response, responses=LINES)
    @pool.answering
    def ratings_lines() -> Response:
        """All judgements, to download."""
        return fresh_lines(store.ratings.lines(), "ratings.jsonl")
