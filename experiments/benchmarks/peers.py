"""How well does each trainer reconstruct? TopK SAEs of SAELens, dictionary_learning and ours.

All train on the same batches in the same order, x = scale · (activation − mean) with E‖x‖² = d, at
the same d_sae and k, each in a process of its own. Every trainer's settings are searched alike on
a short run: learning rates, further on while the best is at an end, then variations of the best
one at a time. FVU on one half of the held-out proteins decides. The best settings and the
trainer's own defaults then have the whole budget, and the table gives their figures on the other
half, from one function for all.

Peers are the published packages' own training classes: ``SAETrainer`` on a ``TopKTrainingSAE``, and
``TopKTrainer``. They need an environment of their own::

    python -m venv peers && peers/bin/pip install torch sae-lens
    peers/bin/pip install --no-deps dictionary-learning
    python -m experiments.benchmarks.peers --activations acts --peer-python peers/bin/python

Runs that are done are kept in ``--out``, so the same command goes on where it was stopped. Times
count only where nothing else ran. Writes ``peers.json`` and ``peers.md``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from experiments.benchmarks import peer_trainers
from experiments.benchmarks.extraction import machine
from experiments.benchmarks.peer_rows import HALVES, RowsConfig, prepare, reconstruct, score
from experiments.benchmarks.peer_trainers import Answer, Job
from extract.errors import UserError, run_cli
from extract.files import (
    read_json,
    write_atomically,
    write_json_atomically,
)

log = logging.getLogger(__name__)

Trainer = Literal["ours", "sae_lens", "dictionary_learning"]
Settings = dict[str, Any]
RATE = {"ours": "learning_rate", "sae_lens": "lr", "dictionary_learning": "lr"}
"""What each calls its learning rate."""
SAME_FORM = 1e-3
"""Largest difference of a trainer's own reconstruction from ours of its weights, relative."""


@dataclasses.dataclass(frozen=True)
class PeersConfig(RowsConfig):
    """Compare trainers at equal tokens, each at its best settings."""

    peer_python: Path | None = None
    """Python that has sae-lens and dictionary-learning; needed unless only ours takes part."""
    trainers: tuple[Trainer, ...] = ("ours", "sae_lens", "dictionary_learning")
    """Who takes part."""
    search_tokens: int = 1_200_000
    """Budget of a run of the search."""
    learning_rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    """Where the search begins."""
    max_extensions: int = 4
    """How often the search may double or halve the learning rate past its ends."""
    variations: bool = True
    """Also search other settings, at the best learning rate."""
    d_sae: int = 2048
    """Latents."""
    k: int = 32
    """Latents active per residue."""
    threads: int = 2
    """Of the processor, the same for all."""


