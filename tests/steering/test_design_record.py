from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from extract.esm import ESM2
from extract.fasta import read_records
from steering.belief import judge
from steering.design import design
from steering.design_record import DesignRecord, design_record, variant_ids
from steering.design_settings import DesignSettings
from steering.edits import Edit, Where
from steering.predictor import SAFE_ID
from tests.steering.test_belief import SEQUENCE, make_variants, probe_at


@pytest.fixture(scope="module")
def record(tiny: ESM2, make_sae) -> DesignRecord:
    sae, variants = make_sae(tiny, "block1"), make_variants()
    probes = [probe_at(tiny, "block2")]
    judgements = judge(tiny, sae, SEQUENCE, variants, [3], probes=probes, copies=2)
    edits = [Edit(3, "set", 2.5, Where("ranges", ((5, 7), (8, 9))))]
    settings = DesignSettings(n_variants=2, positions=(5, 6), max_changes=4, seed=7)
    return design_record("sp|P1|X Y", SEQUENCE, variants, judgements, edits, settings)


def test_rows(record: DesignRecord) -> None:
    same, changed = record.rows
    assert same["id"] == "sp_P1_X_Y_steered_0000"
    assert (same["mutations"], same["n_changes"], same["identity"]) == ("", 0, 1.0)
    assert (changed["mutations"], changed["chosen"]) == ("I6W A7W", "6 7")
    assert changed["identity"] == 0.9
    assert changed["composition_W"] == pytest.approx(2 / 18)
    assert same["latent_3_rise"] == 0.0
    assert np.isnan(same["latent_3_edited_mean"])
    assert changed["latent_3_edited_rise"] == pytest.approx(
        changed["latent_3_edited_mean"] - changed["latent_3_input_edited_mean"]
    )
    assert 0 < changed["probe_helix_mean"] < 1
    assert same.keys() == changed.keys()


def test_fasta_says_what_was_done_and_reads_back(record: DesignRecord, tmp_path: Path) -> None:
    path = tmp_path / "variants.fasta"
    path.write_text(record.fasta)
    found = list(read_records(path))
    assert [r.id for r in found] == [row["id"] for row in record.rows]
    assert [r.sequence for r in found] == [row["sequence"] for row in record.rows]
    headers = [line for line in record.fasta.split("\n") if line.startswith(">")]
    words = "edits=3:set:2.5@6-7,9 error_term=keep method=single temperature=1 mask_fraction=1 "
    assert f"{words}max_changes=4 seed=7 changes=2 identity=0.900 pseudo_perp" in headers[1]


def test_json_is_strict(record: DesignRecord) -> None:
    text = json.dumps(record.json, allow_nan=False)
    found = json.loads(text)
    assert found["edits"] == ["3:set:2.5@6-7,9"]
    assert found["pseudo_perplexity_masks"] == "2 disjoint masks, seed 0"
    assert found["variants"][0]["latent_3_edited_mean"] is None
    assert found["settings"]["positions"] == [5, 6]


def test_without_judgements(tiny: ESM2, make_sae) -> None:
    sae, settings = make_sae(tiny, "block1"), DesignSettings("gibbs", n_variants=3, n_per_step=9)
    variants = design(tiny, sae, SEQUENCE, [], settings)
    found = design_record("a", SEQUENCE, variants, [], [], settings, arm="control")
    assert [row["id"] for row in found.rows] == [f"a_control_000{i}" for i in range(3)]
    assert "edits=none error_term=keep method=gibbs temperature=1 n_per_step=9" in found.fasta
    assert "pseudo_perplexity" not in found.rows[0]
    assert found.json["pseudo_perplexity_masks"] is None


@pytest.mark.parametrize("name", ["P12345", "../../etc/passwd", "", "é ü|x", "-rf", "a" * 999, "."])
def test_ids_are_safe(name: str) -> None:
    ids = variant_ids(name, "steered", [0, 7, 123456])
    assert len(set(ids)) == 3
    assert all(SAFE_ID.fullmatch(i) for i in ids)
