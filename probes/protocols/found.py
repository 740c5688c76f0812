"""Which concepts are *found* by our protocol: a bar for the effect and a test that is corrected.

Feature, sign and threshold of a concept are chosen on train and validation and then frozen, so on
test there is one hypothesis for each concept, for latents as for every baseline, however many
features they chose among. The false discovery rate (Benjamini & Hochberg 1995) is taken over the
concepts of a *family*: amino acids and their classes; a person's own labels; all other annotations;
each again for concepts of residues and of proteins. Apart, since a family of easy concepts would
carry the hard ones: among 29 letters that are certain, q is little more than p.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from probes.data.concepts import IDENTITY
from probes.fit.significance import false_discovery_rate

FOUND_ABOVE = 0.5
"""F1 on validation and on test of a concept that counts as found, as InterPLM has it."""
MAX_Q = 0.05
"""False discovery rate below which ours counts it."""

Family = Literal["letters", "own", "annotations"]
FAMILIES: tuple[Family, ...] = ("own", "annotations", "letters")


def family_of(kind: str) -> Family:
    """Amino acids and their classes, own labels, or all else."""
    if kind in IDENTITY:
        return "letters"
    return "own" if kind == "own" else "annotations"


def corrected(best: pd.DataFrame) -> pd.DataFrame:
    """Add ``q``, ``q_least`` and ``found`` to the rows of one set of features.

    ``q_least`` is what q would be if every concept of the family had the least p-value that its
    test clusters allow (``p_least``). q is never less: where it is not below ``MAX_Q``, no feature
    whatever could be found.
    """
    family = np.array([family_of(kind) for kind in best["kind"]])
    added: dict[str, np.ndarray] = {}
    for name in ("", "_least"):
        added["q" + name] = np.ones(len(best))
        for members in (family == f for f in FAMILIES):
            p = best["p" + name].to_numpy(dtype=float)[members]
            added["q" + name][members] = false_discovery_rate(p)
    high = best[["f1_validation", "f1_test"]].min(axis=1).to_numpy() > FOUND_ABOVE
    return best.assign(**added, found=high & (added["q"] < MAX_Q))


def count_found(protocol: str, name: str, best: pd.DataFrame) -> dict[str, Any]:
    """A row of ``found.csv`` from :func:`corrected` rows, each family counted apart."""
    found = np.asarray(best["found"], dtype=bool)
    family = np.array([family_of(kind) for kind in best["kind"]])
    row = {
        "protocol": protocol, "features": name, "concepts_tested": len(best),
        "concepts_found": int(found.sum()),
        "concepts_found_beyond_letters": int(found[family != "letters"].sum()),
        "features_found": len(np.unique(best["feature"].to_numpy()[found])),
        "out_of_reach": int((np.asarray(best["q_least"]) >= MAX_Q).sum()),
    }  # fmt: skip
    for f in FAMILIES:
        row |= {
            f"{f}_tested": int((family == f).sum()),
            f"{f}_found": int(found[family == f].sum()),
        }
    return row
