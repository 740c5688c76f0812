"""Fill activation stores: prepare them once, then any number of processes write the shards."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from extract.alphabet import residue_tokens
from extract.config import ExtractConfig
from extract.fasta import Protein
from extract.forward import residue_activations, site_activations
from extract.plm import ProteinLM
from extract.prepare import ALONE, Worker, prepare
from extract.selection import FastaSource, GivenProteins
from extract.store import ActivationStore, ShardSpec, read_proteins
from extract.writer import StoreWriter

__all__ = ["ExtractConfig", "extract", "fill", "residue_activations", "shard_arrays"]

log = logging.getLogger(__name__)

Side = dict[str, np.ndarray]


def extract(
    config: ExtractConfig,
    model: ProteinLM,
    proteins: Sequence[Protein] | FastaSource | GivenProteins,
    *,
    worker: Worker = ALONE,
) -> list[ActivationStore]:
    """Fill the stores of ``config`` with ``model``'s activations, in this process.

    Every shard is computed from its own proteins alone, in batches that depend on nothing else, so
    any mixture of processes, machines and restarts gives the same bytes.

    Args:
        config: the settings; its ``fasta`` is not read here.
        model: the parent, on its device.
        proteins: what to extract, or where to read it; not read when the store exists.
        worker: which of several processes this is.

    Returns:
        The store of each site.

    Raises:
        UserError: the disk lacks room, or a folder holds something else.
    """
    given = isinstance(proteins, FastaSource | GivenProteins)
    source = proteins if given else GivenProteins(proteins)
    prepare(config, model, source, worker=worker)
    fill(config, model, worker=worker)
    return [ActivationStore.open(place) for place in config.places()]


def fill(
    config: ExtractConfig, model: ProteinLM, *, worker: Worker = ALONE, quiet: bool = False
) -> None:
    """Write the shards that are missing, its own first and then what others leave; then finish.

    Returns when the stores are complete, or, where processes can't see each other's claims, when
    its own shards are written.
    """
    writers = [StoreWriter(place) for place in config.places()]
    if all(w.complete for w in writers):
        log.info("%s: already complete, nothing to do", config.out)
        return
    n_rows = writers[0].manifest["n_rows"]
    try:
        with tqdm(total=n_rows, unit="res", unit_scale=True, disable=quiet or None) as bar:
            _fill_missing(config, model, writers, worker, bar)
        left = [len(w.shards) - len(w.committed()) for w in writers]
        if any(left):
            log.info("%s: own shards are written, %d are left to other processes", config.out,
                     max(left))  # fmt: skip
            return
        for w in writers:
            done = w.finish()
            if not quiet:
                log.info("%s: %d residues of %d proteins at %s, gamma %.2f", w.place,
                         done["n_rows"], done["n_proteins"], done["site"],
                         done["gamma"] or float("nan"))  # fmt: skip
    finally:
        for w in writers:
            w.claims.close()


def _fill_missing(
    config: ExtractConfig, model: ProteinLM, writers: list[StoreWriter], worker: Worker, bar: tqdm
) -> None:
    """Compute one shard while the one before it is being written."""
    may_help, resumed = writers[0].claims.work(), False
    with ThreadPoolExecutor(1) as pool:
        while left := shards_left(writers, bar):
            if not resumed and len(left) < len(writers[0].shards):
                log.info("%s: resuming, %d of %d shards left", config.out, len(left),
                         len(writers[0].shards))  # fmt: skip
            resumed, pending = True, None
            for shard in _in_order(left, worker, may_help=may_help):
                mine = claim(writers, shard)
                if not mine:
                    continue
                arrays, side = shard_arrays(config, model, mine, shard)
                _wait(pending)
                pending = pool.submit(write, mine, shard, arrays, side)
                shards_left(writers, bar)
            _wait(pending)
            shards_left(writers, bar)
            if not may_help:
                return
            if pending is None:
                time.sleep(0.2)  # all that is left is in other processes' hands


def shards_left(writers: list[StoreWriter], bar: tqdm) -> list[ShardSpec]:
    """Shards that some store lacks; moves the bar to what all processes have written."""
    done = set.intersection(*(w.committed() for w in writers))
    shards = writers[0].shards
    bar.update(sum(s.stop - s.start for s in shards if s.index in done) - bar.n)
    return [s for s in shards if s.index not in done]


def _in_order(left: list[ShardSpec], worker: Worker, *, may_help: bool) -> Iterator[ShardSpec]:
    """A process's own shards, then the others' from the last on."""
    own = [s for s in left if s.index % worker.world == worker.rank]
    yield from own
    if may_help:
        yield from sorted(set(left) - set(own), key=lambda s: -s.index)


def claim(writers: list[StoreWriter], shard: ShardSpec) -> list[StoreWriter]:
    """The stores that lack the shard, claimed; none when another process has it."""
    mine: list[StoreWriter] = []
    for w in writers:
        if not w.claims.take(shard.index):
            for taken in mine:
                taken.claims.release(shard.index)
            return []
        if w.is_committed(shard):
            w.claims.release(shard.index)
        else:
            mine.append(w)
    return mine


def write(writers: list[StoreWriter], shard: ShardSpec, arrays: Side, side: Side) -> None:
    """Write a claimed shard to every store that lacks it, and give the claims back."""
    for w in writers:
        w.write_shard(shard, arrays[w.manifest["site"]], side)
        w.claims.release(shard.index)


def _wait(pending: Future | None) -> None:
    if pending is not None:
        pending.result()


def shard_arrays(
    config: ExtractConfig, model: ProteinLM, writers: list[StoreWriter], shard: ShardSpec
) -> tuple[Side, Side]:
    """Activations by site, and side arrays, of a shard's rows.

    A protein that straddles the shard's edge is computed whole, so that nothing outside the shard
    matters.
    """
    store = writers[0]
    n_before, table = read_proteins(store.place, store.manifest, shard.start, shard.stop)
    offsets, lengths = table["offset"].to_numpy(), table["length"].to_numpy()
    ends = offsets + lengths
    first = int(np.searchsorted(ends, shard.start, side="right"))
    stop = int(np.searchsorted(offsets, shard.stop, side="left"))
    sequences = table["sequence"].slice(first, stop - first).to_pylist()
    sites = [w.manifest["site"] for w in writers]
    rows = slice(shard.start - int(offsets[first]), shard.stop - int(offsets[first]))
    found = site_activations(
        model, sequences, sites, dtype=config.dtype, batch_residues=config.batch_residues
    )
    side = _side_arrays(sequences, n_before + first, rows)
    return {site: x[rows] for site, x in found.items()}, side


def _side_arrays(sequences: list[str], first_protein: int, rows: slice) -> Side:
    lengths = [len(s) for s in sequences]
    members = np.arange(first_protein, first_protein + len(sequences), dtype=np.uint32)
    tokens = np.concatenate([residue_tokens(s) for s in sequences])
    return {
        "protein_idx": np.repeat(members, lengths)[rows],
        "pos": np.concatenate([np.arange(n) for n in lengths]).astype(np.uint16)[rows],
        "token_id": tokens.astype(np.uint8)[rows],
    }
