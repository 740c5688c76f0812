"""``run.json``: what a run is, so that only that very run goes on in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from extract.errors import UserError
from extract.files import plain, read_json, versions, write_json_atomically
from saejax.checkpoint import RUN_FORMAT_VERSION
from saejax.config import TrainConfig
from saejax.processes import primary
from saejax.sources import Data

_NOT_IDENTITY = {
    "activations", "eval_activations", "target_activations", "out", "fasta", "weights",
    "parent_device", "log_every_steps", "eval_every_steps", "checkpoint_every_steps",
    "keep_checkpoints", "trackers", "coordinator", "num_processes", "process_id",
    "latent_devices", "preset",
}  # fmt: skip
"""Settings that may change between a run and its resumption: where things are (what they are is
compared by manifest), on which devices, and how often it reports."""

_MADE_BEFORE_THE_RECORD = {"held_out"}
"""What an interrupted start of a streamed run may leave in its folder."""


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """A run's settings as plain values; those of the stream only when there is one."""
    return {name: plain(value) for name, value in config.settings().items()}


def previous_run(config: TrainConfig) -> dict | None:
    """The record of this run when its folder has one; None when the folder is free for it.

    Raises:
        UserError: the folder holds something else, or a run with other settings.
    """
    out = config.out
    if not (out / "run.json").exists():
        allowed = set(_MADE_BEFORE_THE_RECORD) if config.source == "stream" else set()
        if out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - allowed):
            raise UserError(f"{out}: is not empty and not a run; give a new --out folder")
        return None
    old = read_json(out / "run.json", "a training run")
    # of settings younger than the run
    defaults = settings_of(TrainConfig.of(Path(), Path()))
    for name, value in settings_of(config).items():
        before = old["config"].get(name, defaults.get(name))
        if name not in _NOT_IDENTITY and before != value:
            raise UserError(
                f"{out}: holds a run with {name} {before!r}, now {value!r}; give "
                "a new --out folder, or the same settings to resume"
            )
    return old


def open_run(
    config: TrainConfig, data: Data, previous: dict | None, found: Mapping[str, Any] | None = None
) -> dict:
    """Write ``run.json``, or check that the run in the folder had the same activations.

    Args:
        config: the run.
        data: what it trains on.
        previous: what :func:`previous_run` found.
        found: more to write into a new record.

    Raises:
        UserError: it had others.
    """
    out = config.out
    if previous is None:
        record = {
            "format_version": RUN_FORMAT_VERSION,
            "state": "training",
            "config": settings_of(config),
            "sae": asdict(config.sae(data.d_model, data.d_out)),
            "store": data.manifest,
            "target_store": None if data.target is None else data.target.manifest,
            "eval_store": data.eval_store.manifest,
            "versions": versions("jax", "flax", "optax", "orbax-checkpoint", "numpy"),
            **(found or {}),
        }
        if primary():
            out.mkdir(parents=True, exist_ok=True)
            write_json_atomically(out / "run.json", record)
        return record
    require_same_activations(out, data.name, data.manifest, previous["store"])
    if data.target is not None:
        name, recorded = str(data.target.folder), previous["target_store"]
        require_same_activations(out, name, data.target.manifest, recorded)
    held_out = data.eval_store
    require_same_activations(out, str(held_out.folder), held_out.manifest, previous["eval_store"])
    return previous


def require_same_activations(out: Path, name: str, manifest: Mapping, recorded: Mapping) -> None:
    """Refuse to go on with a run on activations whose manifest is not the recorded one.

    Args:
        out: the run folder.
        name: of the activations, in the message.
        manifest: theirs.
        recorded: what ``run.json`` says.

    Raises:
        UserError: the first difference.
    """
    before, now = _comparable(recorded), _comparable(manifest)
    if before != now:
        differs = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        what = "other activations" if now.get("streamed") else "another activation store"
        raise UserError(
            f"{out}: was trained on {what} than {name} (their manifests differ in {differs}); give "
            "a new --out folder, or what it was trained on to resume"
        )


def _comparable(manifest: Mapping) -> dict:
    """A stream's manifest is made anew each time: without what says only how it was come by."""
    plain = json.loads(json.dumps(manifest))
    if plain.get("streamed"):
        del plain["versions"], plain["parent"]["weights"]["source"], plain["source"]["file"]
    return plain
