"""What a probing run found, as text for a terminal and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from extract.errors import UserError
from extract.files import write_atomically, write_json_atomically
from probes.evaluate import ProbeResults

SUMMARY = "summary.json"
"""Written last: a folder that has it is whole."""


def check_out(folder: Path) -> None:
    """Refuse a folder that is a file, or holds something that is no earlier probing.

    Raises:
        UserError: naming the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder with --out")
    ours = {SUMMARY, "split.csv", "probes.csv"}
    if folder.is_dir() and any(folder.iterdir()) and not ours & {p.name for p in folder.iterdir()}:
        raise UserError(f"{folder}: is not empty and holds no probes; give a new --out folder")


def write_results(results: ProbeResults, folder: Path) -> None:
    """Write every table atomically, and ``summary.json`` last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY).unlink(missing_ok=True)
    _write(results.split, folder / "split.csv")
    _write(results.probes, folder / "probes.parquet")
    _write(results.probes, folder / "probes.csv")
    _write(results.latent_concepts, folder / "latent_concepts.parquet")
    _write(results.precise_latents, folder / "precise_latents.csv")
    _write(results.sparse_probes, folder / "sparse_probes.csv")
    write_json_atomically(folder / SUMMARY, results.summary)


def _write(table: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        write_atomically(path, lambda f: table.to_parquet(f, index=False))
    else:
        write_atomically(path, lambda f: f.write(table.to_csv(index=False).encode()))


def top_list(results: ProbeResults, *, n_precise: int = 3) -> str:
    """The findings as lines of text: F1 per concept, precise latents, the honest paragraph."""
    split = results.summary["split"]
    lines = [
        f"Split by {split['by']}: {split['n_proteins_select']} proteins choose, "
        f"{split['n_proteins_test']} others score."
    ]
    if split["random"]:
        lines.append("WARNING: a random split; relatives may sit in both parts, scores flatter.")
    if same := results.summary["stores_the_sae_was_trained_on"]:
        lines.append(f"WARNING: the SAE was trained on {', '.join(same)}.")
    return "\n".join([*lines, "", *_f1_lines(results), *_precise_lines(results, n_precise),
                      *_honest_lines(results)])  # fmt: skip


def _records(table: pd.DataFrame, keep: Any = None) -> list[dict[str, Any]]:
    kept = table if keep is None else pd.DataFrame(table.loc[keep])
    return [{str(k): v for k, v in row.items()} for row in kept.to_dict(orient="records")]


def _f1_lines(results: ProbeResults) -> list[str]:
    lines = [
        "Best latent against best raw neuron (F1 on test proteins):",
        f"{'concept':<18} {'latent':>7} {'F1':>6} {'prec':>6} {'rec':>6}   {'neuron':>6} {'F1':>6}"
        f"   {'all positive':>12}",
    ]
    for row in _records(results.probes):
        neuron = f"{'-' if row['neuron_sign'] < 0 else '+'}{row['neuron']}"
        lines.append(
            f"{row['concept']:<18} {row['latent']:>7} {row['latent_f1']:6.3f} "
            f"{row['latent_precision']:6.3f} {row['latent_recall']:6.3f}   {neuron:>6} "
            f"{row['neuron_f1']:6.3f}   {row['f1_all_positive']:12.3f}"
        )
    return lines


def _precise_lines(results: ProbeResults, n: int) -> list[str]:
    table = results.precise_latents
    if table.empty:
        return []
    lines = [
        "",
        "Precise latents: precision where they fire at all (any) or above a share of their maximum "
        "(strong),",
        "beside what the amino acids they fire on would give (test proteins):",
        f"{'concept':<18} {'firing':>7} {'latent':>7} {'precision':>9} {'composition':>11} "
        f"{'base':>6} {'residues':>8} {'proteins':>8}",
    ]
    for row in _records(table, table["rank"] <= n):
        lines.append(
            f"{row['concept']:<18} {row['firing']:>7} {row['latent']:>7} "
            f"{row['test_precision']:9.3f} {row['test_expected_precision']:11.3f} "
            f"{row['test_base_rate']:6.3f} {row['test_n_fires']:>8} {row['test_n_proteins']:>8}"
        )
    return lines


def _honest_lines(results: ProbeResults) -> list[str]:
    lines: list[str] = []
    probes = results.probes.set_index("concept")
    sparse = results.sparse_probes
    for name in ("helix", "strand"):
        if name not in probes.index:
            continue
        row = probes.loc[name]
        lines += [
            "",
            f"No single latent is '{name}'? Its best one has F1 {row['latent_f1']:.2f}, the best "
            f"raw neuron {row['neuron_f1']:.2f}, calling everything {name} "
            f"{row['f1_all_positive']:.2f}.",
        ]
        for probe in _records(sparse, sparse["concept"] == name) if len(sparse) else []:
            lines.append(
                f"  {probe['k']} latents together reach AUROC {probe['latents_auroc']:.2f}; all "
                f"raw dimensions {probe['dense_auroc']:.2f}."
            )
    return lines
