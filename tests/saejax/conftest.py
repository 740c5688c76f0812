"""What the tests of training share."""

import jax
import pytest

from extract.store import ActivationStore
from tests.helpers import make_store, random_proteins
from tests.saejax.stored_latents import SMALL, loaded_of, shards_of, write_run


@pytest.fixture(scope="module")
def quick_compilation():
    """For modules that compile many small programs and run each a few times."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def small_shards():
    """For modules that write latent stores of several shards."""
    with shards_of(*SMALL.values()):
        yield


@pytest.fixture(scope="session")
def other_store(tmp_path_factory) -> ActivationStore:
    """Other proteins of the same parent as ``tiny_store``."""
    return make_store(tmp_path_factory.mktemp("other"), random_proteins(10, 30, 120, seed=1))


@pytest.fixture(scope="session")
def random_run(tiny_store, tmp_path_factory):
    """Folder of a finished run of random weights."""
    return write_run(tmp_path_factory.mktemp("runs") / "random", loaded_of(tiny_store))
