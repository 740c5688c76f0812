"""How fast are residues extracted, beside fair-esm's and Hugging Face's own ways?

Every contestant has a process of its own, with the same weights, the same sequences and the same
number of threads. They take turns; a round's times are compared with each other only, and the table
gives medians of those ratios, since a shared machine's speed drifts. Every round's outputs are
compared too. Peak memory is that of loading the weights and running.

Sequences are whole batches of the bundled UniProt file as fair-esm would cut it, evenly spread from
the shortest to the longest: the file's lengths, and no more padding for those who pad than in a run
over the whole file.

Command: ``python -m experiments.benchmarks.extraction`` (about 12 minutes on 2 idle cores; needs
the package ``transformers`` beside this project's own). Writes ``extraction.json`` and
``extraction.md``; ``docs/benchmarks.md`` has the table.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from tqdm import tqdm

from extract.errors import UserError, run_cli
from extract.files import versions, write_atomically, write_json_atomically
from extract.selection import read_fasta

log = logging.getLogger(__name__)

CONTESTANTS = ("fair-esm", "transformers", "ours float32", "ours bfloat16")
AGREEMENT = {"transformers": 1e-4, "ours float32": 1e-4, "ours bfloat16": 5e-2}
"""Largest difference from fair-esm's numbers, over fair-esm's largest number."""


@dataclass(frozen=True)
class Setting:
    """One model, and how much of it to run."""

    model: str
    """A published ESM2."""
    block: int
    """Whose output is taken."""
    weights: str
    """"random", "real" (found as ``python -m extract`` does) or a file."""
    n_batches: int
    """Batches of at most 4,096 tokens in a round."""
    rounds: int
    """Timed rounds."""


@dataclass(frozen=True)
class ExtractionConfig:
    """Residues per second and peak memory of every contestant."""

    out: Path = Path("runs/benchmarks")
    """Folder of the results."""
    fasta: Path = Path("data/uniprot.fasta.gz")
    """Where sequences are from, up to 1,022 residues each."""
    small: Setting = Setting("esm2_t6_8M_UR50D", 4, "real", n_batches=10, rounds=5)
    """The small model."""
    large: Setting = Setting("esm2_t33_650M_UR50D", 24, "random", n_batches=2, rounds=3)
    """The large model; speed does not depend on the weights, so they may be random."""
    models: tuple[Literal["small", "large"], ...] = ("small", "large")
    """Which of the two to run."""
    threads: int = 2
    """PyTorch's threads, the same for all."""
    contestants: tuple[str, ...] = CONTESTANTS
    """Who takes part; fair-esm must, as the first."""


def _work(pipe: Connection, contestant: str, setting: Setting, threads: int) -> None:
    """A contestant's process: load, then run the sequences it is sent until it is sent none."""
    import torch

    from experiments.benchmarks.contestants import build

    torch.set_num_threads(threads)
    run, source = build(contestant, setting.model, setting.weights)
    pipe.send(source)
    while (sequences := pipe.recv()) is not None:
        start = time.perf_counter()
        rows = run(sequences, setting.block)
        pipe.send((time.perf_counter() - start, np.concatenate(rows)))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)  # kB → GB


