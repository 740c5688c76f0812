"""Concepts a few at a time give what they give together."""

import numpy as np
import pandas as pd
import pytest

from probes.data.features import SparseFeatures
from probes.protocols.frozen import Parts, frozen
from probes.protocols.interplm import interplm
from probes.protocols.label_chunks import chunks_of, label_columns
from tests.probes.helpers import columns_of, make_concept

N, LENGTH = 60, 20


@pytest.fixture(name="world", scope="module")
def fixture_world():
    """Seven concepts and five latents, some of which know some of them; three parts."""
    rng = np.random.default_rng(3)
    starts = np.arange(N) * LENGTH
    concepts, z = [], rng.exponential(size=(N * LENGTH, 5)) * (rng.random((N * LENGTH, 5)) < 0.2)
    for i in range(7):
        first = np.sort(rng.choice(starts, 40, replace=False)) + i
        concepts.append(make_concept(f"c{i}", np.stack([first, first + 3 + i], axis=1), N))
        z[:, i % 5] += 2 * concepts[-1].labels(N * LENGTH) * (rng.random(N * LENGTH) < 0.5)
    part = np.repeat(np.arange(N) % 3, LENGTH)
    cluster = np.repeat(np.arange(N) // 2, LENGTH).astype(np.int32)
    parts = Parts(part == 0, part == 1, part == 2, cluster)
    return SparseFeatures("latents", columns_of(z)), concepts, parts


def test_chunks_are_bounded_and_whole():
    concepts = [make_concept(f"c{i}", [(0, 10 * (i + 1))], 1) for i in range(4)]
    for most, sizes in ((1, [1, 1, 1, 1]), (250, [2, 2]), (299, [2, 2]), (400, [4])):
        assert [s.stop - s.start for s in chunks_of(concepts, 100, most)] == sizes
    # with 3 bytes for each of 10, 20, 30 and 40 positives: 130, 160, 190, 220
    found = chunks_of(concepts, 100, 350, bytes_per_positive=3)
    assert [(s.start, s.stop) for s in found] == [(0, 2), (2, 3), (3, 4)]


def test_label_columns(world):
    _, concepts, parts = world
    for columns, part in zip(label_columns(concepts, parts.train, parts.test),
                             (parts.train, parts.test), strict=True):  # fmt: skip
        expected = [c.labels(N * LENGTH)[part] for c in concepts]
        np.testing.assert_array_equal(columns, np.stack(expected, axis=1))


@pytest.mark.parametrize("max_bytes", [1, 3 * N * LENGTH])
def test_protocols_do_not_depend_on_chunks(world, max_bytes):
    """Choices, counts and thresholds to the bit; fits to what another grouping rounds."""
    features, concepts, parts = world
    whole = frozen(features, concepts, parts, n_draws=20)
    chunked = frozen(features, concepts, parts, n_draws=20, max_label_bytes=max_bytes)
    for name in ("pairs", "best", "calibration"):
        pd.testing.assert_frame_equal(
            getattr(chunked, name), getattr(whole, name), rtol=1e-12, atol=1e-12
        )
    found = [
        interplm(features, concepts, parts.validation, parts.test, min_occurrences=0,
                 min_residues=0, max_label_bytes=most)
        for most in (10**9, max_bytes)
    ]  # fmt: skip
    theirs, again = found
    pd.testing.assert_frame_equal(again.pairs, theirs.pairs, check_exact=True)
    assert again.kept.tolist() == theirs.kept.tolist()
    assert len(set(theirs.pairs["concept"])) == 7
