"""How long is one training step, beside Torch's dense ways and a sparse one tuned by hand?

Every contestant has a process of its own, with the same initial weights, the same batches and the
same number of threads. They take turns; a round's times are compared with each other only, and the
table gives medians of those ratios, since a shared machine's speed drifts. Losses after the same
steps must agree. ``--grow`` follows time and memory as the dictionary and the batch grow instead,
beside a floor: one encoder product, the four gathers and scatters as that many multiplications, and
Adam's traffic at the measured memory bandwidth.

Command: ``python -m experiments.benchmarks.step`` (about 10 minutes on 2 idle cores). Writes
``step.json`` and ``step.md``, or ``step_grow.json`` and ``step_grow.md``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from experiments.benchmarks.extraction import machine
from experiments.benchmarks.step_contestants import CONTESTANTS, Setting, initial, parts
from extract.errors import UserError, run_cli
from extract.files import write_atomically, write_json_atomically

AGREEMENT = {"float32": 1e-4, "bfloat16": 1e-2}
"""Largest relative difference from the first contestant's losses, by the encoder's numbers."""
ADAM_BYTES = 28
"""Traffic per parameter: read gradient, parameter and two moments, write the last three."""

SETTINGS = (Setting(1280, 4096, 64), Setting(1280, 16384, 64), Setting(320, 4096, 32))
DEAD = (300, 1000)
GROW_D_SAE = (4096, 8192, 16384, 32768, 65536, 131072)
GROW_BATCH = (512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class StepConfig:
    """Milliseconds per training step of every contestant."""

    out: Path = Path("runs/benchmarks")
    """Folder of the results."""
    contestants: tuple[str, ...] = tuple(CONTESTANTS)
    """Who takes part."""
    settings: tuple[int, ...] = (0, 1, 2)
    """Which comparisons: 0 is d_model 1280 with 4096 latents, 1 with 16384, 2 is 320 with 4096."""
    dead: tuple[int, ...] = DEAD
    """Numbers of dead latents for the cost of AuxK at the first of ``settings``."""
    rounds: int = 5
    """Timed turns of every contestant."""
    steps: int = 2
    """Steps in a turn."""
    threads: int = 2
    """PyTorch's threads; JAX takes all cores, so give their number."""
    malloc: str = ""
    """GLIBC_TUNABLES for every contestant, such as glibc.malloc.hugetlb=1."""
    grow: bool = False
    """Measure time and memory against size instead, without comparing losses."""
    grow_gb: float = 20.0
    """Largest memory a contestant may be expected to need in ``--grow``."""


def _work(pipe: Connection, contestant: str, setting: Setting, threads: int) -> None:
    """A contestant's process: build, then do as many steps as it is told until it is told none."""
    try:
        import torch

        torch.set_num_threads(threads)
        step = CONTESTANTS[contestant](setting)
        batches = initial(setting)[2]
        pipe.send(None)
        done = 0
        while n_steps := pipe.recv():
            losses, start = [], time.perf_counter()
            for _ in range(n_steps):
                losses.append(step(batches[done % len(batches)]))
                done += 1
            pipe.send(((time.perf_counter() - start) / n_steps, losses))
        pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)  # kB → GB
    except UserError as error:
        pipe.send(error)
    except Exception:
        pipe.send(RuntimeError(traceback.format_exc()))


def _receive(pipe: Connection) -> Any:
    got = pipe.recv()
    if isinstance(got, Exception):
        raise got
    return got


def _turn(pipe: Connection, n_steps: int) -> Any:
    """(seconds per step, losses), or peak memory in GB after no steps."""
    pipe.send(n_steps)
    return _receive(pipe)


