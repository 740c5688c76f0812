"""The contestant of this project in ``peers.py``, in a process of its own as its peers are."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.peer_trainers import Answer, Feed, Job, main
from saejax.config import TrainConfig
from saejax.memory import keep_freed_memory
from saejax.model import Constants
from saejax.state import init_state
from saejax.step import make_train_step


def ours(job: Job, feed: Feed) -> tuple[Answer, float]:
    """The step of ``python -m saejax.train``; settings are fields of :class:`TrainConfig`.

    Rows are normalised already, so the SAE's own mean is 0 and its scale 1.
    """
    config = TrainConfig.of(
        Path(job.train), Path(), d_sae=job.d_sae, k=job.k,
        batch_size_tokens=job.batch, seed=job.seed, **job.settings,
    )  # fmt: skip
    constants = Constants(np.zeros(job.d_model, np.float32), 1.0)
    training, state = init_state(config, config.sae(job.d_model), constants, job.steps)
    train_step = make_train_step(training, jax.devices()[:1])
    loss = jnp.zeros(())
    for rows in feed:
        state, metrics = train_step(state, jnp.asarray(rows[None]))
        jax.block_until_ready(loss)  # one step ahead of the device, as the training loop
        loss = metrics.loss
    jax.block_until_ready(loss)
    speed = feed.tokens_per_second()
    sae = training.sae(state.params)
    weights = {
        "W_enc": sae.W_enc,
        "b_enc": sae.b_enc[...],
        "W_dec": sae.W_dec[...],
        "b_dec": sae.b_dec[...],
        "x_hat": sae(job.check_rows()),
    }
    return {name: np.asarray(value) for name, value in weights.items()}, speed


if __name__ == "__main__":
    keep_freed_memory()
    main({"ours": ours}, ["jax", "flax", "optax"])
