"""``python -m saejax.evaluate``: every figure of an SAE over a store, as a table and JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from extract.alphabet import RESIDUE_TYPES, residue_types
from extract.command_line import Optional, Several, parse
from extract.errors import UserError
from extract.files import (
    plain_settings,
    require_place_for,
    versions,
    without_nan,
    write_json_atomically,
)
from extract.store import ActivationStore, require_same_parent
from saejax.checkpoint import LoadedSAE, load_sae
from saejax.data import RowStore
from saejax.evaluate import DUPLICATE_COSINE, Evaluation, decoder_cosines, evaluate, row_blocks
from saejax.model import DENSE_ABOVE
from saejax.paired import PairedStore
from saejax.sanity import gamma_of
from saejax.step import FREQUENCY_BINS
from saejax.sweep import SAME_LATENT, seed_stability

log = logging.getLogger(__name__)

KIND, FORMAT_VERSION = "evaluation", 1
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Of L0 over residues."""
N_WORST = 5
"""Dimensions that the table names."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure how well an SAE reconstructs a store: FVU by residue and dimension, L0, latents.

    What the parent's predictions lose is measured by `python -m steering.fidelity`.
    """

    run: Path
    """Folder of a finished `python -m saejax.train`."""
    activations: Path
    """Store of the run's site, of proteins that it was not trained on."""
    target_activations: Optional[Path] = None
    """Store of what a transcoder predicts, of the same proteins; only for a transcoder."""
    against: Several[Path] = ()
    """Other runs at the same site, such as other seeds: how many latents they share."""
    out: Optional[Path] = None
    """JSON file to write; by default evaluation.json in the run's folder."""


def evaluate_store(config: EvaluateConfig) -> dict[str, Any]:
    """Everything that ``evaluation.json`` says.

    Raises:
        UserError: no run or store there, or they don't fit each other.
    """
    loaded = load_sae(config.run)
    store = ActivationStore.open(config.activations)
    loaded.require_store(store)
    others = [_comparable(loaded, folder) for folder in config.against]
    source = _source(config, loaded, store)
    trained_on = _same_source(loaded.store_manifest, store.manifest)
    if trained_on:
        log.warning("%s: the very proteins of the run's training store; these figures are not "
                    "of unseen proteins", store.folder)  # fmt: skip
    types = residue_types(store.side_array("token_id"))
    result = evaluate(loaded.sae, row_blocks(source), types)
    gamma, warnings = gamma_of(str(store.folder), store.manifest, store.d_model)
    for warning in warnings:
        log.warning("warning: %s", warning)
    facts = ("n_proteins", "n_rows", "dtype", "source")
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "run": str(loaded.folder),
        "sae": loaded.run["sae"],
        "parent": loaded.store_manifest["parent"],
        "site": loaded.site,
        "activations": {"folder": str(store.folder)} | {k: store.manifest[k] for k in facts},
        "trained_on": trained_on,
        "config": plain_settings(config),
        "figures": figures(loaded, result) | gamma,
        "by_residue": by_residue(result),
        "dimensions": by_dimension(result),
        "frequency": frequency_histogram(result),
        "l0": l0_distribution(result),
        "stability": [stability(loaded, other) for other in others],
        "versions": versions("jax", "flax", "numpy"),
    }


def figures(loaded: LoadedSAE, result: Evaluation) -> dict[str, float | int]:
    """The scalars; decoder cosines are those of all latents."""
    cosines = decoder_cosines(loaded.sae, sample=None)
    return result.summary() | {
        "fvu_of_amino_acid_means": float(
            result.types_within.sum() / max(result.types.deviation.sum(), 1e-30)
        ),
        "n_dead": int((result.frequency == 0).sum()),
        "n_dense": int((result.frequency > DENSE_ABOVE).sum()),
        "n_duplicate": int((cosines >= DUPLICATE_COSINE).sum()),
        "decoder_cosine_max": float(cosines.max()),
        "decoder_cosine_mean_max": float(cosines.mean()),
    }


