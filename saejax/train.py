"""``python -m saejax.train``: activations in, a trained sparse autoencoder out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from extract.errors import UserError, run_cli
from saejax import processes
from saejax.checkpoint import Checkpoints, checkpoint_steps, restore
from saejax.command_line import train_config
from saejax.config import TrainConfig
from saejax.data import batch_on_host
from saejax.loop import Loop, Run
from saejax.memory import keep_freed_memory
from saejax.metrics_log import MetricsLog, drop_metrics_after
from saejax.placement import sae_devices
from saejax.results import finish, write_stability
from saejax.run_record import open_run, previous_run
from saejax.sanity import check
from saejax.sources import Data, open_data, parent_device
from saejax.state import init_state
from saejax.sweep import common_step, members, stack
from saejax.trackers import open_trackers, require_trackers

log = logging.getLogger(__name__)

SAMPLE_ROWS = 2048
"""Rows that an architecture may start from."""


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
    if _all_complete(config, configs, records):
        return config.out
    unfinished = [i for i, record in enumerate(records) if record["state"] != "complete"]
    chosen, records = [configs[i] for i in unfinished], [records[i] for i in unfinished]
    runs, state = _start(chosen, records, data, n_steps)
    stop = n_steps if stop_after_step is None else min(stop_after_step, n_steps)
    try:
        with processes.losses_told():
            done = Loop(config, runs, data, devices, n_steps).run(state, stop)
        if done == n_steps:
            if processes.primary():
                for run in runs:
                    results = finish(run.config, run.record, data)
                    for tracker in run.logger.trackers:
                        tracker.log(done, {f"held_out_{k}": v for k, v in results.items()})
                if config.sweep:
                    write_stability(config, configs)
            processes.wait_for_all("results are there")
    finally:
        for tracker in (t for run in runs for t in run.logger.trackers):
            tracker.close()
    return config.out


def _all_complete(
    config: TrainConfig, configs: Sequence[TrainConfig], records: Sequence[dict]
) -> bool:
    """Whether there is nothing to do; a sweep's comparison of seeds is made up for."""
    if any(record["state"] != "complete" for record in records):
        return False
    for c, record in zip(configs, records, strict=True):
        log.info("%s: already complete, held-out FVU %.4f", c.out, record["results"]["fvu"])
    if config.sweep and processes.primary() and not (config.out / "sweep.json").exists():
        write_stability(config, configs)
    return True


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
    sample = None
    if not start and _wants_sample(configs[0]):
        sample = batch_on_host(data.batches, 0)[:SAMPLE_ROWS, : data.d_model]
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


def main() -> None:
    """Parse the flags and train."""
    keep_freed_memory()
    train(train_config(sys.argv[1:]))


if __name__ == "__main__":
    run_cli(main)
