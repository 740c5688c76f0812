"""Every architecture on the same activations, at about the same L0: a table.

Papers: see the modules of ``saejax.architectures``. Data: a store of ESM2-8M's block4 on UniProt
proteins; a fiftieth of them is held out by hash. All runs see the same batches in the same order.

Command::

    python -m extract --fasta uniprot_20k.fasta.gz --sample all --dtype bfloat16 --out acts/
    python -m experiments.architectures --activations acts/ --out runs/architectures

Writes ``architectures.json`` and ``architectures.md``. Finished runs are used again. Where λ sets
the sparsity, the ones below should bring L0 near 32: λ = 4 gave ReLU-L1 25 and λ = 3 gave Gated 21,
and L0 goes about as 1 / λ. Speeds are measured after the runs, on the store's first rows: the
programs take turns, so they can be compared with each other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from extract.errors import UserError, run_cli
from extract.files import read_json, write_atomically, write_json_atomically
from extract.store import ActivationStore

SPECS: dict[str, dict[str, Any]] = {
    "TopK": {"architecture": "topk", "learning_rate": 1.5e-3},
    "TopK, Multi-TopK": {"architecture": "topk", "multi_topk": True, "learning_rate": 1.5e-3},
    "BatchTopK": {"architecture": "batchtopk", "learning_rate": 1.5e-3},
    "Matryoshka BatchTopK": {"architecture": "matryoshka", "learning_rate": 1.5e-3},
    "JumpReLU, L0 target": {"architecture": "jumprelu", "target_l0": 32.0, "learning_rate": 1e-3},
    "JumpReLU": {"architecture": "jumprelu", "sparsity": 10.0, "learning_rate": 1e-3},
    "Gated": {"architecture": "gated", "sparsity": 2.0, "learning_rate": 1e-3},
    "ReLU-L1": {"architecture": "relu", "sparsity": 3.5, "learning_rate": 4e-4},
}
"""Settings of each run."""


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
    rounds: int = 5
    """Turns of every architecture when speeds are measured."""


def command(config: ArchitecturesConfig, name: str) -> list[str]:
    """The training command of one run."""
    out = config.out / name.lower().replace(", ", "_").replace(" ", "_")
    flags: list[str] = []
    for key, value in SPECS[name].items():
        flag = "--" + key.replace("_", "-")
        flags += [flag] if value is True else [flag, str(value)]
    return [
        sys.executable, "-m", "saejax.train", "--activations", str(config.activations),
        "--out", str(out), "--d-sae", str(config.d_sae), "--k", str(config.k),
        "--epochs", str(config.epochs), *flags,
    ]  # fmt: skip


def figures(run: Path) -> dict[str, Any]:
    """What a finished run reached."""
    results = read_json(run / "run.json", "a training run")["results"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "fvu" in line][-5:]
    keys = ("fvu", "l0", "frac_dead", "frac_dense", "decoder_cosine_mean_max", "n_tokens")
    return {key: results[key] for key in keys} | {
        "training_l0": float(np.mean([line["l0"] for line in last])),
        "threshold": results.get("threshold"),
    }


def stepper(config: ArchitecturesConfig, name: str, batch: np.ndarray) -> Callable[[], None]:
    """A function that does one training step of an architecture on ``batch``, compiled already."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from saejax.config import TrainConfig
    from saejax.model import Constants
    from saejax.state import init_state
    from saejax.step import DATA, make_train_step

    settings = {"d_sae": config.d_sae, "k": config.k} | SPECS[name]
    train = TrainConfig.of(config.activations, config.out, **settings)
    d_model = batch.shape[1]
    constants = Constants(np.zeros(d_model, np.float32), 1.0)
    training, state = init_state(train, train.sae(d_model), constants, 10**4, sample=batch)
    devices = jax.local_devices()[:1]
    step, mesh = make_train_step(training, devices), Mesh(np.array(devices), (DATA,))
    held = [jax.device_put(state, NamedSharding(mesh, PartitionSpec()))]
    placed = jax.device_put(batch[None], NamedSharding(mesh, PartitionSpec(DATA)))

    def once() -> None:
        held[0], _ = step(held[0], placed)
        jax.block_until_ready(held[0])

    once()
    once()
    return once


def speeds(config: ArchitecturesConfig, n_rows: int = 2048) -> dict[str, dict[str, float]]:
    """Residues per second of a step, and its median ratio to the first architecture's."""
    from saejax.memory import keep_freed_memory

    keep_freed_memory()  # as the command line does
    store = ActivationStore.open(config.activations)
    x = np.asarray(store.read(0, n_rows), np.float32)
    x -= x.mean(axis=0)
    x *= (x.shape[1] / (x**2).sum(axis=1).mean()) ** 0.5
    steps = {name: stepper(config, name, x) for name in config.only}
    seconds = np.zeros((config.rounds, len(steps)))
    for turn in seconds:
        for i, step in enumerate(steps.values()):
            start = time.perf_counter()
            for _ in range(5):
                step()
            turn[i] = (time.perf_counter() - start) / 5
    return {
        name: {
            "tokens_per_sec": n_rows / float(np.median(seconds[:, i])),
            "of_first": float(np.median(seconds[:, 0] / seconds[:, i])),
        }
        for i, name in enumerate(steps)
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    text = (
        "| Architecture | FVU | L0 | L0 in training | dead | on > 10 % of residues | "
        "nearest decoder row | residues/s | beside the first |\n|---|---|---|---|---|---|---|---|"
        "---|\n"
    )
    for name, f in found.items():
        text += (
            f"| {name} | {f['fvu']:.4f} | {f['l0']:.1f} | {f['training_l0']:.1f} | "
            f"{100 * f['frac_dead']:.1f} % | {100 * f['frac_dense']:.1f} % | "
            f"{f['decoder_cosine_mean_max']:.2f} | {f['tokens_per_sec']:,.0f} | "
            f"{f['of_first']:.2f} |\n"
        )
    return text


def main() -> None:
    """Train what is not there yet, measure speeds, then tabulate."""
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
        found[name] = figures(run) | {"settings": SPECS[name]}
    for name, speed in speeds(config).items():
        found[name] |= speed
    config.out.mkdir(parents=True, exist_ok=True)
    write_json_atomically(config.out / "architectures.json", found)
    text = table(found)
    write_atomically(config.out / "architectures.md", lambda f: f.write(text.encode()))
    print(text)


if __name__ == "__main__":
    run_cli(main)
