"""Contestants of the step benchmark do the same step, at a size of seconds."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.benchmarks import step as benchmark
from experiments.benchmarks.step_contestants import CONTESTANTS, Setting, initial
from extract.errors import UserError

EXACT = [name for name in CONTESTANTS if "bfloat16" not in name]


def losses_of(name: str, setting: Setting, n_steps: int = 5) -> np.ndarray:
    try:
        step = CONTESTANTS[name](setting)
    except UserError as error:
        pytest.skip(str(error))
    batches = initial(setting)[2]
    return np.array([step(batches[i % len(batches)]) for i in range(n_steps)])


@pytest.fixture(autouse=True)
def torch_as_it_was():
    import torch

    yield
    torch.set_float32_matmul_precision("highest")
    torch.set_grad_enabled(True)


@pytest.mark.parametrize("n_dead", [0, 5, 20])
@pytest.mark.parametrize("name", list(CONTESTANTS))
def test_contestants_agree(name, n_dead):
    setting = Setting(d_model=16, d_sae=64, k=4, batch=32, n_dead=n_dead)
    expected = losses_of("torch dense", setting)
    assert expected[-1] != expected[0]
    tolerance = 1e-4 if name in EXACT else 3e-2  # so few latents: another one may be chosen
    np.testing.assert_allclose(losses_of(name, setting), expected, rtol=tolerance)


def test_tables():
    row = {
        "d_model": 16, "d_sae": 64, "k": 4, "batch": 32, "n_dead": 0,
        "seconds": {"torch dense": [2.0, 4.0], "ours": [1.0, 1.0]},
        "difference": {"torch dense": 0.0, "ours": 1e-6},
        "peak_gb": {"torch dense": 1.0, "ours": 2.0},
    }  # fmt: skip
    dead = [{"d_sae": 64, "contestant": "ours", "n_dead": 5, "overhead": 0.2}]
    text = benchmark.table([row], dead)
    assert "| ours | 1000 | 3.00 |" in text
    assert "| 5 | 20 % |" in text
