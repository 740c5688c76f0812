"""``python -m extract --dry-run``: what an extraction would cost, measured for some seconds."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from itertools import islice

import torch

from extract.config import ExtractConfig
from extract.engines import load_model
from extract.forward import site_activations
from extract.plm import ProteinLM
from extract.prepare import ALONE
from extract.selection import FastaSource
from extract.store import DTYPES

PROBE_PROTEINS = 512
"""Proteins kept for the measurement, the first of the selection."""

PROBE_SECONDS = 10.0
"""How long the rate is measured."""


def estimate(config: ExtractConfig) -> None:
    """Read the FASTA, run the parent on some of it, and print tokens, bytes and hours.

    Raises:
        UserError: a bad record, an unknown site, no weights.
    """
    model = load_model(config, ALONE)
    for site in config.site:
        model.check_site(site)
    source = FastaSource(config.fasta, config.selection(model.max_residues))
    proteins = iter(source)
    probe = [p.sequence for p in islice(proteins, PROBE_PROTEINS)]
    for _ in proteins:
        pass
    n_residues = source.report.n_residues
    rate = measured_rate(model, probe, config)
    row = DTYPES[config.dtype].itemsize * model.d_model + 7
    n_processes = config.processes or max(1, torch.cuda.device_count())
    hours = n_residues / rate / 3600
    print(f"proteins       {source.report.n_kept:,} of {source.report.n_records:,} records")
    print(f"tokens         {n_residues:,} residues")
    print(f"disk           {n_residues * row * len(config.site) / 1e9:,.2f} GB ({config.dtype}, "
          f"{len(config.site)} site{'s' * (len(config.site) > 1)})")  # fmt: skip
    print(f"rate           {rate:,.0f} residues/s, measured here on {_device(model)}, "
          f"{config.model}, {config.compute}")  # fmt: skip
    print(f"time           {_duration(hours)} with one process"
          + (f", about {_duration(hours / n_processes)} with {n_processes} if they scale"
             if n_processes > 1 else ""))  # fmt: skip
    print("An estimate: nothing was written. Reading, writing and a shared machine add to it.")


def measured_rate(model: ProteinLM, sequences: list[str], config: ExtractConfig) -> float:
    """Residues per second of the forward pass, after one warm-up batch."""
    done, seconds = 0, 0.0
    for i, batch in enumerate(_batches(sequences, config.batch_residues * 4)):
        start = time.perf_counter()
        site_activations(model, batch, config.site, dtype=config.dtype,
                         batch_residues=config.batch_residues)  # fmt: skip
        if i:
            done += sum(map(len, batch))
            seconds += time.perf_counter() - start
        if seconds > PROBE_SECONDS:
            break
    return done / seconds


def _batches(sequences: list[str], n_residues: int) -> Iterator[list[str]]:
    """The sequences in batches, twice round, so that there is one behind the warm-up."""
    batch: list[str] = []
    for sequence in sequences * 2:
        batch.append(sequence)
        if sum(map(len, batch)) >= n_residues:
            yield batch
            batch = []
    if batch:
        yield batch
        yield batch


def _device(model: ProteinLM) -> str:
    if model.device.type == "cuda":
        return torch.cuda.get_device_name(model.device)
    return f"{torch.get_num_threads()} threads of a {platform.machine()} CPU"


def _duration(hours: float) -> str:
    if hours < 0.1:
        return f"{hours * 60:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"
