"""Metrics in TensorBoard, Weights & Biases and trackio; each package is loaded only when asked for.

``metrics.jsonl`` is always written and is the record of a run. A tracker shows the same numbers
elsewhere, under the same names.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from extract.errors import UserError
from extract.files import write_atomically
from saejax.metrics_log import Tracker
from saejax.run_record import settings_of
from saejax.step import FREQUENCY_BINS

if TYPE_CHECKING:
    from saejax.config import TrainConfig

PROJECT = "protein-latents"
"""Where runs are gathered by the trackers that have projects; WANDB_PROJECT and TRACKIO_PROJECT
name another."""
HISTOGRAM = "frequency_histogram"
"""The one metric that is a list."""
LOG_FREQUENCY_EDGES = np.log10(np.maximum(FREQUENCY_BINS, FREQUENCY_BINS[1] / 10))
"""Edges of the histogram as powers of ten; what never fires is drawn one power below the rest."""


def require_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed, before any work.

    Raises:
        UserError: naming the package.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"--trackers {name}: the package {name} is not installed; `pip install {name}`, or "
                "leave it away: metrics.jsonl is written in any case"
            )


def open_trackers(config: TrainConfig, first_step: int) -> list[Tracker]:
    """The trackers of a run that goes on after ``first_step``.

    Raises:
        UserError: a tracker does not start.
    """
    kinds = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "trackio": Trackio}
    opened: list[Tracker] = []
    for name in dict.fromkeys(config.reporting.trackers):
        try:
            opened.append(kinds[name](config, first_step))
        except UserError:
            for tracker in opened:
                tracker.close()
            raise
    return opened


def _scalars(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in values.items() if isinstance(v, int | float)}


class TensorBoard:
    """Event files in the run's folder ``tensorboard``, in the format of the package's own reader.

    Written here in the training thread, so that a killed run has lost nothing that it logged.
    """

    def __init__(self, config: TrainConfig, first_step: int) -> None:
        """A new event file; what a killed run had logged after ``first_step`` is taken back."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        proto = "tensorboard.compat.proto"  # protobuf makes its classes as it is loaded
        self._event: Any = importlib.import_module(f"{proto}.event_pb2")
        self._summary: Any = importlib.import_module(f"{proto}.summary_pb2")
        folder = config.out / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{first_step}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if first_step:
            start = self._event.SessionLog(status=self._event.SessionLog.START)
            self._write(step=first_step + 1, session_log=start)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Scalars, and the histogram over the powers of ten of the firing frequency."""
        tags = [
            self._summary.Summary.Value(tag=name, simple_value=value)
            for name, value in _scalars(values).items()
        ]
        if HISTOGRAM in values:
            counts, edges = values[HISTOGRAM], LOG_FREQUENCY_EDGES
            middles = (edges[1:] + edges[:-1]) / 2
            histogram = self._summary.HistogramProto(
                min=edges[0],
                max=edges[-1],
                num=sum(counts),
                sum=float(np.dot(counts, middles)),
                sum_squares=float(np.dot(counts, middles**2)),
                bucket_limit=edges,
                bucket=[0.0, *map(float, counts)],
            )
            tags.append(self._summary.Summary.Value(tag="log10_frequency", histo=histogram))
        self._write(step=step, summary=self._summary.Summary(value=tags))

    def _write(self, **fields: Any) -> None:
        event = self._event.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _RunTracker:
    """What Weights & Biases and trackio, which follows it, have in common."""

    _run: Any
    _histogram: Any

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Scalars, and the histogram over the powers of ten of the firing frequency."""
        line: dict[str, Any] = dict(_scalars(values))
        if HISTOGRAM in values:
            counts = np.asarray(values[HISTOGRAM])
            line["log10_frequency"] = self._histogram(np_histogram=(counts, LOG_FREQUENCY_EDGES))
        self._run.log(line, step=step)

    def close(self) -> None:
        """Write or upload what is left."""
        self._run.finish()


class WeightsAndBiases(_RunTracker):
    """A run of Weights & Biases, of the group of its sweep; resumed under the same id.

    Its own environment variables hold: WANDB_MODE=offline keeps it on this machine. Steps that a
    killed run had logged already are not logged again; they are the same.
    """

    def __init__(self, config: TrainConfig, first_step: int) -> None:
        """Start or resume.

        Raises:
            UserError: it does not start, mostly for want of a login.
        """
        wandb: Any = importlib.import_module("wandb")

        self._histogram = wandb.Histogram
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=config.out.name,
                group=group_of(config),
                id=lasting_id(config.out / "wandb_id.txt"),
                dir=str(config.out),
                config=settings_of(config),
                resume="allow",
                reinit="create_new",
            )
        except wandb.errors.Error as error:
            raise UserError(
                f"--trackers wandb: {error}; run `wandb login`, or set WANDB_MODE=offline"
            ) from error


class Trackio(_RunTracker):
    """A run of trackio, kept on this machine unless TRACKIO_SPACE_ID says otherwise.

    Steps that a killed run had logged already appear twice; they are the same.
    """

    def __init__(self, config: TrainConfig, first_step: int) -> None:
        """Start or resume."""
        trackio: Any = importlib.import_module("trackio")

        self._histogram = trackio.Histogram
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=f"{config.out.name}-{lasting_id(config.out / 'trackio_id.txt')}",
            group=group_of(config),
            config=settings_of(config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )


def group_of(config: TrainConfig) -> str | None:
    """The sweep that a run is of: the name of the folder that its own lies in."""
    of_sweep = config.data_seed is not None and "=" in config.out.name
    return config.out.parent.name if of_sweep else None


def lasting_id(path: Path) -> str:
    """A random id that a run keeps when it is resumed, in a file of its folder."""
    if not path.exists():
        write_atomically(path, lambda f: f.write(secrets.token_hex(4).encode()))
    return path.read_text()
