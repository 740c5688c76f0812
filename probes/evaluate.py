"""``probe_run``: every protocol on the latents and on each baseline, and the tables they fill.

Each protocol is a function of its own with its paper: ours in ``probes/protocols/frozen.py``,
InterPLM's in ``probes/protocols/interplm.py``, InterProt's in ``probes/protocols/interprot.py``,
family-specific latents in ``probes/protocols/families.py``, k-sparse and dense probes in
``probes/protocols/multi.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from probes.config import ProbeConfig
from probes.data.concepts import IDENTITY, Concept
from probes.data.features import Features
from probes.data.frames import records
from probes.inputs import Inputs, groups
from probes.protocols.baselines import shuffled_labels
from probes.protocols.families import family_specific
from probes.protocols.feature_sets import LATENTS, feature_sets
from probes.protocols.found import FOUND_ABOVE, corrected, count_found
from probes.protocols.frozen import frozen
from probes.protocols.interplm import interplm
from probes.protocols.interprot import interprot
from probes.protocols.pooled import pooled_concept, pooled_features, pooling_of, protein_parts
from probes.protocols.precise_tables import precise_tables
from probes.protocols.sparse_probes import sparse_probes
from probes.report.latent_table import latent_tables
from probes.report.summary import provenance

FAMILY = ("Pfam", "InterPro", "family")
"""Beginnings of the names of protein concepts that are families."""


@dataclass
class ProbeResults:
    """Everything ``python -m probes`` writes; docs/probes.md documents the columns."""

    best: pd.DataFrame
    """Our protocol: one row per concept and set of features."""
    associations: pd.DataFrame
    """Our protocol: every latent × concept that occur together in training."""
    found: pd.DataFrame
    """Concepts found, by protocol and set of features."""
    interplm: pd.DataFrame
    """Pairs found by InterPLM's protocol, frozen or picked again, by set of features."""
    interprot: pd.DataFrame
    """Best F1 of each concept by InterProt's protocol, by set of features."""
    families: pd.DataFrame
    """Family-specific features, by set of features."""
    sparse_probes: pd.DataFrame
    """Test AUROC and average precision of k latents together, and of all raw dimensions."""
    precise_latents: pd.DataFrame
    """Per concept the latents whose precision most exceeds what residues alone predict."""
    coverage: pd.DataFrame
    """How many precise latents cover each concept."""
    calibration: pd.DataFrame
    """Predicted and observed share of positives of each concept's latent, on test."""
    latents: pd.DataFrame
    """One row per latent: its kind, its best annotation with intervals."""
    logos: pd.DataFrame
    """Latents × positions: which residues lie around where a latent fires."""
    split: pd.DataFrame
    """id, cluster, part."""
    summary: dict[str, Any]
    """Provenance and counts."""
    folder: Path
    """Where the latent store is, and the tables go."""


@dataclass
class _Collected:
    """Rows so far."""

    best: list[pd.DataFrame] = field(default_factory=list)
    associations: list[pd.DataFrame] = field(default_factory=list)
    found: list[dict] = field(default_factory=list)
    interplm: list[pd.DataFrame] = field(default_factory=list)
    interprot: list[dict] = field(default_factory=list)
    families: list[pd.DataFrame] = field(default_factory=list)
    calibration: list[pd.DataFrame] = field(default_factory=list)


def probe_run(config: ProbeConfig) -> ProbeResults:
    """Run every protocol of ``config``; writes nothing but the latent store in its folder.

    Raises:
        UserError: stores, run, annotations or clusters do not fit, or no concept has enough
            positives.
    """
    inputs = Inputs.of(config)
    tables = _Collected()
    with threadpool_limits(1):  # the products are small: BLAS threads would only wait on each other
        for features in feature_sets(inputs):
            _compare(inputs, features, tables)
        precise, coverage = precise_tables(inputs)
        sparse = sparse_probes(inputs) if "k-sparse" in config.protocols else pd.DataFrame()
        associations = _joined(tables.associations)
        latents, logos = latent_tables(inputs, associations)
    return ProbeResults(
        best=_joined(tables.best),
        associations=associations,
        found=pd.DataFrame(tables.found),
        interplm=_joined(tables.interplm),
        interprot=pd.DataFrame(tables.interprot),
        families=_joined(tables.families),
        sparse_probes=sparse,
        precise_latents=precise,
        coverage=coverage,
        calibration=_joined(tables.calibration),
        latents=latents,
        logos=logos,
        split=inputs.split.table(),
        summary=provenance(inputs),
        folder=config.folder,
    )


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _compare(inputs: Inputs, features: Features, tables: _Collected) -> None:
    """All protocols on one set of features."""
    config = inputs.config
    dense = features.name in ("neurons", "principal components")
    _frozen(inputs, features, inputs.concepts, tables, dense)
    if features.name == LATENTS and "shuffled labels" in config.baselines:
        moved = [
            shuffled_labels(c, inputs.rows, seed=config.seed + i)
            for i, c in enumerate(inputs.concepts)
            if c.kind not in IDENTITY
        ]
        _frozen(inputs, features, moved, tables, dense, name="shuffled labels")
    _frozen_of_proteins(inputs, features, tables, dense)
    if "interplm" in config.protocols:
        _interplm(inputs, features, tables)
    if "interprot" in config.protocols:
        _interprot(inputs, features, tables)
    families = [c for c in inputs.annotations.concepts
                if c.level == "protein" and c.name.startswith(FAMILY)]  # fmt: skip
    if "families" in config.protocols and families:
        table = family_specific(features, families, inputs.rows, inputs.split.is_test)
        specific = [row for row in records(table) if row["specific"]]
        tables.families.append(_named(table, features=features.name))
        tables.found.append({
            "protocol": "families", "features": features.name, "concepts_tested": len(families),
            "concepts_found": len({row["family"] for row in specific}),
            "features_found": len(specific),
        })  # fmt: skip


