"""Single steps of a build: effects, the map, names, descriptions, fidelity."""

import json

import numpy as np
import pytest
import torch

from explorer.build.atlas import places
from explorer.build.command import build
from explorer.build.descriptions import descriptions
from explorer.build.effects import logit_effects, mean_jacobian, some_proteins
from explorer.build.hashing import mixed, protein_keys
from explorer.build.labels import Best, label_of
from explorer.build.neighbours import cosine_neighbours
from explorer.bundle import Bundle
from extract.errors import UserError
from extract.fasta import Protein
from saejax.checkpoint import load_sae
from tests.explorer.build_inputs import again, config, known, run, run_of
from tests.helpers import make_store, random_proteins, tiny_esm2

__all__ = ["config", "known", "run"]


def exact_jacobian(model, site, sequence):
    """Mean over residues of d own logits / d own activation, a derivative at a time."""
    tokens = model.tokenize([sequence])
    rows = tokens.residue_rows()
    x = model.residual(tokens, site).detach()

    def own_logits(x_TD):
        return model.logits_from(x_TD, tokens, site)[rows][:, model.amino_acid_tokens]

    whole = torch.autograd.functional.jacobian(own_logits, x)  # [residues, 20, tokens, d]
    assert isinstance(whole, torch.Tensor)
    own = torch.stack([whole[r, :, row] for r, row in enumerate(rows.tolist())])
    return own.mean(dim=0).numpy()


def test_jacobian_of_one_residue_is_exact():
    model = tiny_esm2()
    for letter in "AWK":
        found = mean_jacobian(model, "block1", [Protein("p", letter)])
        assert found == pytest.approx(exact_jacobian(model, "block1", letter), abs=1e-5)


def test_jacobian_of_a_protein_is_right_on_average():
    """Signs cancel the other residues' terms: the error falls as 1 / sqrt(draws)."""
    model, [protein] = tiny_esm2(), random_proteins(1, 12, 12)
    exact = exact_jacobian(model, "block1", protein.sequence)
    found = mean_jacobian(model, "block1", [protein], draws=100)
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert error < 0.1
    one = mean_jacobian(model, "block1", [protein])
    assert error < np.linalg.norm(one - exact) / np.linalg.norm(exact)


def test_site_within_a_block():
    """The attention's output is added to the stream, so its derivative at block1.attn differs."""
    model = tiny_esm2()
    found = mean_jacobian(model, "block2.attn", [Protein("p", "W")])
    tokens, step = model.tokenize(["W"]), 1e-2
    base = model.logits(tokens)[1, model.amino_acid_tokens]

    def shifted(d, by):
        handle = model.site_module("block2.attn").register_forward_hook(
            lambda _m, _a, x: x + by * torch.eye(16)[d] * (torch.arange(len(x)) == 1)[:, None]
        )
        with torch.no_grad():
            logits = model.logits(tokens)[1, model.amino_acid_tokens]
        handle.remove()
        return logits

    slopes = [(shifted(d, step) - shifted(d, -step)) / (2 * step) for d in range(16)]
    assert found == pytest.approx(torch.stack(slopes, dim=1).numpy(), abs=2e-3)
    assert base.isfinite().all()


def test_effects_are_what_a_small_push_does(tmp_path):
    """Finite differences of steering one residue; rows have mean 0."""
    model = tiny_esm2()
    store = make_store(tmp_path / "acts", [Protein("p0", "W"), Protein("p1", "K")], model)
    loaded = load_sae(run_of(tmp_path / "sae", store, d_sae=20, k=2))
    effect = logit_effects(loaded, model, store.proteins, 1000)
    assert effect.mean(axis=1) == pytest.approx(0, abs=1e-6)
    arrays, step = loaded.arrays(), 1e-2
    for j in (3, 11):
        push = torch.tensor(arrays["W_dec"][j] / arrays["scale"])
        slopes = []
        for letter in "WK":
            tokens = model.tokenize([letter])
            x = model.residual(tokens, "block1")
            with torch.no_grad():
                up, down = (
                    model.logits_from(x + sign * step * push * torch.tensor([[0.0], [1], [0]]),
                                      tokens, "block1")[1, model.amino_acid_tokens]
                    for sign in (1, -1)
                )  # fmt: skip
            slopes.append(((up - down) / (2 * step)).numpy())
        slope = np.mean(slopes, axis=0)
        assert effect[j] == pytest.approx(slope - slope.mean(), abs=2e-3)
    with pytest.raises(UserError, match="do not fit: weights"):
        logit_effects(loaded, tiny_esm2(seed=1), store.proteins, 10)