@contextmanager
def _started(cases: dict[str, tuple[str, Setting]], threads: int) -> Iterator[dict]:
    """A process for each case's contestant, if this version has it; ended whatever happens."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    try:
        for label, (name, setting) in cases.items():
            pipe, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, name, setting, threads))
            process.start()
            processes.append(process)
            theirs.close()
            try:
                _receive(pipe)
                pipes[label] = pipe
            except UserError as error:
                print(f"{label}: {error}")
        yield pipes
    finally:
        for process in processes:
            process.terminate()
            process.join()


def measure(setting: Setting, names: tuple[str, ...], config: StepConfig) -> dict[str, Any]:
    """Times, agreement and memory of contestants at one setting.

    Raises:
        UserError: losses differ by more than :data:`AGREEMENT`.
    """
    with _started({n: (n, setting) for n in names}, config.threads) as pipes:
        losses = {name: list(_turn(pipe, 2)[1]) for name, pipe in pipes.items()}  # warm up
        times: dict[str, list[float]] = {name: [] for name in pipes}
        for _ in tqdm(range(config.rounds), desc=f"{setting}", disable=None):
            for name, pipe in pipes.items():
                seconds, more = _turn(pipe, config.steps)
                times[name].append(seconds)
                losses[name] += more
        memory = {name: _turn(pipe, 0) for name, pipe in pipes.items()}
    expected = np.array(next(iter(losses.values())))
    differences = {}
    for name, values in losses.items():
        differences[name] = float((abs(np.array(values) - expected) / expected).max())
        allowed = AGREEMENT["bfloat16" if "bfloat16" in name else "float32"]
        if not differences[name] <= allowed:
            raise UserError(
                f"{name}'s losses differ by {differences[name]:.1e}, more than {allowed:.0e}, at "
                f"{setting}: the benchmark does not count"
            )
    return {
        **asdict(setting), "seconds": times, "difference": differences, "peak_gb": memory,
        "losses": expected.tolist(),
    }  # fmt: skip


def with_dead(setting: Setting, config: StepConfig) -> list[dict[str, Any]]:
    """What AuxK adds to our step: with dead latents and without, taking turns."""
    found = []
    for name in (n for n in config.contestants if n.startswith("ours")):
        cases = {str(n): (name, replace(setting, n_dead=n)) for n in (0, *config.dead)}
        with _started(cases, config.threads) as pipes:
            for pipe in pipes.values():
                _turn(pipe, 2)
            turns = range(config.rounds if pipes else 0)
            times = np.array([[_turn(p, config.steps)[0] for p in pipes.values()] for _ in turns])
        if len(times):
            overhead = np.median(times / times[:, :1], axis=0)[1:] - 1
            found += [
                {**asdict(setting), "contestant": name, "n_dead": n, "overhead": float(o)}
                for n, o in zip(config.dead, overhead, strict=True)
            ]
    return found


def expected_gb(name: str, setting: Setting) -> float:
    """Rough need of a contestant: parameters four to five times, dense codes if it has them."""
    weights = 2 * setting.d_sae * setting.d_model
    codes = setting.batch * setting.d_sae
    return 4e-9 * (6 * weights + (8 if "dense" in name else 3) * codes) + 0.6


def grow(config: StepConfig) -> list[dict[str, Any]]:
    """Seconds and peak memory of one contestant after another, and the floor, as sizes grow."""
    sizes = [Setting(320, m, 32) for m in GROW_D_SAE]
    sizes += [Setting(320, 16384, 32, batch=b) for b in GROW_BATCH]
    found = []
    for setting in tqdm(sizes, desc="sizes", disable=None):
        row: dict[str, Any] = {**asdict(setting), "seconds": {}, "peak_gb": {}}
        for name in ("torch dense", "ours", "ours, bfloat16 encode"):
            if name not in config.contestants or expected_gb(name, setting) > config.grow_gb:
                continue
            with _started({name: (name, setting)}, config.threads) as pipes:
                for pipe in pipes.values():
                    _turn(pipe, 2)
                    turns = [_turn(pipe, config.steps)[0] for _ in range(config.rounds)]
                    row["seconds"][name] = float(np.median(turns))
                    row["peak_gb"][name] = _turn(pipe, 0)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row["parts_ms"] = pool.apply(parts, (setting,))
        row["floor_ms"] = floor_ms(setting, row["parts_ms"])
        found.append(row)
        write_json_atomically(config.out / "step_grow.json", {"sizes": found})  # so far
    return found


def floor_ms(setting: Setting, parts_ms: dict[str, float]) -> float:
    """One encoder product, four sparse ones at its speed, Adam at the memory's bandwidth."""
    products = parts_ms["encode"] * (1 + 4 * setting.k / setting.d_sae)
    adam = 2 * setting.d_sae * setting.d_model * ADAM_BYTES / parts_ms["bytes per ms"]
    return products + adam


