"""Activations without a disk in between: a store's shards, computed when they are asked for.

``extract.stream(...)``. Rows stay on the parent's device as Torch tensors; ``saejax.streamed``
trains from them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator, Iterable
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from extract.batching import proteins_of_rows
from extract.errors import UserError
from extract.fasta import Protein
from extract.files import versions
from extract.forward import residue_batches
from extract.plm import ProteinLM
from extract.prefetch import prefetch
from extract.sampling import sequence_hash
from extract.selection import FastaReport
from extract.statistics import Normalizer, moments, normalizer
from extract.store import CHUNK_ROWS, FORMAT_VERSION, ShardSpec, shard_specs

log = logging.getLogger(__name__)

NORMALIZER_ROWS = 262_144
"""Rows from which mean and scale are estimated by default."""


class ActivationStream:
    """A store's shards, computed on demand; what a store knows of itself, this knows too.

    The rows of a shard are those, bit for bit, that a float32 store of the same proteins, batches
    and shards holds: every shard is computed from its own proteins alone.
    """

    def __init__(
        self,
        model: ProteinLM,
        proteins: list[Protein],
        report: FastaReport,
        site: str,
        *,
        batch_residues: int = 1024,
        shard_rows: int = 16384,
        normalizer_rows: int = NORMALIZER_ROWS,
        given: Normalizer | None = None,
    ) -> None:
        """Plan the shards; nothing is computed yet.

        Args:
            model: the parent.
            proteins: in the order of the rows.
            report: on the file they come from, for the manifest.
            site: where to read.
            batch_residues: residues per forward pass.
            shard_rows: rows per shard, a multiple of 1,024 as in a store.
            normalizer_rows: estimate mean and scale from the first shards with this many rows.
            given: mean and scale to use instead of an estimate.

        Raises:
            UserError: unknown site, or no proteins.
            ValueError: shard_rows or the mean given have the wrong size.
        """
        if not proteins:
            raise UserError(f"{report.file}: no proteins to stream; give more")
        _check_sizes(model, shard_rows, given)
        self.model, self.proteins, self.site = model, proteins, model.check_site(site)
        self.d_model, self.batch_residues = model.d_model, batch_residues
        self._lengths = [len(p.sequence) for p in proteins]
        self.offsets = np.cumsum([0, *self._lengths])
        self.n_rows = int(self.offsets[-1])
        self.shards = shard_specs(self.n_rows, shard_rows)
        self._normalizer_rows, self._given = normalizer_rows, given
        self.facts = self._facts(report, shard_rows)
        self._cuda = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None

    def _facts(self, report: FastaReport, shard_rows: int) -> dict[str, Any]:
        """What is known before anything was computed: the manifest without mean and scale."""
        parent = self.model.describe()
        del parent["lm_head"]  # activations do not depend on it
        sequences = "\n".join(p.sequence for p in self.proteins)
        used = replace(report, n_kept=len(self.proteins), n_residues=self.n_rows)
        return {
            "format_version": FORMAT_VERSION,
            "streamed": True,
            "parent": parent,
            "site": self.site,
            "d_model": self.d_model,
            "special_tokens_dropped": True,
            "dtype": "float32",
            "n_rows": self.n_rows,
            "n_proteins": len(self.proteins),
            "source": asdict(used),
            "sequences_sha256": hashlib.sha256(sequences.encode()).hexdigest(),
            "shard_rows": shard_rows,
            "batch_residues": self.batch_residues,
            "versions": versions("torch", "numpy"),
            "state": "complete",
        }

    @cached_property
    def normalizer(self) -> Normalizer:
        """Mean and scale: as given, or over the first shards, computed when first asked for."""
        if self._given is not None:
            return self._given
        shards = []
        for shard in self.shards:
            if shard.start >= self._normalizer_rows:
                break
            shards.append(shard)
        with (
            tqdm(total=shards[-1].stop, desc="normaliser", unit="res", unit_scale=True,
                 disable=None) as bar,
            closing(self.rows_of(range(len(shards)), buffer=0)) as computed,
        ):  # fmt: skip
            parts = []
            for rows in computed:
                parts.append((len(rows), moments(rows.cpu().numpy())))
                bar.update(len(rows))
        return normalizer(parts)

    @property
    def manifest(self) -> dict[str, Any]:
        """The keys of a store's manifest, ``streamed``, and what the normaliser is."""
        found = self.normalizer
        return (
            self.facts
            | {
                "normalizer": {
                    "n_rows": found.n_rows,
                    "estimated": found.n_rows < self.n_rows,
                },
            }
            | found.facts()
        )

    @property
    def mean(self) -> Float[np.ndarray, " d_model"]:
        """Mean of every dimension, float32; an estimate unless all rows were used."""
        return self.normalizer.mean

    @property
    def scale(self) -> float:
        """The number s with E‖s(x − mean)‖² = d_model over the normaliser's rows."""
        return self.normalizer.scale

    def rows_of(self, shards: Iterable[int], *, buffer: int = 2) -> Generator[Tensor, None, None]:
        """The rows of shards, float32 ``[rows, d_model]`` on the parent's device, in order.

        Args:
            shards: indices, in any order and as often as wanted.
            buffer: shards in memory at any time, computed ahead in a thread, the one last handed
                over among them until the next is asked for; 0 computes each when it is asked for.
        """
        return prefetch(lambda index: self._compute(self.shards[index]), shards, buffer=buffer)

    @torch.inference_mode()
    def _compute(self, shard: ShardSpec) -> Tensor:
        """A shard's rows; a protein that straddles its edge is computed whole.

        On a GPU (not run on one) this works in a CUDA stream of its own and waits for it, so that
        what the consumer does with earlier shards never queues up behind later ones.
        """
        members = proteins_of_rows(self.offsets, shard.start, shard.stop)
        first = int(self.offsets[members.start])
        with nullcontext() if self._cuda is None else torch.cuda.stream(self._cuda):
            sequences = [self.proteins[i].sequence for i in members]
            batches = residue_batches(
                self.model, sequences, [self.site], batch_residues=self.batch_residues
            )
            parts = [batch[self.site].float() for batch in batches]
            rows = torch.cat(parts)[shard.start - first : shard.stop - first]
        if self._cuda is not None:
            self._cuda.synchronize()
            rows.record_stream(torch.cuda.default_stream(self.model.device))
        return rows