def test_effects_of_a_bundle(config, tmp_path, monkeypatch, caplog):
    """With the parent at hand they are there; without it the log says why they are not."""
    monkeypatch.setattr("extract.parents.load_parent_of", lambda *_, **__: tiny_esm2())
    out = build(again(config, tmp_path / "b", effects=True, effect_residues=100))
    bundle = Bundle.open(out)
    assert bundle["logit_effect"].shape == (48, 20)
    assert bundle.has["effects"]
    monkeypatch.undo()
    assert not Bundle.open(build(again(config, tmp_path / "c", effects=True))).has["effects"]
    assert "no amino-acid effects: unknown model 'tiny'" in caplog.text


def test_chosen_proteins_do_not_depend_on_their_order():
    proteins = random_proteins(30, 20, 50)
    chosen = some_proteins(proteins, 200, 1000)
    assert {p.id for p in chosen} == {p.id for p in some_proteins(proteins[::-1], 200, 1000)}
    assert 200 <= sum(len(p.sequence) for p in chosen) < 260
    assert all(len(p.sequence) <= 30 for p in some_proteins(proteins, 200, 30))


def test_map():
    """Near directions are near; dead latents lie below; the same at every call."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2, 16))
    rows = (centres[np.arange(60) % 2] + 0.2 * rng.normal(size=(60, 16))).astype(np.float32)
    alive = np.arange(60) % 10 != 9
    found = cosine_neighbours(rows, alive)
    xy = places(rows, alive, found)
    assert xy.dtype == np.float32
    assert np.array_equal(xy, places(rows, alive, found))
    assert (np.abs(xy) <= 1).all()
    assert xy[~alive, 1].max() < xy[alive, 1].min()
    own = np.arange(60)[alive] % 2
    middles = [xy[alive][own == i].mean(axis=0) for i in (0, 1)]
    nearer = [np.linalg.norm(xy[alive] - m, axis=1) for m in middles]
    assert (np.argmin(nearer, axis=0) == own).all()


def test_largest_cosines_are_those_of_a_whole_sort():
    """Also where they lie in one group of columns, or in those that no group has."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2300, 6)).astype(np.float32)
    rows[100:130] = rows[100] + 0.01 * rng.normal(size=(30, 6))
    rows[-4:] = rows[7] + 0.01 * rng.normal(size=(4, 6))
    alive = rng.random(2300) < 0.98
    found = cosine_neighbours(rows, alive)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = np.where(alive, unit @ unit.T, -np.inf)
    np.fill_diagonal(cosine, -np.inf)
    for j in np.flatnonzero(alive):
        best = np.argsort(-cosine[j], kind="stable")[:16]
        assert np.allclose(found.value[j], cosine[j, best], atol=1e-6)
        assert set(found.other[j, :15]) <= set(np.argsort(-cosine[j])[:17])
    assert (found.other[~alive] == -1).all()


def test_map_of_few_latents():
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    for n_alive in (7, 2, 1, 0):
        alive = np.arange(7) < n_alive
        xy = places(rows, alive, cosine_neighbours(rows, alive))
        assert np.isfinite(xy).all()
        assert (np.abs(xy) <= 1).all()


ROW = {
    "kind": "other", "top_amino_acid": "L", "top_amino_acid_share": 0.3, "top_class": "turn",
    "top_class_share": 0.4, "enriched": "L-3 ×2.1, I0 ×4.7, L0 ×3.0, K+1 ×2.2",
    "consensus": ".....................", "stretch_length": 22.4, "period": 4,
}  # fmt: skip
HELIX = {"concept": "helix", "precision": 0.894, "confirmed": True}