def table(results: list[dict[str, Any]], dead: list[dict[str, Any]]) -> str:
    """The results as Markdown tables."""
    lines = [
        "| d_model, d_sae, k, batch | Program | ms per step | Beside torch dense | Beside medium | "
        "Beside sparse | Largest difference | Peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        size = f"{r['d_model']}, {r['d_sae']}, {r['k']}, {r['batch']}"
        for name, seconds in r["seconds"].items():
            ratios = [
                f"{np.median(np.array(r['seconds'][other]) / np.array(seconds)):.2f}"
                if other in r["seconds"] else ""
                for other in ("torch dense", "torch dense, medium", "torch sparse by hand")
            ]  # fmt: skip
            lines.append(
                f"| {size} | {name} | {1e3 * np.median(seconds):.0f} | {' | '.join(ratios)} | "
                f"{r['difference'][name]:.0e} | {r['peak_gb'][name]:.2f} GB |"
            )
    if dead:
        lines += ["", "| d_sae | Program | Dead latents | AuxK adds |", "|---|---|---|---|"]
    for r in dead:
        line = f"| {r['d_sae']} | {r['contestant']} | {r['n_dead']} | {100 * r['overhead']:.0f} % |"
        lines.append(line)
    return "\n".join(lines) + "\n"


def grow_table(rows: list[dict[str, Any]]) -> str:
    """Time and memory against size as a Markdown table."""
    lines = [
        "| d_model, d_sae, k, batch | Program | ms per step | Peak memory | Floor/step |",
        "|---|---|---|---|---|",
    ]
    for r in rows:
        for name, seconds in r["seconds"].items():
            lines.append(
                f"| {r['d_model']}, {r['d_sae']}, {r['k']}, {r['batch']} | {name} | "
                f"{1e3 * seconds:.0f} | {r['peak_gb'][name]:.2f} GB | "
                f"{100 * r['floor_ms'] / (1e3 * seconds):.0f} % |"
            )
    lines += ["", "| d_sae, batch | Part, compiled alone | ms |", "|---|---|---|"]
    for r in rows:
        for name, ms in r["parts_ms"].items():
            if "bytes" not in name:
                lines.append(f"| {r['d_sae']}, {r['batch']} | {name} | {ms:.1f} |")
    return "\n".join(lines) + "\n"


def run(config: StepConfig) -> str:
    """Measure and write; returns the tables."""
    unknown = set(config.contestants) - set(CONTESTANTS)
    if unknown or not config.contestants:
        raise UserError(f"--contestants {sorted(unknown)}: must be of {', '.join(CONTESTANTS)}")
    if config.malloc:
        os.environ["GLIBC_TUNABLES"] = config.malloc
    about = machine(config.threads, "torch", "jax", "jaxlib", "optax")
    about |= {"malloc": config.malloc}
    config.out.mkdir(parents=True, exist_ok=True)
    if config.grow:
        rows = grow(config)
        stem, text, results = "step_grow", grow_table(rows), {"sizes": rows}
    else:
        settings = [SETTINGS[i] for i in config.settings]
        measured = [measure(s, config.contestants, config) for s in settings]
        dead = with_dead(settings[0], config) if config.dead else []
        stem, text = "step", table(measured, dead)
        results = {"results": measured, "dead": dead}
    text = f"{text}\n{json.dumps(about)}\n"
    write_json_atomically(config.out / f"{stem}.json", {"machine": about, **results})
    write_atomically(config.out / f"{stem}.md", lambda f: f.write(text.encode()))
    return text


def main() -> None:
    """Measure, print the tables and write them."""
    print(run(tyro.cli(StepConfig, prog="python -m experiments.benchmarks.step")))


if __name__ == "__main__":
    run_cli(main)
