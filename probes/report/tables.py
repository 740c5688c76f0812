"""What a probing run found, as text for a terminal and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from extract.errors import UserError
from extract.files import read_json, write_atomically, write_json_atomically
from probes.config import ProbeConfig
from probes.data.frames import records, where
from probes.evaluate import ProbeResults
from probes.protocols.found import FAMILIES, MAX_Q, family_of
from probes.report.headers import HEADERS
from probes.report.latent_table import MIN_CLUSTERS
from probes.report.reach import one_large_cluster, reach
from probes.report.summary import difference, settings

SUMMARY = "summary.json"
"""Written last: a folder that has it is whole."""

CSV = ("best", "found", "interprot", "families", "sparse_probes", "precise_latents", "coverage",
       "calibration", "latents", "split")  # fmt: skip
PARQUET = ("associations", "interplm", "latents", "logos")

PREFIX = {
    "latents": "latent", "neurons": "neuron", "principal components": "component",
    "random dictionary": "random", "shuffled labels": "shuffled_labels",
    "shuffled parent": "shuffled_parent",
}  # fmt: skip
"""What a set of features is called in the table by concept."""

SCORES = {
    "feature": "id", "sign": "sign", "coef": "coef", "intercept": "intercept",
    "threshold": "threshold", "f1_validation": "f1_select", "f1_test": "f1",
    "f1_test_low": "f1_low", "f1_test_high": "f1_high", "precision_test": "precision",
    "recall_test": "recall", "recall_occurrences": "recall_occurrences",
    "auroc_test": "auroc", "average_precision_test": "average_precision",
    "n_called_test": "n_predicted", "recall_clusters": "recall_clusters",
    "false_alarms_clusters": "false_alarms_clusters", "p": "p", "q": "q", "found": "found",
    "pooling": "pooling",
}  # fmt: skip
"""Columns of ``best`` and what follows the prefix."""


FAMILY_WORDS = {"own": "of your labels", "annotations": "annotations",
                "letters": "amino acids and classes"}  # fmt: skip


def check_out(config: ProbeConfig) -> None:
    """Refuse a folder that is a file, or holds something else, or probes of other settings.

    Raises:
        UserError: naming the folder, and the first setting that differs.
    """
    folder = config.folder
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder with --out")
    ours = {SUMMARY, "split.csv", "probes.csv", "latents"}
    if folder.is_dir() and any(folder.iterdir()) and not ours & {p.name for p in folder.iterdir()}:
        raise UserError(f"{folder}: is not empty and holds no probes; give a new --out folder")
    if not (folder / SUMMARY).is_file():
        return
    old = read_json(folder / SUMMARY, "a folder of probes")
    if differs := difference(old, settings(config)):
        raise UserError(
            f"{folder}: holds probes made with {differs}; give another --out, or remove it"
        )


def write_results(results: ProbeResults, folder: Path) -> None:
    """Write every table atomically, and ``summary.json`` last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY).unlink(missing_ok=True)
    wide = by_concept(results.best)
    tables = {name: getattr(results, name) for name in CSV + PARQUET} | {"probes": wide}
    for name, columns in HEADERS.items():
        if tables[name].empty:
            tables[name] = pd.DataFrame(columns=pd.Index(columns))
    for name in ("probes", *CSV):
        _write(tables[name], folder / f"{name}.csv")
    for name in ("probes", *PARQUET):
        _write(tables[name], folder / f"{name}.parquet")
    write_json_atomically(folder / SUMMARY, results.summary)


def by_concept(best: pd.DataFrame) -> pd.DataFrame:
    """One row for each concept, the chosen feature of every set beside each other.

    ``latent``, ``neuron``, ``component``, … name the features; ``latent_f1`` and so on are of the
    test part, ``latent_f1_select`` of the validation part that chose.
    """
    shared = ["base_rate", "f1_all_positive", "n_positive_train", "n_positive_validation",
              "n_positive_test", "n_clusters_test", "n_effective_test", "q_least",
              "n_occurrences_test"]  # fmt: skip
    first = where(best, best["features"] == best["features"].iloc[0])
    table = pd.DataFrame(first[["concept", "kind", *shared]]).set_index("concept")
    for features, prefix in PREFIX.items():
        rows = where(best, best["features"] == features)
        if rows.empty:
            continue
        own = pd.DataFrame(rows.set_index("concept")[list(SCORES)]).rename(columns=SCORES)
        own.columns = [prefix if name == "id" else f"{prefix}_{name}" for name in own.columns]
        table = table.join(own)
    return table.reset_index()


