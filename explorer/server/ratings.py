"""Blind rating: is there a pattern, without knowing whether it is a latent's.

A third of the features are latents, a third neurons of the parent (where the bundle has them) and
a third latents whose values were moved to random residues of the same proteins: what raters see in
those is what they see in noise.
"""

from __future__ import annotations

import json
import math
import secrets
from typing import Any

import numpy as np

from explorer.layout import GROUPS
from explorer.schema import Example, RatingEdit, RatingKind, RatingSummary, RatingTask
from explorer.server.agreement import krippendorff_alpha
from explorer.server.database import Database, now
from explorer.server.errors import NotFound, Unprocessable
from explorer.server.examples import Raw, examples_of, kept_examples
from explorer.server.library import Library
from explorer.server.source import Source

KINDS = ("latent", "neuron", "shuffled")
N_EXAMPLES = 8
_MAX_TRIES = 50


class Ratings:
    """Tasks for raters, and what they said."""

    def __init__(self, database: Database, library: Library) -> None:
        """Kept in ``database``."""
        self._database, self._library = database, library

    def next(self, sae: str, rater: str) -> RatingTask:
        """A feature that this rater has not judged; first those that others have, for agreement.

        Raises:
            NotFound: no such dictionary, or nothing left to judge.
        """
        source, rater = self._library.get(sae), _rater(rater)
        rows = self._database.rows(
            "SELECT t.*, COUNT(r.task) AS n FROM tasks t LEFT JOIN ratings r USING (task) "
            "WHERE t.sae = ? AND t.bundle = ? AND NOT EXISTS (SELECT 1 FROM ratings mine "
            "WHERE mine.task = t.task AND mine.rater = ?) "
            "GROUP BY t.task ORDER BY n DESC, t.number LIMIT 1",
            sae, source.bundle.hash, rater,
        )  # fmt: skip
        row = dict(rows[0]) if rows else self._add_task(source)
        examples = task_examples(source, row["kind"], row["feature"], row["seed"])
        return RatingTask(task=row["task"], sae=sae, examples=examples)

    def _add_task(self, source: Source) -> dict[str, Any]:
        """A new feature, of a kind drawn at random; the task's name says nothing of it."""
        taken = {
            (row["kind"], row["feature"])
            for row in self._database.rows(
                "SELECT kind, feature FROM tasks WHERE bundle = ?", source.bundle.hash
            )
        }
        kinds = [k for k in KINDS if k != "neuron" or source.has("neurons/indptr")]
        for _ in range(_MAX_TRIES):
            kind = secrets.choice(kinds)
            feature = _draw(source, kind)
            if feature is not None and (kind, feature) not in taken:
                break
        else:
            raise NotFound(f"nothing of {source.id} is left to judge; /rate/summary has the result")
        row = {"task": secrets.token_urlsafe(12), "sae": source.id, "bundle": source.bundle.hash,
               "kind": kind, "feature": feature, "seed": secrets.randbits(32)}  # fmt: skip
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO tasks VALUES (:task, :sae, :bundle, :kind, :feature, :seed, "
                "(SELECT COALESCE(MAX(number), 0) + 1 FROM tasks))",
                row,
            )
        return row

    def keep(self, edit: RatingEdit) -> None:
        """Keep a judgement; a second one of the same rater takes the first one's place.

        Raises:
            NotFound: a task that was not given out.
        """
        with self._database.write() as connection:
            known = connection.execute("SELECT 1 FROM tasks WHERE task = ?", (edit.task,))
            if known.fetchone() is None:
                raise NotFound("there is no such task; ask /rate/next for one")
            connection.execute(
                "INSERT OR REPLACE INTO ratings VALUES (?, ?, ?, ?, ?)",
                (edit.task, _rater(edit.rater), edit.score, edit.description, now()),
            )

    def _rows(self, sae: str | None) -> list[Any]:
        query = "SELECT * FROM ratings JOIN tasks USING (task) {} ORDER BY number, rater"
        if sae is None:
            return self._database.rows(query.format(""))
        self._library.get(sae)
        return self._database.rows(query.format("WHERE sae = ?"), sae)

    def summary(self, sae: str | None) -> RatingSummary:
        """Means of each kind with 95 % intervals over features, and the raters' agreement."""
        rows = self._rows(sae)
        raters = sorted({row["rater"] for row in rows})
        tasks = sorted({row["task"] for row in rows})
        table = np.full((len(raters), len(tasks)), np.nan)
        kinds = {}
        for row in rows:
            table[raters.index(row["rater"]), tasks.index(row["task"])] = row["score"]
            kinds[row["task"]] = row["kind"]
        return RatingSummary(
            raters=len(raters),
            ratings=len(rows),
            kinds=[_of_kind(kind, table[:, [kinds[t] == kind for t in tasks]]) for kind in KINDS],
            agreement=krippendorff_alpha(table) if rows else None,
        )

    def lines(self) -> str:
        """All judgements as JSON lines, with what was judged."""
        return "".join(
            json.dumps(
                {name: row[name] for name in ("task", "sae", "bundle", "kind", "feature", "seed",
                                              "rater", "score", "description", "changed")},
                ensure_ascii=False,
            ) + "\n"
            for row in self._rows(None)
        )  # fmt: skip


def _rater(name: str) -> str:
    if not name.strip():
        raise Unprocessable("rater is empty; give a name or initials")
    return name.strip()


def _of_kind(kind: str, table: np.ndarray) -> RatingKind:
    """Mean over features (of the mean over raters), ± 1.96 standard errors over features."""
    scores = np.nanmean(table, axis=0) if table.size else np.zeros(0)
    mean = float(scores.mean()) if len(scores) else None
    half = 1.96 * float(scores.std(ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else None
    return RatingKind(
        kind=kind,  # type: ignore[arg-type]
        n=int((~np.isnan(table)).sum()),
        mean=mean,
        low=None if mean is None or half is None else max(mean - half, 1),
        high=None if mean is None or half is None else min(mean + half, 5),
    )


def _draw(source: Source, kind: str) -> int | None:
    """A random feature with examples, or None when the draw has none."""
    if kind == "neuron":
        edges = source["neurons/indptr"]
        feature = secrets.randbelow(len(edges) - 1)
        return feature if edges[feature + 1] > edges[feature] else None
    return int(secrets.choice(source.alive)) if len(source.alive) else None


def task_examples(source: Source, kind: str, feature: int, seed: int) -> list[Example]:
    """Examples of a task: values divided by the feature's maximum, so that no scale tells it."""
    if kind == "neuron":
        raw = kept_examples(source, "neurons", feature, N_EXAMPLES)
    else:
        top = feature * len(GROUPS) + GROUPS.index("top")
        raw = kept_examples(source, "examples", top, N_EXAMPLES)
    if kind == "shuffled":
        raw = _shuffled(source, raw, seed)
    highest = max((float(r.value.max()) for r in raw if len(r.value)), default=1.0)
    scaled = [r._replace(value=r.value.astype(np.float32) / highest) for r in raw]
    return examples_of(source, scaled)


def _shuffled(source: Source, raw: list[Raw], seed: int) -> list[Raw]:
    """The same values at random residues of the same proteins."""
    random = np.random.default_rng(seed)
    offsets = source.corpus.offsets
    moved = []
    for r in raw:
        length = int(offsets[r.protein + 1] - offsets[r.protein])
        place = np.sort(random.choice(length, size=len(r.position), replace=False))
        moved.append(Raw(r.protein, place, random.permutation(r.value)))
    return moved
