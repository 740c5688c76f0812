"""``python -m saejax.train``: activations in, a trained sparse autoencoder out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from extract.errors import UserError, run_cli
from extract.files import write_atomically, write_json_atomically
from extract.statistics import Normalizer
from saejax.checkpoint import checkpoint_steps, latest_sae, restore, save
from saejax.config import TrainConfig
from saejax.evaluate import Evaluation, evaluate, row_blocks
from saejax.metrics_log import MetricsLog, drop_metrics_after
from saejax.placement import place, sae_devices
from saejax.run_record import open_run, previous_run
from saejax.sources import Data, open_data, parent_device
from saejax.step import AXIS, Training, TrainState, init_state, make_train_step

log = logging.getLogger(__name__)

STEPS_IN_FLIGHT = 2
"""Steps given to the devices and not known to be done; their batches are kept until they are."""


def train(config: TrainConfig, *, stop_after_step: int | None = None) -> Path:
    """Train, or go on with an interrupted run; returns the run folder.

    Args:
        config: the run.
        stop_after_step: leave after this many steps with a checkpoint, unfinished (for tests).

    Raises:
        UserError: the store, the run folder or the settings do not fit.
    """
    parent = parent_device(config)
    devices = sae_devices(parent)
    if config.batch_size_tokens % len(devices):
        nearest = max(1, config.batch_size_tokens // len(devices)) * len(devices)
        raise UserError(
            f"batch_size_tokens ({config.batch_size_tokens}) must be divisible by the device "
            f"count ({len(devices)}); try {nearest}"
        )
    previous = previous_run(config)
    data = open_data(config, parent, devices, previous)
    record = open_run(config, data, previous)
    if record["state"] == "complete":
        log.info("%s: already complete, held-out FVU %.4f", config.out, record["results"]["fvu"])
        return config.out
    n_steps = data.batches.batches_per_epoch * config.epochs
    constants = Normalizer.of_manifest(data.manifest)
    training, state = init_state(
        config, config.sae(data.d_model), constants.mean, constants.scale, n_steps
    )
    done = checkpoint_steps(config.out)
    if done:
        state = restore(config.out, done[-1], state)
        log.info("%s: resuming after step %d of %d", config.out, done[-1], n_steps)
    drop_metrics_after(config.out / "metrics.jsonl", int(state.step))
    stop = n_steps if stop_after_step is None else min(stop_after_step, n_steps)
    logger = MetricsLog(config, n_steps, int(state.step))
    state = _loop(config, data, devices, training, state, stop, logger)
    if int(state.step) == n_steps:
        _finish(config, data, record)
    return config.out


def _loop(
    config: TrainConfig,
    data: Data,
    devices: Sequence[Any],
    training: Training,
    state: TrainState,
    stop: int,
    logger: MetricsLog,
) -> TrainState:
    """Dispatch step n, then read the metrics of step n − 1."""
    mesh = Mesh(np.array(devices), (AXIS,))
    sharded = NamedSharding(mesh, PartitionSpec(AXIS))
    state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    step_fn = make_train_step(training, devices)
    in_flight: deque[tuple[jax.Array, jax.Array]] = deque()
    first = int(state.step)
    with (
        tqdm(total=logger.n_steps, initial=first, desc="train", unit="step", disable=None) as bar,
        closing(data.batches.iterate(first, stop)) as batches,
        jax.transfer_guard("disallow"),
    ):
        for step, rows in enumerate(batches, start=first + 1):
            batch = place(rows, sharded)
            state, metrics = step_fn(state, batch)
            in_flight.append((metrics.loss, batch))
            if len(in_flight) > STEPS_IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft()[0])
            logger.read_pending(bar)
            at_checkpoint = step % config.checkpoint_every_steps == 0 or step == stop
            if step % config.log_every_steps == 0 or at_checkpoint:
                logger.pending = (step, metrics)
            if at_checkpoint:
                logger.read_pending(bar)  # refuses to save a state that is not finite
                with jax.transfer_guard("allow"):
                    save(config.out, training, state)
            bar.update()
    return state


def _finish(config: TrainConfig, data: Data, record: dict) -> None:
    """Evaluate on held-out residues, then mark the run complete."""
    sae = latest_sae(config.out, config.sae(data.d_model))
    result = evaluate(sae, row_blocks(data.eval_store, data.eval_rows))
    _write_latent_stats(config.out / "latent_stats.parquet", result)
    write_json_atomically(
        config.out / "run.json", record | {"state": "complete", "results": result.summary()}
    )
    log.info("%s: held-out FVU %.4f, L0 %.1f, dead %.2f %%, on %d residues", config.out,
             result.fvu, result.l0, 100 * result.frac_dead, result.n_tokens)  # fmt: skip


def _write_latent_stats(path: Path, result: Evaluation) -> None:
    columns = {
        "latent": np.arange(len(result.frequency), dtype=np.int32),
        "frequency": result.frequency,
        "maximum": result.maximum,
    }
    write_atomically(path, lambda f: pq.write_table(pa.table(columns), f))


def main() -> None:
    """Parse the flags and train."""
    train(tyro.cli(TrainConfig, prog="python -m saejax.train"))


if __name__ == "__main__":
    run_cli(main)
