"""How long does the bundle of an explorer take to build, how large is it, and where is it linear?

Bundles are built of synthetic codes (``bundle_inputs``) by the steps of ``python -m explorer
build``: codes sorted by latent, the pass by protein, the pass by latent with its examples, kinds
and logos, neighbours by cosine and by co-activation, the map, the index, checksums. What asks a
parent is left out: encoding, effects on its logits, its neurons. Each size is built by a process of
its own, which tells the time of each step and its peak memory (Python and its libraries included),
and what it wrote is removed. A size that the disk has no room for is said to be left out.

Command: ``python -m experiments.benchmarks.bundle`` (some 15 minutes on 2 cores, a third for the
500,000 proteins, which want 12 GB of disk). Writes ``bundle.json`` and ``bundle.md``;
``--sizes 4096x1000`` measures one size and keeps the others that are in ``bundle.json``.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks.bundle_inputs import Point, inputs_of, sorted_codes, write_codes
from experiments.benchmarks.extraction import machine
from experiments.benchmarks.latent_tables import peak_bytes
from explorer.build import command
from explorer.build.order import protein_order
from explorer.build.workshop import open_workshop
from extract.command_line import parse
from extract.errors import UserError, run_cli
from extract.files import read_json, write_atomically, write_json_atomically

SIZES = (
    "4096x5000", "16384x5000", "65536x5000", "131072x5000",
    "4096x1000", "4096x10000", "4096x100000", "4096x500000",
)  # fmt: skip
STEPS = {
    "sort": "codes by latent",
    "inputs": "proteins, letters",
    "write_proteins": "by protein", "assemble_proteins": "by protein",
    "write_latents": "by latent", "assemble_latents": "by latent",
    "write_kinds": "kinds",
    "cosine_neighbours": "cosines",
    "coactivation_neighbours": "co-activation",
    "_places": "map",
    "write_defined": "index", "write_index": "index", "latent_table": "index",
    "manifest_of": "checksums",
}  # fmt: skip
"""Functions of ``explorer.build.command`` (and two of ours), and the columns of the table."""
DISK_BYTES_PER_ENTRY = 24
"""Of codes, twice; of parts and the bundle."""


@dataclass(frozen=True)
class BundleConfig:
    """Seconds and bytes of bundles of several sizes."""

    out: Path = Path("runs/benchmarks")
    """Folder of the results."""
    work: Path = Path("runs/benchmarks/bundles")
    """Where bundles are made and removed."""
    sizes: tuple[str, ...] = SIZES
    """Latents x proteins."""
    mean_length: int = 60
    """Residues of a protein: short, so that many fit on a disk."""
    k: int = 16
    """Latents that fire on a residue, at most."""
    d_model: int = 320
    """Of the decoder."""
    memory_gb: float = 1.0
    """``--memory-gb`` of the build."""


def point_of(size: str, config: BundleConfig) -> Point:
    """A size as it is written in ``--sizes``.

    Raises:
        UserError: it is none.
    """
    d_sae, _, n_proteins = size.partition("x")
    if not (d_sae.isdecimal() and n_proteins.isdecimal() and int(d_sae) and int(n_proteins)):
        raise UserError(f"--sizes {size}: is not latents x proteins, such as 4096x1000")
    return Point(int(d_sae), int(n_proteins), config.mean_length, config.k, config.d_model)


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """While it is open the steps of a build add their seconds."""

    def with_clock(name: str, step: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return step(*args, **kwargs)
            finally:
                column = STEPS[name]
                seconds[column] = seconds.get(column, 0.0) + time.perf_counter() - started

        return call

    before = {name: getattr(command, name) for name in STEPS if hasattr(command, name)}
    for name, step in before.items():
        setattr(command, name, with_clock(name, step))
    try:
        yield
    finally:
        for name, step in before.items():
            setattr(command, name, step)


def build(point: Point, folder: Path, memory_gb: float) -> dict[str, Any]:
    """Build a bundle of codes that are there; seconds by step, sizes, peak memory of the process.

    Args:
        point: the size.
        folder: ``codes`` in it, by residue; ``bundle`` is made.
        memory_gb: for the sorting by latent.
    """
    seconds: dict[str, float] = {}
    begun = time.perf_counter()
    latents = sorted_codes(point, folder / "codes", memory_gb)
    seconds[STEPS["sort"]] = time.perf_counter() - begun
    at = time.perf_counter()
    inputs = inputs_of(point, folder / "bundle")
    seconds[STEPS["inputs"]] = time.perf_counter() - at
    plan = {"format_version": 0}
    with timed(seconds), open_workshop(folder / "bundle", plan) as shop:
        order = protein_order(
            latents, inputs.rows, inputs.structured, inputs.annotated,
            inputs.config.tracks_gb * 1e9,
        )  # fmt: skip
        command.make(shop, inputs, latents, order, plan)
    total = time.perf_counter() - begun
    files = [p for p in (folder / "bundle").rglob("*") if p.is_file()]
    return {
        "d_sae": point.d_sae, "n_proteins": point.n_proteins, "n_residues": latents.n_rows,
        "n_living": int((latents.n_fires > 0).sum()),
        "n_entries": latents.n_entries, "n_tracked": order.n_tracked, "seconds": total,
        "steps": {name: round(value, 2) for name, value in seconds.items()},
        "bytes": sum(p.stat().st_size for p in files), "peak_bytes": peak_bytes(),
    }  # fmt: skip


def _answer(point: Point, config: BundleConfig, answers: multiprocessing.SimpleQueue) -> None:
    answers.put(build(point, config.work, config.memory_gb))


def measure(point: Point, config: BundleConfig) -> dict[str, Any]:
    """One size in a process of its own; or why not."""
    size = {"d_sae": point.d_sae, "n_proteins": point.n_proteins}
    entries = point.n_proteins * point.mean_length * point.k
    wanted = DISK_BYTES_PER_ENTRY * entries + 10_000 * point.d_sae
    free = shutil.disk_usage(".").free
    if wanted > free:
        return size | {"left_out": f"{wanted / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB free"}
    shutil.rmtree(config.work, ignore_errors=True)
    try:
        write_codes(point, config.work / "codes")
        context = multiprocessing.get_context("spawn")
        answers = context.SimpleQueue()
        process = context.Process(target=_answer, args=(point, config, answers))
        process.start()
        process.join()
        if process.exitcode:
            raise UserError(f"{size}: the build ended with {process.exitcode}; see above")
        return answers.get()
    finally:
        shutil.rmtree(config.work, ignore_errors=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row for each size, seconds by step."""
    names = list(dict.fromkeys(STEPS.values()))
    lines = [
        f"| Latents | that fire | Proteins | Residues | {' | '.join(names)} | all, s | residues/s "
        "| peak GB | bundle GB |",
        "|" + "---:|" * (len(names) + 8),
    ]
    for row in sorted(rows, key=lambda r: (r["n_proteins"] != 5000, r["n_proteins"], r["d_sae"])):
        if "left_out" in row:
            size = f"| {row['d_sae']:,} | | {row['n_proteins']:,} |"
            lines.append(f"{size} not run: {row['left_out']} |")
            continue
        start = f"| {row['d_sae']:,} | {row['n_living']:,} | {row['n_proteins']:,} |"
        steps = " | ".join(f"{row['steps'].get(name, 0):.1f}" for name in names)
        lines.append(
            f"{start} {row['n_residues']:,} | {steps} | {row['seconds']:.0f} "
            f"| {row['n_residues'] / row['seconds']:,.0f} | {row['peak_bytes'] / 1e9:.2f} "
            f"| {row['bytes'] / 1e9:.3f} |"
        )
    return "\n".join(lines) + "\n"


def run(config: BundleConfig) -> None:
    """Measure every size and write the table, each size as it is done."""
    points = [point_of(size, config) for size in config.sizes]
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "bundle.json"
    before = read_json(path, "a result of this benchmark")["rows"] if path.exists() else []
    rows = {(row["d_sae"], row["n_proteins"]): row for row in before}
    for point in points:
        rows[point.d_sae, point.n_proteins] = measure(point, config)
        result = {
            "kind": "bundle", "machine": machine(os.cpu_count() or 1, "numpy", "umap-learn"),
            "mean_length": config.mean_length, "k": config.k, "d_model": config.d_model,
            "rows": list(rows.values()),
        }  # fmt: skip
        write_json_atomically(path, result)
        text = table(result["rows"]).encode()
        write_atomically(config.out / "bundle.md", lambda f, text=text: f.write(text))
    print(table(list(rows.values())))


if __name__ == "__main__":
    run_cli(lambda: run(parse(BundleConfig, prog="python -m experiments.benchmarks.bundle")))