@pytest.mark.parametrize(
    ("changes", "best", "text", "source"),
    [
        ({"kind": "dead"}, None, "dead", "none"),
        (HELIX, None, "helix (precision 0.89): L-3 [IL]0 K+1", "annotation"),
        (HELIX | {"precision": 0.4}, None, "around L-3 [IL]0 K+1", "logo"),
        (HELIX | {"confirmed": False}, None, "around L-3 [IL]0 K+1", "logo"),
        (HELIX | {"top_amino_acid_share": 0.95}, None,
         "leucine in helix (precision 0.89): L-3 K+1", "annotation"),
        ({}, Best("TRANSMEM", "uniprot", 0.79), "TRANSMEM (F1 0.79): L-3 [IL]0 K+1", "concept"),
        ({}, Best("TRANSMEM", "uniprot", 0.4), "around L-3 [IL]0 K+1", "logo"),
        ({}, Best("small", "amino-acid class", 0.9), "around L-3 [IL]0 K+1", "logo"),
        ({"top_amino_acid_share": 0.95}, Best("L", "amino acid", 0.99), "leucine (F1 0.99)",
         "amino acid"),
        ({"top_amino_acid_share": 0.95}, Best("L", "amino acid", 0.1), "leucine: L-3 K+1",
         "amino acid"),
        ({"top_class_share": 0.95}, None, "turn-favouring (DGNP): L-3 K+1", "amino-acid class"),
        ({"kind": "motif-like", "consensus": "..G.GKT......"}, None, "motif GxGKT", "logo"),
        ({"kind": "motif-like", "consensus": "..G.G........"}, None,
         "motif-like: L-3 [IL]0 K+1", "logo"),
        ({"kind": "domain-like"}, None, "stretch of 22 residues: L-3 [IL]0 K+1", "logo"),
        ({"kind": "periodic", "enriched": ""}, None, "every 4 residues", "kind"),
        ({"kind": "n-terminal"}, None, "N-terminus: L-3 [IL]0 K+1", "logo"),
        ({"enriched": ""}, None, "no pattern found", "kind"),
        ({"enriched": None, "consensus": None}, None, "no pattern found", "kind"),
    ],
)  # fmt: skip
def test_names(changes, best, text, source):
    assert label_of(ROW | changes, best) == (text, source)


def test_descriptions(tmp_path):
    """Of a flat file, of headers; hostile ones are one printable line."""
    flat, fasta, other = tmp_path / "a.dat", tmp_path / "a.fasta", tmp_path / "a.tsv"
    flat.write_text(
        "ID   X\nAC   P1; P9;\nDE   RecName: Full=Kinase {ECO:0000269};\n"
        "DE            Short=K;\nDE   Contains:\nDE     RecName: Full=Part;\n"
        "OS   Homo sapiens (Human).\nSQ   \n//\n"
        "ID   Y\nAC   P2;\nDE   SubName: Full=Putative;\n//\n"
    )
    fasta.write_text(
        ">sp|P3|NAME_X Heat shock protein OS=Mus musculus OX=10090 GN=H PE=1 SV=2\nMA\n"
        f">P4 <script>alert(1)</script>\x07\u2028 {'x' * 999}\nMA\n>P1 not this\nMA\n"
    )
    other.write_text("Entry\tSequence\nP5\tMA\n")
    ids = ["P1", "P2", "P3", "P4", "P5", "1ABC_B"]
    found = descriptions(ids, [flat, other], [fasta])
    assert found[:3] == ["Kinase (Homo sapiens)", "Putative", "Heat shock protein (Mus musculus)"]
    assert found[3].startswith("<script>alert(1)</script> xxx")
    assert found[3].isprintable()
    assert len(found[3]) == 300
    assert found[4:] == ["", "PDB entry 1ABC, chain B"]


def test_fidelity(config, run, tmp_path):
    record = {
        "kind": "fidelity", "sae": load_sae(run).run["sae"], "site": "block1",
        "run_results": {"fvu": 0.25},
        "inputs": {
            name: {"figures": {"loss_recovered_mean": {"mean": value}}}
            for name, value in (("unmasked", 0.98), ("masked", 0.75))
        },
    }  # fmt: skip
    path = tmp_path / "fidelity.json"
    path.write_text(json.dumps(record))
    out = build(again(config, tmp_path / "b", fidelity=path))
    assert Bundle.open(out).manifest["loss_recovered"] == 0.75
    for changes, words in (
        ({"site": "block2"}, "is of another SAE"),
        ({"run_results": {"fvu": 0.3}}, "is of another run"),
        ({"kind": "steering"}, "is not a record of"),
    ):
        path.write_text(json.dumps(record | changes))
        with pytest.raises(UserError, match=words):
            build(again(config, tmp_path / "c", fidelity=path))


def test_hashes():
    """The first 8 bytes of ``printf P1 | sha256sum``; evenly spread."""
    assert protein_keys(["P1"])[0] == int.from_bytes(bytes.fromhex("fbeae7c18667b698"), "little")
    keys = protein_keys(f"p{i}" for i in range(4000))
    assert len(set(keys.tolist())) == 4000
    numbers = mixed(keys, np.arange(4000))
    assert abs(np.mean(numbers > np.uint64(1 << 63)) - 0.5) < 0.03
    assert not np.array_equal(numbers, mixed(keys, np.arange(4000) + 1))