def _write(table: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        write_atomically(path, lambda f: table.to_parquet(f, index=False))
    else:
        write_atomically(path, lambda f: f.write(table.to_csv(index=False).encode()))


def top_list(results: ProbeResults, *, n_precise: int = 3) -> str:
    """The findings as lines of text: F1 per concept, precise latents, the honest paragraph."""
    split = results.summary["split"]
    lines = [
        f"Split by {split['by']}: thresholds from {split['n_proteins_train']} proteins, latents "
        f"chosen on {split['n_proteins_validation']}, scored on {split['n_proteins_test']} others."
    ]
    if split["random"]:
        lines.append("WARNING: a random split; relatives may sit in two parts, scores flatter.")
    if same := results.summary["stores_the_sae_was_trained_on"]:
        lines.append(f"WARNING: the SAE was trained on {', '.join(same)}.")
    lines += one_large_cluster(results.split)
    if skipped := results.summary["skipped_concepts"]:
        lines.append(f"{len(skipped)} concepts have too few residues: see {SUMMARY}.")
    return "\n".join([*lines, "", *_f1_lines(results), *_precise_lines(results, n_precise),
                      *_found_lines(results), *_confirmed_lines(results.latents),
                      *_honest_lines(results)])  # fmt: skip


def _f1_lines(results: ProbeResults) -> list[str]:
    lines = [
        "Best latent against best raw neuron (F1 on test proteins, 95 % interval over clusters):",
        f"{'concept':<28} {'latent':>7} {'F1':>6} {'interval':>13} {'prec':>6} {'rec':>6}"
        f" {'neuron F1':>10} {'all positive':>13}",
    ]
    table = records(by_concept(results.best))
    for row in sorted(table, key=lambda row: FAMILIES.index(family_of(row["kind"]))):
        neuron = f"{row['neuron_f1']:.3f}" if "neuron_f1" in row else "-"
        lines.append(
            f"{row['concept']:<28.28} {row['latent']:>7} {row['latent_f1']:6.3f} "
            f"{_interval(row['latent_f1_low'], row['latent_f1_high']):>13} "
            f"{row['latent_precision']:6.3f} {row['latent_recall']:6.3f} {neuron:>10} "
            f"{row['f1_all_positive']:13.3f}"
        )
    return lines


def _interval(low: float, high: float) -> str:
    """Blank where too few clusters carry it."""
    return "" if pd.isna(low) else f"{low:.3f}-{high:.3f}"


def _found_lines(results: ProbeResults) -> list[str]:
    lines = ["", "Concepts found: F1 above a half on validation and on test and, of ours (frozen), "
             "a corrected", f"test below {MAX_Q} on test (docs/probes.md):"]  # fmt: skip
    for row in records(results.found):
        lines.append(
            f"{row['protocol']:<20} {row['features']:<22} {row['concepts_found']:>5.0f} of "
            f"{row['concepts_tested']:.0f}{_by_family(row)}"
        )
    return [*lines, *reach(by_concept(results.best))]


def _by_family(row: dict[str, Any]) -> str:
    """Own labels, annotations and letters apart."""
    words = [
        f"{row[f'{family}_found']:.0f} of {row[f'{family}_tested']:.0f} {name}"
        for family, name in FAMILY_WORDS.items()
        if row.get(f"{family}_tested", 0) > 0
    ]
    return f" ({', '.join(words)})" if words else ""


def _confirmed_lines(latents: pd.DataFrame) -> list[str]:
    """How many latents are right more often than their residues explain, and how many often."""
    named = records(latents.dropna(subset="concept"))
    if not named:
        return []
    confirmed = [row for row in named if row["confirmed"]]
    often = sum(row["precision"] > 0.5 for row in confirmed)
    return [
        "",
        f"Latents: {len(named)} of {len(latents)} have an annotation; {len(confirmed)} are "
        "confirmed, right on test more often",
        f"than residues and neighbours explain (q < {MAX_Q}, at least {MIN_CLUSTERS} clusters); "
        f"{often} of these are right more than half of the time.",
    ]


def _coverage_line(coverage: pd.DataFrame, concept: str) -> list[str]:
    if coverage.empty:
        return []
    lines = []
    for row in records(where(coverage, coverage["concept"] == concept)):
        words = f"{row['taken']} latents that are right at least 80 % of the time cover"
        if row["taken"]:
            lines.append(
                f"  {words} {100 * row['recall_test']:.0f} % of it together, with precision "
                f"{row['precision_test']:.2f}."
            )
        else:
            lines.append("  No latent is right at least 80 % of the time.")
    return lines


def _precise_lines(results: ProbeResults, n: int) -> list[str]:
    table = results.precise_latents
    if table.empty:
        return []
    lines = [
        "",
        "Precise latents: precision where they fire at all (any) or above a share of their maximum "
        "(strong),",
        "beside what the residues they fire on, and these with their neighbours, predict (test):",
        f"{'concept':<28} {'firing':>7} {'latent':>7} {'precision':>9} {'identity':>9} "
        f"{'neighbours':>10} {'base':>6} {'residues':>8} {'proteins':>8}",
    ]
    for row in records(where(table, table["rank"] <= n)):
        lines.append(
            f"{row['concept']:<28.28} {row['firing']:>7} {row['latent']:>7} "
            f"{row['test_precision']:9.3f} {row['test_expected_precision']:9.3f} "
            f"{row['test_expected_neighbours']:10.3f} {row['test_base_rate']:6.3f} "
            f"{row['test_n_fires']:>8} {row['test_n_proteins']:>8}"
        )
    return lines


def _honest_lines(results: ProbeResults) -> list[str]:
    lines: list[str] = []
    table = by_concept(results.best).set_index("concept")
    sparse = results.sparse_probes
    for name in ("helix", "strand"):
        if name not in table.index:
            continue
        row = table.loc[name]
        lines += [
            "",
            f"No single latent is '{name}'? Its best one has F1 {row['latent_f1']:.2f}, the best "
            f"raw neuron {row.get('neuron_f1', float('nan')):.2f}, calling everything {name} "
            f"{row['f1_all_positive']:.2f}.",
        ]
        probes = records(where(sparse, sparse["concept"] == name)) if len(sparse) else []
        for probe in probes[-1:]:  # the most latents
            lines.append(
                f"  {probe['k']} latents together reach AUROC {probe['latents_auroc']:.2f}; all "
                f"raw dimensions {probe['dense_auroc']:.2f}."
            )
        lines += _coverage_line(results.coverage, name)
    return lines
