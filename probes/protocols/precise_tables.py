"""Tables over all concepts: latents that are right when they fire, and how many cover it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from tqdm import tqdm

from probes.data.concepts import IDENTITY
from probes.data.part_columns import PartColumns
from probes.inputs import Inputs, groups
from probes.protocols.composition import concept_given_residue, mean_rate, neighbourhoods
from probes.protocols.coverage import MIN_PRECISION, Cover, cover, eligible
from probes.protocols.label_chunks import chunks_of, label_columns
from probes.protocols.precise import Part, PreciseLatents

RECALLS = (0.1, 0.25, 0.5, 0.8)
"""Shares of a concept's residues for which the number of latents is given."""


def precise_tables(inputs: Inputs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(precise latents per concept, coverage per concept), chosen on train and validation.

    Latents are read in blocks, all of them once for each chunk of ``--label-gb``.
    """
    config, rows = inputs.config, inputs.rows
    around = neighbourhoods(rows.residue_class, rows.protein_idx)
    precise: list[dict[str, Any]] = []
    coverage: list[dict[str, Any]] = []
    wanted = [c for c in inputs.concepts if c.kind not in IDENTITY]
    with tqdm(total=len(wanted), desc="precise latents", disable=None) as bar:
        for members in groups(wanted):
            of = inputs.parts(members)
            keeps = of.train | of.validation, of.test
            select, test = (
                Part(PartColumns(inputs.latents, keep), rows.residue_class[keep],
                     rows.protein_idx[keep], around[keep])
                for keep in keeps
            )  # fmt: skip
            for some in chunks_of(members, rows.n_rows, config.label_bytes):
                chunk, labels = members[some], label_columns(members[some], *keeps)
                ranking = PreciseLatents(
                    select, labels[0], min_fires=config.min_fires,
                    min_proteins=config.min_proteins, n=config.n_precise,
                )  # fmt: skip
                candidates = _see(ranking, select, labels[0])
                for i, (concept, ranked) in enumerate(
                    zip(chunk, ranking.scored(test, labels[1]), strict=True)
                ):
                    name = {"concept": concept.name, "kind": concept.kind}
                    precise += [name | row for row in ranked]
                    y, y_test = (np.ascontiguousarray(part[:, i]) for part in labels)
                    found = cover(select.columns, y, test.columns, y_test, candidates[:, i])
                    coverage.append(name | _coverage_row(found, int(candidates[:, i].sum())))
                    bar.update()
    return pd.DataFrame(precise), pd.DataFrame(coverage)


def _see(
    ranking: PreciseLatents, select: Part, labels: Bool[np.ndarray, "rows concepts"]
) -> Bool[np.ndarray, "latents concepts"]:
    """Show all latents to the ranking; which of them may cover each concept."""
    residue = select.residue_class.astype(np.int64)
    rates = np.stack([concept_given_residue(y, select.residue_class) for y in labels.T], axis=1)
    candidates = np.zeros((select.columns.n_latents, labels.shape[1]), dtype=bool)
    for first, block in select.columns.blocks():
        ranking.see(first, block)
        expected = mean_rate(block, residue, rates)
        for i, y in enumerate(labels.T):
            candidates[first : first + len(expected), i] = eligible(block, y, expected[:, i])
    return candidates


def _coverage_row(found: Cover, candidates: int) -> dict[str, Any]:
    taken = len(found.latents)
    return {
        "min_precision_select": MIN_PRECISION,
        "candidates": candidates,
        "taken": taken,
        "recall_test": float(found.recall_test[-1]) if taken else 0.0,
        "precision_test": float(found.precision_test[-1]) if taken else float("nan"),
        "latents": " ".join(map(str, found.latents)),
        **{f"needed_for_{recall}": found.needed(recall) for recall in RECALLS},
    }
