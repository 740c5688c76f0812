"""The live half over HTTP: its numbers are the libraries', its refusals say where."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from explorer.live.half import LIMITS, LiveHalf
from explorer.live.settings import WorkerSettings
from explorer.server.app import create_app
from explorer.server.library import open_bundles
from extract.alphabet import AMINO_ACIDS
from saejax.checkpoint import load_sae
from saejax.latents import encode_array
from steering.edits import parse_edits
from steering.effects import sequence_effect
from steering.torch_sae import TorchSAE
from tests import tiny_parent
from tests.explorer.live_inputs import MODEL, live_folder
from tests.explorer.serving import listening

__all__ = ["live_folder"]

ROOT = Path(__file__).parents[2]
SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQCC"


@pytest.fixture(scope="module")
def client(live_folder):
    """A live server of both bundles."""
    library = open_bundles([live_folder.bundles])
    limits = LIMITS.model_copy(update={"max_residues": 80, "max_records": 3})
    half = LiveHalf.of(library, live_folder.runs, [live_folder.folder / s for s in
                       ("block1", "block2")], WorkerSettings(model=MODEL), limits)  # fmt: skip
    with (
        listening(create_app(library, live=half)) as url,
        httpx.Client(base_url=f"{url}/api/v1/", timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def library(live_folder):
    """The same parent and SAE, by the libraries."""
    run, model = load_sae(live_folder.runs[0]), tiny_parent.load()
    return run, model, TorchSAE.from_run(run)


def post(client: httpx.Client, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text[:500]
    return answer.json()


def activations(model, sequence, site="block1"):
    tokens = model.tokenize([sequence])
    return model.residual(tokens, site)[tokens.residue_rows()].numpy()


def dense_of(answer):
    table = {}
    for latent in answer["latents"]:
        for position, value in zip(latent["track"]["positions"], latent["track"]["values"]):
            table[latent["latent"], position] = value
    return table


def test_encode_is_the_latents_of_the_run(client, library):
    run, model, _ = library
    found = post(client, "encode", sae="block1", sequence=SEQUENCE.lower())
    latents = encode_array(run.sae, activations(model, SEQUENCE))
    expected = {
        (int(j), row + 1): v
        for row in range(len(SEQUENCE))
        for j, v in zip(latents.indices[row], latents.values[row]) if v > 0
    }  # fmt: skip
    assert found["sequence"] == SEQUENCE
    table = dense_of(found)
    assert table.keys() == expected.keys()
    np.testing.assert_allclose([table[k] for k in expected], list(expected.values()), rtol=1e-5)
    scores = [latent["score"] for latent in found["latents"]]
    assert scores == sorted(scores, reverse=True)
    assert post(client, "encode", sae="block1", sequence=SEQUENCE)["kept"]


def test_encode_a_bundled_protein(client, live_folder):
    found = post(client, "encode", sae="block2", accession="p3")
    assert found["sequence"] == live_folder.sequences[3]
    ours = client.get("proteins/p3/latents", params={"sae": "block2", "n": 200}).json()["latents"]
    live = {row["latent"]: row for row in found["latents"]}
    for row in ours:
        assert row["max"] == pytest.approx(live[row["latent"]]["max"], rel=1e-3)
        assert row["score"] == pytest.approx(live[row["latent"]]["score"], rel=1e-3)


def test_mutant(client, library):
    _, model, sae = library
    found = post(client, "mutate", sae="block1", sequence=SEQUENCE, mutations=["C23A"], least=0)
    assert (found["positions"], found["mutant"]) == ([23], SEQUENCE[:22] + "A" + SEQUENCE[23:])
    import torch

    before, after = (
        sae.encode_dense(torch.from_numpy(activations(model, s))).numpy()
        for s in (SEQUENCE, found["mutant"])
    )
    change = after - before
    changed = np.flatnonzero(np.abs(change).max(axis=0))
    assert {row["latent"] for row in found["latents"]} == set(changed.tolist())
    for row in found["latents"]:
        column = change[:, row["latent"]]
        assert row["at"] == np.abs(column).argmax() + 1
        assert row["change"] == pytest.approx(column[row["at"] - 1], rel=1e-4, abs=1e-6)
        had, has = before[:, row["latent"]].max() > 0, after[:, row["latent"]].max() > 0
        assert row["outcome"] == ("changes" if had and has else "appears" if has else "vanishes")
    few = post(client, "mutate", sae="block1", sequence=SEQUENCE, mutations=["C23A"], least=0.2)
    assert len(few["latents"]) + few["n_same"] == len(found["latents"]) + found["n_same"]
    assert 0 < len(few["latents"]) < len(found["latents"])


@pytest.mark.parametrize(
    ("mutation", "words"),
    [("A23V", "residue 23 is C, not A"), ("C99A", "residues 1 to 24"), ("C23J", "such as A42V"),
     ("23", "such as A42V")],
)  # fmt: skip
def test_wrong_mutation(client, mutation, words):
    problem = post(client, "mutate", 422, sae="block1", sequence=SEQUENCE, mutations=[mutation])
    assert words in problem["detail"]


def test_scan_is_every_mutant(client, library):
    encoded = post(client, "encode", sae="block1", sequence=SEQUENCE)
    latent = encoded["latents"][0]["latent"]
    found = post(client, "scan", sae="block1", sequence=SEQUENCE, latent=latent, start=5, end=7)
    assert (found["start"], found["n_passes"], len(found["max"])) == (5, 57, 3)
    letter = "W"
    mutation = f"{SEQUENCE[5]}6{letter}"
    one = post(client, "mutate", sae="block1", sequence=SEQUENCE, mutations=[mutation], least=0)
    mutant = post(client, "encode", sae="block1", sequence=one["mutant"])
    own = next((row["max"] for row in mutant["latents"] if row["latent"] == latent), 0)
    assert found["max"][1][AMINO_ACIDS.index(letter)] == pytest.approx(own, rel=1e-5)
    wild = AMINO_ACIDS.index(SEQUENCE[5])
    assert found["max"][1][wild] == pytest.approx(found["wild_max"], rel=1e-5)


def test_steer_is_the_command_line(client, library, live_folder, tmp_path):
    """The page's numbers are those that ``python -m steering edit`` writes."""
    run, model, sae = library
    latent = int(run.latent_max.argmax())
    text = f"{latent}:set:2xmax@3-9;{latent}:zero@12"
    found = post(client, "steer", sae="block1", sequence=SEQUENCE, edits=text, mask="4-5")
    edits = [request.resolve(run) for request in parse_edits(text)]
    effect = sequence_effect(model, sae, SEQUENCE, edits, masked=[3, 4])
    np.testing.assert_allclose(found["delta_log_p"], effect.delta_log_p, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["kl"], effect.kl, rtol=1e-4, atol=1e-7)
    assert np.abs(found["delta_log_p"]).max() > 0.01
    assert (found["masked"], found["edited"]) == ([4, 5], [*range(3, 10), 12])
    from steering.__main__ import main

    words = ["steering", "edit", "--run", str(live_folder.runs[0]), "--sequence", SEQUENCE, "--out",
             str(tmp_path / "out"), "--edit", text, "--mask", "4-5", "--model", MODEL]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", words)
        main()
    record = json.loads((tmp_path / "out" / "steering.json").read_text())
    np.testing.assert_allclose(found["kl"], record["kl"], rtol=1e-4, atol=1e-6)
    assert found["argmax_after"] == record["argmax_after"]
    ours, theirs = (
        [(c["position"], c["amino_acid"], pytest.approx(c["delta_log_p"], rel=1e-4)) for c in top]
        for top in (found["top"], record["top_changes"])
    )
    assert [c[:2] for c in ours] == [c[:2] for c in theirs]
    assert [c[2].expected for c in ours] == [c[2] for c in theirs]


