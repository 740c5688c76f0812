"""How much faster are many edits together than one hooked pass after another?

The opponent is the plain loop: for every edit a whole forward pass with a hook at the site, one
batch of proteins at a time. Ours runs the blocks before the site once and the edits together
(``steering.passes.EditedPasses``). Both compute the logits of every residue under every edit; they
are compared first. They take turns; times are medians, ratios medians of each turn's ratio.

Command: ``python -m experiments.benchmarks.steering --out runs/benchmarks/steering.json`` (a few
minutes on 2 cores: ESM2-8M with a site after block 5 of 6, random weights). ``--model
esm2_t33_650M_UR50D --site block24`` for the big one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from experiments.benchmarks.extraction import machine
from extract.alphabet import AMINO_ACIDS
from extract.errors import run_cli
from extract.esm import ESM2, ESM2_SHAPES
from extract.files import plain_settings, write_json_atomically
from extract.plm import PackedTokens, ProteinLM
from steering.hooks import edit_residual
from steering.passes import EditedPasses


@dataclass(frozen=True)
class SteeringSpeedConfig:
    """Time many edits of a few proteins."""

    out: Path
    """JSON to write."""
    model: str = "esm2_t6_8M_UR50D"
    """Parent, of random weights."""
    sites: tuple[str, ...] = ("block1", "block3", "block5")
    """Where edits apply."""
    n_edits: int = 24
    """Edits of every protein."""
    n_proteins: int = 4
    """Proteins, one batch."""
    n_residues: int = 200
    """Of each."""
    batch_tokens: int = 4096
    """Most tokens that run together."""
    rounds: int = 5
    """Turns."""
    threads: int = 1
    """Of the processor, the same for both."""


def loop(
    model: ProteinLM, site: str, tokens: PackedTokens, deltas: list[torch.Tensor]
) -> list[torch.Tensor]:
    """One whole pass for each edit."""
    found = []
    for delta in deltas:
        with edit_residual(model, site, lambda _x, delta=delta: delta, tokens):
            found.append(model.logits(tokens))
    return found


def together(
    model: ProteinLM, site: str, tokens: PackedTokens, deltas: list[torch.Tensor], size: int
) -> list[torch.Tensor]:
    """Ours."""
    return list(EditedPasses(model, site, tokens, batch_tokens=size).each(deltas))


@torch.inference_mode()
def measure(config: SteeringSpeedConfig, model: ESM2, site: str) -> dict[str, float | str]:
    """Medians of one site."""
    rng = np.random.default_rng(0)
    letters = list(AMINO_ACIDS)
    sequences = ["".join(rng.choice(letters, config.n_residues)) for _ in range(config.n_proteins)]
    tokens = model.tokenize(sequences)
    rows = tokens.residue_rows()
    generator = torch.Generator().manual_seed(0)
    deltas = [
        torch.randn(len(rows), model.d_model, generator=generator) for _ in range(config.n_edits)
    ]
    size = config.batch_tokens
    pairs = zip(loop(model, site, tokens, deltas), together(model, site, tokens, deltas, size),
                strict=True)  # fmt: skip
    difference = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    seconds = np.zeros((config.rounds, 2))
    for turn in seconds:
        for i, run in enumerate(
            (
                lambda: loop(model, site, tokens, deltas),
                lambda: together(model, site, tokens, deltas, size),
            )
        ):
            start = time.perf_counter()
            run()
            turn[i] = time.perf_counter() - start
    ratios = seconds[:, 0] / seconds[:, 1]
    return {
        "site": site,
        "loop_s": float(np.median(seconds[:, 0])),
        "ours_s": float(np.median(seconds[:, 1])),
        "ratio": float(np.median(ratios)),
        "ratio_low": float(ratios.min()),
        "ratio_high": float(ratios.max()),
        "largest_relative_difference": difference,
    }


def main() -> None:
    """Measure every site, print and write."""
    config = tyro.cli(SteeringSpeedConfig, prog="python -m experiments.benchmarks.steering")
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    model = ESM2(config.model, ESM2_SHAPES[config.model]).eval().requires_grad_(False)
    found = []
    print("| Site | Loop, s | Ours, s | Ratio (lowest to highest) |\n|---|---|---|---|")
    for site in config.sites:
        result = measure(config, model, site)
        found.append(result)
        print(
            f"| {site} | {result['loop_s']:.2f} | {result['ours_s']:.2f} | {result['ratio']:.2f} "
            f"({result['ratio_low']:.2f} to {result['ratio_high']:.2f}) |",
            flush=True,
        )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    about = machine(config.threads, "torch")
    record = {"config": plain_settings(config), "machine": about, "sites": found}
    write_json_atomically(config.out, record)


if __name__ == "__main__":
    run_cli(main)
