"""Covering a concept by precise latents."""

from __future__ import annotations

import numpy as np

from probes.protocols.coverage import cover, eligible
from tests.probes.helpers import columns_of


def test_the_next_latent_finds_most_of_what_is_left():
    """Latents of 50, 40 and 30 residues, the last within the first; nothing counts twice."""
    y = np.zeros(200, bool)
    y[:100] = True
    z = np.zeros((200, 4), np.float32)
    z[:50, 0] = 1
    z[45:85, 1] = 1
    z[10:40, 2] = 1
    z[100:150, 3] = 1
    z_test = z.copy()
    z_test[190:, 0] = 1
    everything = np.ones(4, bool)
    found = cover(columns_of(z), y, columns_of(z_test), y, everything)
    assert found.latents.tolist() == [0, 1]
    np.testing.assert_allclose(found.recall_select, [0.5, 0.85])
    np.testing.assert_allclose(found.recall_test, [0.5, 0.85])
    np.testing.assert_allclose(found.precision_test, [50 / 60, 85 / 95])
    assert (found.needed(0.5), found.needed(0.8), found.needed(0.9)) == (1, 2, None)


def test_only_precise_latents_beyond_composition_are_taken():
    """Often right; right as often as its amino acids say; seldom right; rare."""
    y = np.arange(1000) < 500
    z = np.zeros((1000, 4), np.float32)
    z[:100, :2] = 1
    z[450:550, 2] = 1
    z[:10, 3] = 1
    expected = np.array([0.5, 0.95, 0.2, 0.5])
    assert eligible(columns_of(z), y, expected).tolist() == [True, False, False, False]


def test_no_candidates():
    """An empty cover."""
    y = np.arange(100) < 50
    z = np.ones((100, 2), np.float32)
    found = cover(columns_of(z), y, columns_of(z), y, np.zeros(2, bool))
    assert len(found.latents) == 0
    assert found.needed(0.1) is None