def by_residue(result: Evaluation) -> list[dict[str, Any]]:
    """FVU of every residue type that occurs, from the mean of all and from the type's own."""
    found = []
    total = result.types.error.sum()
    for t, name in enumerate(RESIDUE_TYPES):
        if not result.types.count[t]:
            continue
        error, within = float(result.types.error[t]), float(result.types_within[t])
        within = within if result.types.count[t] > 1 else 0.0  # a single one is its own mean
        found.append(
            {
                "residue": name,
                "n": int(result.types.count[t]),
                "fvu": float(result.types.fvu[t]),
                "fvu_within": error / within if within > 0 else float("nan"),
                "share_of_error": error / total if total > 0 else float("nan"),
            }
        )
    return found


def by_dimension(result: Evaluation) -> dict[str, list[float]]:
    """FVU of every dimension, and its share of the variance."""
    deviation = result.dimensions.deviation
    return {
        "fvu": [float(v) for v in result.dimensions.fvu],
        "share_of_variance": [float(v) for v in deviation / max(deviation.sum(), 1e-30)],
    }


def frequency_histogram(result: Evaluation) -> dict[str, list]:
    """How many latents fire how often; those that never do are in the first bin."""
    inner = FREQUENCY_BINS[1:-1].astype(np.float32)
    bins = np.searchsorted(inner, result.frequency, side="right")
    counts = np.bincount(bins, minlength=len(FREQUENCY_BINS) - 1)
    return {"edges": FREQUENCY_BINS.tolist(), "n_latents": counts.tolist()}


def l0_distribution(result: Evaluation) -> dict[str, Any]:
    """Latents above zero per residue: quantiles, and residues with 0, 1, 2, … of them."""
    below = result.l0_counts.cumsum() / result.l0_counts.sum()
    at = [int(np.flatnonzero(below >= q - 1e-12)[0]) for q in QUANTILES[1:]]
    lowest = int(np.flatnonzero(result.l0_counts)[0])
    return {
        "mean": result.l0,
        "quantiles": dict(zip(map(str, QUANTILES), [lowest, *at], strict=True)),
        "n_residues": result.l0_counts.tolist(),
    }


def stability(loaded: LoadedSAE, other: LoadedSAE) -> dict[str, Any]:
    """How many latents two runs share (:func:`saejax.sweep.seed_stability`)."""
    ours, theirs = (np.asarray(run.sae.W_dec[...]) for run in (loaded, other))
    return {"other": str(other.folder), "d_sae": other.config.d_sae} | seed_stability(ours, theirs)


def _comparable(loaded: LoadedSAE, folder: Path) -> LoadedSAE:
    if folder.resolve() == loaded.folder.resolve():
        raise UserError(f"--against {folder}: is the run itself; give another seed's folder")
    other = load_sae(folder)
    what = f"runs {loaded.folder} and {other.folder}"
    require_same_parent(loaded.store_manifest, other.store_manifest, what=what)
    sites = [(run.run.get("target_store") or run.run["store"])["site"] for run in (loaded, other)]
    if sites[0] != sites[1]:
        raise UserError(f"{what} reconstruct {sites[0]} and {sites[1]}; compare runs of one site")
    return other


def _source(config: EvaluateConfig, loaded: LoadedSAE, store: ActivationStore) -> RowStore:
    """The store, or with a transcoder's targets beside it."""
    transcoder = loaded.config.d_out is not None
    if not transcoder and config.target_activations is None:
        return store
    if not transcoder or config.target_activations is None:
        is_one = "is a transcoder; give" if transcoder else "is an autoencoder; leave away"
        raise UserError(f"{loaded.folder}: {is_one} --target-activations")
    target = ActivationStore.open(config.target_activations)
    what = f"run {loaded.folder} and store {target.folder}"
    require_same_parent(loaded.run["target_store"], target.manifest, what=what)
    return PairedStore(store, target)


