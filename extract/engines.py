"""What runs an extraction: this process, several on this machine, or Ray."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time

import torch
from tqdm import tqdm

from extract.config import ExtractConfig
from extract.errors import UserError, run_cli
from extract.parents import load_parent
from extract.pipeline import fill
from extract.plm import ProteinLM
from extract.prepare import ALONE, Worker, prepare
from extract.selection import FastaSource
from extract.store import committed_shards, read_manifest, shard_specs

log = logging.getLogger(__name__)


def run(config: ExtractConfig, worker: Worker = ALONE) -> None:
    """Extract with the engine and the number of processes that ``config`` asks for.

    Raises:
        UserError: what :func:`extract.pipeline.extract` refuses, an engine that is not installed,
            or processes that died and left shards undone.
    """
    if config.engine == "ray":
        from extract.ray_engine import run_on_ray

        run_on_ray(config)
        return
    n_processes = 1 if worker.world > 1 else config.processes or torch.cuda.device_count() or 1
    model = load_model(config, worker, on_cpu=n_processes > 1)
    prepare(
        config,
        model,
        FastaSource(config.fasta, config.selection(model.max_residues)),
        worker=worker,
    )
    if n_processes == 1:
        fill(config, model, worker=worker, quiet=worker.rank > 0)
        return
    del model
    _run_processes(config, n_processes)


def load_model(config: ExtractConfig, worker: Worker, *, on_cpu: bool = False) -> ProteinLM:
    """The parent, on the device of this process.

    Raises:
        UserError: unknown model or weights.
    """
    device = config.device
    if on_cpu:
        device = "cpu"
    elif device is None and torch.cuda.is_available():
        device = f"cuda:{worker.local_rank % torch.cuda.device_count()}"
    return load_parent(
        config.model,
        weights=config.weights,
        token_dropout=config.token_dropout,
        device=device,
        dtype=config.compute,
    )


def _run_processes(config: ExtractConfig, n: int) -> None:
    """One process a GPU (or ``n`` on the CPU's cores); what one leaves undone others take over."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // n)
    children = [
        context.Process(target=_child, args=(config, Worker(rank, n, rank), threads, os.getpid()))
        for rank in range(n)
    ]
    for child in children:
        child.start()
    try:
        _watch(config, children)
    finally:
        for child in children:
            child.terminate()
            child.join()


def _child(config: ExtractConfig, worker: Worker, threads: int, parent: int) -> None:
    """A process of :func:`_run_processes`; it ends when its parent does."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)

    def work() -> None:
        logging.getLogger().setLevel(logging.ERROR)  # the parent has said it all
        fill(config, load_model(config, worker), worker=worker, quiet=True)

    run_cli(work)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _watch(config: ExtractConfig, children: list) -> None:
    """Show progress until every process has ended; then say how it went."""
    manifest = read_manifest(config.places()[0])
    shards = shard_specs(manifest["n_rows"], manifest["shard_rows"])
    dead: set[int] = set()
    with tqdm(total=manifest["n_rows"], unit="res", unit_scale=True, disable=None) as bar:
        while any(child.is_alive() for child in children):
            for rank, child in enumerate(children):
                if child.exitcode and rank not in dead:
                    dead.add(rank)
                    log.warning("process %d of %d ended with status %d; the others take over what "
                                "it left", rank, len(children), child.exitcode)  # fmt: skip
            done = set.intersection(*(committed_shards(p) for p in config.places()))
            bar.update(sum(s.stop - s.start for s in shards if s.index in done) - bar.n)
            time.sleep(0.5)
        bar.update(manifest["n_rows"] - bar.n if not _unfinished(config) else 0)
    if _unfinished(config):
        statuses = ", ".join(str(child.exitcode) for child in children)
        raise UserError(
            f"{config.out}: all {len(children)} processes ended (statuses {statuses}) and some "
            "shards are missing; run the same command again, it resumes"
        )
    log.info("%s: complete, %d residues of %d proteins", config.out, manifest["n_rows"],
             manifest["n_proteins"])  # fmt: skip


def _unfinished(config: ExtractConfig) -> bool:
    return any(read_manifest(place)["state"] != "complete" for place in config.places())