def run_code(code: str, name: str):
    """What pasted code calls ``name``."""
    space: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "pasted", "exec"), space)
    return space[name]


def test_pasted_code_gives_the_same_numbers(client):
    """All but the labels', whose numbers have a test of their own."""
    body: dict[str, Any] = {"sae": "block1", "sequence": SEQUENCE}
    encoded = post(client, "encode", **body)
    table = run_code(encoded["python"], "latents").numpy()
    for (latent, position), value in dense_of(encoded).items():
        assert table[position - 1, latent] == pytest.approx(value, rel=1e-5)
    latent = encoded["latents"][0]["latent"]
    edits = f"{latent}:set:1.5xmax@2-8"

    mutated = post(client, "mutate", **body, mutations=["C23A"])
    change = run_code(mutated["python"], "change").numpy()
    row = mutated["latents"][0]
    assert change[row["at"] - 1, row["latent"]] == pytest.approx(row["change"], rel=1e-4)

    scanned = post(client, "scan", **body, latent=latent, start=2, end=3, at=4)
    values = run_code(scanned["python"], "value_at")
    flat = np.array(scanned["value_at"])
    pasted = [[values[f"{SEQUENCE[i - 1]}{i}{a}"] for a in AMINO_ACIDS] for i in (2, 3)]
    np.testing.assert_allclose(flat, pasted, rtol=1e-4, atol=1e-6)

    steered = post(client, "steer", **body, edits=edits, mask="all", error_term="drop")
    effect = run_code(steered["python"], "effect")
    np.testing.assert_allclose(steered["delta_log_p"], effect.delta_log_p, rtol=1e-4, atol=1e-5)

    swept = post(
        client, "steer/sweep", **body, latent=latent, random_latents=3, multiples=[0, 1, 2]
    )
    response = run_code(swept["python"], "response")
    ours = np.array([arm["kl"] for arm in swept["arms"]], float)
    np.testing.assert_allclose(ours, response.kl[:, :, 0], rtol=1e-4, atol=1e-7)
    assert ours[:, :3].max() > 0

    varied = post(client, "steer/variants", **body, edits=edits, n=3, controls=2, random_latents=1)
    judged = run_code(varied["python"], "judged")  # of the last arm
    assert [v["sequence"] for v in varied["arms"][-1]["variants"]] == [
        v.sequence for v in judged.variants
    ]
    assert [arm["name"] for arm in varied["arms"]][:2] == ["steered", "no edit"]

    both = client.get("compare", params={"a": "block1", "b": "block2"}).json()
    found = run_code(both["python"], "found")
    assert both["forth"]["other"] == found.forth.other.tolist()
    assert both["by"] == "correlation"


