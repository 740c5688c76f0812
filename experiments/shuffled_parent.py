"""A parent that has learned nothing: real weights, each tensor's numbers in random order.

The control of Heap et al. 2025 (arXiv 2501.17727) and of InterPLM: whatever an SAE of this parent
"knows" comes from its input, the amino acids, and from the method. Sizes and the distribution of
every tensor's numbers stay those of the trained model. Norms' gains and offsets are shuffled too.

Command: ``python -m experiments.shuffled_parent --out shuffled.safetensors`` (seconds), then
``python -m extract --weights shuffled.safetensors …`` and ``python -m saejax.train …`` as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor

from extract.errors import UserError, run_cli
from extract.weights import WHEEL_MODEL, find_weights


@dataclass(frozen=True)
class ShuffledParentConfig:
    """Shuffle the weights of an ESM2, tensor by tensor."""

    out: Path
    """Weights file to write, .safetensors, with fair-esm's names."""
    model: str = WHEEL_MODEL
    """Which ESM2."""
    weights: Path | None = None
    """Its weights file; by default found as ``python -m extract`` does."""
    seed: int = 0
    """Of the order."""


def shuffled(tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Every tensor's numbers in an order of their own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: t.flatten()[torch.randperm(t.numel(), generator=generator)].reshape(t.shape)
        for name, t in sorted(tensors.items())
    }


def main() -> None:
    """Read, shuffle, write."""
    config = tyro.cli(ShuffledParentConfig, prog="python -m experiments.shuffled_parent")
    if config.out.suffix != ".safetensors":
        raise UserError(f"--out {config.out}: give a name that ends in .safetensors")
    tensors, source = find_weights(config.model, config.weights)
    partial = config.out.with_name(config.out.name + ".tmp")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"source": f"{source}, shuffled with seed {config.seed}"}
    save_file(shuffled(tensors, config.seed), partial, metadata)
    partial.replace(config.out)
    print(f"{config.out}: {len(tensors)} tensors of {config.model}, shuffled")


if __name__ == "__main__":
    run_cli(main)
