"""Train one TopK SAE with SAELens or dictionary_learning, as their own trainers do it.

``peers.py`` runs this script with an interpreter that has the two packages (``--peer-python``) and
nothing of this project; :mod:`experiments.benchmarks.peer_ours` uses its :class:`Job` and
:func:`main` for the contestant of this project. A job is a JSON file; the answer is an ``.npz``
with the weights in one form for all::

    x̂ = ReLU(TopK_k((x − b_dec) W_enc + b_enc)) W_dec + b_dec

and the trainer's own reconstruction of a few rows, to check that the form is right.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Answer = dict[str, np.ndarray]
"""W_enc ``[d, d_sae]``, b_enc, W_dec ``[d_sae, d]``, b_dec, and ``x_hat`` of the check rows."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One SAE to train."""

    trainer: str
    """Which trainer."""
    settings: dict[str, Any]
    """Its own settings where they are not its defaults, by the names it has for them."""
    steps: int
    """Batches to train on."""
    batch: int
    """Rows per batch."""
    d_model: int
    """Dimensions of a row."""
    d_sae: int
    """Latents."""
    k: int
    """Latents active per row."""
    seed: int
    """Of the initial weights."""
    threads: int
    """Of the processor."""
    train: str
    """``.npy`` file of float32 rows in the order of training, E‖x‖² = d_model, mean 0."""
    check: str
    """``.npy`` file of rows to reconstruct at the end."""

    def check_rows(self) -> np.ndarray:
        """The rows to reconstruct."""
        return np.load(self.check)


class Feed:
    """The batches of a job, in order; notes when training is past its first steps."""

    def __init__(self, job: Job) -> None:
        """Open the file, without reading it."""
        self.job, self.rows = job, np.load(job.train, mmap_mode="r")
        self.untimed = min(20, job.steps // 2)
        self.started = 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield float32 ``[batch, d_model]``, ``steps`` times."""
        for step in range(self.job.steps):
            if step == self.untimed:
                self.started = time.perf_counter()
            yield np.array(self.rows[step * self.job.batch : (step + 1) * self.job.batch])

    def tokens_per_second(self) -> float:
        """Speed since the first steps, which compile and allocate; call it at once at the end."""
        rows = (self.job.steps - self.untimed) * self.job.batch
        return rows / (time.perf_counter() - self.started)


Train = Callable[[Job, Feed], tuple[Answer, float]]
"""Trains; gives the answer and the tokens per second."""


def sae_lens(job: Job, feed: Feed) -> tuple[Answer, float]:
    """``SAETrainer.fit`` on a ``TopKTrainingSAE``; settings are fields of their two configs."""
    import torch
    from sae_lens.config import SAETrainerConfig  # type: ignore[import-not-found]
    from sae_lens.saes.topk_sae import (  # type: ignore[import-not-found]
        TopKTrainingSAE,
        TopKTrainingSAEConfig,
    )
    from sae_lens.training.sae_trainer import SAETrainer  # type: ignore[import-not-found]

    torch.manual_seed(job.seed)
    of_trainer = {f.name for f in dataclasses.fields(SAETrainerConfig)}
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=job.d_model,
            d_sae=job.d_sae,
            k=job.k,
            **{n: v for n, v in job.settings.items() if n not in of_trainer},
        )
    )
    config = SAETrainerConfig(
        total_training_samples=job.steps * job.batch,
        train_batch_size_samples=job.batch,
        **{n: v for n, v in job.settings.items() if n in of_trainer},
    )
    config.lr_end = config.lr / 10  # as its runner sets it; a constant schedule ignores it
    SAETrainer(config, sae, (torch.from_numpy(rows) for rows in feed)).fit()
    speed = feed.tokens_per_second()
    with torch.no_grad():
        x_hat = sae(torch.from_numpy(job.check_rows())).numpy()
        if sae.cfg.rescale_acts_by_decoder_norm:
            sae.fold_W_dec_norm()
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    weights = {name: getattr(sae, name).detach().numpy() for name in names}
    return weights | {"x_hat": x_hat}, speed


def dictionary_learning(job: Job, feed: Feed) -> tuple[Answer, float]:
    """``TopKTrainer.update`` in a loop, as its ``trainSAE`` does.

    Settings are keywords of ``TopKTrainer``, its attribute ``dead_feature_threshold``, and
    ``normalize_activations``: the keyword of ``trainSAE`` that makes E‖x‖² = 1, and scales the
    biases back at the end.
    """
    import torch

    if importlib.util.find_spec("nnsight") is None:  # only its activation buffer, not used here
        sys.modules["nnsight"] = types.ModuleType("nnsight")
        sys.modules["nnsight"].LanguageModel = None  # type: ignore[attr-defined]
    from dictionary_learning.trainers.top_k import (  # type: ignore[import-not-found]
        TopKTrainer,
    )

    settings = dict(job.settings)
    norm = job.d_model**0.5 if settings.pop("normalize_activations", False) else 1.0
    dead = settings.pop("dead_feature_threshold", None)
    settings.setdefault("warmup_steps", min(1000, job.steps - 1))  # its own, where it accepts it
    trainer = TopKTrainer(
        steps=job.steps, activation_dim=job.d_model, dict_size=job.d_sae, k=job.k, layer=0,
        lm_name="", seed=job.seed, device="cpu", **settings,
    )  # fmt: skip
    trainer.dead_feature_threshold = dead or trainer.dead_feature_threshold
    for step, rows in enumerate(feed):
        trainer.update(step, torch.from_numpy(rows) / norm)
    speed = feed.tokens_per_second()
    sae = trainer.ae
    sae.scale_biases(norm)
    with torch.no_grad():
        x_hat = sae(torch.from_numpy(job.check_rows())).numpy()
    weights = {
        "W_enc": sae.encoder.weight.T,
        "b_enc": sae.encoder.bias,
        "W_dec": sae.decoder.weight.T,
        "b_dec": sae.b_dec,
    }
    return {n: w.detach().numpy() for n, w in weights.items()} | {"x_hat": x_hat}, speed


def main(trainers: dict[str, Train], packages: list[str]) -> None:
    """Do the job of the first argument, write the answer to the second, print facts as JSON."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    answer, speed = trainers[job.trainer](job, Feed(job))
    np.savez(sys.argv[2], **answer)  # type: ignore[arg-type]
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({"tokens_per_second": speed, "versions": versions}))


def torch_main() -> None:
    """The two peers."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    main(
        {"sae_lens": sae_lens, "dictionary_learning": dictionary_learning},
        ["torch", "sae-lens", "dictionary-learning"],
    )


if __name__ == "__main__":
    torch_main()