@contextmanager
def _started(setting: Setting, config: ExtractionConfig) -> Iterator[dict[str, Connection]]:
    """Processes of all contestants, loaded one after another; ended whatever happens."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    try:
        for name in config.contestants:
            pipes[name], theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, name, setting, config.threads))
            process.start()
            processes.append(process)
            theirs.close()
            log.info("%s: %s, weights: %s", setting.model, name, pipes[name].recv())
        yield pipes
    finally:
        for process in processes:
            process.terminate()
            process.join()


def measure(setting: Setting, config: ExtractionConfig) -> dict[str, Any]:
    """Times, agreement and memory of all contestants on one model.

    Raises:
        UserError: outputs differ by more than :data:`AGREEMENT`.
    """
    sequences = spread_batches(config.fasta, setting.n_batches)
    times: dict[str, list[float]] = {name: [] for name in config.contestants}
    differences = {name: 0.0 for name in config.contestants}
    with _started(setting, config) as pipes:
        for name in pipes:
            _turn(pipes[name], sequences[:2])  # warm up
        for _ in tqdm(range(setting.rounds), desc=setting.model, disable=None):
            expected = np.zeros(0)
            for name, pipe in pipes.items():
                seconds, rows = _turn(pipe, sequences)
                times[name].append(seconds)
                expected = rows if name == "fair-esm" else expected
                difference = float(abs(rows - expected).max() / abs(expected).max())
                differences[name] = max(differences[name], difference)
        memory = {}
        for name, pipe in pipes.items():
            pipe.send(None)
            memory[name] = pipe.recv()
    for name, difference in differences.items():
        if difference > AGREEMENT.get(name, 0):
            raise UserError(
                f"{name} differs from fair-esm by {difference:.1e} at block{setting.block} of "
                f"{setting.model}, more than {AGREEMENT.get(name, 0):.0e}: the benchmark does not "
                "count"
            )
    return {
        **setting.__dict__, "n_residues": sum(map(len, sequences)), "seconds": times,
        "difference": differences, "peak_gb": memory,
    }  # fmt: skip


def _turn(pipe: Connection, sequences: list[str]) -> tuple[float, np.ndarray]:
    """Seconds, and activations of all residues."""
    pipe.send(sequences)
    return pipe.recv()


def spread_batches(fasta: Path, n: int, tokens: int = 4096) -> list[str]:
    """Sequences of n batches out of those that fair-esm cuts a file into, in random order.

    They are evenly spread over the file sorted by length.
    """
    proteins, _ = read_fasta(fasta, max_residues=1022)
    sequences = sorted((p.sequence for p in proteins), key=len)
    batches: list[list[str]] = [[]]
    for sequence in sequences:
        if (len(batches[-1]) + 1) * (len(sequence) + 1) > tokens:  # fair-esm counts one extra each
            batches.append([])
        batches[-1].append(sequence)
    if n > len(batches):
        raise UserError(f"{fasta}: has {len(batches)} batches, {n} are asked for")
    chosen = [s for i in range(n) for s in batches[int((i + 0.5) * len(batches) / n)]]
    order = np.random.default_rng(0).permutation(len(chosen))
    return [chosen[i] for i in order]


def table(results: list[dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| Model, output of | Program | Residues/s | Beside fair-esm | lowest to highest | "
        "Largest difference | Peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        theirs = np.array(result["seconds"]["fair-esm"])
        for name, seconds in result["seconds"].items():
            ratios = theirs / np.array(seconds)
            speed = result["n_residues"] / np.median(seconds)
            difference = "" if name == "fair-esm" else f"{result['difference'][name]:.1e}"
            lines.append(
                f"| {result['model']}, block {result['block']} | {name} | {speed:,.0f} | "
                f"{np.median(ratios):.2f} | {ratios.min():.2f} to {ratios.max():.2f} | "
                f"{difference} | {result['peak_gb'][name]:.2f} GB |"
            )
    return "\n".join(lines) + "\n"


def machine(threads: int, packages: tuple[str, ...]) -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": multiprocessing.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": versions(*packages),
    }


def main() -> None:
    """Measure, print the table and write it."""
    config = tyro.cli(ExtractionConfig, prog="python -m experiments.benchmarks.extraction")
    if config.contestants[:1] != ("fair-esm",):
        raise UserError("--contestants must begin with fair-esm, which others are compared with")
    settings = {"small": config.small, "large": config.large}
    results = [measure(settings[name], config) for name in config.models]
    about = machine(config.threads, ("torch", "fair-esm", "transformers", "numpy"))
    text = f"{table(results)}\n{json.dumps(about)}\n"
    config.out.mkdir(parents=True, exist_ok=True)
    write_json_atomically(config.out / "extraction.json", {"machine": about, "results": results})
    write_atomically(config.out / "extraction.md", lambda f: f.write(text.encode()))
    print(text)


if __name__ == "__main__":
    run_cli(main)
