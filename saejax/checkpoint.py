"""Runs on disk: every Orbax call of the project, and ``load_sae``.

A run folder holds ``run.json`` (config, the store's manifest, results), ``checkpoints/<step>/``
(Orbax: ``sae`` = parameters with mean and scale, ``train`` = optimiser and counters),
``metrics.jsonl`` and ``latent_stats.parquet``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
from flax import nnx
from jaxtyping import Float
from orbax.checkpoint import v1 as ocp

from extract.errors import UserError, require_free_space
from extract.files import read_json
from extract.store import ActivationStore, require_same_parent
from saejax.config import SAEConfig
from saejax.model import TopKSAE
from saejax.step import Training, TrainState

RUN_FORMAT_VERSION = 1
KEEP_CHECKPOINTS = 2
PARAMETERS = ("W_dec", "W_enc_T", "b_enc", "b_dec")
CONSTANTS = ("mean", "scale")


def _step_folder(run: Path, step: int) -> str:
    """Where a step's checkpoint lies; Orbax wants absolute paths."""
    return str((run / "checkpoints" / f"{step:09d}").resolve())


def checkpoint_steps(run: Path) -> list[int]:
    """Steps with a whole checkpoint, ascending."""
    folder = run / "checkpoints"
    found = [p for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    return sorted(int(p.name) for p in found if ocp.is_orbax_checkpoint(str(p)))


def save(run: Path, training: Training, state: TrainState) -> None:
    """Write a checkpoint of the current step (atomically) and drop the oldest ones.

    Raises:
        UserError: the disk lacks room; nothing was written.
    """
    step = int(state.step)
    sae = {name: np.asarray(state.params[name]) for name in PARAMETERS}
    sae |= {name: np.asarray(training.constants[name]) for name in CONSTANTS}
    train = {
        "opt_state": jax.tree.map(np.asarray, state.opt_state),
        "tokens_since_fired": np.asarray(state.tokens_since_fired),
        "step": np.asarray(state.step),
    }
    for left_by_a_kill in (run / "checkpoints").glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(left_by_a_kill)
    require_free_space(run, 2 * sum(leaf.nbytes for leaf in jax.tree.leaves((sae, train))))
    ocp.save_checkpointables(_step_folder(run, step), {"sae": sae, "train": train}, overwrite=True)
    for old in checkpoint_steps(run)[:-KEEP_CHECKPOINTS]:
        shutil.rmtree(_step_folder(run, old))


def restore(run: Path, step: int, like: TrainState) -> TrainState:
    """Read back the training state of a step; ``like`` gives structure, shapes and dtypes."""
    template = {
        "opt_state": jax.tree.map(np.asarray, like.opt_state),
        "tokens_since_fired": np.asarray(like.tokens_since_fired),
        "step": np.asarray(like.step),
    }
    loaded = ocp.load_checkpointables(_step_folder(run, step), {"sae": None, "train": template})
    params = {name: loaded["sae"][name] for name in PARAMETERS}
    train = loaded["train"]
    return TrainState(params, train["opt_state"], train["tokens_since_fired"], train["step"])


@dataclass(frozen=True)
class LoadedSAE:
    """A trained SAE and everything it knows about itself."""

    folder: Path
    """The run folder."""
    sae: TopKSAE
    """Takes and gives raw activations."""
    config: SAEConfig
    """Its sizes."""
    run: Mapping[str, Any]
    """The whole ``run.json``: config, sae, store (manifest), results, versions."""

    @property
    def store_manifest(self) -> Mapping[str, Any]:
        """Manifest of the store it was trained on: parent, weights, site, normalisation."""
        return self.run["store"]

    @property
    def site(self) -> str:
        """Where in the parent its input lies."""
        return self.store_manifest["site"]

    def arrays(self) -> dict[str, np.ndarray]:
        """All float32 arrays, in the literature's orientation.

        ``W_enc [d_model, d_sae]``, ``b_enc [d_sae]``, ``W_dec [d_sae, d_model]``,
        ``b_dec [d_model]``, ``mean [d_model]``, ``scale []``.
        """
        sae = self.sae
        return {
            "W_enc": np.asarray(sae.W_enc),
            "b_enc": np.asarray(sae.b_enc[...]),
            "W_dec": np.asarray(sae.W_dec[...]),
            "b_dec": np.asarray(sae.b_dec[...]),
            "mean": np.asarray(sae.mean[...]),
            "scale": np.asarray(sae.scale[...]),
        }

    @cached_property
    def latent_frequency(self) -> Float[np.ndarray, " d_sae"]:
        """Share of held-out residues on which each latent fires."""
        return self._stats["frequency"]

    @cached_property
    def latent_max(self) -> Float[np.ndarray, " d_sae"]:
        """Largest value of each latent on the held-out residues (0 if it never fired there)."""
        return self._stats["maximum"]

    @cached_property
    def _stats(self) -> dict[str, np.ndarray]:
        table = pq.read_table(self.folder / "latent_stats.parquet")
        return {name: table[name].to_numpy() for name in ("frequency", "maximum")}

    def require_store(self, store: ActivationStore) -> None:
        """Refuse activations of another parent, weights or site with a :class:`UserError`."""
        what = f"run {self.folder} and store {store.folder}"
        require_same_parent(self.store_manifest, store.manifest, what=what)

    def check_latent(self, latent: int) -> int:
        """Return ``latent`` if the dictionary has it, else raise a :class:`UserError`."""
        if not 0 <= latent < self.config.d_sae:
            raise UserError(
                f"latent {latent} is out of range: {self.folder} has latents 0 to "
                f"{self.config.d_sae - 1}"
            )
        return latent


def load_sae(path: str | Path) -> LoadedSAE:
    """Load a finished run.

    Raises:
        UserError: no run there, unfinished, damaged, or arrays that do not fit its config.
    """
    folder = Path(path)
    run = read_json(folder / "run.json", "a training run")
    if run.get("format_version") != RUN_FORMAT_VERSION:
        raise UserError(
            f"{folder}: run format {run.get('format_version')}, this version reads "
            f"{RUN_FORMAT_VERSION}; update the software or train again"
        )
    if run["state"] != "complete":
        raise UserError(
            f"{folder}: training has not finished; run the same `python -m saejax.train` command "
            "again, it resumes"
        )
    config = SAEConfig(**run["sae"])
    return LoadedSAE(folder, latest_sae(folder, config), config, run)


def latest_sae(folder: Path, config: SAEConfig) -> TopKSAE:
    """The SAE of a run's newest checkpoint, finished or not.

    Raises:
        UserError: no checkpoint, damaged, or arrays that do not fit ``config``.
    """
    arrays = _load_arrays(folder)
    shapes = {
        "W_dec": (config.d_sae, config.d_model),
        "W_enc_T": (config.d_sae, config.d_model),
        "b_enc": (config.d_sae,),
        "b_dec": (config.d_model,),
        "mean": (config.d_model,),
        "scale": (),
    }
    for name, shape in shapes.items():
        found = tuple(arrays[name].shape) if name in arrays else "nothing"
        if found != shape:
            raise UserError(f"{folder}: {name} should be {shape}, found {found}; train again")
    sae = TopKSAE(config, arrays["mean"], float(arrays["scale"]), rngs=nnx.Rngs(0))
    for name in PARAMETERS:
        getattr(sae, name)[...] = jax.numpy.asarray(arrays[name])
    return sae


def _load_arrays(folder: Path) -> dict[str, np.ndarray]:
    steps = checkpoint_steps(folder)
    if not steps:
        raise UserError(f"{folder}: has no checkpoint; train again")
    path = _step_folder(folder, steps[-1])
    try:
        loaded = ocp.load_checkpointables(path, {"sae": None})["sae"]
    except Exception as error:  # Orbax raises many kinds; each means that the files are not whole
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path}: damaged checkpoint ({reason}); train again") from error
    return {name: np.asarray(array) for name, array in loaded.items()}
