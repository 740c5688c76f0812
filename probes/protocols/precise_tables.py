"""Tables over all concepts: latents that are right when they fire, and how many cover it."""

from __future__ import annotations

from typing import Any

import pandas as pd
from tqdm import tqdm

from probes.data.concepts import IDENTITY
from probes.fit.scores import restrict
from probes.inputs import Inputs, groups
from probes.protocols.composition import expected_precision, neighbourhoods
from probes.protocols.coverage import MIN_PRECISION, cover, eligible
from probes.protocols.precise import Part, PreciseLatents

RECALLS = (0.1, 0.25, 0.5, 0.8)
"""Shares of a concept's residues for which the number of latents is given."""


def precise_tables(inputs: Inputs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(precise latents per concept, coverage per concept), chosen on train and validation."""
    config, rows = inputs.config, inputs.rows
    columns = inputs.latents.columns()
    around = neighbourhoods(rows.residue_class, rows.protein_idx)
    precise: list[dict[str, Any]] = []
    coverage: list[dict[str, Any]] = []
    wanted = [c for c in inputs.concepts if c.kind not in IDENTITY]
    with tqdm(total=len(wanted), desc="precise latents", disable=None) as bar:
        for members in groups(wanted):
            parts = inputs.parts(members)
            select, test = (
                Part(restrict(columns, keep), rows.residue_class[keep], rows.protein_idx[keep],
                     around[keep])
                for keep in (parts.train | parts.validation, parts.test)
            )  # fmt: skip
            ranking = PreciseLatents(
                select, test, min_fires=config.min_fires, min_proteins=config.min_proteins
            )
            for concept in members:
                yes = concept.labels(rows.n_rows)
                y, y_test = yes[parts.train | parts.validation], yes[parts.test]
                name = {"concept": concept.name, "kind": concept.kind}
                precise += [name | row for row in ranking.rank(y, y_test, config.n_precise)]
                expected = expected_precision(
                    select.columns, y[:, None], select.residue_class, select.protein_idx
                )[:, 0]
                candidates = eligible(select.columns, y, expected)
                found = cover(select.columns, y, test.columns, y_test, candidates)
                taken = len(found.latents)
                coverage.append(name | {
                    "min_precision_select": MIN_PRECISION,
                    "candidates": int(candidates.sum()),
                    "taken": taken,
                    "recall_test": float(found.recall_test[-1]) if taken else 0.0,
                    "precision_test": float(found.precision_test[-1]) if taken else float("nan"),
                    "latents": " ".join(map(str, found.latents)),
                    **{f"needed_for_{recall}": found.needed(recall) for recall in RECALLS},
                })  # fmt: skip
                bar.update()
    return pd.DataFrame(precise), pd.DataFrame(coverage)
