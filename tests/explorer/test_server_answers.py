"""Each answer against plain computation on the dense arrays that the bundle was made from."""

import csv
import io

import numpy as np
import pytest

from explorer import layout, schema
from tests.explorer.serving import API, ask, segment, serving
from tests.explorer.tiny_bundle import HOSTILE
from tests.explorer.tiny_tables import D_SAE, DEAD, HOSTILE_PROTEIN


@pytest.fixture(scope="module")
def client(bundle_folder):
    with serving(bundle_folder) as client:
        yield client


@pytest.fixture(scope="module")
def tiny(tiny_bundles):
    return tiny_bundles[0]


def check_example(tiny, example: dict, latent: int) -> int:
    """An example's track is the whole of the latent's activation on the protein."""
    schema.Example(**example)
    protein = tiny.accessions.index(example["accession"])
    row = tiny.activations[protein][:, latent]
    at = np.flatnonzero(row)
    assert example["sequence"] == tiny.sequences[protein]
    assert example["track"]["positions"] == (at + 1).tolist()
    np.testing.assert_array_equal(np.float16(example["track"]["values"]), np.float16(row[at]))
    assert example["argmax"] == (int(row.argmax()) + 1 if len(at) else None)
    assert example["max"] == pytest.approx(row.max(), rel=1e-4)
    spans = sorted((s + 1, e, tiny.concepts[c][0]) for c, p, s, e in tiny.spans if p == protein)
    assert sorted((f["start"], f["end"], f["concept"]) for f in example["features"]) == spans
    return protein


def test_registry(client, tiny):
    saes = ask(client, "saes")
    assert [s["id"] for s in saes] == ["tiny", "other"]
    assert saes[0]["n_residues"] == sum(map(len, tiny.sequences))
    detail = ask(client, "saes/tiny")
    assert detail["provenance"]["seed"] == 0
    assert saes[0].items() <= detail.items()
    capabilities = ask(client, "capabilities")
    assert (capabilities["mode"], capabilities["notes"]) == ("read-only", False)


