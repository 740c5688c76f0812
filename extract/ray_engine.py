"""Extraction on a Ray cluster: every shard is a task, retried without end on whatever nodes live.

A worker process keeps its parent model from one task to the next. Tasks ask for one GPU each (for
one core where the cluster has no GPU), so that an autoscaling cluster grows with the queue.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from tqdm import tqdm

from extract.config import ExtractConfig
from extract.engines import load_model
from extract.errors import UserError
from extract.location import Location
from extract.pipeline import claim, shard_arrays, shards_left, write
from extract.plm import ProteinLM
from extract.prepare import ALONE, prepare
from extract.selection import FastaSource
from extract.writer import StoreWriter

log = logging.getLogger(__name__)


def run_on_ray(config: ExtractConfig) -> None:
    """Prepare the stores here, queue a task for every missing shard, finish.

    Uses the cluster at ``RAY_ADDRESS``, or starts Ray on this machine. All nodes must see ``out``
    and ``weights`` under the same path.

    Raises:
        UserError: Ray is not installed, or what a task refuses.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UserError(
            "--engine ray needs Ray: pip install 'protein-latents[ray]', or use --engine local"
        ) from None
    model = load_model(config, ALONE, on_cpu=True)
    prepare(config, model, FastaSource(config.fasta, config.selection(model.max_residues)))
    del model
    writers = [StoreWriter(place) for place in config.places()]
    if all(w.complete for w in writers):
        log.info("%s: already complete, nothing to do", config.out)
        return
    ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        _run_tasks(ray, _for_nodes(config), writers)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    finally:
        ray.shutdown()
    for w in writers:
        done = w.finish()
        log.info("%s: %d residues of %d proteins at %s", w.place, done["n_rows"],
                 done["n_proteins"], done["site"])  # fmt: skip


def _for_nodes(config: ExtractConfig) -> ExtractConfig:
    """The same settings with absolute paths."""
    weights = config.weights.absolute() if config.weights else None
    out = Location.of(config.out)
    return replace(config, out=out.path.absolute() if out.is_local else out.path, weights=weights)


def _run_tasks(ray: Any, config: ExtractConfig, writers: list[StoreWriter]) -> None:
    on_gpu = bool(ray.cluster_resources().get("GPU")) or (config.device or "").startswith("cuda")
    resources = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
    task = ray.remote(max_retries=-1, scheduling_strategy="SPREAD", **resources)(write_one_shard)
    at_once = config.processes or 10_000
    with tqdm(
        total=writers[0].manifest["n_rows"], unit="res", unit_scale=True, disable=None
    ) as bar:
        while left := shards_left(writers, bar):
            queue, running, n_written = iter(left), [], 0
            while True:
                while len(running) < at_once and (shard := next(queue, None)) is not None:
                    running.append(task.remote(config, shard.index))
                if not running:
                    break
                done, running = ray.wait(running, num_returns=1)
                n_written += sum(ray.get(done))
                shards_left(writers, bar)
            if not n_written:
                time.sleep(0.5)  # what is left is in the hands of processes outside this cluster


def write_one_shard(config: ExtractConfig, index: int) -> bool:
    """A task: compute and commit one shard; False when it is written or another process has it."""
    model, writers = _opened(config)
    shard = writers[0].shards[index]
    mine = claim(writers, shard)
    if mine:
        write(mine, shard, *shard_arrays(config, model, mine, shard))
    return bool(mine)


@lru_cache(maxsize=1)
def _opened(config: ExtractConfig) -> tuple[ProteinLM, list[StoreWriter]]:
    """The parent and the stores, kept by a worker process between tasks."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # the task asked for one core
    return load_model(config, ALONE), [StoreWriter(place) for place in config.places()]
