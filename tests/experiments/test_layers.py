"""The table of layers says what the runs' own files say."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.layers import row_of, tables


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The files of one run, as the three commands write them."""
    run, probes, spliced = tmp_path / "block2", tmp_path / "probes", tmp_path / "fidelity.json"
    run.mkdir()
    probes.mkdir()
    results = {"fvu": 0.25, "l0": 4.0, "frac_dead": 0.125}
    (run / "run.json").write_text(json.dumps({"state": "complete", "results": results}))
    figure = {"loss_recovered_zero": 0.75, "loss_recovered_mean": 0.5, "delta_cross_entropy": 0.1}
    masked = {name: {"mean": value, "low": 0.0, "high": 1.0} for name, value in figure.items()}
    spliced.write_text(json.dumps({"inputs": {"masked": {"figures": masked}}}))
    found = [
        ("frozen", "latents", 9, 7),
        ("frozen", "neurons", 9, 3),
        ("families", "latents", 5, 1),
    ]
    columns = ["protocol", "features", "concepts_tested", "concepts_found"]
    pd.DataFrame(found, columns=columns).to_csv(probes / "found.csv", index=False)
    pd.DataFrame({"confirmed": [True, False, None, True]}).to_csv(
        probes / "latents.csv", index=False
    )
    concept = {
        "concept": ["helix"],
        "f1_all_positive": [0.54],
        "latent_f1": [0.51],
        "neuron_f1": [0.57],
    }
    pd.DataFrame(concept).to_csv(probes / "probes.csv", index=False)
    return run, probes, spliced


def test_row_has_what_the_files_say(written: tuple[Path, Path, Path]) -> None:
    """Counts are those of the frozen protocol; a concept or baseline that is not there is blank."""
    row = row_of(*written)
    assert row["site"] == "block2"
    assert (row["fvu"], row["loss_recovered"], row["loss_recovered_mean"]) == (0.25, 0.75, 0.5)
    assert (row["latent_found"], row["latent_tested"], row["neuron_found"]) == (7, 9, 3)
    assert row["confirmed"] == 2
    assert row["helix_latent"] == 0.51
    assert "random_found" not in row
    assert "strand_latent" not in row


def test_table_shows_it(written: tuple[Path, Path, Path]) -> None:
    """Every figure is in its column."""
    lines = tables(pd.DataFrame([row_of(*written)])).splitlines()
    assert (
        lines[2] == "| block2 | 0.2500 | 12.5 % | 75.0 % | 50.0 % | 7 of 9 | 3 of 9 |  |  |  | 2 |"
    )
    assert "| block2 | 0.510 | 0.570 |  |  |  |  | 0.540 |" in lines
