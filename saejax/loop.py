"""The loop: dispatch step n, then read the metrics of step n − 1."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from extract.errors import UserError
from saejax import processes
from saejax.checkpoint import Checkpoints
from saejax.config import TrainConfig
from saejax.data import batch_on_host
from saejax.interrupt import Interruption
from saejax.metrics_log import MetricsLog, NotFinite, likely_cause
from saejax.placement import place
from saejax.results import evaluate_training
from saejax.sources import Data
from saejax.state import StepMetrics, Training, TrainState
from saejax.step import DATA, device_mesh, make_train_step, state_specs
from saejax.sweep import unstack

log = logging.getLogger(__name__)

STEPS_IN_FLIGHT = 2
"""Steps given to the devices and not known to be done; their batches are kept until they are."""


class Run(NamedTuple):
    """One SAE in training: alone, or one of a sweep."""

    config: TrainConfig
    record: dict[str, Any]
    """``run.json``."""
    training: Training
    checkpoints: Checkpoints
    logger: MetricsLog


class Loop:
    """Takes runs with one state, or with stacked ones, from step to step."""

    def __init__(
        self,
        config: TrainConfig,
        runs: Sequence[Run],
        data: Data,
        devices: Sequence[Any],
        n_steps: int,
    ) -> None:
        """Compile nothing yet.

        Args:
            config: of the run, or of the sweep.
            runs: what is trained side by side.
            data: where batches come from.
            devices: that train.
            n_steps: length of the run.
        """
        self.config, self.runs, self.data, self.n_steps = config, runs, data, n_steps
        split = config.layout.latent_devices
        # what pmap gives back; from another mesh the second step would be compiled again
        self.mesh = Mesh(np.array(devices), (DATA,)) if split == 1 else device_mesh(devices, split)
        self.batch_sharding = NamedSharding(self.mesh, PartitionSpec(DATA))
        self.step_fn = make_train_step(
            runs[0].training, devices, latent_devices=split, sweep=len(runs) > 1
        )
        self.pending: tuple[int, StepMetrics] | None = None
        self.data_wait_s = 0.0

    def run(self, state: TrainState, stop: int) -> int:
        """Steps up to ``stop``, or until the process is told to stop; returns the last one."""
        step = first = int(np.max(state.step))
        state = self._place_state(state)
        in_flight: deque[tuple[jax.Array, jax.Array]] = deque()
        with (
            tqdm(total=self.n_steps, initial=first, desc="train", unit="step", disable=None) as bar,
            closing(self.data.batches.iterate(first, stop)) as batches,
            Interruption() as interruption,
            jax.transfer_guard("disallow"),
        ):
            while step < stop:
                step += 1
                batch = self._next(batches)
                state, metrics = self.step_fn(state, batch)
                in_flight.append((metrics.loss, batch))
                if len(in_flight) > STEPS_IN_FLIGHT:
                    jax.block_until_ready(in_flight.popleft()[0])
                self._read_pending(bar)
                last = step == stop or interruption.at(step)
                self._after_step(step, state, metrics, bar, last=last)
                bar.update()
                if last:
                    break
        self._wait_for_checkpoints()
        if interruption.told_to_stop and step < self.n_steps:
            log.info("%s: told to stop, saved after step %d of %d; the same command goes on",
                     self.config.out, step, self.n_steps)  # fmt: skip
        return step

    def _place_state(self, state: TrainState) -> Any:
        """On all devices: whole, or a part of the latents on each."""
        specs: Any = PartitionSpec()
        if self.config.layout.latent_devices > 1:
            specs = jax.tree.map(lambda s: NamedSharding(self.mesh, s), state_specs(state))
            return jax.tree.map(jax.device_put, state, specs)
        return jax.device_put(state, NamedSharding(self.mesh, specs))

    def _next(self, batches: Any) -> jax.Array:
        start = perf_counter()
        rows = next(batches)
        self.data_wait_s += perf_counter() - start
        return place(rows, self.batch_sharding)

    def _after_step(
        self, step: int, state: TrainState, metrics: StepMetrics, bar: tqdm, *, last: bool
    ) -> None:
        reporting = self.config.reporting
        save = last or step % reporting.checkpoint_every_steps == 0
        every = reporting.eval_every_steps
        look = every is not None and step % every == 0 and step < self.n_steps
        if save or look or step % reporting.log_every_steps == 0:
            self.pending = (step, metrics)
        if not (save or look):
            return
        self._read_pending(bar)  # refuses to save a state that is not finite
        with jax.transfer_guard("allow"):
            self._wait_for_checkpoints()
            states = self._of_each_run(processes.to_host(state, self.mesh))
            for run, own in zip(self.runs, states, strict=True):
                if save:
                    run.checkpoints.save(run.training, own)
                if look and processes.primary():
                    sae = run.training.sae(jax.tree.map(jax.numpy.asarray, own.ema or own.params))
                    sae.config = run.config.sae(self.data.d_model, self.data.d_out)  # its own k
                    result, _ = evaluate_training(sae, run.config, self.data)
                    line = {f"held_out_{k}": v for k, v in result.summary().items()}
                    run.logger.append({"step": step} | line)

    def _of_each_run(self, host: Any) -> list[Any]:
        """State or metrics of every run, from arrays on the host."""
        return unstack(host, len(self.runs)) if len(self.runs) > 1 else [host]

    def _wait_for_checkpoints(self) -> None:
        for run in self.runs:
            run.checkpoints.wait()
        for run in self.runs:
            run.checkpoints.drop_oldest()

    def _read_pending(self, bar: tqdm) -> None:
        if self.pending is None:
            return
        (step, metrics), self.pending = self.pending, None
        waited, self.data_wait_s = self.data_wait_s, 0.0
        with jax.transfer_guard("allow"):
            each = self._of_each_run(jax.device_get(metrics))
            try:
                lines = [r.logger.write(step, m, waited) for r, m in zip(self.runs, each)]
            except NotFinite as error:
                rows = batch_on_host(self.data.batches, error.step - 1)
                raise UserError(f"{error}; {likely_cause(self.config, rows)}") from error
        bar.set_postfix(fvu=f"{lines[0]['fvu']:.3f}", dead=f"{lines[0]['frac_dead']:.3f}")
