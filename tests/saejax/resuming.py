"""What tests of interrupted runs share: small runs, and everything that they leave on disk."""

import json
from contextlib import contextmanager

import jax
import numpy as np

from saejax.checkpoint import saved_arrays
from saejax.config import TrainConfig

N_STEPS = 10
SETTINGS = {
    "d_sae": 64,
    "k": 4,
    "epochs": 1,
    "batch_size_tokens": 368,  # ten of them; 8 devices times 2 parts divide it
    "holdout_fraction": 0.1,
    "log_every_steps": 1,
    "checkpoint_every_steps": 5,
    "dead_after_tokens": 800,  # so that AuxK takes part
    "learning_rate": 1e-3,
}
TIMINGS = ("tokens_per_sec", "data_wait")


class Killed(BaseException):
    """Stands for kill -9: nothing may handle it."""


def config_of(store, out, **changes):
    return TrainConfig.of(store.folder, out, **{**SETTINGS, **changes})


@contextmanager
def compiled_once(folder):
    """A resumed run compiles the same step again: it is taken from the disk."""
    wanted = {
        "jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.1
    }  # fmt: skip
    before = {name: getattr(jax.config, name) for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def flags_of(config):
    """The command line of a run without groups of flags."""
    given = {"activations": config.activations, "out": config.out}
    given |= {name: config.settings()[name] for name in SETTINGS}
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]


def assert_same_state(a, b, **tolerance):
    """Bit for bit, or within a tolerance."""
    first, second = saved_arrays(a), saved_arrays(b)
    assert first.keys() == second.keys()
    for name in first:
        if tolerance and first[name].dtype.kind == "f":
            np.testing.assert_allclose(first[name], second[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def metrics_of(run):
    """The lines of ``metrics.jsonl`` without how long things took."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


def results_of(run):
    return json.loads((run / "run.json").read_text())["results"]
