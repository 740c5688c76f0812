"""How much faster are all latent × concept regressions at once than scikit-learn's loop?

Synthetic latents and concepts (``probe_data.py``). The latents are cut into as many parts as there
are rounds; a round fits and scores all pairs of its part, then scikit-learn's
``LogisticRegression()`` and its three scores do the same for a few pairs drawn at random, each a
dense column of float64, as InterProt's loop has it. Building the column is not counted, and one
thread is used, which is faster here than more. Only times of the same round are compared. The
coefficients of some of those pairs are fitted again by scikit-learn to a tight tolerance and must
agree to 1e-4; AUROC, average precision and F1 of all of them must be equal. ``--grow`` follows time
and memory as residues, latents and concepts grow.

Command: ``python -m experiments.benchmarks.probes`` (about a minute on 2 cores; ``--grow`` 12).
Writes ``probes.json`` and ``probes.md``, or ``probes_grow.json`` and ``probes_grow.md``.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from experiments.benchmarks.extraction import machine
from experiments.benchmarks.probe_data import make_labels, make_latents
from experiments.benchmarks.probe_loop import dense, fit_by_sklearn, scores_by_sklearn, timed
from extract.errors import UserError, run_cli
from extract.files import write_atomically, write_json_atomically
from probes.fit.scores import RankScores, rank_scores, restrict
from probes.logistic import LogisticFit, fit_logistic_1d
from saejax.latents import LatentColumns

COEFFICIENT_AGREEMENT = 1e-4
SCORE_AGREEMENT = 1e-9

BASE = {"n_rows": 200_000, "n_latents": 4096, "n_concepts": 50}
GROW = {
    "n_rows": (100_000, 200_000, 400_000, 800_000),
    "n_latents": (4096, 16_384, 65_536, 131_072),
    "n_concepts": (50, 125, 250, 500),
}
"""One size grows at a time, the others are as in :data:`BASE`."""
LARGEST = {"n_rows": 200_000, "n_latents": 131_072, "n_concepts": 500}


@dataclass(frozen=True)
class ProbesConfig:
    """All pairs at once against a loop over pairs."""

    out: Path = Path("runs/benchmarks")
    """Folder of the results."""
    n_rows: int = 800_000
    """Residues."""
    n_latents: int = 4096
    """Latents."""
    n_concepts: int = 50
    """Concepts."""
    k: int = 64
    """Latents that fire at a residue, on average."""
    balanced: bool = False
    """Weigh both classes the same (scikit-learn's ``class_weight="balanced"``)."""
    rounds: int = 10
    """Parts of the latents, and turns."""
    pairs: int = 3
    """Pairs that scikit-learn fits in a round."""
    tight: int = 1
    """Of those, pairs fitted again to a tight tolerance."""
    seed: int = 0
    """Of the data and of the choice of pairs."""
    grow: bool = False
    """Measure time and memory against size instead, without scikit-learn."""


def latents_of(columns: LatentColumns, latents: slice) -> LatentColumns:
    """A stretch of the latents."""
    indptr = columns.indptr[latents.start : latents.stop + 1]
    entries = slice(int(indptr[0]), int(indptr[-1]))
    return LatentColumns(
        indptr - indptr[0], columns.rows[entries], columns.values[entries], columns.n_rows
    )


def ours(
    columns: LatentColumns, labels: np.ndarray, balanced: bool
) -> tuple[LogisticFit, RankScores, np.ndarray, np.ndarray]:
    """Fits and scores of all pairs, and their seconds; sorting counts as scoring."""
    fit, fit_seconds = timed(lambda: fit_logistic_1d(columns, labels, balanced=balanced))
    every = np.ones(columns.n_rows, bool)
    scored, score_seconds = timed(
        lambda: rank_scores(restrict(columns, every), labels, np.sign(fit.coef))
    )
    return fit, scored, fit_seconds, score_seconds


def compare(
    columns: LatentColumns,
    labels: np.ndarray,
    found: tuple[LogisticFit, RankScores],
    pair: tuple[int, int],
    config: ProbesConfig,
    tight: bool,
) -> dict[str, Any]:
    """Times and differences of scikit-learn on one pair.

    Raises:
        UserError: it differs by more than :data:`COEFFICIENT_AGREEMENT` or
            :data:`SCORE_AGREEMENT`.
    """
    (fit, scored), (j, c) = found, pair
    x, y = dense(columns, j), labels[:, c]
    here = np.array([fit.coef[pair], fit.intercept[pair]])
    settings: dict[str, Any] = {"class_weight": "balanced" if config.balanced else None}
    score = x[:, 0] * np.sign(fit.coef[pair])
    with threadpool_limits(1):  # faster by half for one column than with a thread per core
        loose, fit_seconds = timed(lambda: fit_by_sklearn(x, y, **settings))
        theirs, score_seconds = timed(lambda: scores_by_sklearn(score, y))
    row: dict[str, Any] = {
        "latent": j, "concept": c, "n_entries": len(columns.column(j)[0]),
        "fit_seconds": fit_seconds.tolist(), "score_seconds": score_seconds.tolist(),
        "default_tolerance": float(abs(loose - here).max()),
        "scores": float(abs(theirs - [s[pair] for s in scored[:3]]).max()),
    }  # fmt: skip
    limits = {"scores": SCORE_AGREEMENT}
    if tight:
        exact = fit_by_sklearn(x, y, solver="newton-cholesky", tol=1e-10, **settings)
        row["coefficients"] = float(abs(exact - here).max())
        limits["coefficients"] = COEFFICIENT_AGREEMENT
    for name, limit in limits.items():
        if not row[name] <= limit:
            raise UserError(
                f"scikit-learn's {name} differ by {row[name]:.1e}, more than {limit:.0e}, for "
                f"latent {j} and concept {c}: the benchmark does not count"
            )
    return row


def measure(config: ProbesConfig) -> dict[str, Any]:
    """Rounds of ours on a part of the latents and of scikit-learn on some of its pairs."""
    rng = np.random.default_rng((config.seed, 2))
    labels = make_labels(config.n_rows, config.n_concepts, config.seed)
    columns = make_latents(labels, config.n_latents, config.k, config.seed)
    bounds = np.linspace(0, config.n_latents, config.rounds + 1).astype(int)
    parts = [latents_of(columns, slice(a, b)) for a, b in pairwise(bounds.tolist())]
    both = np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0))
    first = timed(lambda: fit_logistic_1d(parts[0], labels, balanced=config.balanced))[1]
    rounds = []
    for part in tqdm(parts, desc="rounds", disable=None):
        fit, scored, fit_seconds, score_seconds = ours(part, labels, config.balanced)
        pairs = [
            compare(part, labels, (fit, scored), (int(rng.integers(fit.coef.shape[0])),
                    int(rng.choice(both))), config, tight=i < config.tight)
            for i in range(config.pairs)
        ]  # fmt: skip
        rounds.append({
            "n_pairs": fit.coef.size, "fit_seconds": fit_seconds.tolist(),
            "score_seconds": score_seconds.tolist(), "pairs": pairs,
        })  # fmt: skip
    return {
        "n_entries": len(columns.rows),
        "labels_per_row": float(labels.sum() / len(labels)),
        "first_call_seconds": first.tolist(),
        "rounds": rounds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,  # kB → GB
    }


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table: per pair, and the median of the rounds' ratios."""
    rounds = result["rounds"]
    n_pairs = sum(r["n_pairs"] for r in rounds)
    lines = [
        "| Task | Program | Pairs | Wall | CPU | Wall per pair | CPU per pair | Ratio of wall "
        "(lowest to highest) | Ratio of CPU (lowest to highest) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task, key in (("fit", "fit_seconds"), ("sort, AUROC, AP, F1", "score_seconds")):
        mine = np.array([r[key] for r in rounds])
        loop = np.array([[p[key] for p in r["pairs"]] for r in rounds])
        sizes = np.array([[r["n_pairs"]] for r in rounds])
        ratio = loop.mean(axis=1) / (mine / sizes)
        total, theirs = mine.sum(axis=0), loop.sum(axis=(0, 1))
        n = loop.shape[0] * loop.shape[1]
        spread = " | ".join(
            f"{m:,.0f} ({a:,.0f} to {b:,.0f})"
            for m, a, b in zip(np.median(ratio, 0), ratio.min(0), ratio.max(0), strict=True)
        )
        lines += [
            f"| {task} | scikit-learn | {n:,} | {theirs[0]:.1f} s | {theirs[1]:.1f} s | "
            f"{1e3 * theirs[0] / n:.0f} ms | {1e3 * theirs[1] / n:.0f} ms | | |",
            f"| {task} | ours | {n_pairs:,} | {total[0]:.1f} s | {total[1]:.1f} s | "
            f"{1e3 * total[0] / n_pairs:.3f} ms | {1e3 * total[1] / n_pairs:.3f} ms | {spread} |",
        ]
    pairs = [p for r in rounds for p in r["pairs"]]
    tight = [p["coefficients"] for p in pairs if "coefficients" in p]
    lines += [
        "",
        f"Largest difference of coefficients from scikit-learn at tol 1e-10 ({len(tight)} pairs): "
        f"{max(tight, default=float('nan')):.0e}; at its default tolerance ({len(pairs)} pairs): "
        f"{max(p['default_tolerance'] for p in pairs):.0e}. Of scores: "
        f"{max(p['scores'] for p in pairs):.0e}.",
        f"{result['n_entries']:,} entries. A first call, with compilation, on the first round's "
        f"latents took {result['first_call_seconds'][0]:.1f} s. "
        f"Peak memory, data included: {result['peak_gb']:.2f} GB.",
    ]
    return "\n".join(lines) + "\n"


def grow_one(config: ProbesConfig) -> dict[str, Any]:
    """Seconds of all pairs at one size; run in a process of its own."""
    labels = make_labels(config.n_rows, config.n_concepts, config.seed)
    columns = make_latents(labels, config.n_latents, config.k, config.seed)
    data_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    *_, fit, score = ours(columns, labels, config.balanced)
    return {
        "n_rows": config.n_rows, "n_latents": config.n_latents, "n_concepts": config.n_concepts,
        "n_entries": len(columns.rows), "fit_seconds": fit.tolist(),
        "score_seconds": score.tolist(), "data_gb": data_gb,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }  # fmt: skip


def grow(config: ProbesConfig) -> list[dict[str, Any]]:
    """One size after another, then all together."""
    sizes = [BASE | {name: n} for name, values in GROW.items() for n in values] + [LARGEST]
    unique = [dict(s) for s in dict.fromkeys(tuple(s.items()) for s in sizes)]
    found = []
    for size in tqdm(unique, desc="sizes", disable=None):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(grow_one, replace(config, **size)).result())
    return found


