"""The one file that the explorer writes: what people say of latents, in SQLite.

In write-ahead mode with a sync at every commit: what was answered with success is there after a
kill or a power cut.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extract.errors import UserError

APPLICATION_ID = 0x504C4E54
"""Of SQLite's header: ours, so that no other program's file is written to."""
VERSION = 1

_SCHEMA = """
CREATE TABLE notes (
    sae TEXT NOT NULL, latent INTEGER NOT NULL, text TEXT NOT NULL, rating INTEGER,
    tags TEXT NOT NULL, changed TEXT NOT NULL, PRIMARY KEY (sae, latent)) WITHOUT ROWID;
CREATE TABLE lists (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL, items TEXT NOT NULL,
    changed TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (
    task TEXT PRIMARY KEY, sae TEXT NOT NULL, bundle TEXT NOT NULL, kind TEXT NOT NULL,
    feature INTEGER NOT NULL, seed INTEGER NOT NULL, number INTEGER NOT NULL UNIQUE) WITHOUT ROWID;
CREATE TABLE ratings (
    task TEXT NOT NULL REFERENCES tasks (task), rater TEXT NOT NULL, score INTEGER NOT NULL,
    description TEXT NOT NULL, changed TEXT NOT NULL, PRIMARY KEY (task, rater)) WITHOUT ROWID;
"""


class Database:
    """``notes.sqlite``: one connection, used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        Raises:
            UserError: it can't be written, or it is another program's or a later version's.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
            self._connection.row_factory = sqlite3.Row
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{path}: can't be used for notes ({error}); give another --notes, or --read-only"
            ) from error

    def _prepare(self) -> None:
        connection = self._connection
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise UserError(f"{self.path}: is not a file of notes; give another --notes")
        if version > VERSION:
            raise UserError(
                f"{self.path}: notes of version {version}, this version reads {VERSION}; "
                "update the software"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if not tables:
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {VERSION}; {_SCHEMA} COMMIT;"
            )

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is kept, or none."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def now() -> str:
    """UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
