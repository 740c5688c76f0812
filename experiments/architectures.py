"""Every architecture on the same activations, at about the same L0: a table.

Papers: see the modules of ``saejax.architectures``. Data: a store of ESM2-8M's block4 on UniProt
proteins; a fiftieth of them is held out by hash. All runs see the same batches in the same order.

Command::

    python -m extract --fasta uniprot_20k.fasta.gz --sample all --dtype bfloat16 --out acts/
    python -m experiments.architectures --activations acts/ --out runs/architectures

Writes ``architectures.json`` and ``architectures.md``. Finished runs are used again. Not run in
whole yet: λ and learning rates below are places to start from, to be chosen so that L0 is about 32.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from extract.errors import UserError, run_cli
from extract.files import read_json, write_atomically, write_json_atomically

SPECS: dict[str, tuple[str, ...]] = {
    "TopK": ("--architecture", "topk", "--learning-rate", "1.5e-3"),
    "TopK, Multi-TopK": ("--architecture", "topk", "--multi-topk", "--learning-rate", "1.5e-3"),
    "BatchTopK": ("--architecture", "batchtopk", "--learning-rate", "1.5e-3"),
    "Matryoshka BatchTopK": ("--architecture", "matryoshka", "--learning-rate", "1.5e-3"),
    "JumpReLU, L0 target": (
        "--architecture", "jumprelu", "--target-l0", "32", "--learning-rate", "1e-3",
    ),
    "JumpReLU": ("--architecture", "jumprelu", "--sparsity", "10", "--learning-rate", "1e-3"),
    "Gated": ("--architecture", "gated", "--sparsity", "3", "--learning-rate", "1e-3"),
    "ReLU-L1": ("--architecture", "relu", "--sparsity", "8", "--learning-rate", "4e-4"),
}  # fmt: skip
"""Flags of each run."""


@dataclass(frozen=True)
class ArchitecturesConfig:
    """Train every architecture and tabulate what it reaches on held-out proteins."""

    activations: Path
    """Activation store."""
    out: Path
    """Folder of the runs and of the table."""
    only: tuple[str, ...] = tuple(SPECS)
    """Which runs."""
    d_sae: int = 2048
    """Latents."""
    k: int = 32
    """Active latents of the top-k family."""
    epochs: int = 1
    """Passes over the activations."""


def command(config: ArchitecturesConfig, name: str) -> list[str]:
    """The training command of one run."""
    out = config.out / name.lower().replace(", ", "_").replace(" ", "_")
    return [
        sys.executable, "-m", "saejax.train", "--activations", str(config.activations),
        "--out", str(out), "--d-sae", str(config.d_sae), "--k", str(config.k),
        "--epochs", str(config.epochs), *SPECS[name],
    ]  # fmt: skip


def figures(run: Path) -> dict[str, Any]:
    """What a finished run reached."""
    results = read_json(run / "run.json", "a training run")["results"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "fvu" in line][-5:]
    rates = [line["tokens_per_sec"] for line in lines[1:] if "tokens_per_sec" in line]
    keys = ("fvu", "l0", "frac_dead", "frac_dense", "decoder_cosine_mean_max", "n_tokens")
    return {key: results[key] for key in keys} | {
        "training_l0": float(np.mean([line["l0"] for line in last])),
        "tokens_per_sec": float(np.median(rates)),
        "threshold": results.get("threshold"),
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    text = (
        "| Architecture | FVU | L0 | L0 in training | dead | on > 10 % of residues | "
        "nearest decoder row | residues/s |\n|---|---|---|---|---|---|---|---|\n"
    )
    for name, f in found.items():
        text += (
            f"| {name} | {f['fvu']:.4f} | {f['l0']:.1f} | {f['training_l0']:.1f} | "
            f"{100 * f['frac_dead']:.1f} % | {100 * f['frac_dense']:.1f} % | "
            f"{f['decoder_cosine_mean_max']:.2f} | {f['tokens_per_sec']:,.0f} |\n"
        )
    return text


def main() -> None:
    """Train what is not there yet, then tabulate."""
    config = tyro.cli(ArchitecturesConfig, prog="python -m experiments.architectures")
    for name in config.only:
        if name not in SPECS:
            raise UserError(f"--only {name!r}: must be one of {', '.join(SPECS)}")
    found = {}
    for name in config.only:
        arguments = command(config, name)
        if subprocess.run(arguments).returncode:
            raise UserError(f"{name}: training failed; its message stands above")
        run = Path(arguments[arguments.index("--out") + 1])
        found[name] = figures(run) | {"flags": SPECS[name]}
    config.out.mkdir(parents=True, exist_ok=True)
    write_json_atomically(config.out / "architectures.json", found)
    text = table(found)
    write_atomically(config.out / "architectures.md", lambda f: f.write(text.encode()))
    print(text)


if __name__ == "__main__":
    run_cli(main)