def test_columns(client, tiny):
    columns = ask(client, "saes/tiny/columns")
    values = np.concatenate(tiny.activations)
    assert {len(v) for v in columns.values()} == {D_SAE}
    np.testing.assert_allclose(columns["frequency"], (values > 0).mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(columns["max"], values.max(axis=0), rtol=1e-4)
    assert columns["span"][DEAD] is None
    assert columns["concept"][3] == "helix"
    assert columns["confirmed"] == [j == 3 for j in range(D_SAE)]
    np.testing.assert_allclose(columns["x"], np.cos(np.arange(D_SAE)), rtol=1e-4, atol=1e-6)


def test_csv_has_every_column_and_runs_nothing(client):
    response = client.get(f"{API}/saes/tiny/latents.csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert list(rows[0]) == list(layout.LATENT_COLUMNS)
    assert rows[11]["label"] == "'=1+1 <b>bold</b>"
    assert rows[0]["label"] == "cysteine"


def test_latent(client, tiny):
    detail = ask(client, "saes/tiny/latents/3")
    values = np.concatenate(tiny.activations)[:, 3]
    assert detail["n_active"] == (values > 0).sum()
    assert sum(detail["histogram"]["counts"]) == (values > 0).sum()
    assert len(detail["histogram"]["edges"]) == layout.HISTOGRAM_BINS + 1
    assert detail["precise"]["concept"] == "helix"
    assert detail["precise"]["precision"] == pytest.approx(0.7)
    assert (detail["previous"], detail["next"]) == (2, 5)  # 4 is dead
    assert len(detail["effects"]) == 20
    assert np.asarray(detail["logo"]["frequencies"]).shape == (21, 20)
    assert np.asarray(detail["logo"]["frequencies"]).sum(axis=1) == pytest.approx(1, abs=0.01)
    # the other dictionary's best latent for the same concept
    assert [(e["sae"], e["latent"]) for e in detail["elsewhere"]] == [("other", 3)]
    helix = detail["concepts"][0]
    assert (helix["concept"], helix["threshold"], helix["is_best"]) == ("helix", 1.0, True)
    assert helix["score"]["f1_low"] == pytest.approx(0.8)
    assert helix["neuron"]["f1"] == pytest.approx(0.7)
    assert helix["shuffled_labels"]["f1"] == pytest.approx(0.5)
    dead = ask(client, f"saes/tiny/latents/{DEAD}")
    assert dead["logo"] is None
    assert dead["concepts"] == []
    assert ask(client, "saes/tiny/latents/5")["flags"] == ["dense", "periodic"]
    assert ask(client, "saes/tiny/latents/0")["previous"] is None


@pytest.mark.parametrize("group", layout.GROUPS)
def test_examples_of_groups(client, tiny, group):
    for latent in (2, 3, DEAD, 11):
        answer = ask(client, f"saes/tiny/latents/{latent}/examples", group=group)
        maxima = tiny.maxima()[:, latent]
        proteins = [check_example(tiny, e, latent) for e in answer["examples"]]
        active = np.flatnonzero(maxima)
        if group == "top":
            assert answer["total"] == len(active)
            np.testing.assert_array_equal(maxima[proteins], np.sort(maxima[active])[::-1])
        elif group == "random":
            assert answer["total"] == len(active)
            assert set(proteins) <= set(active.tolist())
        else:
            low, high = np.sort(maxima[active])[[0, -1]] if len(active) else (0, 0)
            rank = int(group[1:])
            tenth = np.array_split(np.sort(maxima[active]), 10)[rank - 1]
            assert answer["total"] == len(tenth)
            assert sorted(maxima[proteins]) == tenth.tolist()
            assert low <= high
    three = ask(client, "saes/tiny/latents/2/examples", group=group, n=3)
    everything = ask(client, "saes/tiny/latents/2/examples", group=group)
    assert three["examples"] == everything["examples"][:3]


@pytest.mark.parametrize(
    "latent_concept", [(0, 0), (3, 1), (3, 2), (2, 2), (5, 3), (1, 1), (11, 0)]
)
def test_examples_of_concepts(client, tiny, latent_concept):
    latent, concept = latent_concept
    name = tiny.concepts[concept][0]
    threshold = tiny.thresholds.get((latent, concept), 0.0)
    expected = {"true_positive": {}, "false_positive": {}, "near_miss": {}}
    for p in range(tiny.n_tracked):
        values, inside = tiny.activations[p][:, latent], tiny.inside(concept, p)
        if not tiny.defined[concept, p]:
            continue
        hit, wrong = (np.where(m, values, 0).max() for m in (inside, ~inside))
        if hit > threshold:
            expected["true_positive"][p] = hit
        if wrong > threshold:
            expected["false_positive"][p] = wrong
        if inside.any() and hit <= threshold:
            expected["near_miss"][p] = values.max()
    for outcome, proteins in expected.items():
        path = f"saes/tiny/latents/{latent}/concepts/{segment(name)}/examples"
        answer = ask(client, path, outcome=outcome, n=200)
        found = [check_example(tiny, e, latent) for e in answer["examples"]]
        assert answer["total"] == len(proteins)
        assert set(found) == set(proteins)
        for example, p in zip(answer["examples"], found):
            values, inside = tiny.activations[p][:, latent], tiny.inside(concept, p)
            if outcome == "near_miss":
                assert example["focus"] == np.flatnonzero(inside)[0] + 1
            else:
                assert values[example["focus"] - 1] == proteins[p]
                assert inside[example["focus"] - 1] == (outcome == "true_positive")
        ordered = [proteins[p] for p in found]
        assert ordered == sorted(ordered, reverse=True)


def test_some_outcomes_exist(client):
    """The comparison above would be empty otherwise."""
    for outcome in ("true_positive", "false_positive", "near_miss"):
        answer = ask(client, "saes/tiny/latents/3/concepts/helix/examples", outcome=outcome)
        assert answer["total"] >= 3


def test_proteins_of_a_latent_page_by_page(client, tiny):
    for latent in (2, DEAD):
        maxima = tiny.maxima()[:, latent]
        hits, cursor = [], None
        while True:
            query = {"n": 7} | ({"cursor": cursor} if cursor else {})
            page = ask(client, f"saes/tiny/latents/{latent}/proteins", **query)
            hits += page["proteins"]
            cursor = page["next"]
            assert page["total"] == (maxima > 0).sum()
            if cursor is None:
                break
        proteins = [tiny.accessions.index(h["accession"]) for h in hits]
        assert sorted(proteins) == np.flatnonzero(maxima).tolist()
        found = [h["max"] for h in hits]
        np.testing.assert_allclose(found, maxima[proteins], rtol=1e-5)
        assert found == sorted(found, reverse=True)
        assert all(
            h["argmax"] == tiny.activations[p][:, latent].argmax() + 1
            for h, p in zip(hits, proteins)
        )


def test_neighbours(client):
    found = ask(client, "saes/tiny/latents/11/neighbours", kind="coactivation")
    assert [(x["latent"], x["value"]) for x in found] == [(0, 0.9), (1, 0.8), (2, 0.7)]
    assert found[0]["label"] == "cysteine"


def test_latent_along_a_protein(client, tiny):
    for latent in (3, DEAD):
        example = ask(client, f"saes/tiny/latents/{latent}/proteins/{tiny.accessions[4]}")
        check_example(tiny, example, latent)
    untracked = tiny.accessions[-1]
    response = client.get(f"{API}/saes/tiny/latents/3/proteins/{untracked}")
    assert response.status_code == 404
    assert "only the maxima" in response.json()["detail"]


def test_protein(client, tiny):
    protein = ask(client, "proteins/1ECA_A")
    assert protein["sequence"] == tiny.sequences[0]
    assert protein["structure"]
    assert protein["saes"] == ["tiny", "other"]
    assert protein["url"] == "https://www.rcsb.org/structure/1ECA"
    hostile = ask(client, f"proteins/{tiny.accessions[7]}")
    assert hostile["description"] == HOSTILE_PROTEIN
    assert hostile["url"] == f"https://www.uniprot.org/uniprotkb/{tiny.accessions[7]}/entry"


def test_latents_of_a_protein(client, tiny):
    maxima = tiny.maxima()
    for p in (3, len(tiny.accessions) - 1):
        answer = ask(client, f"proteins/{tiny.accessions[p]}/latents", sae="tiny")
        active = np.flatnonzero(maxima[p])
        share = maxima[p] / np.maximum(maxima.max(axis=0), 1e-9)
        scores = share * np.log(len(maxima) / np.maximum((maxima > 0).sum(axis=0), 1))
        found = [x["latent"] for x in answer["latents"]]
        assert answer["total"] == len(active) == len(found)
        assert sorted(found) == active.tolist()
        np.testing.assert_allclose(
            [x["score"] for x in answer["latents"]], scores[found], rtol=1e-4, atol=1e-6
        )
        assert found == sorted(found, key=lambda j: -scores[j])
        tracked = p < tiny.n_tracked
        for x in answer["latents"]:
            assert (x["track"] is not None) == tracked
            if tracked:
                at = np.flatnonzero(tiny.activations[p][:, x["latent"]])
                assert x["track"]["positions"] == (at + 1).tolist()


def test_structure_lines(client, tiny):
    text = client.get(f"{API}/structures/1UNF_A").text
    atoms = tiny.structures[1]
    lines = [line for line in text.splitlines() if line.startswith("ATOM")]
    assert len(lines) == (~np.isnan(atoms).any(axis=-1)).sum()  # the first N is missing
    assert lines[0][12:16] == " CA "
    for line in (lines[0], lines[-1]):
        residue, atom = int(line[22:26]), ("N", "CA", "C", "O").index(line[12:16].strip())
        xyz = [float(line[30:38]), float(line[38:46]), float(line[46:54])]
        np.testing.assert_allclose(xyz, atoms[residue - 1, atom], atol=5.1e-4)
    assert {line[21] for line in lines} == {"A"}
    response = client.get(f"{API}/structures/{tiny.accessions[5]}")
    assert response.status_code == 404


def test_concepts(client, tiny):
    found = {c["concept"]: c for c in ask(client, "concepts")}
    assert list(found) == [c[0] for c in tiny.concepts]
    assert found["helix"]["best"]["tiny"]["latent"] == 3
    assert found["helix"]["best"]["other"]["found"] is True
    assert found["C"]["best"]["tiny"]["score"]["f1"] == pytest.approx(0.9)
    detail = ask(client, f"concepts/{segment(HOSTILE)}")
    assert detail["concept"] == HOSTILE
    first = detail["saes"][0]
    # best on validation first: latent 2 has the higher one
    assert [x["latent"] for x in first["latents"]] == [2, 3]
    assert [x["is_best"] for x in first["latents"]] == [False, True]
    assert set(first["baselines"]) == {"neuron", "shuffled_labels", "all_positive"}
