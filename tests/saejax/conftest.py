"""What the tests of training share."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compilation():
    """For modules that compile many small programs and run each a few times."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
