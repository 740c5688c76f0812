"""Splicing against passes and cross-entropies by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACIDS, ESM_TOKENS, MASK
from extract.errors import UserError
from extract.esm import ESM2
from extract.unirep_weights import load_unirep
from steering.hooks import replace_residual
from steering.masked import masked_residues, scored_batches
from steering.splice import PASSES, splice
from steering.torch_sae import TorchSAE

SEQUENCES = ["MKTAYIAKQRQISFVKSHFS", "XXX", "GAVLIWWPDEGAVXIWWPDEGAVLIWWPDE", "W"]
STANDARD = [[i for i, a in enumerate(s) if a in AMINO_ACIDS] for s in SEQUENCES]
SITES = ["block0", "block1", "block2.attn", "block2.mlp", "block3", "final"]


def module_at(model: ESM2, site: str) -> torch.nn.Module:
    """Where a site is, without asking the model's own table."""
    blocks = list(model.blocks)
    return {
        "block0": model.embedding,
        "block1": blocks[0],
        "block2.attn": blocks[1].attention,
        "block2.mlp": blocks[1].mlp,
        "block3": blocks[2],
        "final": model.final_norm,
    }[site]  # type: ignore[return-value]


def by_hand(
    model, module, sae: TorchSAE, sequence: str, scored: list[int], masks=(), n_after=1
) -> np.ndarray:
    """CE, KL and agreement ``[4, 3, scored]`` of one sequence alone: a hook, a pass, NumPy."""
    tokens = model.tokenize([sequence])
    ids = tokens.ids.clone()
    if len(masks):
        ids[torch.tensor(masks) + 1] = MASK
    tokens = tokens._replace(ids=ids)
    last = len(ids) - n_after  # row 0 is BOS or start; what is behind `last` is EOS
    means = {"zero": torch.zeros(model.d_model), "mean": sae.mean}

    def logits(name: str) -> np.ndarray:
        def hook(_module, _args, x):
            put = x.clone()
            for row in range(1, last):
                put[row] = sae(x[row : row + 1])[0] if name == "sae" else means[name]
            return put

        handle = None if name == "original" else module.register_forward_hook(hook)
        with torch.inference_mode():
            found = model.logits(tokens).numpy().astype(np.float64)
        if handle is not None:
            handle.remove()
        return found[1:last][scored]

    columns = [model.amino_acid_tokens[AMINO_ACIDS.index(sequence[i])] for i in scored]
    p = [np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in map(logits, PASSES)]
    rows = np.arange(len(scored))
    return np.stack([
        [-np.log(q[rows, columns]), (p[0] * np.log(p[0] / q)).sum(1), q.argmax(1) == p[0].argmax(1)]
        for q in p
    ])  # fmt: skip


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("fraction", [None, 0.3])
def test_batches_are_one_by_one_by_hand(tiny: ESM2, make_sae, site, fraction) -> None:
    sae = make_sae(tiny, site)
    whole = splice(tiny, sae, SEQUENCES, mask_fraction=fraction, seed=3)
    pieces = splice(tiny, sae, SEQUENCES, mask_fraction=fraction, seed=3, batch_residues=25)
    for found in (whole, pieces):
        assert found.n_replaced == 54
        for i, sequence in enumerate(SEQUENCES):
            scored = STANDARD[i]
            masks = () if fraction is None else masked_residues(sequence, fraction, 3)
            if fraction is not None:
                scored = list(masks)
            assert found.n_scored[i] == len(scored)
            expected = by_hand(tiny, module_at(tiny, site), sae, sequence, scored, masks).sum(2)
            three = np.stack([found.cross_entropy[:, i], found.kl[:, i], found.agreement[:, i]], 1)
            np.testing.assert_allclose(three, expected, rtol=1e-5, atol=1e-5)
    assert whole.kl[1].sum() > 0.01  # something was measured
    assert whole.fvu == pytest.approx(pieces.fvu, rel=1e-5)


@pytest.mark.parametrize("site", SITES)
def test_identity_loses_nothing_and_zeros_are_the_ablation(tiny: ESM2, site) -> None:
    both, manifest = np.eye(16), {"parent": tiny.describe(), "site": site, "d_model": 16}
    arrays = {
        "W_enc": np.concatenate([both, -both], axis=1),
        "b_enc": np.zeros(32),
        "W_dec": np.concatenate([both, -both]),
        "b_dec": np.zeros(16),
        "mean": np.zeros(16),
        "scale": np.float64(1),
    }
    found = splice(tiny, TorchSAE(arrays, 32, manifest, name="identity"), SEQUENCES)
    np.testing.assert_array_equal(found.cross_entropy[1], found.cross_entropy[0])
    assert not found.kl[1].any()
    np.testing.assert_array_equal(found.agreement[1], found.n_scored)
    assert found.fvu == 0
    nothing = TorchSAE(arrays | {"W_dec": np.zeros((32, 16))}, 32, manifest, name="nothing")
    found = splice(tiny, nothing, SEQUENCES)
    np.testing.assert_array_equal(found.cross_entropy[1], found.cross_entropy[2])
    np.testing.assert_array_equal(found.kl[1], found.kl[2])
    mean = np.linspace(-1, 1, 16)
    centred = arrays | {"W_dec": np.zeros((32, 16)), "mean": mean}
    found = splice(tiny, TorchSAE(centred, 32, manifest, name="mean"), SEQUENCES)
    np.testing.assert_array_equal(found.cross_entropy[1], found.cross_entropy[3])
    assert found.kl[1].sum() != found.kl[2].sum()


