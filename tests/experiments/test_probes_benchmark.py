"""The probes' benchmark at a size of seconds: do both programs agree? Nothing is timed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks import probes as benchmark
from experiments.benchmarks.probe_data import make_labels, make_latents
from extract.errors import UserError
from probes.logistic import LogisticFit

TINY = benchmark.ProbesConfig(
    n_rows=3000, n_latents=20, n_concepts=24, k=3, rounds=2, tight=2
)  # fmt: skip


@pytest.mark.parametrize("balanced", [False, True])
def test_the_whole_benchmark_tiny(balanced, tmp_path):
    text = benchmark.run(replace(TINY, out=tmp_path, balanced=balanced))
    assert (tmp_path / "probes.md").read_text() == text
    result = json.loads((tmp_path / "probes.json").read_text())
    pairs = [p for r in result["rounds"] for p in r["pairs"]]
    assert (len(result["rounds"]), len(pairs)) == (2, 6)
    assert sum(r["n_pairs"] for r in result["rounds"]) == 20 * 24
    assert sum("coefficients" in p for p in pairs) == 4
    assert "| fit | ours | 480 |" in text


def test_a_fit_that_differs_does_not_count(tmp_path, monkeypatch):
    fit = benchmark.fit_logistic_1d
    monkeypatch.setattr(
        benchmark, "fit_logistic_1d",
        lambda *a, **k: LogisticFit(fit(*a, **k).coef + 0.01, fit(*a, **k).intercept),
    )  # fmt: skip
    with pytest.raises(UserError, match="coefficients differ by .* does not count"):
        benchmark.run(replace(TINY, out=tmp_path))
    assert not list(tmp_path.iterdir())


def test_grow_has_a_process_for_each_size(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "BASE", {"n_rows": 500, "n_latents": 8, "n_concepts": 4})
    monkeypatch.setattr(benchmark, "GROW", {})
    monkeypatch.setattr(benchmark, "LARGEST", benchmark.BASE)
    text = benchmark.run(replace(TINY, out=tmp_path, k=2, grow=True))
    assert "| 500 | 8 | 4 |" in text
    [row] = json.loads((tmp_path / "probes_grow.json").read_text())["sizes"]
    assert row["peak_gb"] >= row["data_gb"] > 0


def test_the_data_is_as_described():
    labels = make_labels(20_000, 30, seed=0)
    share = labels.mean(axis=0)
    assert labels[:, :20].sum(axis=1).max() == 1
    assert share[9] == pytest.approx(0.097, abs=0.01)  # leucine
    assert share[20:].min() > 0.0002
    assert share[20:].max() < 0.35
    columns = make_latents(labels, 200, 8, seed=0)
    counts = np.diff(columns.indptr)
    assert len(columns.rows) / 20_000 == pytest.approx(7.1, abs=0.2)  # of 8: no row is drawn twice
    assert np.percentile(counts, 84) > 10 * np.percentile(counts, 16)
    for j in range(200):
        assert (np.diff(columns.column(j)[0]) > 0).all()
    again = make_latents(labels, 200, 8, seed=0)
    np.testing.assert_array_equal(again.values, columns.values)
