"""Eight emulated devices, strict JAX, and the small models and stores that many tests share."""

import logging
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers, two cores

import warnings

import jax
import pytest
from jaxtyping import install_import_hook

with warnings.catch_warnings():
    # shapes in signatures are checked while the tests run, and only then
    warnings.simplefilter("ignore")
    for package in ("extract", "saejax", "probes", "steering"):
        install_import_hook(package, "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")

from extract.store import ActivationStore
from tests.helpers import make_store, random_proteins, tiny_esm2


@pytest.fixture(autouse=True)
def restore_logging():
    """A command line run in the test's process points the root logger at the test's own stderr."""
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def tiny_model():
    return tiny_esm2()


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory) -> ActivationStore:
    """About 4,500 residues of 60 random proteins at block1 of the tiny model."""
    folder = tmp_path_factory.mktemp("stores") / "acts"
    return make_store(folder, random_proteins(60, 30, 120))
