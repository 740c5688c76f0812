"""``python -m saejax.train``: activations in, a trained sparse autoencoder out."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import asdict, fields
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
from extract.files import read_json, versions, write_atomically, write_json_atomically
from extract.store import ActivationStore, require_same_parent
from saejax.checkpoint import RUN_FORMAT_VERSION, checkpoint_steps, latest_sae, restore, save
from saejax.config import TrainConfig
from saejax.data import ActivationBatches, held_out_rows
from saejax.evaluate import Evaluation, evaluate, row_blocks
from saejax.step import (
    AXIS,
    StepMetrics,
    Training,
    TrainState,
    init_state,
    learning_rate_schedule,
    make_train_step,
)

log = logging.getLogger(__name__)

_NOT_IDENTITY = {"activations", "eval_activations", "out", "log_every_steps"}
"""Fields that may change between a run and its resumption (stores are compared by manifest)."""


class Data:
    """What a run trains and is evaluated on."""

    def __init__(self, config: TrainConfig) -> None:
        """Open the stores and choose the held-out rows."""
        self.store = ActivationStore.open(config.activations)
        self.eval_store, self.eval_rows, keep = self.store, None, None
        if config.eval_activations is not None:
            self.eval_store = ActivationStore.open(config.eval_activations)
            what = f"stores {config.activations} and {config.eval_activations}"
            require_same_parent(self.store.manifest, self.eval_store.manifest, what=what)
            self.eval_rows = _rows_not_trained_on(self.store, self.eval_store)
        else:
            self.eval_rows = held_out_rows(self.store, config.holdout_fraction)
            keep = ~self.eval_rows
        self.batches = ActivationBatches(
            self.store, batch_size=config.batch_size_tokens, seed=config.seed, keep_rows=keep
        )


def _rows_not_trained_on(store: ActivationStore, eval_store: ActivationStore) -> np.ndarray | None:
    """Rows of the proteins that ``store`` lacks; None when that is all of them."""
    trained_on = {p.sequence for p in store.proteins}
    unseen = np.array([p.sequence not in trained_on for p in eval_store.proteins])
    if unseen.all():
        return None
    if not unseen.any():
        raise UserError(
            f"{eval_store.folder}: every protein is also in {store.folder}, so none is held out; "
            "give other proteins, or leave --eval-activations away to hold some out"
        )
    log.warning("%s: %d of %d proteins are also trained on and left out of the held-out figures",
                eval_store.folder, (~unseen).sum(), len(unseen))  # fmt: skip
    return np.repeat(unseen, np.diff(eval_store.offsets))


def train(config: TrainConfig, *, stop_after_step: int | None = None) -> Path:
    """Train, or go on with an interrupted run; returns the run folder.

    Args:
        config: the run.
        stop_after_step: leave after this many steps with a checkpoint, unfinished (for tests).

    Raises:
        UserError: the store, the run folder or the settings do not fit.
    """
    n_devices = jax.device_count()
    if config.batch_size_tokens % n_devices:
        nearest = max(1, config.batch_size_tokens // n_devices) * n_devices
        raise UserError(
            f"batch_size_tokens ({config.batch_size_tokens}) must be divisible by the device "
            f"count ({n_devices}); try {nearest}"
        )
    data = Data(config)
    sae_config = config.sae(data.store.d_model)
    record = _open_run(config, data)
    if record["state"] == "complete":
        log.info("%s: already complete, held-out FVU %.4f", config.out, record["results"]["fvu"])
        return config.out
    n_steps = data.batches.batches_per_epoch * config.epochs
    training, state = init_state(config, sae_config, data.store.mean, data.store.scale, n_steps)
    done = checkpoint_steps(config.out)
    if done:
        state = restore(config.out, done[-1], state)
        log.info("%s: resuming after step %d of %d", config.out, done[-1], n_steps)
    _drop_metrics_after(config.out / "metrics.jsonl", int(state.step))
    stop = n_steps if stop_after_step is None else min(stop_after_step, n_steps)
    state = _loop(config, data, training, state, stop, n_steps)
    if int(state.step) == n_steps:
        _finish(config, data, record)
    return config.out


def _open_run(config: TrainConfig, data: Data) -> dict:
    """Create ``run.json``, or check that the folder holds this very run."""
    out = config.out
    plain = {f.name: _plain(getattr(config, f.name)) for f in fields(config)}
    record = {
        "format_version": RUN_FORMAT_VERSION,
        "state": "training",
        "config": plain,
        "sae": asdict(config.sae(data.store.d_model)),
        "store": data.store.manifest,
        "eval_store": data.eval_store.manifest,
        "versions": versions("jax", "flax", "optax", "orbax-checkpoint", "numpy"),
    }
    if not (out / "run.json").exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: is not empty and not a run; give a new --out folder")
        out.mkdir(parents=True, exist_ok=True)
        write_json_atomically(out / "run.json", record)
        return record
    old = read_json(out / "run.json", "a training run")
    for name, value in plain.items():
        if name not in _NOT_IDENTITY and old["config"].get(name) != value:
            raise UserError(
                f"{out}: holds a run with {name} {old['config'].get(name)!r}, now {value!r}; give "
                "a new --out folder, or the same settings to resume"
            )
    for key, store in (("store", data.store), ("eval_store", data.eval_store)):
        if old[key] != store.manifest:
            raise UserError(
                f"{out}: was trained on another activation store than {store.folder} (their "
                "manifests differ); give a new --out folder, or the same store to resume"
            )
    return old


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _drop_metrics_after(path: Path, step: int) -> None:
    """Forget metrics of steps that a killed run did but did not save."""
    if not path.exists():
        return
    lines = [s for s in path.read_text().splitlines(keepends=True) if s.endswith("\n")]
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_atomically(path, lambda f: f.write("".join(kept).encode()))


def _loop(
    config: TrainConfig, data: Data, training: Training, state: TrainState, stop: int, n_steps: int
) -> TrainState:
    """Dispatch step n, then read the metrics of step n − 1."""
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    sharded = NamedSharding(mesh, PartitionSpec(AXIS))
    state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    step_fn = make_train_step(training)
    n_devices, first = jax.device_count(), int(state.step)
    logger = _MetricsLog(config, n_steps, first)
    with (
        tqdm(total=n_steps, initial=first, desc="train", unit="step", disable=None) as bar,
        jax.transfer_guard("disallow"),
    ):
        for step, batch in enumerate(data.batches.iterate(first, stop), start=first + 1):
            shards = batch.reshape(n_devices, -1, batch.shape[1])
            state, metrics = step_fn(state, jax.device_put(shards, sharded))
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


class _MetricsLog:
    """Appends metrics to ``metrics.jsonl`` one step late, so that the device never waits."""

    def __init__(self, config: TrainConfig, n_steps: int, first_step: int) -> None:
        self.path = config.out / "metrics.jsonl"
        self.config = config
        self.schedule = learning_rate_schedule(config, n_steps)
        self.pending: tuple[int, StepMetrics] | None = None
        self._last = (first_step, time.perf_counter())

    def read_pending(self, bar: tqdm) -> None:
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


def _finish(config: TrainConfig, data: Data, record: dict) -> None:
    """Evaluate on held-out residues, then mark the run complete."""
    sae = latest_sae(config.out, config.sae(data.store.d_model))
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
