"""When a latent is said to steer."""

from __future__ import annotations

import numpy as np
import pytest

from steering.controls import Interval
from steering.edits import Edit
from steering.success import chance, share_beyond, steers
from steering.sweep import DoseResponse
from steering.sweep_report import summarize, verdict


def response_of(readout: np.ndarray) -> DoseResponse:
    """A response of equal KL everywhere: ``[arms, proteins]`` of tryptophan, at one strength."""
    arms, proteins = readout.shape
    delta = np.zeros((arms, 1, proteins, 20))
    delta[:, 0, :, 18] = readout
    return DoseResponse([Edit(0, "set", 1.0)], np.arange(1, arms), 0, (), delta,
                        np.ones((arms, 1, proteins)), np.ones((1, proteins)),
                        np.ones(proteins, int))  # fmt: skip


def test_chance_by_hand() -> None:
    # above the 19th of 20 controls lie two of the 21 places; above the smaller of two, two of three
    assert chance(20) == pytest.approx(2 / 21)
    assert chance(2) == pytest.approx(2 / 3)
    assert chance(1) == 1 / 2
    assert np.isnan(chance(0))


@pytest.mark.parametrize("n", [1, 4, 20, 21, 60])
def test_chance_is_not_exceeded_by_one_of_the_controls(n: int) -> None:
    drawn = np.random.default_rng(n).normal(size=(n + 1, 20_000))
    rate = share_beyond(drawn[0], drawn[1:])
    assert chance(n) - 1 / (n + 1) < rate.mean < chance(n) + 0.01


def test_half_of_the_proteins_and_more_than_chance() -> None:
    given = {"few": (0.4, 0.3, 0.5), "uncertain": (0.5, 0.09, 0.9), "half": (0.5, 0.1, 0.9)}
    assert {name: steers(Interval(*i), 20) for name, i in given.items()} == {
        "few": False, "uncertain": False, "half": True,
    }  # fmt: skip
    assert not steers(Interval(0.5, 0.1, 0.9), 10)  # chance is higher there
    assert not steers(Interval(*3 * [float("nan")]), 20)


@pytest.mark.parametrize(("share", "words"), [(1.0, "It steers. "),
                                              (0.3, "It steers some proteins only. "),
                                              (0.02, "No evidence that it steers. ")])  # fmt: skip
def test_the_verdict_goes_by_the_success_rate(share: float, words: str) -> None:
    readout = np.random.default_rng(0).normal(size=(21, 100))
    readout[0] = np.where(np.arange(100) < 100 * share, 9.0, -9.0)
    sweep = summarize(response_of(readout), [1.0], "W", seed=0)
    found = verdict(sweep)
    assert found["words"].startswith(words)
    assert found["steers"] is (share == 1.0)
    assert f"On {100 * share:.0f} % of proteins" in found["words"]
