"""Pooled latents equal the dense array's, protein by protein."""

import numpy as np
import pytest

import probes.fit.blocks as blocks
from probes.config import ProbeConfig
from probes.data.features import DenseFeatures, SparseFeatures
from probes.data.part_columns import dense_column
from probes.evaluate import probe_run
from probes.fit.scores import restrict
from probes.logistic import fit_logistic_1d
from probes.protocols.pooled import pooled_features, pooling_of
from probes.protocols.pooling import Pooling, pool
from saejax.latent_store import LatentStore
from tests.probes.helpers import columns_of, make_rows, write

HOW: tuple[Pooling, ...] = ("max", "mean")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("by_value", [False, True])
def test_pooling_equals_the_dense_array(how, by_value, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ITEMS", 50)
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 30)
    offsets = np.append(0, np.cumsum(lengths))
    dense = np.maximum(rng.normal(-1, 1, (offsets[-1], 7)), 0).astype(np.float32)
    dense[:, 3] = 0
    columns = columns_of(dense)
    if by_value:
        columns = restrict(columns, np.ones(len(dense), bool))
    pooled = pool(columns, offsets, how)
    expected = [getattr(p, how)(axis=0) for p in np.split(dense, offsets[1:-1])]
    found = np.stack([dense_column(pooled, j) for j in range(7)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for j in range(7):
        assert (np.diff(pooled.column(j)[0]) > 0).all()
    assert pooled.n_rows == 30


def test_protein_level_fits():
    dense = np.array([[0], [5], [0], [0], [1], [4], [0]])
    pooled = pool(columns_of(dense), np.array([0, 2, 4, 6, 7]))
    labels = np.array([True, False, True, False])
    fit = fit_logistic_1d(pooled, labels)
    by_hand = fit_logistic_1d(columns_of(np.array([[5], [0], [4], [0]])), labels)
    assert fit.coef[0] == pytest.approx(by_hand.coef[0])


@pytest.mark.parametrize("offsets", [[0, 3], [1, 4], [0, 2, 2, 4]])
def test_offsets_that_do_not_fit(offsets):
    with pytest.raises(ValueError, match="offsets must rise from 0 to the number of rows"):
        pool(columns_of(np.ones((4, 2))), np.array(offsets))


def test_a_run_pools_as_it_is_told(tiny_run, tiny_store, tmp_path):
    """The chosen latent's precision on test, by hand from the means of the latent store."""
    lines = [f"{p.id}\t{'mine' if 'W' in p.sequence[:30] else ''}\n" for p in tiny_store.proteins]
    labels = write(tmp_path / "mine.tsv", "id\tlabel\n" + "".join(lines))
    config = ProbeConfig(
        tiny_run, (tiny_store.folder,), out=tmp_path / "out", labels=(labels,),
        baselines=("neurons",),
        protocols=(), min_positives=60, min_positive_proteins=3, bootstrap=5, pooling="mean",
        allow_random_split=True,
    )  # fmt: skip
    results = probe_run(config)
    best = results.best.set_index(["features", "concept"])
    assert best["pooling"].to_dict()["latents", "mine"] == "mean"
    assert best["pooling"].to_dict()["latents", "L"] == ""
    row = best.loc[("latents", "mine")]
    part = results.split["part"].to_numpy() == "test"
    rows, values = LatentStore.open(tmp_path / "out" / "latents").column(int(row["feature"]))
    lengths = [len(p.sequence) for p in tiny_store.proteins]
    sums = np.bincount(np.repeat(np.arange(60), lengths)[rows], values, minlength=60)
    called = ((sums / lengths).astype(np.float32) >= row["threshold"]) & part
    mine = np.array(["W" in p.sequence[:30] for p in tiny_store.proteins])
    assert row["n_called_test"] == called.sum() > 0
    assert row["precision_test"] == (called & mine).sum() / called.sum()
    assert results.summary["config"]["pooling"] == "mean"


def test_neurons_go_by_their_mean_however_latents_go():
    rows = make_rows(a="AC", b="D")
    x = np.array([[-4.0, 0.0], [2.0, 1.0], [0.0, 5.0]])
    dense = DenseFeatures("neurons", x)
    latents = SparseFeatures("latents", columns_of(np.maximum(x, 0)))
    assert [pooling_of(f, how) for f in (dense, latents) for how in HOW] == [
        "mean", "mean", "max", "mean",
    ]  # fmt: skip
    for how, values in zip(HOW, ([2, 0], [1, 0]), strict=True):
        found = pooled_features(latents, rows, how).columns(0, 1)
        assert dense_column(found, 0).tolist() == values
        of_neuron = dense_column(pooled_features(dense, rows, how).columns(0, 1), 0)
        assert np.diff(of_neuron) == pytest.approx([1])  # means −1 and 0, wherever the zero is
