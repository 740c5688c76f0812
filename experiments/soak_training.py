"""Kill training again and again; the checkpoint it ends with must be the uninterrupted one.

    python -m experiments.soak_training --kills 200

Every round trains a tiny SAE in a process of its own and kills it with SIGKILL at a random moment:
at the start, between checkpoints, while one is written, or during the last evaluation. The next
round resumes. A run that gets complete meanwhile is compared with one that nobody disturbed, bit
for bit: the last checkpoint (weights, optimiser, counters), the metrics but for their timings, the
results. Then a new one is begun. Processes are forked from one that has imported everything, and
take the compiled step from a cache, so that a kill costs a second or two.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from extract.errors import UserError, run_cli

log = logging.getLogger(__name__)

Phase = Literal["any time", "start", "write", "evaluation"]
PHASES: tuple[Phase, ...] = ("any time", "start", "write", "write", "evaluation")
"""What kills are aimed at; the writing of checkpoints, where most can go wrong, twice as often."""
TIMINGS = ("tokens_per_sec", "data_wait")
EXIT_AFTER_S = 120


@dataclass(frozen=True)
class SoakConfig:
    """Kill training at random moments and compare its checkpoints with undisturbed ones."""

    out: Path = Path("runs/soak_training")
    """Folder for the store and the runs (removed first, kept afterwards)."""
    kills: int = 200
    """Kills that must hit a living run."""
    architecture: str = "topk"
    """What is trained."""
    sweep: bool = False
    """Train two seeds in one pass, so that kills come between the writes of the two."""
    seed: int = 0
    """Seed of the moments."""


def soak(config: SoakConfig) -> Counter[str]:
    """Kill until there were ``config.kills``, finish, compare.

    Returns:
        What was going on when the kills came, and ``runs compared``.

    Raises:
        UserError: a run that differs, or training that failed by itself.
    """
    shutil.rmtree(config.out, ignore_errors=True)
    config.out.mkdir(parents=True)
    _make_store(config.out / "store")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": str((config.out / "compiled").resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "OMP_NUM_THREADS": "1",
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["saejax.train", "orbax.checkpoint.v1"])
    reference, run = config.out / "undisturbed", config.out / "soaked"
    _to_the_end(context, config, reference)  # compiles
    shutil.rmtree(reference)
    whole_s = _to_the_end(context, config, reference)
    rng, tally = random.Random(config.seed), Counter()
    killed = 0
    while killed < config.kills:
        process = _start(context, config, run)
        phase = rng.choice(PHASES)
        _wait_for(phase, process, run, rng, whole_s)
        if process.is_alive():
            process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            killed += 1
            hit = _what_was_hit(run)
            tally[hit] += 1
            log.info("kill %d of %d: %s", killed, config.kills, hit)
        elif process.exitcode:
            raise UserError(f"{run}: training failed by itself; see {config.out / 'log.txt'}")
        else:
            _compare(reference, run, tally)
    _to_the_end(context, config, run)
    _compare(reference, run, tally)
    return tally


def _make_store(folder: Path) -> None:
    """3,000 residues of random proteins at the first block of a tiny parent with random weights."""
    import numpy as np
    import torch

    from extract.esm import ESM2, ESM2Shape
    from extract.fasta import Protein
    from extract.pipeline import ExtractConfig, extract
    from extract.plm import WeightsInfo

    rng = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    proteins = [Protein(f"p{i}", "".join(rng.choice(letters, size=75))) for i in range(40)]
    torch.manual_seed(0)
    parent = ESM2("tiny", ESM2Shape(2, 16, 2)).eval().requires_grad_(False)
    parent.weights = WeightsInfo("random", "seed0", "random", "")
    settings: dict[str, Any] = {"site": ("block1",), "shard_rows": 1024, "batch_residues": 300}
    extract(ExtractConfig(folder / "random.fasta", folder, **settings), parent, proteins)


def _flags(config: SoakConfig, run: Path) -> list[str]:
    flags = {
        "activations": config.out / "store", "out": run, "architecture": config.architecture,
        "d-sae": 64, "k": 4, "epochs": 2, "batch-size-tokens": 128, "holdout-fraction": 0.1,
        "dead-after-tokens": 800, "ema-decay": 0.9, "log-every-steps": 1,
        "checkpoint-every-steps": 4,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in flags.items()]
    if config.architecture in ("jumprelu", "gated", "relu"):
        words = [word for word in words if not word.startswith("--k=")]
    return [*words, "--sweep", "seed=0,1"] if config.sweep else words


def _start(context: Any, config: SoakConfig, run: Path) -> Any:
    process = context.Process(target=_train, args=(_flags(config, run), config.out / "log.txt"))
    process.start()
    return process


def _train(flags: list[str], log_file: Path) -> None:
    """In the forked process: the command line itself."""
    from saejax.train import main

    with log_file.open("a") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.argv = ["train", *flags]
    run_cli(main)


def _to_the_end(context: Any, config: SoakConfig, run: Path) -> float:
    """Train without a disturbance; seconds."""
    start = time.monotonic()
    process = _start(context, config, run)
    process.join(EXIT_AFTER_S)
    if process.exitcode != 0:
        process.kill()
        raise UserError(f"{run}: training failed by itself; see {config.out / 'log.txt'}")
    return time.monotonic() - start


def _wait_for(phase: Phase, process: Any, run: Path, rng: random.Random, whole_s: float) -> None:
    """Until a moment in a phase, or the end of the process."""
    begun = {
        "any time": lambda: True,
        "start": run.exists,
        "write": lambda: _being_written(run),
        "evaluation": lambda: _at_its_last_step(run),
    }[phase]
    while not begun() and process.is_alive():
        time.sleep(0.001)
    longest = {"any time": whole_s, "start": 0.5, "write": 0.05, "evaluation": 0.5}[phase]
    process.join(rng.uniform(0, longest))


def _runs(run: Path) -> list[Path]:
    """The run, or those of a sweep."""
    return sorted(p.parent for p in (*run.glob("run.json"), *run.glob("*/run.json")))


def _checkpoints(run: Path) -> list[str]:
    """Names of what lies in the run's folder of checkpoints, or in those of a sweep's runs."""
    found = []
    for one in _runs(run):
        with contextlib.suppress(FileNotFoundError):
            found += os.listdir(one / "checkpoints")
    return found


def _being_written(run: Path) -> bool:
    return any("orbax-checkpoint-tmp" in name for name in _checkpoints(run))


def _saved(run: Path) -> list[int]:
    return [int(name) for name in _checkpoints(run) if name.isdecimal()]


def _at_its_last_step(run: Path) -> bool:
    """Whether the last step is saved, as while a run is evaluated."""
    return max(_saved(run), default=0) == max(_saved(run.parent / "undisturbed"))


def _what_was_hit(run: Path) -> str:
    """What was going on, told from what is left on the disk."""
    if not _runs(run):
        return "before run.json"
    if _being_written(run):
        return "while a checkpoint was written"
    if _at_its_last_step(run):
        return "after the last step, while evaluating"
    return "between checkpoints" if _saved(run) else "before the first checkpoint"


def _compare(reference: Path, run: Path, tally: Counter[str]) -> None:
    """Bit for bit; then away with it.

    Raises:
        UserError: what differs.
    """
    import numpy as np

    names = [str(p.relative_to(reference)) for p in _runs(reference)]
    if names != [str(p.relative_to(run)) for p in _runs(run)]:
        raise UserError(f"{run}: holds other runs than the undisturbed one")
    for name in names:
        (ours, metrics, results), (theirs, *others) = _end_of(run / name), _end_of(reference / name)
        if ours.keys() != theirs.keys():
            raise UserError(f"{run / name}: other arrays than in the undisturbed run")
        for array in ours:
            if not np.array_equal(ours[array], theirs[array]):
                raise UserError(f"{run / name}: {array} differs from the undisturbed run's")
        if [metrics, results] != others:
            raise UserError(f"{run / name}: metrics or results differ from the undisturbed run's")
    tally["runs compared"] += 1
    shutil.rmtree(run)


def _end_of(run: Path) -> tuple[dict[str, Any], list[dict], dict]:
    """Arrays of the last checkpoint, metrics without timings, results."""
    from saejax.checkpoint import saved_arrays

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]
    return saved_arrays(run), metrics, json.loads((run / "run.json").read_text())["results"]


def main() -> None:
    """Parse the flags and soak."""
    start = time.monotonic()
    config = tyro.cli(SoakConfig, prog="python -m experiments.soak_training")
    tally = soak(config)
    for what, n in sorted(tally.items()):
        print(f"{n:5d} {what}")
    print(f"{(time.monotonic() - start) / max(1, config.kills):.2f} seconds per kill")


if __name__ == "__main__":
    run_cli(main)
