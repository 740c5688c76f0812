"""Our packed ESM2 against fair-esm's own forward pass."""

import esm
import esm.model.esm2
import pytest
import torch

from experiments.benchmarks.contestants import sites_of_fair_esm
from extract.alphabet import AMINO_ACIDS, ESM_TOKENS, MASK
from extract.errors import UserError
from extract.esm import ESM2Shape
from extract.pipeline import residue_activations
from extract.plm import PackedTokens
from extract.state_dicts import read_weights
from extract.weights import _wheel_weights, build_esm2, load_esm2
from tests.helpers import random_proteins

SEQUENCES = ["MKTAYIAKQR", "M", "ACDEFGHIKLMNPQRSTVWYBZUOX", "GGGGG", "AAAAA"]


def fair_esm(n_blocks=3, d_model=40, n_heads=2, seed=0):
    torch.manual_seed(seed)
    model = esm.model.esm2.ESM2(n_blocks, d_model, n_heads).eval().requires_grad_(False)
    for parameter in model.parameters():  # biases and norms away from 0 and 1
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tensors_of(model):
    drop = ("contact_head", "rot_emb", "lm_head.weight")
    return {k: v for k, v in model.state_dict().items() if not any(d in k for d in drop)}


@pytest.fixture(scope="module")
def pair():
    theirs = fair_esm()
    return theirs, build_esm2("tiny", ESM2Shape(3, 40, 2), tensors_of(theirs), source="test")


def padded(model, sequences):
    _, _, tokens = model.alphabet.get_batch_converter()([("", s) for s in sequences])
    return tokens


def rows_of(array, sequences):
    return [array[i, 1 : len(s) + 1] for i, s in enumerate(sequences)]


def test_vocabulary_is_fair_esms():
    assert esm.Alphabet.from_architecture("ESM-1b").all_toks == ESM_TOKENS


def test_token_ids_by_hand(pair):
    tokens = pair[1].tokenize(["MK", "A"])
    assert tokens.ids.tolist() == [0, 20, 15, 2, 0, 5, 2]
    assert tokens.lengths == (4, 3)
    assert tokens.residue_rows().tolist() == [1, 2, 5]


@pytest.mark.parametrize("site", ["block0", "block1", "block2", "final"])
def test_sites_equal_fair_esm_in_a_batch_and_alone(pair, site):
    theirs, ours = pair
    layer = 3 if site == "final" else int(site[-1])
    expected = theirs(padded(theirs, SEQUENCES), repr_layers=[layer])["representations"][layer]
    for batch_residues in (1, 30, 1000):
        found = residue_activations(ours, SEQUENCES, site, batch_residues=batch_residues)
        for ours_LD, theirs_LD in zip(found, rows_of(expected, SEQUENCES)):
            torch.testing.assert_close(torch.from_numpy(ours_LD), theirs_LD, rtol=1e-5, atol=1e-5)


