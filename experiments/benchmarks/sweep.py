"""How much faster do several SAEs train in one pass than one after another?

Steps of n runs side by side (``--sweep``) and of one run alone take turns on the same batches; the
speed-up of a round is n times the time of the one over the time of the n, and the table gives
medians over rounds, since a shared machine's speed drifts. Reading the data is left out: it is
shared by the runs of a sweep, and n times as much when they are trained one by one.

Command: ``python -m experiments.benchmarks.sweep`` (a few minutes on 2 cores). Writes
``sweep.json`` and ``sweep.md``.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.extraction import machine
from extract.errors import run_cli
from extract.files import plain_settings, write_atomically, write_json_atomically
from saejax.config import TrainConfig
from saejax.model import Constants
from saejax.state import init_state
from saejax.step import make_train_step
from saejax.sweep import stack

BATCHES = 4
"""Batches that are used again and again."""


@dataclass(frozen=True)
class SweepConfig:
    """Speed-up of training several SAEs in one pass over training them one by one."""

    out: Path = Path("runs/benchmarks")
    """Folder of the results."""
    n: tuple[int, ...] = (1, 2, 4)
    """Runs side by side; their seeds differ, and with ``vary_k`` their k."""
    d_model: int = 320
    """Dimensions of the activations."""
    d_sae: tuple[int, ...] = (1024, 2048)
    """Sizes of the dictionary."""
    k: int = 32
    """Active latents."""
    vary_k: bool = False
    """Every other run has half of k, by masking."""
    batch_size_tokens: int = 2048
    """Rows of a batch."""
    rounds: int = 7
    """Turns."""
    steps: int = 3
    """Steps in a turn."""


def measure(config: SweepConfig, d_sae: int) -> list[dict[str, Any]]:
    """Milliseconds per step and speed-ups of every number of runs, at one size."""
    rng = np.random.default_rng(0)
    shape = (BATCHES, 1, config.batch_size_tokens, config.d_model)
    batches = [jnp.asarray(b) for b in rng.normal(size=shape).astype(np.float32)]
    turn_of = {n: _runner(config, d_sae, n, batches) for n in {1, *config.n}}
    alone = _runner(config, d_sae, 1, batches)
    for turn in (alone, *turn_of.values()):
        turn()  # compiles
    seconds: dict[int, list[float]] = {n: [] for n in config.n}
    ratios: dict[int, list[float]] = {n: [] for n in config.n}
    for _ in range(config.rounds):
        for n in config.n:
            before, side_by_side, after = alone(), turn_of[n](), alone()
            seconds[n].append(side_by_side)
            ratios[n].append(n * (before + after) / 2 / side_by_side)
    return [
        {
            "d_sae": d_sae,
            "runs": n,
            "ms_per_step": 1e3 * float(np.median(seconds[n])) / config.steps,
            "speedup": float(np.median(ratios[n])),
            "speedups": ratios[n],
        }
        for n in config.n
    ]


def _runner(
    config: SweepConfig, d_sae: int, n: int, batches: list[jax.Array]
) -> Callable[[], float]:
    """A function that does a turn of ``n`` runs side by side, and returns its seconds."""
    several = config.vary_k and n > 1
    constants = Constants(np.zeros(config.d_model, np.float32), 1.0)
    states, training = [], None
    for i in range(n):
        run = TrainConfig.of(
            Path("none"), Path("none"), d_sae=d_sae, k=config.k, seed=i,
            batch_size_tokens=config.batch_size_tokens,
        )  # fmt: skip
        sae = run.sae(config.d_model)
        training, state = init_state(run, sae, constants, 10_000, k_varies=several)
        k = config.k // 2 if several and i % 2 else config.k
        states.append(state._replace(hyper=state.hyper._replace(k=jnp.int32(k))))
    assert training is not None
    step = make_train_step(training, jax.devices()[:1], sweep=n > 1)
    state = [stack(states) if n > 1 else states[0]]

    def turn() -> float:
        start = perf_counter()
        for i in range(config.steps):
            state[0], _ = step(state[0], batches[i % BATCHES])
        jax.block_until_ready(state[0])
        return perf_counter() - start

    return turn


def main() -> None:
    """Parse the flags, measure, write both files and print the table."""
    config = tyro.cli(SweepConfig, prog="python -m experiments.benchmarks.sweep")
    found = [row for d_sae in config.d_sae for row in measure(config, d_sae)]
    config.out.mkdir(parents=True, exist_ok=True)
    this = machine(multiprocessing.cpu_count(), "jax", "numpy")
    record = {"machine": this, "settings": plain_settings(config), "rows": found}
    write_json_atomically(config.out / "sweep.json", record)
    header = "| d_sae | runs in one pass | ms per step | speed-up over one by one |"
    lines = [header, "|---|---|---|---|"]
    lines += [
        f"| {r['d_sae']} | {r['runs']} | {r['ms_per_step']:.0f} | {r['speedup']:.2f} |"
        for r in found
    ]
    text = "\n".join(lines) + "\n"
    write_atomically(config.out / "sweep.md", lambda f: f.write(text.encode()))
    print(text)


if __name__ == "__main__":
    run_cli(main)
