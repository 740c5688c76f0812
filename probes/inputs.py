"""What a probing run works on: the SAE, its latents, proteins, concepts and their split."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from extract.errors import UserError
from extract.store import ActivationStore
from probes.annotations import Annotations
from probes.config import ProbeConfig
from probes.data.concepts import Concept
from probes.data.rows import ProteinRows
from probes.kinds.structures import Structures, read_structures
from probes.protocols.frozen import Parts
from probes.sources.mmseqs import mmseqs_clusters
from probes.splits import PARTS, Split, read_clusters, split_proteins
from saejax.checkpoint import LoadedSAE, load_sae
from saejax.evaluate import row_blocks
from saejax.gate import check_stores
from saejax.latent_store import LatentStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Skipped:
    """A concept that a part of the split has too little of, and its counts."""

    concept: Concept
    """Which."""
    counts: dict[str, int]
    """``n_positive_<part>``, ``n_negative_<part>``."""


@dataclass(frozen=True)
class Inputs:
    """Everything that the protocols read."""

    config: ProbeConfig
    """As asked for."""
    loaded: LoadedSAE
    """The run."""
    stores: Sequence[ActivationStore]
    """Activations, laid end to end."""
    rows: ProteinRows
    """Their residues."""
    latents: LatentStore
    """The SAE's latents on them."""
    annotations: Annotations
    """All that is known."""
    split: Split
    """Which proteins fit, choose and score."""
    concepts: Sequence[Concept]
    """Concepts of residues with enough positives and negatives in every part."""
    protein_concepts: Sequence[Concept]
    """The same of proteins."""
    skipped: Sequence[Skipped]
    """The others."""
    structures: Structures | None = None
    """Coordinates of some of the proteins."""

    @classmethod
    def of(cls, config: ProbeConfig) -> Inputs:
        """Read and check everything, and encode the stores if that was not done before.

        Raises:
            UserError: stores, run, annotations or clusters do not fit, or no concept has enough
                positives.
        """
        loaded = load_sae(config.run)
        stores = [ActivationStore.open(path) for path in config.activations]
        for store in stores:
            loaded.require_store(store)
        if config.check:
            check_stores(loaded, stores)
        rows = ProteinRows.from_stores(stores)
        split = split_of(config, rows)
        annotations = Annotations.load(
            rows, dssp=config.dssp, swissprot=config.swissprot, uniprot=config.uniprot,
            labels=config.labels, go_obo=config.go_obo,
        )  # fmt: skip
        structures = None
        if config.structures is not None:
            structures = read_structures(config.structures, rows)
        kept, skipped = enough(annotations.concepts, rows, split, config)
        latents = LatentStore.build(loaded, stores, config.folder / "latents")
        return cls(
            config, loaded, stores, rows, latents, annotations, split,
            [c for c in kept if c.level == "residue"], [c for c in kept if c.level == "protein"],
            skipped, structures,
        )  # fmt: skip

    @cached_property
    def cluster(self) -> Int[np.ndarray, " rows"]:
        """Homology cluster of every row, 0 … n−1."""
        _, number = np.unique(np.asarray(self.split.clusters), return_inverse=True)
        return np.repeat(number.astype(np.int32), np.diff(self.rows.offsets))

    def parts(self, members: Sequence[Concept]) -> Parts:
        """Rows of the parts on which concepts with the same definition are known."""
        known = members[0].defined_rows(self.rows)
        train, validation, test = (known & self.split.rows_in(self.rows, p) for p in PARTS)
        return Parts(train, validation, test, self.cluster)

    def activations(self) -> Float[np.ndarray, "rows d_model"]:
        """The parent's activations of every row, float32, in memory."""
        return np.concatenate([block for store in self.stores for block in row_blocks(store)])


def groups(concepts: Sequence[Concept]) -> Iterator[list[Concept]]:
    """Concepts that are defined on the same proteins, in the order of their first."""
    by_mask: dict[bytes, list[Concept]] = {}
    for concept in concepts:
        by_mask.setdefault(np.packbits(concept.defined).tobytes(), []).append(concept)
    yield from by_mask.values()


def split_of(config: ProbeConfig, rows: ProteinRows) -> Split:
    """The split that the flags ask for."""
    method = "homology cluster"
    if config.clusters == "mmseqs":
        clusters, how = mmseqs_clusters(rows.proteins)
        method += f" ({how})"
    else:
        clusters = None if config.clusters is None else read_clusters(Path(config.clusters))
    return split_proteins(
        [p.id for p in rows.proteins],
        clusters,
        seed=config.seed,
        test_fraction=config.test_fraction,
        validation_fraction=config.validation_fraction,
        method=method,
    )


NAMED_LABELS = 20
"""Own labels that are left out and named; the summary has all."""


def why_left_out(skipped: Skipped, config: ProbeConfig) -> str:
    """One line on an own label: its counts in each part, and what would keep it."""
    concept, counts = skipped.concept, skipped.counts
    unit, flag, least = ("residues", "--min-positives", config.min_positives)
    if concept.level == "protein":
        unit, flag = "proteins", "--min-positive-proteins"
        least = config.min_positive_proteins
    numbers = ", ".join(
        f"{counts[f'n_positive_{part}']} and {counts[f'n_negative_{part}']} in {part}"
        for part in PARTS
    )
    remedy = f"lower {flag}, or give more proteins"
    if not any(counts[f"n_negative_{part}"] for part in PARTS):
        remedy = "name proteins without it, too (in a TSV, a line with the id alone)"
    elif min(counts.values()) == 0:
        remedy = "give more proteins with and without it: some part of the split has none"
    return (
        f"your label {concept.name!r} is left out: {unit} with and without it are {numbers}, and "
        f"every part needs {least} of each ({flag}); {remedy}"
    )


def enough(
    concepts: Sequence[Concept], rows: ProteinRows, split: Split, config: ProbeConfig
) -> tuple[list[Concept], list[Skipped]]:
    """Concepts with the least number of positives and negatives in each part, and the others.

    Raises:
        UserError: there is none.
    """
    minimum = {"residue": config.min_positives, "protein": config.min_positive_proteins}
    kept, skipped = [], []
    for concept in concepts:
        counts = split.counts(rows, concept)
        if min(counts.values()) >= minimum[concept.level]:
            kept.append(concept)
        else:
            skipped.append(Skipped(concept, counts))
    for one in [s for s in skipped if s.concept.kind == "own"][:NAMED_LABELS]:
        log.warning("%s", why_left_out(one, config))
    if skipped:
        log.warning("%d of %d concepts have fewer than %d positive or negative residues (%d "
                    "proteins) in a part of the split: left out, see summary.json", len(skipped),
                    len(concepts), minimum["residue"], minimum["protein"])  # fmt: skip
    if not any(c.level == "residue" for c in kept):
        raise UserError(
            f"no concept has {config.min_positives} positive and negative residues in each part "
            "of the split; give more proteins or lower --min-positives"
        )
    return kept, skipped
