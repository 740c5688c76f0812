"""``metrics.jsonl``: one line per logging interval, read from the device one step late."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from extract.errors import UserError
from extract.files import write_atomically
from saejax.checkpoint import checkpoint_steps
from saejax.config import TrainConfig
from saejax.step import StepMetrics, learning_rate_schedule


def drop_metrics_after(path: Path, step: int) -> None:
    """Forget metrics of steps that a killed run did but did not save."""
    if not path.exists():
        return
    lines = [s for s in path.read_text().splitlines(keepends=True) if s.endswith("\n")]
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_atomically(path, lambda f: f.write("".join(kept).encode()))


class MetricsLog:
    """Appends metrics to ``metrics.jsonl`` one step late, so that the device never waits."""

    def __init__(self, config: TrainConfig, n_steps: int, first_step: int) -> None:
        """Of a run of ``n_steps`` that goes on after ``first_step``."""
        self.path = config.out / "metrics.jsonl"
        self.config, self.n_steps = config, n_steps
        self.schedule = learning_rate_schedule(config, n_steps)
        self.pending: tuple[int, StepMetrics] | None = None
        self._last = (first_step, time.perf_counter())

    def read_pending(self, bar: tqdm) -> None:
        """Write the line of the metrics that were left in ``pending``, if any.

        Raises:
            UserError: the loss is not finite.
        """
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        now = time.perf_counter()
        tokens = (step - self._last[0]) * self.config.batch_size_tokens
        with jax.transfer_guard("allow"):
            values = {k: float(v) for k, v in jax.device_get(metrics)._asdict().items()}
            rate = float(np.asarray(self.schedule(step - 1)))
        line = {
            "step": step,
            "tokens_seen": step * self.config.batch_size_tokens,
            **values,
            "learning_rate": rate,
            "tokens_per_sec": tokens / (now - self._last[1]),
        }
        self._last = (step, now)
        if not math.isfinite(values["loss"]):
            saved = checkpoint_steps(self.config.out)
            raise UserError(
                f"{self.config.out}: the loss is not finite at step {step}; last good checkpoint: "
                f"{saved[-1] if saved else 'none'}; lower --learning-rate (now "
                f"{self.config.peak_learning_rate():.2g}) or check the activations"
            )
        with self.path.open("a") as f:
            f.write(json.dumps(line) + "\n")
        bar.set_postfix(fvu=f"{values['fvu']:.3f}", dead=f"{values['frac_dead']:.3f}")
