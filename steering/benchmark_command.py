"""What ``python -m steering benchmark`` does."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from extract.errors import UserError
from extract.files import open_text, without_nan, write_csv, write_json_atomically
from steering.commands import check_reconstruction, describe, load
from steering.config_many import BenchmarkConfig, read_proteins
from steering.results import FORMAT_VERSION, RECORD, begin_result, require_result_folder

if TYPE_CHECKING:
    from steering.benchmark import BenchmarkSettings, Target, TargetResult

COLUMNS = ("target", "kind", "latent")


def run_benchmark(config: BenchmarkConfig) -> None:
    """Test every target, print and write."""
    from saejax.checkpoint import load_sae
    from steering.benchmark import run_target
    from steering.concept_probe import ConceptProbe
    from steering.results import provenance

    require_result_folder(config.out)
    targets = read_targets(config.targets)
    loaded = load_sae(config.run)
    for target in targets:
        loaded.check_latent(target.latent)
    probes = {probe.name: probe for probe in map(ConceptProbe.load, config.probe)}
    for target in targets:
        if not target.is_amino_acid and target.name not in probes:
            raise UserError(
                f"{config.targets}: {target.name!r} has no probe; give its .npz with --probe, or "
                "leave the line out"
            )
    model, sae = load(config, loaded)
    proteins = read_proteins(config, model.max_residues)
    check_reconstruction(config, loaded, model, [p.sequence for p in proteins])
    results = []
    for target in targets:
        others = sorted({t.latent for t in targets} - {target.latent})
        result = run_target(model, sae, loaded, [p.sequence for p in proteins], target,
                            config.settings(), probes=probes, exclude=others)  # fmt: skip
        results.append(result)
        print(line_of(result), flush=True)
    record = provenance(config, loaded, model, [t.latent for t in targets])
    record["proteins"] = [p.id for p in proteins]
    write_benchmark(config.out, results, config.settings(), record)
    print(describe(loaded, model))
    for group in by_class(results):
        print(f"{group['kind']}: {group['n_targets']} targets, mean success rate "
              f"{100 * group['success']:.0f} % of proteins, {group['n_steer']} steer")  # fmt: skip
    print(f"written: {config.out}/page.html, benchmark.csv, steering.json")


def read_targets(path: Path) -> list[Target]:
    """Targets of a CSV file with the columns target, kind and latent.

    Raises:
        UserError: naming the line that is not as it must be.
    """
    from extract.alphabet import AMINO_ACIDS
    from steering.benchmark import Target

    with open_text(path) as file:
        reader = csv.DictReader(file)
        missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
        targets = []
        for line, row in enumerate(reader, start=2):
            if not (row["latent"] or "").isdecimal():
                raise UserError(f"{path}, line {line}: latent {row['latent']!r} is not a number")
            target = Target(row["target"], row["kind"], int(row["latent"]))
            if target.is_amino_acid and target.name not in tuple(AMINO_ACIDS):
                raise UserError(
                    f"{path}, line {line}: {target.name!r} is none of the amino acids {AMINO_ACIDS}"
                )
            targets.append(target)
    if not targets:
        raise UserError(f"{path}: no targets; give one line for each latent to test")
    return targets


def by_class(results: Sequence[TargetResult]) -> list[dict[str, Any]]:
    """Success rates by kind of concept."""
    kinds = dict.fromkeys(r.target.kind for r in results)
    found = []
    for kind in kinds:
        of_kind = [r for r in results if r.target.kind == kind]
        found.append(
            {
                "kind": kind,
                "n_targets": len(of_kind),
                "success": float(np.mean([r.success.mean for r in of_kind])),
                "n_steer": sum(r.steers for r in of_kind),
                "control": float(np.mean([r.control for r in of_kind])),
                "effect": float(np.mean([r.effect.mean for r in of_kind])),
            }
        )
    return found


def line_of(result: TargetResult) -> str:
    """One target, for the terminal."""
    t, unit = result.target, "nats" if result.target.is_amino_acid else "probability"
    return (
        f"{t.name} ({t.kind}), latent {t.latent}: {result.effect.mean:+.3f} {unit} "
        f"({result.effect.low:+.3f} to {result.effect.high:+.3f}), controls at equal KL "
        f"{result.control:+.3f}; {100 * result.success.mean:.0f} % of proteins beyond the 95th "
        "percentile of controls"
    )


def write_benchmark(
    out: Path,
    results: Sequence[TargetResult],
    settings: BenchmarkSettings,
    record: dict[str, Any],
) -> None:
    """Write the table, the page and, last, ``steering.json``."""
    from dataclasses import asdict

    from steering.benchmark import row_of
    from steering.page import write_page
    from steering.success import chance

    begin_result(out)
    rows = [row_of(r) for r in results]
    names = list(rows[0])
    write_csv(out / "benchmark.csv", names, [[row[name] for name in names] for row in rows])
    whole = {
        "kind": "benchmark",
        "format_version": FORMAT_VERSION,
        **record,
        "settings": asdict(settings),
        "chance": chance(settings.n_controls),
        "classes": by_class(results),
        "targets": rows,
    }
    write_page(out, "benchmark.html", whole, {})
    write_json_atomically(out / RECORD, without_nan(whole))
