"""How the parents run in the worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerSettings:
    """Sent to the worker's process when it starts."""

    weights: Path | None = None
    """Of the parent; by default looked for."""
    device: str | None = None
    """Of Torch; by default the first GPU, else the CPU."""
    model: str | None = None
    """A parent of a user's own, to allow its code."""
    threads: int = 1
    """Of Torch on the CPU."""
    batch_residues: int = 4096
    """Residues per forward pass."""
