"""The protocol: choose on the select part, freeze, score once on the test part.

Differs from InterPLM (thresholds picked on test) and InterProt (random split): see DESIGN.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from extract.errors import UserError
from extract.files import versions
from extract.store import ActivationStore
from probes.annotations import Annotations
from probes.concepts import IDENTITY, Concept
from probes.config import ProbeConfig
from probes.mmseqs import mmseqs_clusters
from probes.multi import auroc_of_latents, auroc_of_probe, choose_latents
from probes.neurons import best_neurons
from probes.precise import Part, PreciseLatents
from probes.rows import ProteinRows
from probes.scores import restrict
from probes.single import probe_latents, probe_neuron
from probes.splits import Split, read_clusters, split_proteins
from saejax.checkpoint import LoadedSAE, load_sae
from saejax.evaluate import row_blocks
from saejax.latents import LatentColumns, StoreLatents, encode_store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeResults:
    """Everything ``python -m probes`` writes; the columns are documented in the README."""

    probes: pd.DataFrame
    """One row per concept: best latent, best neuron, calling everything positive."""
    latent_concepts: pd.DataFrame
    """Every latent and concept: fit, threshold, F1 on both parts."""
    precise_latents: pd.DataFrame
    """Per concept the latents whose precision most exceeds what composition predicts."""
    sparse_probes: pd.DataFrame
    """Test AUROC of k latents together, and of all raw dimensions."""
    split: pd.DataFrame
    """id, cluster, part."""
    summary: dict[str, Any]
    """Provenance and counts."""


@dataclass(frozen=True)
class _Group:
    """Concepts defined on the same rows, and those rows in either part."""

    concepts: Sequence[Concept]
    rows_select: np.ndarray
    rows_test: np.ndarray
    select: Part
    test: Part


@dataclass
class _Tables:
    """Rows collected so far."""

    probes: list[dict] = field(default_factory=list)
    latent_concepts: list[pd.DataFrame] = field(default_factory=list)
    precise: list[dict] = field(default_factory=list)
    sparse: list[dict] = field(default_factory=list)


def probe_run(config: ProbeConfig) -> ProbeResults:
    """Run every probe of ``config`` without writing anything.

    Raises:
        UserError: stores, run, annotations or clusters do not fit, or no concept has enough
            positives.
    """
    loaded = load_sae(config.run)
    stores = [ActivationStore.open(path) for path in config.activations]
    for store in stores:
        loaded.require_store(store)
    rows = ProteinRows.from_stores(stores)
    split = _split(config, rows)
    annotations = Annotations.load(
        rows,
        dssp=config.dssp,
        swissprot=config.swissprot,
        uniprot=config.uniprot,
        labels=config.labels,
    )
    is_test = split.test_rows(rows)
    of_residues = [c for c in annotations.concepts if c.level == "residue"]
    kept, skipped = _enough_positives(of_residues, rows, split, config.min_positives)
    columns = _encode(loaded, stores)
    x = np.concatenate([block for store in stores for block in row_blocks(store)])
    tables = _Tables()
    with (
        tqdm(total=len(kept), desc="concepts", unit="concept", disable=None) as bar,
        threadpool_limits(1),  # the products are small: BLAS threads would only wait on each other
    ):
        for group in _groups(kept, rows, columns, is_test):
            _probe_group(config, group, x, tables, bar)
    order = {c.name: i for i, c in enumerate(kept)}
    return ProbeResults(
        _frame(tables.probes, order),
        pd.concat(tables.latent_concepts, ignore_index=True),
        _frame(tables.precise, order),
        _frame(tables.sparse, order),
        split.table(),
        _summary(config, loaded, stores, annotations, split, skipped),
    )


def _split(config: ProbeConfig, rows: ProteinRows) -> Split:
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


def _frame(table: list[dict], order: dict[str, int]) -> pd.DataFrame:
    frame = pd.DataFrame(table)
    if frame.empty:
        return frame
    rank = [order[name] for name in frame["concept"]]
    return frame.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)


def _enough_positives(
    concepts: Sequence[Concept], rows: ProteinRows, split: Split, minimum: int
) -> tuple[list[Concept], list[dict]]:
    """Concepts with ``minimum`` positives and negatives in each part; counts of the others."""
    kept, skipped = [], []
    for concept in concepts:
        found = split.counts(rows, concept)
        counts = {}
        for part, members in (("select", ("train", "validation")), ("test", ("test",))):
            for answer in ("positive", "negative"):
                counts[f"n_{answer}_{part}"] = sum(found[f"n_{answer}_{m}"] for m in members)
        if min(counts.values()) >= minimum:
            kept.append(concept)
        else:
            skipped.append({"concept": concept.name, "kind": concept.kind} | counts)
    if not kept:
        raise UserError(
            f"no concept has {minimum} positive and negative residues in each part of the split; "
            "give more proteins or lower --min-positives"
        )
    return kept, skipped


def _encode(loaded: LoadedSAE, stores: Sequence[ActivationStore]) -> LatentColumns:
    parts = [encode_store(loaded.sae, store) for store in stores]
    return StoreLatents(
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.indices for p in parts]),
        loaded.config.d_sae,
    ).by_latent()


def _groups(
    concepts: Sequence[Concept], rows: ProteinRows, columns: LatentColumns, is_test: np.ndarray
) -> Iterator[_Group]:
    by_mask: dict[bytes, list[Concept]] = {}
    for concept in concepts:
        by_mask.setdefault(np.packbits(concept.defined).tobytes(), []).append(concept)
    for members in by_mask.values():
        defined = members[0].defined_rows(rows)
        keep = defined & ~is_test, defined & is_test
        parts = [
            Part(restrict(columns, k), rows.residue_class[k], rows.protein_idx[k]) for k in keep
        ]
        yield _Group(members, *keep, *parts)


def _probe_group(
    config: ProbeConfig, group: _Group, x: np.ndarray, tables: _Tables, bar: tqdm
) -> None:
    x_select, x_test = x[group.rows_select], x[group.rows_test]
    n_rows = len(x)
    labels = np.stack([c.labels(n_rows)[group.rows_select] for c in group.concepts], axis=1)
    neurons = best_neurons(x_select, labels)
    precise = None
    if any(c.kind not in IDENTITY for c in group.concepts):
        precise = PreciseLatents(
            group.select, group.test,
            min_fires=config.min_fires, min_proteins=config.min_proteins,
        )  # fmt: skip
    for concept, neuron in zip(group.concepts, neurons, strict=True):
        name = {"concept": concept.name, "kind": concept.kind}
        yes = concept.labels(n_rows)
        y, y_test = yes[group.rows_select], yes[group.rows_test]
        row, table = probe_latents(group.select.columns, y, group.test.columns, y_test)
        row |= probe_neuron(neuron, x_select, y, x_test, y_test)
        tables.probes.append(name | row)
        tables.latent_concepts.append(pd.DataFrame(name, index=table.index).join(table))
        if precise is not None and concept.kind not in IDENTITY:
            ranked = precise.rank(y, y_test, config.n_precise)
            tables.precise += [name | row for row in ranked]
            if min(y.sum(), y_test.sum()) > config.sparse_min_positives:
                latents = choose_latents(group.select.columns, y, config.sparse_k)
                tables.sparse.append(name | {
                    "k": len(latents),
                    "latents": " ".join(map(str, latents)),
                    "latents_auroc": auroc_of_latents(
                        group.select.columns, y, group.test.columns, y_test, latents
                    ),
                    "dense_auroc": auroc_of_probe(x_select, y, x_test, y_test),
                    "n_positive_select": int(y.sum()),
                    "n_positive_test": int(y_test.sum()),
                    "base_rate_test": float(y_test.mean()),
                })  # fmt: skip
        bar.update()


def _summary(
    config: ProbeConfig,
    loaded: LoadedSAE,
    stores: Sequence[ActivationStore],
    annotations: Annotations,
    split: Split,
    skipped: list[dict],
) -> dict[str, Any]:
    plain = {f.name: _plain(getattr(config, f.name)) for f in fields(config)}
    trained_on = loaded.store_manifest["source"]["sha256"]
    same = [s.folder.name for s in stores if s.manifest["source"]["sha256"] == trained_on]
    for name in same:
        log.warning("%s: holds the very proteins that the SAE was trained on", name)
    return {
        "run": loaded.folder.resolve().name,
        "sae": asdict(loaded.config),
        "config": plain,
        "stores": [
            {"folder": s.folder.name}
            | {key: s.manifest[key] for key in ("parent", "site", "source", "n_rows", "n_proteins")}
            for s in stores
        ],
        "stores_the_sae_was_trained_on": same,
        "split": {
            "random": split.random,
            "by": split.method,
            "n_clusters": len(set(split.clusters)),
            "n_proteins_select": int((~split.is_test).sum()),
            "n_proteins_test": int(split.is_test.sum()),
            "single_class": _single_class(split, annotations),
        },
        "annotations": annotations.summary(),
        "skipped_concepts": skipped,
        "versions": versions("numpy", "pandas", "scikit-learn", "biopython", "jax"),
    }


def _single_class(split: Split, annotations: Annotations) -> dict[str, dict[str, int]]:
    """How many concepts have no positives, or no negatives, in a part; also as log lines."""
    found = split.single_class(annotations.rows, annotations.concepts)
    for part, lacking in found.items():
        if lacking:
            log.warning("%d of %d concepts cannot be scored in the %s part, where they have no "
                        "positives or no negatives (%s, …)", len(lacking),
                        len(annotations.concepts), part, next(iter(lacking)))  # fmt: skip
    return {part: dict(Counter(lacking.values())) for part, lacking in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value.name if isinstance(value, Path) else value