def grow_table(rows: list[dict[str, Any]]) -> str:
    """Time and memory against size as a Markdown table."""
    lines = [
        "| Residues | Latents | Concepts | Entries | Fit, wall | CPU | Scores, wall | CPU | "
        "CPU per pair | Peak memory (data alone) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        fit, score = r["fit_seconds"], r["score_seconds"]
        per_pair = 1e6 * (fit[1] + score[1]) / (r["n_latents"] * r["n_concepts"])
        lines.append(
            f"| {r['n_rows']:,} | {r['n_latents']:,} | {r['n_concepts']} | {r['n_entries']:,} | "
            f"{fit[0]:.1f} s | {fit[1]:.1f} s | {score[0]:.1f} s | {score[1]:.1f} s | "
            f"{per_pair:.1f} µs | {r['peak_gb']:.2f} GB ({r['data_gb']:.2f}) |"
        )
    return "\n".join(lines) + "\n"


def run(config: ProbesConfig) -> str:
    """Measure and write; returns the table."""
    if min(config.rounds, config.pairs) < 1 or config.rounds > config.n_latents:
        raise UserError(
            f"--rounds ({config.rounds}) must lie between 1 and --n-latents ({config.n_latents}), "
            f"and --pairs ({config.pairs}) be at least 1"
        )
    about = machine(multiprocessing.cpu_count(), "jax", "jaxlib", "numpy", "scipy", "scikit-learn")
    if config.grow:
        rows = grow(config)
        stem, text, results = "probes_grow", grow_table(rows), {"sizes": rows}
    else:
        result = measure(config)
        stem, text, results = "probes", table(result), result
    text = f"{text}\n{json.dumps(about)}\n"
    settings = {k: v for k, v in asdict(config).items() if k != "out"}
    config.out.mkdir(parents=True, exist_ok=True)
    found = {"machine": about, "config": settings, **results}
    write_json_atomically(config.out / f"{stem}.json", found)
    write_atomically(config.out / f"{stem}.md", lambda f: f.write(text.encode()))
    return text


def main() -> None:
    """Measure, print the table and write it."""
    print(run(tyro.cli(ProbesConfig, prog="python -m experiments.benchmarks.probes")))


if __name__ == "__main__":
    run_cli(main)