def test_fvu_is_that_of_what_is_replaced(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block2.mlp")
    x = torch.cat([tiny.residual(tiny.tokenize([s]), "block2.mlp")[1:-1] for s in SEQUENCES])
    error = (x - sae(x)).double().square().sum()
    expected = error / (x - x.mean(0)).double().square().sum()
    assert splice(tiny, sae, SEQUENCES).fvu == pytest.approx(float(expected), rel=1e-4)


def test_special_tokens_and_other_rows_keep_their_activations(tiny: ESM2) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    residues, before = tokens.residue_rows(), tiny.residual(tokens, "block1")
    rows = residues[[2, 30]]
    with replace_residual(tiny, "block1", torch.zeros_like, tokens, rows=rows):
        after = tiny.residual(tokens, "block1")
    changed = (after != before).any(1).nonzero().flatten()
    assert changed.tolist() == rows.tolist()
    assert not after[rows].any()
    assert torch.equal(tiny.residual(tokens, "block1"), before)
    refused = replace_residual(tiny, "block1", torch.zeros_like, tokens, rows=torch.tensor([0]))
    with pytest.raises(UserError, match="row 0 is not a residue"), refused:
        pass


def test_masks_depend_on_seed_and_sequence_alone(tiny: ESM2) -> None:
    def masked(sequences: list[str], seed: int, batch_residues: int) -> dict[str, str]:
        found = {}
        for batch in scored_batches(tiny, sequences, mask_fraction=0.15, seed=seed,
                                    batch_residues=batch_residues):  # fmt: skip
            letters = [ESM_TOKENS[i] for i in batch.tokens.ids]
            assert [letters[r] for r in batch.rows] == ["<mask>"] * len(batch.rows)
            for words in " ".join(letters).split("<cls>")[1:]:
                hidden = words.replace("<mask>", "?").replace("<eos>", "").replace(" ", "")
                found[next(s for s in sequences if len(s) == len(hidden))] = hidden
        return found

    together = masked(SEQUENCES, 0, 4096)
    assert together == masked(SEQUENCES[::-1], 0, 10)
    assert together != masked(SEQUENCES, 1, 4096)
    alone = masked(SEQUENCES[2:3], 0, 4096)[SEQUENCES[2]]
    assert alone == together[SEQUENCES[2]]
    assert alone.count("?") == round(0.15 * 29) == 4
    assert alone[13] == "X"  # never masked: it has no score
    assert (together["XXX"], together["W"]) == ("XXX", "?")


def test_targets_are_the_amino_acids_before_the_mask(tiny: ESM2) -> None:
    for fraction in (None, 0.5):
        for batch in scored_batches(tiny, SEQUENCES, mask_fraction=fraction, batch_residues=25):
            plain = tiny.tokenize([SEQUENCES[i] for i in dict.fromkeys(batch.proteins)])
            if len(plain.ids) == len(batch.tokens.ids):
                assert plain.ids[batch.rows].tolist() == batch.targets.tolist()


def test_a_recurrent_parent_by_hand() -> None:
    unirep = load_unirep("unirep_64", device="cpu")
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape) * 0.1 for name, shape in {
        "W_enc": (64, 128), "b_enc": (128,), "W_dec": (128, 64), "b_dec": (64,), "mean": (64,),
    }.items()} | {"scale": np.array(1.3)}  # fmt: skip
    for block in (2, 4):
        manifest = {"parent": unirep.describe(), "site": f"block{block}", "d_model": 64}
        sae = TorchSAE(arrays, 8, manifest, name="run unirep")
        found = splice(unirep, sae, SEQUENCES)
        layer = list(unirep.layers)[block - 1]
        for i in (0, 2):
            expected = by_hand(unirep, layer, sae, SEQUENCES[i], STANDARD[i], n_after=0).sum(2)
            np.testing.assert_allclose(found.cross_entropy[:, i], expected[:, 0], rtol=1e-5)
            np.testing.assert_allclose(found.kl[:, i], expected[:, 1], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="unirep_64 was not trained on masks"):
        splice(unirep, sae, SEQUENCES, mask_fraction=0.15)


def test_refuses(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    with pytest.raises(UserError, match="no sequence has a standard residue"):
        splice(tiny, sae, ["XX"])
    other = make_sae(tiny, "block1")
    other.manifest["parent"] = {**tiny.describe(), "name": "another"}
    with pytest.raises(UserError, match="model is 'another'"):
        splice(tiny, other, SEQUENCES)
    sae.b_dec += float("inf")
    with pytest.raises(UserError, match="with the SAE's reconstruction .* is not finite"):
        splice(tiny, sae, SEQUENCES)