def tuned(trainer: Trainer, steps: int, batch: int, rate: float) -> Settings:
    """Where the search begins: the same schedule for all, and dead after an eighth of the run.

    Warm-up over a tenth, linear decay to 0 over the last fifth: ours by default, options of both
    peers.
    """
    warm, decay, dead = max(1, steps // 10), max(1, steps // 5), max(1, steps // 8)
    return {RATE[trainer]: rate} | {
        "ours": {},
        "sae_lens": {
            "lr_warm_up_steps": warm,
            "lr_decay_steps": decay,
            "dead_feature_window": dead,
        },
        "dictionary_learning": {
            "warmup_steps": warm,
            "decay_start": steps - decay,
            "dead_feature_threshold": dead * batch,
        },
    }[trainer]


VARIATIONS: dict[str, list[Settings]] = {
    "ours": [
        {"warmup_steps": 1}, {"auxk_coefficient": 1.0}, {"clip_norm": 1 / 320},
        {"encoder_norm": 0.1}, {"clip_norm": 1 / 320, "encoder_norm": 0.1},
    ],
    "sae_lens": [
        {"lr_warm_up_steps": 0}, {"aux_loss_coefficient": 1 / 32}, {"dead_feature_window": 1000},
        {"decoder_init_norm": 1.0},
    ],
    "dictionary_learning": [
        {"warmup_steps": 1}, {"auxk_alpha": 1.0}, {"dead_feature_threshold": 10_000_000},
        {"normalize_activations": True},
    ],
}  # fmt: skip
"""Tried one at a time at the best learning rate; peers' include what their defaults are."""


class Comparison:
    """Runs jobs, each once, and keeps their results."""

    def __init__(self, config: PeersConfig, rows: dict[str, Any]) -> None:
        """Read the held-out rows."""
        self.config, self.identity = config, rows
        self.rows = {half: np.load(config.out / f"{half}.npy") for half in HALVES}

    def run(self, trainer: Trainer, tokens: int, stage: str, settings: Settings) -> dict[str, Any]:
        """Train one SAE and score it on both halves, or take the result from an earlier call."""
        config = self.config
        job = Job(
            trainer=trainer,
            settings=settings,
            steps=max(1, tokens // config.batch_size_tokens),
            batch=config.batch_size_tokens,
            d_model=self.identity["d_model"],
            d_sae=config.d_sae,
            k=config.k,
            seed=config.seed,
            threads=config.threads,
            train=str(config.out / "train.npy"),
            check=str(config.out / "check.npy"),
        )
        key = json.dumps([dataclasses.asdict(job), self.identity], sort_keys=True)
        path = config.out / "done" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        if not path.exists():
            facts, sae = self._train(job)
            own, common = sae.pop("x_hat"), reconstruct(sae, np.load(job.check), config.k)[0]
            difference = float(np.linalg.norm(own - common) / np.linalg.norm(own))
            if not difference < SAME_FORM:
                raise UserError(
                    f"{trainer}: its weights in the common form reconstruct otherwise than it "
                    f"does, by {difference:.1e}; nothing is compared"
                )
            scores = {h: score(sae, rows, config.k)._asdict() for h, rows in self.rows.items()}
            path.parent.mkdir(exist_ok=True)
            about = {"trainer": trainer, "settings": settings, "tokens": job.steps * job.batch}
            write_json_atomically(path, about | facts | scores)
        result = read_json(path, "a result") | {"stage": stage}
        log.info("%s, %s, %s: %s, %.0f tokens/s", trainer, stage, settings,
                 result["validation"], result["tokens_per_second"])  # fmt: skip
        return result

    def _train(self, job: Job) -> tuple[dict[str, Any], Answer]:
        """Facts and weights from a process of the trainer's interpreter."""
        if job.trainer == "ours":
            command = [sys.executable, "-m", "experiments.benchmarks.peer_ours"]
        else:
            command = [str(self.config.peer_python), "-P", peer_trainers.__file__]
        threads = str(job.threads)
        environment = os.environ | {"OMP_NUM_THREADS": threads, "NPROC": threads}  # torch's, XLA's
        environment["JAX_PLATFORMS"] = "cpu"
        with tempfile.TemporaryDirectory() as folder:
            question, answer = Path(folder, "job.json"), Path(folder, "answer.npz")
            question.write_text(json.dumps(dataclasses.asdict(job)))
            command += [str(question), str(answer)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"{job.trainer} failed: {done.stderr.strip()[-1500:]}")
            with np.load(answer) as file:
                return json.loads(done.stdout.splitlines()[-1]), dict(file)

    def search(self, trainer: Trainer) -> list[dict[str, Any]]:
        """Results of the search, the best first."""
        config, tokens = self.config, self.config.search_tokens
        steps = max(1, tokens // config.batch_size_tokens)
        found: dict[float, dict[str, Any]] = {}
        rates = list(config.learning_rates)
        while rates:
            for rate in rates:
                settings = tuned(trainer, steps, config.batch_size_tokens, rate)
                found[rate] = self.run(trainer, tokens, "learning rate", settings)
            best = min(found, key=lambda rate: found[rate]["validation"]["fvu"])
            spare = len(found) < len(config.learning_rates) + config.max_extensions
            rates = [2 * best] * (best == max(found)) or [best / 2] * (best == min(found))
            rates = rates if spare else []
        results = list(found.values())
        for change in VARIATIONS[trainer] if config.variations else []:
            settings = tuned(trainer, steps, config.batch_size_tokens, best) | change
            results.append(self.run(trainer, tokens, "variation", settings) | {"change": change})
        return sorted(results, key=lambda result: result["validation"]["fvu"])

    def final(self, trainer: Trainer, best: dict[str, Any]) -> list[dict[str, Any]]:
        """Results of the whole budget: at the settings that were found, and at the defaults."""
        config = self.config
        steps = max(1, config.tokens // config.batch_size_tokens)
        rate = best["settings"][RATE[trainer]]
        settings = tuned(trainer, steps, config.batch_size_tokens, rate) | best.get("change", {})
        return [
            self.run(trainer, config.tokens, "best", settings),
            self.run(trainer, config.tokens, "defaults", {}),
        ]


def table(results: list[dict[str, Any]], half: str) -> str:
    """Results as Markdown, of one half of the held-out proteins."""
    lines = ["| Trainer | Settings | Tokens | FVU | L0 | Never fire | Tokens/s |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for result in results:
        values = [f"{n} {v:.3g}" if isinstance(v, float) else f"{n} {v}"
                  for n, v in result["settings"].items()]  # fmt: skip
        lines.append(
            f"| {result['trainer']} | {result['stage']}: {', '.join(values) or 'none given'} | "
            f"{result['tokens']:,} | {result[half]['fvu']:.4f} | {result[half]['l0']:.1f} | "
            f"{100 * result[half]['frac_dead']:.1f} % | {result['tokens_per_second']:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Search, compare, print the table and write it."""
    config = tyro.cli(PeersConfig, prog="python -m experiments.benchmarks.peers")
    if config.peer_python is None and set(config.trainers) != {"ours"}:
        raise UserError("--peer-python is needed: a Python that has sae-lens, dictionary-learning")
    if config.search_tokens > config.tokens:
        raise UserError(f"--search-tokens ({config.search_tokens}) must be at most --tokens "
                        f"({config.tokens})")  # fmt: skip
    config.out.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(config, prepare(config))
    searched = {trainer: comparison.search(trainer) for trainer in config.trainers}
    finals = [
        r for trainer in config.trainers for r in comparison.final(trainer, searched[trainer][0])
    ]
    everything = [r for results in searched.values() for r in results]
    text = f"{table(finals, 'test')}\nThe search:\n\n{table(everything, 'validation')}"
    about = machine(config.threads, "numpy")
    results = {"machine": about, "final": finals, "search": everything}
    write_json_atomically(config.out / "peers.json", results)
    write_atomically(config.out / "peers.md", lambda f: f.write(text.encode()))
    print(text)


if __name__ == "__main__":
    run_cli(main)
