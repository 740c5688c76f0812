"""Extract 200 real proteins with ESM2-650M at full size, and watch the memory.

    python -m experiments.benchmarks.full_size

The weights are random: speed and memory do not depend on them, and nothing else is claimed. About
5 minutes on two cores. The store is made by the pipeline that ``python -m extract`` runs, checked
with ``verify``'s checksums, and removed.
"""

from __future__ import annotations

import logging
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from extract.errors import UserError, run_cli
from extract.pipeline import ExtractConfig, extract
from extract.selection import FastaSource, Selection
from extract.verify import check_bytes
from extract.weights import random_esm2

ROOT = Path(__file__).parents[2]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FullSizeConfig:
    """Extract proteins with a full-size ESM2 with random weights; print rate and peak memory."""

    model: str = "esm2_t33_650M_UR50D"
    """Which size."""
    site: tuple[str, ...] = ("block24",)
    """Where to read."""
    fasta: Path = ROOT / "data" / "uniprot.fasta.gz"
    """Where the proteins come from."""
    proteins: int = 200
    """How many, drawn by hash."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Number format of the forward pass."""
    limit_gb: float = 8.0
    """Most memory the whole process may have used."""


def run(config: FullSizeConfig) -> float:
    """Extract, check, print; returns the peak memory in GB.

    Raises:
        UserError: more memory than the limit.
    """
    source = FastaSource(config.fasta, Selection(sample=config.proteins))
    proteins = list(source)
    model = random_esm2(config.model, dtype=config.compute)
    n = sum(len(p.sequence) for p in proteins)
    with tempfile.TemporaryDirectory() as folder:
        settings = ExtractConfig(config.fasta, Path(folder) / "acts", model=config.model,
                                 site=config.site)  # fmt: skip
        start = time.perf_counter()
        stores = extract(settings, model, proteins)
        seconds = time.perf_counter() - start
        for store in stores:
            check_bytes(store)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    print(f"{config.model} ({config.compute}, random weights), {' '.join(config.site)}: "
          f"{len(proteins)} proteins, {n:,} residues in {seconds:.0f} s = {n / seconds:,.0f} "
          f"residues/s, peak memory {peak:.2f} GB")  # fmt: skip
    if peak > config.limit_gb:
        raise UserError(f"peak memory {peak:.2f} GB is over the limit of {config.limit_gb} GB")
    return peak


def main() -> None:
    """Parse the flags and run."""
    run(tyro.cli(FullSizeConfig, prog="python -m experiments.benchmarks.full_size"))


if __name__ == "__main__":
    run_cli(main)
