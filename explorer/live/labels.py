"""A probe on a person's own labels: which latents tell them, by the split of ``python -m probes``.

The protocol is :func:`probes.protocols.frozen.frozen`: thresholds from train, the latent from
validation, its score once from test, no homology cluster in two parts. Latents, split and protein
order are those of the probes' folder, sequences those of the bundle.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from explorer.bundle import Bundle
from explorer.server.pattern import parse
from explorer.server.scan import Corpus, find_motif
from extract.alphabet import residue_tokens
from extract.errors import UserError
from extract.fasta import Protein
from probes.data.concepts import Concept
from probes.data.features import StoreFeatures
from probes.data.rows import ProteinRows
from probes.inputs import groups
from probes.protocols.frozen import Parts, frozen
from probes.sources.own_labels import own_concepts
from probes.splits import PARTS, Split
from saejax.checkpoint import LoadedSAE
from saejax.latent_store import LatentStore
from saejax.latents import LatentColumns

MAX_LABELS = 20
N_LATENTS = 10
TABLE = "labels.tsv"


class _Reporting(StoreFeatures):
    """Latents that say how many have been read, a few at a time."""

    def __init__(self, store: LatentStore, report: Callable[[float, str], None]) -> None:
        super().__init__("latents", store)
        self._report = report

    @property
    def at_once(self) -> int:
        """An eighth: between two reads another request may run, or this one be given up."""
        return max(1, min(super().at_once, -(-self.n_features // 8)))

    def columns(self, first: int, last: int) -> LatentColumns:
        """See :class:`probes.data.features.Features`."""
        self._report(first / self.n_features, "latents against labels")
        return super().columns(first, last)


@dataclass(frozen=True)
class LabelData:
    """What labels are held against."""

    rows: ProteinRows
    """Proteins in the order of the latents' rows."""
    latents: LatentStore
    """Of all their residues."""
    split: Split
    """As the probes used it."""

    @classmethod
    def open(cls, run: LoadedSAE, probes: str | Path, bundle: str | Path) -> LabelData:
        """Read the probes' split and latents, and the bundle's sequences.

        Raises:
            UserError: latents of another run, or proteins that the bundle lacks.
        """
        folder = Path(probes)
        latents = LatentStore.open(folder / "latents")
        latents.require_run(run)
        ids, clusters, parts = _read_split(folder / "split.csv")
        rows = _rows_of(Bundle.open(bundle, verify=False), ids)
        if rows.n_rows != latents.n_rows:
            raise UserError(
                f"{folder}: its latents are of {latents.n_rows:,} residues, the bundle's proteins "
                f"have {rows.n_rows:,}; build the bundle from the same activations"
            )
        return cls(
            rows, latents, Split(ids, clusters, parts, random=len(set(clusters)) == len(ids))
        )

    def motif(self, pattern: str, name: str) -> list[Concept]:
        """The residues of a PROSITE pattern's matches, known in every protein.

        Raises:
            UserError: no pattern, or one that matches nowhere.
        """
        motif = parse(pattern)
        letters = np.frombuffer("".join(p.sequence for p in self.rows.proteins).encode(), np.uint8)
        found = find_motif(Corpus(letters, self.rows.offsets), motif)
        if not len(found.protein):
            raise UserError(f"{motif.pattern}: matches in none of the proteins; try another motif")
        first = self.rows.offsets[found.protein]
        spans = np.stack([first + found.start, first + found.stop], axis=1).astype(np.int64)
        spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
        known = np.ones(self.rows.n_proteins, bool)
        return [Concept(name, "own", spans, known)]

    def table(self, text: str) -> tuple[list[Concept], list[str]]:
        """The labels of a TSV, and what was left out of it in words.

        The reader takes files, so the text lies in a temporary one while it is read.

        Raises:
            UserError: as :mod:`probes.sources.own_labels`.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / TABLE
            path.write_text(text)
            try:
                concepts, (report, *_) = own_concepts(self.rows, [(path, "labels tsv")])
            except UserError as error:
                raise UserError(str(error).replace(str(path), TABLE)) from None
        notes = [
            f"{report.n_matched:,} of {report.n_records:,} lines are of proteins that are here"
        ]
        if report.n_not_in_store:
            notes.append(f"{report.n_not_in_store:,} lines name proteins that are not here: "
                         f"{', '.join(report.not_in_store_ids[:3])}")  # fmt: skip
        if report.n_sequence_mismatch:
            notes.append(f"{report.n_sequence_mismatch:,} lines are of another sequence")
        return concepts, notes


def score_labels(
    data: LabelData,
    concepts: Sequence[Concept],
    *,
    min_positives: int = 20,
    report: Callable[[float, str], None] = lambda done, doing: None,
) -> list[dict[str, Any]]:
    """The latents that tell each label; see the module's text.

    Args:
        data: of a bundle.
        concepts: at most :data:`MAX_LABELS`; those of whole proteins are left out.
        min_positives: positive and negative residues that each part needs.
        report: told of the progress.

    Raises:
        UserError: too many labels.
    """
    if len(concepts) > MAX_LABELS:
        raise UserError(
            f"{len(concepts)} labels are more than the {MAX_LABELS} that the page takes; "
            "`python -m probes --labels` takes any number"
        )
    counts = [data.split.counts(data.rows, c) for c in concepts]
    why = [_why_not(c, n, min_positives) for c, n in zip(concepts, counts, strict=True)]
    usable = [c for c, reason in zip(concepts, why, strict=True) if reason is None]
    scored: dict[str, dict[str, Any]] = {}
    features = _Reporting(data.latents, report)
    with threadpool_limits(1):
        for members in groups(usable):
            found = frozen(features, members, _parts(data, members))
            for row in found.best.to_dict(orient="records"):
                pairs = found.pairs
                mine = pairs[(pairs["concept"] == row["concept"]) & (pairs["coef"] > 0)]
                best = pd.DataFrame(mine).nlargest(N_LATENTS, "f1_validation")
                scored[row["concept"]] = {"best": row, "pairs": best.to_dict(orient="records")}
    return [
        {"label": c.name, "counts": n, "left_out": reason, **scored.get(c.name, {})}
        for c, n, reason in zip(concepts, counts, why, strict=True)
    ]


def _parts(data: LabelData, members: Sequence[Concept]) -> Parts:
    known = members[0].defined_rows(data.rows)
    train, validation, test = (known & data.split.rows_in(data.rows, p) for p in PARTS)
    _, number = np.unique(np.asarray(data.split.clusters), return_inverse=True)
    cluster = np.repeat(number.astype(np.int32), np.diff(data.rows.offsets))
    return Parts(train, validation, test, cluster)


def _why_not(concept: Concept, counts: dict[str, int], least: int) -> str | None:
    if concept.level == "protein":
        return "it labels whole proteins; `python -m probes --labels` scores those"
    if min(counts.values()) >= least:
        return None
    words = ", ".join(f"{counts[f'n_positive_{p}']:,} in and {counts[f'n_negative_{p}']:,} not in "
                      f"it in {p}" for p in PARTS)  # fmt: skip
    return f"residues are {words}; each part of the split needs {least} of both"


def _read_split(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    try:
        parts = np.array([PARTS.index(line["part"]) for line in lines], np.int8)
        return [line["id"] for line in lines], [line["cluster"] for line in lines], parts
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: is not the split of `python -m probes` ({error})") from None


def _rows_of(bundle: Bundle, ids: Sequence[str]) -> ProteinRows:
    where = {row["accession"]: (row["start"], row["length"])
             for row in bundle.rows("SELECT accession, start, length FROM proteins")}  # fmt: skip
    missing = [name for name in ids if name not in where]
    if missing:
        raise UserError(f"{bundle.folder}: lacks {missing[0]!r}, which the probes have")
    proteins = [Protein(name, bundle.sequence(*where[name])) for name in ids]
    letters = residue_tokens("".join(p.sequence for p in proteins)).astype(np.uint8)
    stores = bundle.manifest.get("provenance", {}).get("stores") or []
    chosen = [store.get("source", {}).get("selection", {}) for store in stores]
    crops = {s["max_residues"] for s in chosen if s.get("too_long") == "crop"}
    bundle.close()
    return ProteinRows(proteins, letters, frozenset(crops))