def test_labels_are_those_of_the_probes(client, live_folder, tmp_path):
    """One label in the page and in ``python -m probes --labels``: the same latent, F1, interval."""
    from probes.config import ProbeConfig
    from probes.evaluate import probe_run

    lines = [
        f"p{i}\tcys\t{m.start() + 1}"
        for i, s in enumerate(live_folder.sequences) for m in re.finditer("[CM]", s)
    ]  # fmt: skip
    tsv = "id\tlabel\tposition\n" + "\n".join(lines) + "\nelsewhere\tcys\t3\n"
    found = post(client, "labels", sae="block1", tsv=tsv, min_positives=5)
    (label,) = found["labels"]
    path = tmp_path / "mine.tsv"
    path.write_text(tsv)
    run = live_folder.runs[0]
    store = live_folder.folder / "acts" / "block1"
    config = ProbeConfig(
        run, (store,), tmp_path / "out", labels=(path,), min_positives=5, min_fires=5,
        clusters=live_folder.folder / "clusters.tsv", baselines=(), protocols=(), min_proteins=2,
    )  # fmt: skip
    best = probe_run(config).best
    row = best[best["concept"] == "cys"].iloc[0]
    assert label["best_latent"]["latent"] == row["feature"]
    score = label["best"]["score"]
    assert score["f1"] == pytest.approx(row["f1_test"])
    assert (score["f1_low"], score["f1_high"]) == pytest.approx(
        (row["f1_test_low"], row["f1_test_high"])
    )
    assert score["f1"] > 0
    assert any("elsewhere" in note for note in found["notes"])
    motif = post(client, "labels", sae="block1", motif="[CM]", name="by motif", min_positives=5)
    assert motif["labels"][0]["best"]["score"]["precision"] == pytest.approx(score["precision"])


def test_own_labels_that_can_not_be_probed(client):
    few = post(client, "labels", sae="block1", tsv="id\tlabel\tposition\np1\tx\t3\n")
    assert "each part of the split needs 20" in few["labels"][0]["left_out"]
    problem = post(client, "labels", 422, sae="block1", tsv="id\tlabel\tposition\np1\tx\t9999\n")
    assert problem["detail"].startswith("labels.tsv: line 2 (p1)")
    assert "/" not in problem["detail"]


def test_compare_by_cosine_of_one_site(client, live_folder):
    answer = client.get("compare", params={"a": "block1", "b": "block2", "by": "cosine"})
    assert answer.status_code == 422
    assert "different bases" in answer.json()["detail"]


def test_fasta_upload(client):
    found = post(
        client, "sequences", text=">sp|P01308|INS_HUMAN Insulin\nMALW\nMRL\n>b two\nACDX*\n"
    )
    assert found["format"] == "fasta"
    assert [(r["id"], r["description"], r["sequence"]) for r in found["records"]] == [
        ("P01308", "Insulin", "MALWMRL"), ("b", "two", "ACDX"),
    ]  # fmt: skip
    assert post(client, "sequences", text=" mkt\n10 ayi ")["records"][0]["sequence"] == "MKTAYI"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (">a\nMKT\n>bad one\nMK1T\n", "record 2 (bad): illegal character '1' at position 3"),
        (">a\n" + "M" * 81, "record 1 (a): 81 residues are more than the 80"),
        (">a\nM\n" * 4, "4 records are more than the 3"),
        (">a\n\n>b\nMK", "record 1 (a): no sequence"),
        ("   ", "nothing was pasted"),
        ("MKT?", "illegal character '?' at position 4"),
        ("data_x\n_atom_site.id 1\nloop_ what", "can't be read as mmCIF"),
        ("HEADER    nothing\nEND\n", "no chain of amino acids"),
    ],
)
def test_wrong_sequences_name_record_and_position(client, text, words):
    assert words in post(client, "sequences", 422, text=text)["detail"]


