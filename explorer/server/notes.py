"""Notes on latents, and lists of latents."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

from explorer.schema import LatentList, LatentName, ListEdit, Note, NoteEdit
from explorer.server.database import Database, now
from explorer.server.errors import NotFound, Unprocessable
from explorer.server.library import Library

MAX_TAG_CHARS = 100
MAX_LISTS = 10_000


class Notes:
    """Notes and lists of the latents of a library."""

    def __init__(self, database: Database, library: Library) -> None:
        """Kept in ``database``."""
        self._database, self._library = database, library

    def all(self, sae: str | None) -> list[Note]:
        """Notes of one dictionary or, without a name, of all, served now or not."""
        query = "SELECT * FROM notes {} ORDER BY sae, latent"
        if sae is None:
            return [_note(row) for row in self._database.rows(query.format(""))]
        self._library.get(sae)
        return [_note(row) for row in self._database.rows(query.format("WHERE sae = ?"), sae)]

    def get(self, sae: str, latent: int) -> Note:
        """A note; one without text where none was written.

        Raises:
            NotFound: no such latent.
        """
        self._library.get(sae).check_latent(latent)
        rows = self._database.rows("SELECT * FROM notes WHERE sae = ? AND latent = ?", sae, latent)
        return _note(rows[0]) if rows else _empty(sae, latent)

    def put(self, sae: str, latent: int, edit: NoteEdit) -> Note:
        """Keep a note; an empty one is removed.

        Raises:
            NotFound: no such latent.
            Unprocessable: a tag that is empty or too long.
        """
        self._library.get(sae).check_latent(latent)
        tags = list(dict.fromkeys(tag.strip() for tag in edit.tags))
        if any(not 0 < len(tag) <= MAX_TAG_CHARS for tag in tags):
            raise Unprocessable(f"tags have 1 to {MAX_TAG_CHARS} characters")
        if not edit.text.strip() and edit.rating is None and not tags:
            with self._database.write() as connection:
                connection.execute("DELETE FROM notes WHERE sae = ? AND latent = ?", (sae, latent))
            return _empty(sae, latent)
        note = Note(
            sae=sae, latent=latent, text=edit.text, rating=edit.rating, tags=tags, changed=now()
        )
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?, ?)",
                (sae, latent, note.text, note.rating, json.dumps(tags), note.changed),
            )
        return note

    def lines(self) -> str:
        """All notes as JSON lines, with the latents' labels."""
        labelled = (self._with_label(note.model_dump()) for note in self.all(None))
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in labelled)

    def _with_label(self, line: dict[str, Any]) -> dict[str, Any]:
        return line | {"label": self._name(line["sae"], line["latent"]).label}

    def _name(self, sae: str, latent: int) -> LatentName:
        source = self._library.sources.get(sae)
        if source is None or not 0 <= latent < source.d_sae:
            return LatentName(sae=sae, latent=latent, label="", kind="")
        return source.name_of(latent)

    def lists(self) -> list[LatentList]:
        """All lists, the last changed first."""
        rows = self._database.rows("SELECT * FROM lists ORDER BY changed DESC, id")
        return [self._list(row) for row in rows]

    def list(self, name: str) -> LatentList:
        """One list.

        Raises:
            NotFound: none of this id.
        """
        rows = self._database.rows("SELECT * FROM lists WHERE id = ?", name)
        if not rows:
            raise NotFound(f"there is no list {name[:60]!r}; it may have been removed")
        return self._list(rows[0])

    def add_list(self, edit: ListEdit) -> LatentList:
        """Keep a new list.

        Raises:
            NotFound: an item that is no latent of a bundle that is served.
            Unprocessable: there are too many lists.
        """
        if self._database.rows("SELECT COUNT(*) FROM lists")[0][0] >= MAX_LISTS:
            raise Unprocessable(f"there are {MAX_LISTS} lists already; remove some")
        return self._keep(secrets.token_urlsafe(9), edit, known=frozenset())

    def put_list(self, name: str, edit: ListEdit) -> LatentList:
        """Change a list; items that it has may be of bundles that are not served now.

        Raises:
            NotFound: no such list, or a new item that is no latent.
        """
        known = frozenset((item.sae, item.latent) for item in self.list(name).items)
        return self._keep(name, edit, known)

    def _keep(self, name: str, edit: ListEdit, known: frozenset[tuple[str, int]]) -> LatentList:
        items = list(dict.fromkeys((item.sae, item.latent) for item in edit.items))
        for sae, latent in items:
            if (sae, latent) not in known:
                self._library.get(sae).check_latent(latent)
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO lists VALUES (?, ?, ?, ?, ?)",
                (name, edit.name, edit.description, json.dumps(items), now()),
            )
        return self.list(name)

    def remove_list(self, name: str) -> None:
        """Remove a list.

        Raises:
            NotFound: none of this id.
        """
        with self._database.write() as connection:
            removed = connection.execute("DELETE FROM lists WHERE id = ?", (name,)).rowcount
        if not removed:
            raise NotFound(f"there is no list {name[:60]!r}; it may have been removed")

    def _list(self, row: Any) -> LatentList:
        return LatentList(
            id=row["id"],
            name=row["name"],
            description=row["description"],
            items=list(self._items(row["items"])),
            changed=row["changed"],
        )

    def _items(self, items: str) -> Iterator[LatentName]:
        return (self._name(sae, latent) for sae, latent in json.loads(items))


def _note(row: Any) -> Note:
    return Note(
        sae=row["sae"], latent=row["latent"], text=row["text"], rating=row["rating"],
        tags=json.loads(row["tags"]), changed=row["changed"],
    )  # fmt: skip


def _empty(sae: str, latent: int) -> Note:
    return Note(sae=sae, latent=latent, text="", changed="")
