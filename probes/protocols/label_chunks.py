"""Labels of many concepts as columns, in chunks of bounded memory.

Concepts are kept as spans; the fits want a byte for each row and concept. For all of Swiss-Prot and
500 concepts that is 100 GB, so concepts are worked on some at a time. A chunk reads the features
anew: fewer chunks are faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool

from probes.data.concepts import Concept
from probes.fit.blocks import runs_of

LABEL_BYTES = 2_000_000_000
"""Labels held at a time, unless said otherwise."""


def chunks_of(
    concepts: Sequence[Concept],
    n_rows: int,
    max_bytes: int = LABEL_BYTES,
    *,
    bytes_per_positive: int = 0,
) -> Iterator[slice]:
    """Consecutive concepts whose labels fit in ``max_bytes``; one concept at least.

    Args:
        concepts: what there is.
        n_rows: rows of the labels, a byte each.
        max_bytes: of a chunk.
        bytes_per_positive: what else is held for each positive row.
    """
    costs = np.full(len(concepts), n_rows, dtype=np.int64)
    if bytes_per_positive:
        costs += bytes_per_positive * np.array([c.n_positive for c in concepts], dtype=np.int64)
    return runs_of(costs, max_bytes)


def label_columns(
    concepts: Sequence[Concept], *parts: Bool[np.ndarray, " rows"]
) -> list[Bool[np.ndarray, "part_rows concepts"]]:
    """The labels of the rows marked in each part, one column for each concept."""
    out = [np.empty((int(part.sum()), len(concepts)), dtype=bool) for part in parts]
    for i, concept in enumerate(concepts):
        yes = concept.labels(len(parts[0]))
        for columns, part in zip(out, parts, strict=True):
            columns[:, i] = yes[part]
    return out