def test_last_block_is_not_final(pair):
    theirs, ours = pair
    tokens = ours.tokenize(SEQUENCES)
    last, final = ours.residual(tokens, "block3"), ours.residual(tokens, "final")
    torch.testing.assert_close(ours.final_norm(last), final)
    assert (last - final).abs().max() > 0.1
    seen = []
    theirs.layers[-1].register_forward_hook(lambda *args: seen.append(args[-1][0]))
    theirs(padded(theirs, SEQUENCES[:1]))
    found = residue_activations(ours, SEQUENCES[:1], "block3")[0]
    torch.testing.assert_close(torch.from_numpy(found), seen[0][1:-1, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["attn", "mlp"])
def test_parts_of_a_block_equal_fair_esms(pair, part):
    theirs, ours = pair
    layer, seen = theirs.layers[1], []
    module = layer.self_attn if part == "attn" else layer.fc2
    handle = module.register_forward_hook(lambda _m, _a, out: seen.append(out))
    theirs(padded(theirs, SEQUENCES))
    handle.remove()
    out = seen[0][0] if part == "attn" else seen[0]  # [tokens, batch, d_model]
    found = residue_activations(ours, SEQUENCES, f"block2.{part}")
    for ours_LD, theirs_LD in zip(found, rows_of(out.transpose(0, 1), SEQUENCES), strict=True):
        torch.testing.assert_close(torch.from_numpy(ours_LD), theirs_LD, rtol=1e-5, atol=1e-5)


def test_several_sites_come_from_one_pass(pair, monkeypatch):
    ours = pair[1]
    tokens, sites = ours.tokenize(SEQUENCES), ["final", "block1.mlp", "block0", "block2"]
    alone = {site: ours.residual(tokens, site) for site in sites}
    passes = []
    monkeypatch.setattr(ours.embedding, "forward", lambda t, f=ours.embedding.forward: (
        passes.append(1), f(t))[1])  # fmt: skip
    together = ours.residuals(tokens, sites)
    assert len(passes) == 1
    assert all(torch.equal(together[site], alone[site]) for site in sites)
    assert not any(m._forward_hooks for m in ours.modules())


def test_logits_equal_fair_esm_with_masks(pair):
    theirs, ours = pair
    tokens = padded(theirs, SEQUENCES)
    tokens[0, 3] = tokens[2, 5] = tokens[2, 9] = MASK
    expected = theirs(tokens)["logits"]
    packed = ours.tokenize(SEQUENCES)
    ids = torch.cat([tokens[i, : len(s) + 2] for i, s in enumerate(SEQUENCES)])
    found = ours.logits(PackedTokens(ids, packed.lengths))
    expected = torch.cat([expected[i, : len(s) + 2] for i, s in enumerate(SEQUENCES)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_token_dropout_is_part_of_the_site(pair):
    theirs, ours = pair
    off = build_esm2("t", ours.shape, tensors_of(theirs), source="test", token_dropout=False)
    tokens = ours.tokenize(["MKT"])
    scaled, plain = ours.residual(tokens, "block0"), off.residual(tokens, "block0")
    torch.testing.assert_close(scaled, plain * 0.88)


def test_unknown_site_lists_the_sites(pair):
    for site in ("block4", "block-1", "layer2", "", "block01"):
        with pytest.raises(UserError, match="block0 .* to block3 .*, and final"):
            pair[1].check_site(site)


@pytest.mark.weights
def test_real_weights_equal_fair_esm():
    """Every stream within 1e-5 and every part of a block within 1e-4 of its largest number."""
    ours = load_esm2("esm2_t6_8M_UR50D", device="cpu")
    theirs = esm.model.esm2.ESM2(6, 320, 20).eval()
    if ours.weights.lm_head.startswith("stock"):
        pytest.skip("stock weights are cached here; parity with them is the same code")
    theirs.load_state_dict(read_weights(_wheel_weights()), strict=False)
    sequences = [p.sequence for p in random_proteins(3, 20, 200)]
    expected = sites_of_fair_esm(theirs, padded(theirs, sequences))
    assert set(expected) == set(ours.sites)
    for site, all_BTD in expected.items():
        tolerance = 1e-4 if "." in site else 1e-5
        for a, b in zip(
            residue_activations(ours, sequences, site), rows_of(all_BTD, sequences), strict=True
        ):
            # relative to the site: some dimensions reach 50 in the last blocks
            assert (torch.from_numpy(a) - b).abs().max() <= tolerance * b.abs().max(), site


@pytest.mark.weights
def test_real_weights_predict_masked_residues():
    """A damaged encoder or head would guess no better than the most common residue."""
    model = load_esm2("esm2_t6_8M_UR50D", device="cpu")
    ubiquitin = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
    tokens = model.tokenize([ubiquitin])
    ids = tokens.ids.clone()
    masked = list(range(5, len(ubiquitin), 7))
    ids[[i + 1 for i in masked]] = MASK
    with torch.inference_mode():
        log_p = model.logits(PackedTokens(ids, tokens.lengths)).log_softmax(-1)
    amino = [ESM_TOKENS.index(a) for a in AMINO_ACIDS]
    truth = torch.stack([log_p[i + 1, tokens.ids[i + 1]] for i in masked]).mean()
    average = torch.stack([log_p[i + 1, amino].mean() for i in masked]).mean()
    assert truth > average + 0.3


def test_logits_are_not_taken_up_from_a_part_of_a_block(pair):
    tokens = pair[1].tokenize(["MK"])
    assert [pair[1].stream_site(s) for s in ("block2.attn", "block2", "final")] == [
        "block1", "block2", "final",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="not the whole residual stream"):
        pair[1].logits_from(pair[1].residual(tokens, "block2.mlp"), tokens, "block2.mlp")


@pytest.mark.parametrize("site", ["block0", "block1", "block3", "final"])
def test_logits_from_a_site_are_the_logits(pair, site):
    """Bit for bit, and only what lies behind the site runs."""
    ours = pair[1]
    tokens = ours.tokenize(SEQUENCES)
    x = ours.residual(tokens, site)
    assert torch.equal(ours.logits_from(x, tokens, site), ours.logits(tokens))
    ran = []
    handles = [
        b.register_forward_hook(lambda *a, n=n: ran.append(n)) for n, b in enumerate(ours.blocks)
    ]
    ours.logits_from(x, tokens, site)
    for handle in handles:
        handle.remove()
    first = 3 if site == "final" else int(site.removeprefix("block"))
    assert ran == list(range(first, 3))
