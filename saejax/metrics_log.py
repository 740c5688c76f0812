"""``metrics.jsonl``: one line per logging interval, read from the device one step late."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from extract.errors import UserError
from extract.files import write_atomically
from saejax.checkpoint import checkpoint_steps
from saejax.config import TrainConfig
from saejax.processes import primary
from saejax.schedules import schedules
from saejax.state import StepMetrics


@runtime_checkable
class Tracker(Protocol):
    """Where metrics go besides ``metrics.jsonl``."""

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers, and lists of numbers, of a step."""
        ...

    def close(self) -> None:
        """Write out what is left."""
        ...


def drop_metrics_after(path: Path, step: int) -> None:
    """Forget metrics of steps that a killed run did but did not save."""
    if not path.exists():
        return
    lines = [s for s in path.read_text().splitlines(keepends=True) if s.endswith("\n")]
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_atomically(path, lambda f: f.write("".join(kept).encode()))


class MetricsLog:
    """Appends the metrics of one run to its ``metrics.jsonl``."""

    def __init__(self, config: TrainConfig, n_steps: int, first_step: int) -> None:
        """Of a run of ``n_steps`` that goes on after ``first_step``; one process writes it."""
        self.path = config.out / "metrics.jsonl"
        self.config = config
        self.trackers: list[Tracker] = []
        self._schedules = schedules(config, n_steps)
        self._last = (first_step, time.perf_counter())

    def write(self, step: int, metrics: StepMetrics, data_wait_s: float) -> dict[str, Any]:
        """Write the line of a step.

        Args:
            step: steps done.
            metrics: on the host.
            data_wait_s: seconds spent waiting for batches since the last line.

        Returns:
            What was written.

        Raises:
            UserError: the loss is not finite.
        """
        now, (last_step, last) = time.perf_counter(), self._last
        values = {name: np.asarray(v).tolist() for name, v in metrics._asdict().items()}
        bad_step = values.pop("first_bad_step")
        if bad_step:
            raise self._not_finite(bad_step)
        done, batch = step - 1, self.config.batch_size_tokens
        line = {
            "step": step,
            "tokens_seen": step * batch,
            **values,
            "learning_rate": self.config.peak_learning_rate()
            * float(np.asarray(self._schedules.learning_rate(done))),
            "sparsity": self.config.sparsity() * float(np.asarray(self._schedules.sparsity(done))),
            "tokens_per_sec": (step - last_step) * batch / (now - last),
            "data_wait": data_wait_s / (now - last),
        }
        self._last = (step, now)
        self.append(line)
        return line

    def append(self, line: dict[str, Any]) -> None:
        """Add a line."""
        if not primary():
            return
        with self.path.open("a") as f:
            f.write(json.dumps(line) + "\n")
        for tracker in self.trackers:
            tracker.log(line["step"], {k: v for k, v in line.items() if k != "step"})

    def _not_finite(self, step: int) -> UserError:
        saved = checkpoint_steps(self.config.out)
        good = f"step {saved[-1]}" if saved else "none"
        return NotFinite(
            f"{self.config.out}: the loss is not finite at step {step}; last good checkpoint: "
            f"{good}",
            step,
        )


class NotFinite(UserError):
    """The loss of a step was not finite."""

    def __init__(self, message: str, step: int) -> None:
        """Of this step."""
        super().__init__(message)
        self.step = step


HUGE_SPARSITY = 1000
"""Times the architecture's own λ: more is a likelier cause of overflow than the learning rate."""


def likely_cause(config: TrainConfig, rows: np.ndarray) -> str:
    """Why the loss of a batch was not finite.

    Args:
        config: the run.
        rows: the batch's raw activations.
    """
    if not np.isfinite(rows).all():
        n = int((~np.isfinite(rows).all(axis=1)).sum())
        return (
            f"likely cause: {n} of the batch's {len(rows)} residues have activations that are not "
            "finite; check the store with `python -m extract verify`"
        )
    given, own = config.sparsity(), config.own.sparsity
    if own and given > HUGE_SPARSITY * own:
        return (
            f"likely cause: a sparsity of {given:.2g} is too high; try --sparsity {own:.2g}, the "
            "architecture's own, in a new --out folder"
        )
    rate, usual = config.peak_learning_rate(), config.scaled_learning_rate()
    if rate > 2 * usual or math.isclose(rate, usual):
        hint = f"try --learning-rate {min(rate, usual) / 4:.2g}"
    else:
        hint = f"try --learning-rate {rate / 4:.2g}"
    return f"likely cause: a learning rate of {rate:.2g} is too high; {hint} in a new --out folder"
