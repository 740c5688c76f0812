"""How much do a few latents say together? k-sparse probes (Gurnee et al. 2023) and the ceiling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score
from tqdm import tqdm

from probes.data.concepts import IDENTITY
from probes.data.part_columns import PartColumns, dense_column
from probes.fit.scores import auroc
from probes.inputs import Inputs, groups
from probes.protocols.multi import choose_latents, probe_scores


def sparse_probes(inputs: Inputs) -> pd.DataFrame:
    """For concepts with enough residues: k latents chosen on train and validation, for each k.

    Columns: ``concept``, ``kind``, ``k``, ``latents`` (in the order chosen), ``latents_auroc``,
    ``latents_average_precision``; the same of all raw dimensions (``dense_…``, NaN when there are
    too many residues to hold them), counts and base rate. Everything is of the test part.
    """
    config, n_rows = inputs.config, inputs.rows.n_rows
    minimum = config.sparse_min_positives
    x = inputs.activations() if n_rows <= config.dense_rows else None
    found = []
    wanted = [c for c in inputs.concepts if c.kind not in IDENTITY]
    with tqdm(total=len(wanted), desc="k-sparse probes", disable=None) as bar:
        for members in groups(wanted):
            parts = inputs.parts(members)
            chooses = parts.train | parts.validation
            select, test = (PartColumns(inputs.latents, of) for of in (chooses, parts.test))
            for concept in members:
                bar.update()
                yes = concept.labels(n_rows)
                y, y_test = yes[chooses], yes[parts.test]
                if min(y.sum(), y_test.sum()) < minimum:
                    continue
                latents = choose_latents(select, y, max(config.sparse_k))
                dense = {"dense_auroc": np.nan, "dense_average_precision": np.nan}
                if x is not None:
                    dense = _scores("dense", y_test, x[chooses], y, x[parts.test])
                for k in config.sparse_k:
                    some = latents[:k]
                    of_select, of_test = (
                        np.column_stack([dense_column(part, j) for j in some])
                        for part in (select, test)
                    )
                    found.append({
                        "concept": concept.name, "kind": concept.kind, "k": k,
                        "latents": " ".join(map(str, some)),
                        **_scores("latents", y_test, of_select, y, of_test), **dense,
                        "n_positive_select": int(y.sum()), "n_positive_test": int(y_test.sum()),
                        "base_rate_test": float(y_test.mean()),
                    })  # fmt: skip
    return pd.DataFrame(found)


def _scores(
    name: str, y_test: np.ndarray, x: np.ndarray, y: np.ndarray, x_test: np.ndarray
) -> dict[str, Any]:
    score = probe_scores(x, y, x_test)
    return {
        f"{name}_auroc": auroc(y_test, score),
        f"{name}_average_precision": float(average_precision_score(y_test, score)),
    }