def _check_sizes(model: ProteinLM, shard_rows: int, given: Normalizer | None) -> None:
    if shard_rows < CHUNK_ROWS or shard_rows % CHUNK_ROWS:
        raise ValueError(f"shard_rows ({shard_rows}) must be a multiple of {CHUNK_ROWS}")
    if given is not None and given.mean.shape != (model.d_model,):
        raise ValueError(
            f"the mean given has {len(given.mean)} dimensions, {model.name} has "
            f"{model.d_model}; give the normaliser of this parent"
        )


def stream(
    model: ProteinLM,
    proteins: list[Protein],
    report: FastaReport,
    site: str,
    *,
    seed: int = 0,
    batch_residues: int = 1024,
    shard_rows: int = 16384,
    normalizer_rows: int = NORMALIZER_ROWS,
    given: Normalizer | None = None,
) -> ActivationStream:
    """Activations of proteins at a site, in an order that is fit to train on.

    Equal sequences are used once, and all are put in the order of :func:`shuffled`, so that
    neighbours in the stream have nothing to do with neighbours in the file. The other arguments
    are those of :class:`ActivationStream`.

    Raises:
        UserError: unknown site, or no proteins.
        ValueError: shard_rows or the mean given have the wrong size.
    """
    return ActivationStream(
        model,
        shuffled(proteins, seed),
        report,
        site,
        batch_residues=batch_residues,
        shard_rows=shard_rows,
        normalizer_rows=normalizer_rows,
        given=given,
    )


def shuffled(proteins: Iterable[Protein], seed: int) -> list[Protein]:
    """Distinct sequences in the order of the SHA-256 of ``"<seed>:<sequence>"``.

    The order depends on nothing but the seed and the set of sequences; of proteins with the same
    sequence the first is kept.
    """
    unique: dict[str, Protein] = {}
    for protein in proteins:
        unique.setdefault(protein.sequence, protein)
    return sorted(unique.values(), key=lambda p: sequence_hash(p.sequence, seed))
