"""Runs on disk: every Orbax call of the project, and ``load_sae``.

A run folder holds ``run.json`` (config, the store's manifest, results), ``checkpoints/<step>/``
(Orbax: ``sae`` = the parameters to use, with mean and scale; ``train`` = all else that a step
changes), ``metrics.jsonl`` and ``latent_stats.parquet``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from orbax.checkpoint import v1 as ocp

from extract.errors import UserError, require_free_space
from extract.files import read_json
from extract.store import ActivationStore
from saejax.architectures import ARCHITECTURES
from saejax.loaded_sae import LoadedSAE
from saejax.model import SAE, Constants
from saejax.sae_config import SAEConfig
from saejax.state import Training, TrainState
from saejax.zoo import load_zoo, zoo_name

RUN_FORMAT_VERSION = 1


def _by_itself() -> AbstractContextManager:
    """Within it a process reads alone: by default Orbax waits for all of them."""
    if jax.process_count() == 1:
        return nullcontext()
    own = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    return ocp.Context(multiprocessing_options=options)


def _step_folder(run: Path, step: int) -> str:
    """Where a step's checkpoint lies; Orbax wants absolute paths."""
    return str((run / "checkpoints" / f"{step:09d}").resolve())


def checkpoint_steps(run: Path) -> list[int]:
    """Steps with a whole checkpoint, ascending."""
    folder = run / "checkpoints"
    found = [p for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    return sorted(int(p.name) for p in found if ocp.is_orbax_checkpoint(str(p)))


class Checkpoints:
    """Writes a run's checkpoints while it goes on, and drops the oldest ones."""

    def __init__(self, run: Path, keep: int, *, primary: bool = True) -> None:
        """Write into a run folder.

        Args:
            run: the run folder.
            keep: newest checkpoints that stay.
            primary: False in all processes but one, which call with the others, since Orbax
                compares their paths, and write nothing.
        """
        self.run, self.keep, self.primary = run, keep, primary
        self._writing: Any = None

    def save(self, training: Training, state: TrainState) -> None:
        """Write the state (atomically) while the caller goes on, until :meth:`wait`.

        Args:
            training: with the constants.
            state: on the host, as NumPy arrays that nobody else writes to.

        Raises:
            UserError: the disk lacks room; nothing was written.
        """
        assert self._writing is None, "wait for the one before"
        step = int(state.step)
        items = _items(training, state)
        if self.primary:
            for left_by_a_kill in (self.run / "checkpoints").glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(left_by_a_kill)
            require_free_space(self.run, 2 * sum(a.nbytes for a in jax.tree.leaves(items)))
        path = _step_folder(self.run, step)
        self._writing = ocp.save_checkpointables_async(path, items, overwrite=True)

    def wait(self) -> None:
        """Until what is being written is on the disk."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def drop_oldest(self) -> None:
        """Leave the newest; not before all runs of a sweep have them, which go on together."""
        self._drop(checkpoint_steps(self.run)[: -self.keep])

    def drop_after(self, step: int) -> None:
        """Leave none of a later step: a sweep goes on from an earlier one, that all runs have."""
        self._drop([s for s in checkpoint_steps(self.run) if s > step])

    def _drop(self, steps: Sequence[int]) -> None:
        for step in steps if self.primary else ():
            shutil.rmtree(_step_folder(self.run, step))


def _items(training: Training, state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds; the raw parameters beside their average where there is one."""
    sae = dict(state.ema or state.params)
    sae |= {name: np.asarray(value) for name, value in training.constants.items()}
    train = {
        "opt_state": state.opt_state,
        "tokens_since_fired": state.tokens_since_fired,
        "frequency": state.frequency,
        "step": state.step,
    }
    if state.ema:
        train["params"] = state.params
    return jax.tree.map(np.asarray, {"sae": sae, "train": train})


def restore(run: Path, step: int, training: Training, like: TrainState) -> TrainState:
    """Read back the training state of a step; ``like`` gives structure, shapes and dtypes.

    Raises:
        UserError: the checkpoint is damaged.
    """
    template = _items(training, jax.tree.map(np.asarray, like))
    loaded = _load(run, step, template)
    train = loaded["train"]
    used = {name: loaded["sae"][name] for name in like.params}
    return TrainState(
        params=train.get("params", used),
        ema=used if like.ema else {},
        opt_state=train["opt_state"],
        tokens_since_fired=train["tokens_since_fired"],
        frequency=train["frequency"],
        step=train["step"],
        hyper=like.hyper,
        first_bad_step=like.first_bad_step,
    )


def saved_arrays(run: Path, step: int | None = None) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by its path in it, as it lies on the disk (to compare runs).

    Args:
        run: the run folder.
        step: by default the last one saved.
    """
    step = checkpoint_steps(run)[-1] if step is None else step
    loaded = _load(run, step, {"sae": None, "train": None})
    leaves = jax.tree_util.tree_leaves_with_path(loaded)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def load_sae(
    path: str | Path,
    *,
    device: Any = None,
    check: ActivationStore | str | Path | np.ndarray | None = None,
) -> LoadedSAE:
    """Load a finished run.

    Args:
        path: the run folder, or ``zoo:`` and the name of an SAE in :mod:`saejax.zoo`.
        device: a JAX device; by default the first.
        check: activations that it should reconstruct as well as it did those it was evaluated on:
            a store, whose parent and site must fit too, or raw activations ``[rows, d_model]``.

    Raises:
        UserError: no run there, unfinished, damaged, arrays that do not fit its config, or an FVU
            on ``check`` that is far from the recorded one (:func:`saejax.gate.check_fvu`).
    """
    name = zoo_name(path)
    with jax.default_device(device):
        loaded = _load_run(Path(path)) if name is None else load_zoo(name)
        if check is not None:
            from saejax.gate import check_fvu  # which needs this module's neighbours

            check_fvu(loaded, check)
        return loaded


def _load_run(folder: Path) -> LoadedSAE:
    """Load a run folder, on the default device."""
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
    config = sae_config_of(run)
    sae = latest_sae(folder, config).for_inference(run["results"].get("threshold"))
    return LoadedSAE(folder, sae, config, run)


def save_published(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the parameters of an SAE that was trained elsewhere as a run's only checkpoint.

    Args:
        folder: of the run; has no checkpoints yet.
        arrays: by the names of the SAE's own variables.
    """
    with _by_itself():
        ocp.save_checkpointables(_step_folder(folder, 0), {"sae": dict(arrays)})


def sae_config_of(run: Mapping[str, Any]) -> SAEConfig:
    """Architecture and sizes of a run's record; JSON has lists where these have tuples."""
    plain: dict[str, Any] = dict(run["sae"])
    plain |= {k: tuple(v) for k, v in plain.items() if isinstance(v, list)}
    return SAEConfig(**plain)


def latest_sae(folder: Path, config: SAEConfig) -> SAE:
    """The SAE of a run's newest checkpoint as it is trained, finished or not.

    Raises:
        UserError: no checkpoint, damaged, or arrays that do not fit ``config``.
    """
    arrays = _load_arrays(folder)
    d_out = None if config.d_out is None else np.zeros(config.d_out, np.float32)
    blank = Constants(np.zeros(config.d_model, np.float32), 1.0, d_out, 1.0)
    kind = ARCHITECTURES[config.architecture]
    graphdef, expected = nnx.split(nnx.eval_shape(lambda: kind(config, blank, rngs=nnx.Rngs(0))))
    for name, variable in expected.items():
        shape = tuple(variable.shape)
        found = tuple(arrays[name].shape) if name in arrays else "nothing"
        if found != shape:
            raise UserError(f"{folder}: {name} should be {shape}, found {found}; train again")
        expected[name] = variable.replace(jnp.asarray(arrays[name]))
    return nnx.merge(graphdef, expected)


def _load_arrays(folder: Path) -> dict[str, np.ndarray]:
    steps = checkpoint_steps(folder)
    if not steps:
        raise UserError(f"{folder}: has no checkpoint; train again")
    loaded = _load(folder, steps[-1], {"sae": None})["sae"]
    return {name: np.asarray(array) for name, array in loaded.items()}


def _load(run: Path, step: int, template: dict[str, Any]) -> dict[str, Any]:
    """The parts of a checkpoint that ``template`` names.

    Raises:
        UserError: it is damaged, or of another version of this software.
    """
    path = _step_folder(run, step)
    try:
        with _by_itself():
            return ocp.load_checkpointables(path, template)
    except Exception as error:  # Orbax raises many kinds; each means that the files don't fit
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path}: damaged checkpoint ({reason}); train again") from error