def _same_source(ours: Mapping, theirs: Mapping) -> bool:
    hashes = [(m.get("source") or {}).get("sha256") for m in (ours, theirs)]
    return hashes[0] is not None and hashes[0] == hashes[1]


def table(record: Mapping[str, Any]) -> list[str]:
    """The record for a person; what is long is cut."""
    f, sae, store = record["figures"], record["sae"], record["activations"]
    gamma = "infinite" if f["gamma"] is None else f"{f['gamma']:.2f}"
    quantiles = record["l0"]["quantiles"]
    lines = [
        f"SAE          {record['run']}: {sae['architecture']}, {sae['d_sae']:,} latents at "
        f"{record['site']} of {record['parent']['name']}",
        f"activations  {store['folder']}: {store['n_rows']:,} residues of {store['n_proteins']:,} "
        "proteins" + (" (trained on)" if record["trained_on"] else ""),
        f"FVU          {f['fvu']:.4f} (the mean of each amino acid: "
        f"{f['fvu_of_amino_acid_means']:.4f})",
        f"gamma        {gamma} = |mean| / |std| of the activations",
        f"L0           mean {f['l0']:.1f}; least {quantiles['0.0']}, 5 % {quantiles['0.05']}, "
        f"median {quantiles['0.5']}, 95 % {quantiles['0.95']}, most {quantiles['1.0']}",
        f"latents      {f['n_dead']:,} dead, {f['n_dense']:,} dense (on more than "
        f"{100 * DENSE_ABOVE:.0f} % of residues), {f['n_duplicate']:,} duplicate (decoder cosine "
        f"of {DUPLICATE_COSINE} or more; largest {f['decoder_cosine_max']:.3f})",
    ]
    lines += [*_frequency_lines(record["frequency"]), *_dimension_lines(record["dimensions"])]
    for pair in record["stability"]:
        lines.append(
            f"stability    {pair['other']}: {100 * pair['shared']:.0f} % of latents are in both "
            f"(cosine of {SAME_LATENT} or more), mean cosine {pair['mean_cosine']:.3f}"
        )
    lines += ["", "residue  residues     FVU  FVU within  share of error"]
    lines += [
        f"{row['residue']:<7}  {row['n']:>8,}  {row['fvu']:.4f}  {row['fvu_within']:>10.4f}"
        f"  {100 * row['share_of_error']:>12.1f} %"
        for row in record["by_residue"]
    ]
    return lines


def _frequency_lines(histogram: Mapping[str, Sequence]) -> list[str]:
    edges = [f"{edge:.0e}".replace("e-0", "e-") for edge in histogram["edges"][1:-1]]
    names = [f"< {edges[0]}", *(f"{a} to {b}" for a, b in pairwise(edges)), f"> {edges[-1]}"]
    cells = [f"{name}: {n:,}" for name, n in zip(names, histogram["n_latents"], strict=True) if n]
    return ["fire on      " + ", ".join(cells) + " (share of residues: latents)"]


def _dimension_lines(dimensions: Mapping[str, Sequence[float]]) -> list[str]:
    fvu: Float[np.ndarray, " d_model"] = np.array(dimensions["fvu"], np.float64)
    share = dimensions["share_of_variance"]
    varies = np.flatnonzero(np.isfinite(fvu))
    worst = varies[np.argsort(-fvu[varies], kind="stable")][:N_WORST]
    named = ", ".join(f"{d} ({fvu[d]:.2f}, {100 * share[d]:.2g} % of the variance)" for d in worst)
    median = np.median(fvu[varies]) if len(varies) else float("nan")
    return [f"dimensions   median FVU {median:.4f}; worst: {named}"]


def main() -> None:
    """Parse the flags, measure, write, print."""
    config = parse(EvaluateConfig, prog="python -m saejax.evaluate")
    out = config.out or config.run / "evaluation.json"
    require_place_for(out, KIND)
    record = evaluate_store(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(out, without_nan(record))
    print("\n".join(table(record)))
    print(f"\nwritten: {out}")
