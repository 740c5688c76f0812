"""``python -m saejax.train``: activations in, a trained sparse autoencoder out."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from extract.errors import UserError, run_cli
from extract.files import write_atomically, write_json_atomically
from saejax import processes
from saejax.calibrate import calibrate_threshold
from saejax.checkpoint import Checkpoints, checkpoint_steps, latest_sae, restore
from saejax.command_line import train_config
from saejax.config import TrainConfig
from saejax.evaluate import Evaluation, evaluate, row_blocks
from saejax.interrupt import Interruption
from saejax.memory import keep_freed_memory
from saejax.metrics_log import MetricsLog, NotFinite, drop_metrics_after, likely_cause
from saejax.model import SAE
from saejax.placement import place, sae_devices
from saejax.run_record import open_run, previous_run
from saejax.sanity import check
from saejax.sources import Data, open_data, parent_device
from saejax.step import (
    DATA,
    StepMetrics,
    Training,
    TrainState,
    device_mesh,
    init_state,
    make_train_step,
    state_specs,
)
from saejax.sweep import common_step, members, stability_of, stack, unstack
from saejax.trackers import open_trackers, require_trackers

log = logging.getLogger(__name__)

STEPS_IN_FLIGHT = 2
"""Steps given to the devices and not known to be done; their batches are kept until they are."""
SAMPLE_ROWS = 2048
"""Rows that an architecture may start from."""


class Run(NamedTuple):
    """One SAE in training: alone, or one of a sweep."""

    config: TrainConfig
    record: dict[str, Any]
    """``run.json``."""
    training: Training
    checkpoints: Checkpoints
    logger: MetricsLog


def train(config: TrainConfig, *, stop_after_step: int | None = None) -> Path:
    """Train, or go on with an interrupted run; returns the run folder.

    Args:
        config: the run, or the sweep.
        stop_after_step: leave after this many steps with a checkpoint, unfinished (for tests).

    Raises:
        UserError: the store, the run folder or the settings do not fit.
    """
    require_trackers(config.reporting.trackers)
    processes.join(config.layout)
    parent = parent_device(config)
    devices = sae_devices(parent)
    _check_devices(config, len(devices))
    configs = members(config)
    previous = [previous_run(c) for c in configs]
    processes.wait_for_all("previous runs were read")
    data = open_data(config, parent, devices, previous[0])
    n_steps = data.batches.batches_per_epoch * config.epochs
    found = {}
    if None in previous:
        found = {"n_steps": n_steps, "sanity": check(configs, data, n_steps)}
    records = [open_run(c, data, p, found) for c, p in zip(configs, previous, strict=True)]
    processes.wait_for_all("run.json is there")
    if all(record["state"] == "complete" for record in records):
        for c, record in zip(configs, records, strict=True):
            log.info("%s: already complete, held-out FVU %.4f", c.out, record["results"]["fvu"])
        if config.sweep and processes.primary() and not (config.out / "sweep.json").exists():
            _write_stability(config, configs)
        return config.out
    unfinished = [i for i, record in enumerate(records) if record["state"] != "complete"]
    chosen, records = [configs[i] for i in unfinished], [records[i] for i in unfinished]
    runs, state = _start(chosen, records, data, n_steps)
    stop = n_steps if stop_after_step is None else min(stop_after_step, n_steps)
    try:
        with processes.losses_told():
            done = _Loop(config, runs, data, devices, n_steps).run(state, stop)
        if done == n_steps:
            if processes.primary():
                for run in runs:
                    _finish(run, data)
                if config.sweep:
                    _write_stability(config, configs)
            processes.wait_for_all("results are there")
    finally:
        for tracker in (t for run in runs for t in run.logger.trackers):
            tracker.close()
    return config.out


def _check_devices(config: TrainConfig, n: int) -> None:
    """Refuse batches and dictionaries that do not divide among the devices."""
    split = config.layout.latent_devices
    if n % split:
        raise UserError(
            f"--latent-devices ({split}) must divide the device count ({n}); "
            f"try {max(i for i in range(1, split + 1) if n % i == 0)}"
        )
    parts = n // split * config.recipe.accumulate_steps
    if config.batch_size_tokens % parts:
        nearest = max(1, config.batch_size_tokens // parts) * parts
        parts_of = "the device count" if parts == n else "devices that share it × accumulate_steps"
        raise UserError(
            f"batch_size_tokens ({config.batch_size_tokens}) must be divisible by {parts_of} "
            f"({parts}); try {nearest}"
        )


def _start(
    configs: Sequence[TrainConfig], records: Sequence[dict], data: Data, n_steps: int
) -> tuple[list[Run], Any]:
    """Runs with their first or last saved state; the states stacked when there are several."""
    saes = [c.sae(data.d_model, data.d_out) for c in configs]
    several = len(configs) > 1
    common = {"k": max(s.k for s in saes), "k_max": max(s.width for s in saes)}
    if not several:
        common = {}
    start = common_step([c.out for c in configs], [checkpoint_steps(c.out) for c in configs])
    processes.require_same(start, "the step to go on from; put --out on a disk that all share")
    sample = None if start or not _wants_sample(configs[0]) else _sample(data)
    runs, states = [], []
    for c, record, sae in zip(configs, records, saes, strict=True):
        training, state = init_state(
            c, replace(sae, **common), data.constants, n_steps, sample=sample,
            k_varies=several and len({s.k for s in saes}) > 1,
        )  # fmt: skip
        state = state._replace(hyper=state.hyper._replace(k=jax.numpy.int32(sae.k)))
        if start:
            state = restore(c.out, start, training, state)
            log.info("%s: resuming after step %d of %d", c.out, start, n_steps)
        checkpoints = Checkpoints(c.out, c.reporting.keep_checkpoints, primary=processes.primary())
        checkpoints.drop_after(start)
        logger = MetricsLog(c, n_steps, start)
        if processes.primary():
            drop_metrics_after(c.out / "metrics.jsonl", start)
            logger.trackers = open_trackers(c, start)
        runs.append(Run(c, record, training, checkpoints, logger))
        states.append(state)
    processes.wait_for_all("checkpoints were read")
    return runs, stack(states) if several else states[0]


def _wants_sample(config: TrainConfig) -> bool:
    return config.dictionary.architecture == "jumprelu"


def _sample(data: Data) -> np.ndarray:
    """The first rows of the first batch, on the host."""
    with closing(data.batches.iterate(0, 1)) as batches:
        rows: Any = next(batches)[:SAMPLE_ROWS, : data.d_model]
    return rows if isinstance(rows, np.ndarray) else rows.cpu().numpy()


class _Loop:
    """Dispatch step n, then read the metrics of step n − 1."""

    def __init__(
        self,
        config: TrainConfig,
        runs: Sequence[Run],
        data: Data,
        devices: Sequence[Any],
        n_steps: int,
    ) -> None:
        self.config, self.runs, self.data, self.n_steps = config, runs, data, n_steps
        self.devices, split = devices, config.layout.latent_devices
        self.mesh = device_mesh(devices, split)
        flat = Mesh(np.array(devices), (DATA,)) if split == 1 else self.mesh
        self.batch_sharding = NamedSharding(flat, PartitionSpec(DATA))
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
            host = processes.to_host(state, self.mesh)
            states = unstack(host, len(self.runs)) if len(self.runs) > 1 else [host]
            for run, own in zip(self.runs, states, strict=True):
                if save:
                    run.checkpoints.save(run.training, own)
                if look and processes.primary():
                    sae = run.training.sae(jax.tree.map(jax.numpy.asarray, own.ema or own.params))
                    sae.config = run.config.sae(self.data.d_model, self.data.d_out)  # its own k
                    result, _ = _evaluate(sae, run.config, self.data)
                    line = {f"held_out_{k}": v for k, v in result.summary().items()}
                    run.logger.append({"step": step} | line)

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
            host = jax.device_get(metrics)
            each = unstack(host, len(self.runs)) if len(self.runs) > 1 else [host]
            try:
                lines = [r.logger.write(step, m, waited) for r, m in zip(self.runs, each)]
            except NotFinite as error:
                with closing(self.data.batches.iterate(error.step - 1, error.step)) as batches:
                    rows: Any = next(batches)
                rows = rows if isinstance(rows, np.ndarray) else rows.cpu().numpy()
                raise UserError(f"{error}; {likely_cause(self.config, rows)}") from error
        bar.set_postfix(fvu=f"{lines[0]['fvu']:.3f}", dead=f"{lines[0]['frac_dead']:.3f}")


def _evaluate(trained: SAE, config: TrainConfig, data: Data) -> tuple[Evaluation, dict[str, float]]:
    """Figures on the held-out residues, with the threshold calibrated on them where there is one.

    Returns:
        The figures, and ``threshold`` or nothing.
    """

    def blocks():
        return row_blocks(data.eval_source, data.eval_rows)

    extra = {}
    if config.dictionary.architecture in ("batchtopk", "matryoshka"):
        extra["threshold"] = calibrate_threshold(trained, blocks, config.dictionary.k)
    return evaluate(trained.for_inference(extra.get("threshold")), blocks()), extra


def _finish(run: Run, data: Data) -> None:
    """Evaluate on held-out residues, then mark the run complete."""
    out = run.config.out
    sae = latest_sae(out, run.config.sae(data.d_model, data.d_out))
    result, extra = _evaluate(sae, run.config, data)
    _write_latent_stats(out / "latent_stats.parquet", result)
    results = result.summary() | extra
    write_json_atomically(out / "run.json", run.record | {"state": "complete", "results": results})
    for tracker in run.logger.trackers:
        tracker.log(max(checkpoint_steps(out)), {f"held_out_{k}": v for k, v in results.items()})
    log.info("%s: held-out FVU %.4f, L0 %.1f, dead %.2f %%, on %d residues", out,
             result.fvu, result.l0, 100 * result.frac_dead, result.n_tokens)  # fmt: skip


def _write_latent_stats(path: Path, result: Evaluation) -> None:
    columns = {
        "latent": np.arange(len(result.frequency), dtype=np.int32),
        "frequency": result.frequency,
        "maximum": result.maximum,
    }
    write_atomically(path, lambda f: pq.write_table(pa.table(columns), f))


def _write_stability(config: TrainConfig, configs: Sequence[TrainConfig]) -> None:
    """``sweep.json``: which runs there are, and how alike seeds became."""
    from saejax.checkpoint import load_sae

    decoders = [np.asarray(load_sae(c.out).sae.W_dec[...]) for c in configs]
    pairs = stability_of(configs, decoders)
    found = {"runs": [c.out.name for c in configs], "seed_stability": pairs}
    write_json_atomically(config.out / "sweep.json", found)
    for pair in pairs:
        log.info("%s and %s: %.0f %% of latents are in both, mean cosine %.2f", pair["first"],
                 pair["second"], 100 * pair["shared"], pair["mean_cosine"])  # fmt: skip


def main() -> None:
    """Parse the flags and train."""
    keep_freed_memory()
    train(train_config(sys.argv[1:]))


if __name__ == "__main__":
    run_cli(main)