PDB_LINES = """SEQRES   1 A    6  MET ALA CYS LYS GLY TRP
ATOM      1  N   ALA A  12      11.104   6.134  -6.504  1.00  0.00           N
ATOM      2  CA  ALA A  12      11.639   6.071  -5.147  1.00  0.00           C
ATOM      3  C   ALA A  12      12.639   6.071  -4.147  1.00  0.00           C
ATOM      4  N   CYS A  13      13.104   6.134  -3.504  1.00  0.00           N
ATOM      5  CA  CYS A  13      14.639   6.071  -2.147  1.00  0.00           C
ATOM      6  C   CYS A  13      15.639   6.071  -1.147  1.00  0.00           C
ATOM      7  N   TRP A  16      18.104   6.134   1.504  1.00  0.00           N
ATOM      8  CA  TRP A  16      19.639   6.071   2.147  1.00  0.00           C
ATOM      9  C   TRP A  16      20.639   6.071   3.147  1.00  0.00           C
TER      10      TRP A  16
END
"""


def test_structure_residues_are_mapped_by_seqres(client):
    """Two residues lack coordinates: the sequence has them, and no residue after them shifts."""
    import gemmi

    (record,) = post(client, "sequences", text=PDB_LINES, name="x.pdb")["records"]
    assert record["sequence"] == "MACKGW"
    assert record["numbers"] == [None, "12", "13", None, None, "16"]
    placed = {int(line[22:26]): line[17:20] for line in record["structure"].splitlines()
              if line.startswith("ATOM")}  # fmt: skip
    assert placed == {2: "ALA", 3: "CYS", 6: "TRP"}
    structure = gemmi.read_pdb_string(PDB_LINES)
    structure.setup_entities()
    structure.assign_label_seq_id()
    cif = structure.make_mmcif_document().as_string()
    (again,) = post(client, "sequences", text=cif, name="x.cif")["records"]
    assert (again["sequence"], again["numbers"]) == (record["sequence"], record["numbers"])
    assert again["structure"] == record["structure"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("encode", {"sequence": "MKJ"}, 422, "illegal character 'J' at position 3"),
        ("encode", {"sequence": "M" * 81}, 422, "more than the 80"),
        ("encode", {}, 422, "give a sequence or an accession"),
        ("encode", {"accession": "nope"}, 404, "no protein 'nope'"),
        ("steer", {"sequence": "MKT", "edits": "1:set"}, 422, "needs a strength"),
        ("steer", {"sequence": "MKT", "edits": "5:set:1@7"}, 422, "residues are 1 to 3"),
        ("steer", {"sequence": "MKT", "edits": "9999:zero"}, 422, "out of range"),
        ("steer/sweep", {"sequence": "MKT", "latent": 9999}, 404, "not 9999"),
        ("scan", {"sequence": "MKT", "latent": 5, "start": 3, "end": 9}, 422, "lie in 1 to 3"),
        ("steer/variants", {"sequence": "MKT", "edits": ""}, 422, "give an edit"),
        ("labels", {}, 422, "give a motif or a table"),
        ("labels", {"motif": "C-x("}, 422, ""),
    ],
)
def test_refusals(client, path, body, status, words):
    assert words in post(client, path, status, sae="block1", **body)["detail"]


def test_nothing_sent_is_written(client, live_folder, tmp_path):
    """Files under the bundles, runs and the working folder are as before."""
    post(client, "encode", sae="block1", sequence="WWWWWWMKT")
    found = [p for p in live_folder.folder.rglob("*") if p.is_file()]
    assert found
    assert not [p for p in found if b"WWWWWWMKT" in p.read_bytes()]


def test_a_server_that_only_reads_says_so(live_folder):
    library = open_bundles([live_folder.bundles])
    with (
        listening(create_app(library)) as url,
        httpx.Client(base_url=f"{url}/api/v1/") as reader,
    ):
        assert reader.get("capabilities").json()["mode"] == "read-only"
        assert reader.get("live").json()["saes"] == []
        problem = reader.post("encode", json={"sae": "block1", "sequence": "MKT"})
        assert (problem.status_code, "--live" in problem.json()["detail"]) == (404, True)


def test_the_server_itself_loads_neither_torch_nor_jax():
    code = (
        "import sys, explorer.server.serve, explorer.server.app, explorer.live.half\n"
        "print([m for m in ('torch', 'jax', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
