from __future__ import annotations

import numpy as np
import pytest
import torch

from extract.errors import UserError
from extract.esm import ESM2
from steering.controls import (
    bootstrap_mean,
    latent_directions,
    matched_change,
    matched_latents,
    random_directions,
)

FREQUENCY = np.array([0.1, 0.0, 0.09, 0.5, 0.11, 0.001, 0.2])


def test_controls_are_the_nearest_in_log_frequency() -> None:
    # |log ratio| to 0.1: latent 4 0.095, 2 0.105, 6 0.69, 3 1.6, 5 4.6; 1 is dead.
    assert matched_latents(FREQUENCY, 0, 3).tolist() == [4, 2, 6]
    assert matched_latents(FREQUENCY, 0, 5).tolist() == [4, 2, 6, 3, 5]
    assert matched_latents(FREQUENCY, 0, 2, exclude=[4]).tolist() == [2, 6]


def test_ties_are_drawn_by_seed() -> None:
    same = np.full(100, 0.1)
    drawn = [tuple(matched_latents(same, 0, 5, seed=s)) for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert 0 not in drawn[0]


def test_controls_refuse() -> None:
    with pytest.raises(UserError, match="latent 1 never fired"):
        matched_latents(FREQUENCY, 1, 1)
    with pytest.raises(UserError, match="6 controls asked for, but only 5"):
        matched_latents(FREQUENCY, 0, 6)
    with pytest.raises(UserError, match="at least 1"):
        matched_latents(FREQUENCY, 0, 0)


def test_matched_change_has_the_norm_asked_for(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    norms = torch.tensor([0.5, 0.0, 3.0])
    change = matched_change(latent_directions(sae, [7])[0], norms)
    torch.testing.assert_close(change.norm(dim=1), norms)
    cosine = torch.nn.functional.cosine_similarity(change[2], sae.W_dec[7], dim=0)
    assert cosine == pytest.approx(1.0, abs=1e-6)


def test_bootstrap_by_hand() -> None:
    assert bootstrap_mean(np.array([2.0, 2.0, np.nan])) == (2.0, 2.0, 2.0)
    values = np.random.default_rng(0).normal(size=400)
    mean, low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / 20  # the normal interval
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)
    assert bootstrap_mean(values) == (mean, low, high)
    with pytest.raises(ValueError, match="at least one protein"):
        bootstrap_mean(np.array([np.nan]))


def test_random_directions_are_even_and_seeded() -> None:
    directions = random_directions(16, 4000, seed=1)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4000))
    assert directions.mean(0).norm() < 0.05  # 1/sqrt(4000) = 0.016 is expected
    second_moments = directions.T @ directions / 4000 * 16
    torch.testing.assert_close(second_moments, torch.eye(16), atol=0.1, rtol=0)
    assert torch.equal(directions[:3], random_directions(16, 3, seed=1))
    assert not torch.equal(directions[:3], random_directions(16, 3, seed=2))
