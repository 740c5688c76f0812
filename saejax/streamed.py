"""Training from a stream: the parent computes pools of rows while the SAE trains.

The one module of ``saejax`` that loads Torch; ``saejax.sources`` imports it when it is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract import parents
from extract.errors import UserError
from extract.fasta import Protein
from extract.pipeline import ExtractConfig
from extract.pipeline import extract as fill_store
from extract.plm import ProteinLM
from extract.selection import FastaReport, FastaSource, GivenProteins
from extract.statistics import Normalizer
from extract.store import ActivationStore
from extract.streaming import ActivationStream, stream
from saejax.config import TrainConfig
from saejax.data import Pool, PooledBatches, Rows, held_out, hold_out_position
from saejax.placement import shares_gpu
from saejax.run_record import require_same_activations
from saejax.sources import Data, open_eval_store

log = logging.getLogger(__name__)

POOL_SHARDS = 4
"""Shards that are shuffled together in memory by default."""
MAX_HELD_OUT = 2000
"""Proteins that are held out for evaluation at most."""
HELD_OUT_FOLDER = "held_out"
"""Store of the held-out proteins, in the run folder."""


class StreamBatches(PooledBatches):
    """Batches from a stream, as Torch tensors on the parent's device.

    A pool is ``pool_shards`` consecutive shards, the same in every epoch; the proteins of a stream
    are in random order already. It lies on the parent's device and batches are gathered there.
    """

    def __init__(
        self,
        stream: ActivationStream,
        *,
        name: str,
        batch_size: int,
        seed: int,
        pool_shards: int = POOL_SHARDS,
        buffer: int | None = None,
    ) -> None:
        """Plan the batches; nothing is computed yet.

        Args:
            stream: where activations come from.
            name: of the stream, in messages.
            batch_size: rows per batch.
            seed: of the order.
            pool_shards: shards that are shuffled together.
            buffer: shards in memory beside the pool, computed ahead in a thread; by default enough
                for the next pool. 0 computes them only when the pool is used up.

        Raises:
            UserError: fewer rows than one batch.
        """
        self.stream = stream
        self.buffer = pool_shards + 1 if buffer is None else buffer
        n = len(stream.shards)
        self._members = [range(i, min(i + pool_shards, n)) for i in range(0, n, pool_shards)]
        self._rows = [
            stream.shards[pool[-1]].stop - stream.shards[pool[0]].start for pool in self._members
        ]
        super().__init__(name, stream.n_rows, batch_size, seed)

    def pool_rows(self, epoch: int) -> Sequence[int]:
        """Rows of every pool, in order."""
        return self._rows

    def read(self, pools: Iterable[Pool]) -> Generator[Rows, None, None]:
        """The rows of pools; shards of the next ones are computed meanwhile."""
        planned = [pool.index for pool in pools]
        order = (shard for index in planned for shard in self._members[index])
        with closing(self.stream.rows_of(order, buffer=self.buffer)) as shards:
            for index in planned:
                yield self._fill(index, shards)

    def join(self, parts: list[Rows]) -> Rows:
        """Parts of one batch, concatenated."""
        return torch.cat(parts)

    def _fill(self, index: int, shards: Iterator[Tensor]) -> Tensor:
        """One pool; each shard is dropped as soon as it is copied."""
        device = self.stream.model.device
        rows, at = torch.empty(self._rows[index], self.stream.d_model, device=device), 0
        for _ in self._members[index]:
            shard = next(shards)
            rows[at : at + len(shard)] = shard
            at += len(shard)
            del shard
        return rows


def torch_device(given: str | None) -> str:
    """The device to run the parent on: as given, else the first GPU, else the CPU.

    Raises:
        UserError: no such device here, or one whose memory JAX can't read.
    """
    n = torch.cuda.device_count()
    if given is None:
        return "cuda:0" if n else "cpu"
    try:
        device = torch.device(given)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(
            f"--parent-device {given!r} is no device for it; give cpu, or cuda:0 and up"
        )
    if device.type == "cpu":
        return "cpu"
    index = device.index or 0
    if index >= n:
        raise UserError(
            f"--parent-device {given}: Torch sees {n} GPUs here; give "
            + (f"cuda:0 to cuda:{n - 1}, or cpu" if n else "cpu")
        )
    return f"cuda:{index}"


def open_stream(
    config: TrainConfig, parent: str, devices: Sequence[Any], previous: Mapping | None
) -> Data:
    """Load the parent, hold proteins out, and plan the stream of the others.

    Args:
        config: the run.
        parent: the parent's Torch device.
        devices: the JAX devices that train.
        previous: ``run.json`` to go on with: its mean and scale are used again.

    Raises:
        UserError: the FASTA file, the parent or the stores do not fit.
    """
    name = str(config.stream.fasta)
    model = _load_parent(config, parent)
    kept, held, report = _read_proteins(config, model.max_residues)
    source = _stream(config, model, kept, report, previous)
    if previous is not None:
        require_same_activations(config.out, name, source.manifest, previous["store"])
    batches = StreamBatches(
        source,
        name=name,
        batch_size=config.batch_size_tokens,
        seed=config.data_order_seed,
        pool_shards=config.pool_shards or POOL_SHARDS,
        buffer=0 if shares_gpu(parent, devices) else None,
    )
    folder, eval_rows = config.out / HELD_OUT_FOLDER, None
    if not held:
        eval_store, eval_rows = open_eval_store(config, source.facts, source.proteins)
    elif previous is not None and folder.exists():
        eval_store = ActivationStore.open(folder)
    else:
        eval_store = _extract_held_out(config, source.model, held)
    return Data(name, source.manifest, batches, eval_store, eval_rows)


def _read_proteins(
    config: TrainConfig, longest: int
) -> tuple[list[Protein], list[Protein], FastaReport]:
    """Proteins to train on, proteins to evaluate on (none with an evaluation store), and counts."""
    settings = config.stream
    assert settings.fasta is not None, "the config checks this"
    source = FastaSource(settings.fasta, settings.selection(longest, seed=config.data_order_seed))
    proteins, report = list(source), source.report
    if config.eval_activations is not None:
        return proteins, [], report
    kept, held = split(proteins, config.holdout_fraction)
    if not kept:
        raise UserError(
            f"{settings.fasta}: all {len(proteins)} proteins are held out and none is left to "
            "train on; give more proteins, or other ones as --eval-activations"
        )
    return kept, held, report


def _load_parent(config: TrainConfig, device: str) -> ProteinLM:
    """The parent on its device."""
    settings = config.stream
    return parents.load_parent(
        settings.model,
        weights=settings.weights,
        token_dropout=settings.token_dropout,
        device=device,
        dtype=settings.compute,
    )


def _stream(
    config: TrainConfig,
    model: ProteinLM,
    proteins: list[Protein],
    report: FastaReport,
    previous: Mapping | None,
) -> ActivationStream:
    """The stream of the proteins, with the normaliser of the run that goes on."""
    settings = config.stream
    return stream(
        model,
        proteins,
        report,
        settings.site,
        seed=config.data_order_seed,
        batch_residues=settings.batch_residues,
        shard_rows=settings.shard_rows,
        normalizer_rows=settings.normalizer_rows,
        given=None if previous is None else Normalizer.of_manifest(previous["store"]),
    )


def split(proteins: list[Protein], fraction: float) -> tuple[list[Protein], list[Protein]]:
    """Proteins to train on, and proteins to evaluate on.

    Held out are the proteins that a store of this file would hold out. Evaluation uses those
    ``MAX_HELD_OUT`` of them whose hash is lowest; the others are not trained on either, so that a
    larger store of them still tells what the SAE does on proteins it has not seen.
    """
    marked = held_out(proteins, fraction)
    kept = [p for p, out in zip(proteins, marked, strict=True) if not out]
    distinct: dict[str, Protein] = {}
    for i in np.argsort(hold_out_position(proteins), kind="stable")[: marked.sum()]:
        distinct.setdefault(proteins[i].sequence, proteins[i])
    return kept, list(distinct.values())[:MAX_HELD_OUT]


def _extract_held_out(
    config: TrainConfig, model: ProteinLM, proteins: list[Protein]
) -> ActivationStore:
    """The ordinary store ``<out>/held_out``: made, resumed, or found complete."""
    settings = config.stream
    assert settings.fasta is not None
    plan = ExtractConfig(
        settings.fasta,
        config.out / HELD_OUT_FOLDER,
        model=settings.model,
        site=(settings.site,),
        batch_residues=settings.batch_residues,
        shard_rows=settings.shard_rows,
    )
    source = GivenProteins(proteins, f"held out of {settings.fasta.name}")
    return fill_store(plan, model, source)[0]