def _frozen(
    inputs: Inputs,
    features: Features,
    concepts: Sequence[Concept],
    tables: _Collected,
    dense: bool,
    name: str | None = None,
) -> None:
    """Our protocol; pairs are kept of the true labels of latents alone."""
    name = name or features.name
    if not concepts:
        return
    best = []
    for members in _bar(list(groups(concepts)), f"frozen: {name}"):
        done = frozen(
            features, members, inputs.parts(members), either_sign=dense,
            n_draws=inputs.config.bootstrap, seed=inputs.config.seed,
            max_label_bytes=inputs.config.label_bytes,
        )  # fmt: skip
        best.append(done.best)
        if name == LATENTS:
            tables.associations.append(done.pairs)
            tables.calibration.append(done.calibration)
    table = corrected(_joined(best))
    tables.best.append(_named(table.assign(pooling=""), features=name))
    tables.found.append(count_found("frozen", name, table))


def _frozen_of_proteins(
    inputs: Inputs, features: Features, tables: _Collected, dense: bool
) -> None:
    """Our protocol on concepts of proteins: a protein's value is that of its residues pooled."""
    if not inputs.protein_concepts:
        return
    how = pooling_of(features, inputs.config.pooling)
    pooled = pooled_features(features, inputs.rows, how)
    best = []
    for members in _bar(list(groups(inputs.protein_concepts)), f"proteins: {features.name}"):
        done = frozen(
            pooled, [pooled_concept(c, inputs.rows) for c in members],
            protein_parts(members[0], inputs.split), either_sign=dense,
            n_draws=inputs.config.bootstrap, seed=inputs.config.seed,
            max_label_bytes=inputs.config.label_bytes,
        )  # fmt: skip
        best.append(done.best)
        if features.name == LATENTS:
            tables.associations.append(done.pairs)
    table = corrected(_joined(best))
    tables.best.append(_named(table.assign(pooling=how), features=features.name))
    tables.found.append(count_found("frozen, proteins", features.name, table))


def _interplm(inputs: Inputs, features: Features, tables: _Collected) -> None:
    total: dict[str, int] = defaultdict(int)
    for members in groups([c for c in inputs.concepts if c.kind not in IDENTITY]):
        parts = inputs.parts(members)
        done = interplm(
            features, members, parts.validation, parts.test,
            max_label_bytes=inputs.config.label_bytes,
        )  # fmt: skip
        for key, n in done.summary().items():
            total[key] += n
        kept = pd.concat([done.found(), done.found("f1_test_repicked")])
        kept = kept[~kept.index.duplicated()].sort_index()
        kept = kept.assign(concept=[members[i].name for i in kept["concept"]])
        tables.interplm.append(_named(kept, features=features.name))
    for suffix, words in (("", "InterPLM, frozen"), ("_repicked", "InterPLM, as run")):
        tables.found.append({
            "protocol": words, "features": features.name,
            "concepts_tested": total["concepts_tested"],
            "concepts_found": total[f"concepts_found{suffix}"],
            "features_found": total[f"features_found{suffix}"],
        })  # fmt: skip


def _interprot(inputs: Inputs, features: Features, tables: _Collected) -> None:
    found = {"best_on_test": 0, "chosen_on_training": 0}
    tested = 0
    wanted = [c for c in inputs.concepts if c.kind not in IDENTITY]
    for concept in _bar(wanted, f"InterProt's: {features.name}"):
        row = interprot(features, concept, inputs.rows, inputs.split.clusters, inputs.split.is_test)
        if row is None:
            continue
        tested += 1
        for how in found:
            found[how] += row[f"f1_{how}"] > FOUND_ABOVE
        tables.interprot.append({"features": features.name, "concept": concept.name} | row)
    for how, words in (("chosen_on_training", "InterProt, frozen"),
                       ("best_on_test", "InterProt, as run")):  # fmt: skip
        tables.found.append({
            "protocol": words, "features": features.name, "concepts_tested": tested,
            "concepts_found": int(found[how]),
        })  # fmt: skip


def _named(table: pd.DataFrame, **columns: str) -> pd.DataFrame:
    """The table with constant columns in front."""
    for at, (name, value) in enumerate(columns.items()):
        table.insert(at, name, value)
    return table


def _bar(items: Sequence[Any], words: str) -> Any:
    return tqdm(items, desc=words, disable=None)
