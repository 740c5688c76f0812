"""ESM-1b and ESM-1v against fair-esm's and Hugging Face's own forward passes."""

import argparse
import re

import esm
import pytest
import torch

from extract.alphabet import MASK
from extract.errors import UserError
from extract.esm import ESM2_SHAPES, ESM2Shape
from extract.plm import PackedTokens
from extract.state_dicts import HF_BLOCK_NAMES, HF_OUTER_NAMES, tensors_sha256
from extract.weights import META_URL, build_esm2, load_esm2, random_esm2, random_tensors

SHAPE = ESM2Shape(3, 40, 2, positions="learned")
SEQUENCES = ["MKTAYIAKQR", "M", "ACDEFGHIKLMNPQRSTVWYBZUOX", "GGGGG", "AAAAA"]
SITES = ["block0", "block1", "block1.attn", "block2.mlp", "block3", "final"]
NAMES = ["esm1b_t33_650M_UR50S", *(f"esm1v_t33_650M_UR90S_{n}" for n in range(1, 6))]


def noisy_tensors(norm_before=True):
    """Random weights with norms and biases away from 1 and 0."""
    tensors = random_tensors(SHAPE, seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, tensor in tensors.items():
        if tensor.ndim == 1:
            tensors[name] = tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
    return {
        k: v for k, v in tensors.items() if norm_before or not k.startswith("emb_layer_norm_before")
    }


def fair_esm(tensors, norm_before=True):
    args = argparse.Namespace(
        arch="roberta_large", layers=3, embed_dim=40, ffn_embed_dim=160, attention_heads=2,
        max_positions=1024, token_dropout=True, emb_layer_norm_before=norm_before,
    )  # fmt: skip
    model = esm.ProteinBertModel(args, esm.Alphabet.from_architecture("ESM-1b")).eval()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all("contact" in k or k == "lm_head.weight" for k in missing)
    return model.requires_grad_(False)


def masked_batch(ours):
    """Tokens with masks, packed for us and padded for the others."""
    tokens = ours.tokenize(SEQUENCES)
    ids = tokens.ids.clone()
    ids[[3, 20, 25, 26]] = MASK
    pieces = ids.split(tokens.lengths)
    padded = torch.nn.utils.rnn.pad_sequence(list(pieces), batch_first=True, padding_value=1)
    return PackedTokens(ids, tokens.lengths), padded


def packed(array_BTD, tokens):
    return torch.cat([array_BTD[i, :n] for i, n in enumerate(tokens.lengths)])


def kept(module, seen, name):
    def keep(_m, _a, out):
        out = out[0] if isinstance(out, tuple) else out
        seen[name] = out.transpose(0, 1)  # fair-esm's blocks: [tokens, batch, d_model]

    module.register_forward_hook(keep)


@pytest.mark.parametrize("norm_before", [True, False])
def test_every_site_and_logits_equal_fair_esm_with_masks(norm_before):
    tensors = noisy_tensors(norm_before)
    theirs = fair_esm(tensors, norm_before)
    ours = build_esm2("tiny", SHAPE, tensors, source="test")
    assert (ours.embedding.norm is not None) == norm_before
    tokens, padded = masked_batch(ours)
    seen = {}
    kept(theirs.layers[0].self_attn, seen, "block1.attn")
    kept(theirs.layers[1].fc2, seen, "block2.mlp")
    kept(theirs.layers[2], seen, "block3")
    out = theirs(padded, repr_layers=range(4))
    seen |= {f"block{n}": out["representations"][n] for n in range(3)}
    seen["final"] = out["representations"][3]
    for site in SITES:
        expected, found = packed(seen[site], tokens), ours.residual(tokens, site)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=site)
    logits = packed(out["logits"], tokens)
    torch.testing.assert_close(ours.logits(tokens), logits, rtol=1e-5, atol=1e-5)


def test_hugging_face_names_give_hugging_faces_numbers():
    transformers = pytest.importorskip("transformers")
    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=40, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=160, max_position_embeddings=1026, position_embedding_type="absolute",
        emb_layer_norm_before=True, token_dropout=True, mask_token_id=MASK, pad_token_id=1,
        layer_norm_eps=1e-5,
    )  # fmt: skip
    theirs = transformers.EsmModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    tensors = {k: v for k, v in noisy_tensors().items() if not k.startswith("lm_head")}
    block = {theirs_: ours_ for ours_, theirs_ in HF_BLOCK_NAMES.items()}
    outer = {theirs_: ours_ for ours_, theirs_ in HF_OUTER_NAMES.items()}

    def hf_name(name):
        found = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if found:
            return f"encoder.layer.{found[1]}.{block[found[2]]}.{found[3]}"
        return outer.get(name, f"encoder.{name}")

    missing, unexpected = theirs.load_state_dict(
        {hf_name(k): v for k, v in tensors.items()}, strict=False
    )
    assert not unexpected
    assert all("contact" in k or "position_ids" in k for k in missing)
    from extract.state_dicts import _fair_esm_name

    named = {n: v for k, v in theirs.state_dict().items() if (n := _fair_esm_name(k))}
    ours = build_esm2("tiny", SHAPE, named, source="test")
    assert ours.weights.encoder_sha256 == tensors_sha256(tensors)
    tokens, padded = masked_batch(ours)
    out = theirs(padded, attention_mask=(padded != 1).long(), output_hidden_states=True)
    for n, site in enumerate(["block0", "block1", "block2", "final"]):
        expected, found = packed(out.hidden_states[n], tokens), ours.residual(tokens, site)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=site)


def test_published_files_load_by_name(tmp_path, monkeypatch):
    """fair-esm's prefixes and arguments of ESM-1, from the address that fair-esm uses."""
    import extract.weights as weights

    tensors = noisy_tensors()
    model = {("encoder." if "lm_head" in k else "encoder.sentence_encoder.") + k: v
             for k, v in tensors.items()}  # fmt: skip
    model["encoder.lm_head.weight"] = tensors["embed_tokens.weight"]
    args = argparse.Namespace(arch="roberta_large", encoder_layers=3)
    urls = []

    def download(url, path):
        urls.append(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"args": args, "model": model}, path)

    monkeypatch.setattr(weights, "_download", download)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in NAMES:
        assert ESM2_SHAPES[name] == ESM2Shape(33, 1280, 20, positions="learned")
        monkeypatch.setitem(ESM2_SHAPES, name, SHAPE)
        loaded = load_esm2(name, device="cpu")
        assert loaded.max_residues == 1022
        assert loaded.weights.lm_head == "stock"
        encoder = {k: v for k, v in tensors.items() if not k.startswith("lm_head")}
        assert loaded.weights.encoder_sha256 == tensors_sha256(encoder)
    assert urls == [META_URL.format(name=name) for name in NAMES]


def test_longest_protein_fits_the_position_table(monkeypatch):
    monkeypatch.setitem(ESM2_SHAPES, "tiny1", SHAPE)
    model = random_esm2("tiny1")
    x = model.residual(model.tokenize(["M" * 1022]), "final")
    assert x.shape == (1024, 40)
    assert x.isfinite().all()


def test_bfloat16_is_close_and_described(monkeypatch):
    for shape in (SHAPE, ESM2Shape(3, 40, 2)):
        monkeypatch.setitem(ESM2_SHAPES, "tiny1", shape)
        exact, rounded = random_esm2("tiny1"), random_esm2("tiny1", dtype="bfloat16")
        assert exact.describe()["compute_dtype"] == "float32"
        assert rounded.describe()["compute_dtype"] == "bfloat16"
        assert rounded.weights.encoder_sha256 == exact.weights.encoder_sha256
        tokens = exact.tokenize(SEQUENCES)
        for site in SITES:
            a, b = exact.residual(tokens, site), rounded.residual(tokens, site)
            assert b.dtype == torch.bfloat16
            assert (a - b).norm() < 0.02 * a.norm(), site
        assert rounded.logits(tokens).dtype == torch.float32


def test_a_sequence_without_positions_is_refused():
    model = build_esm2("tiny-esm1", SHAPE, noisy_tensors(), source="test")
    model.residual(model.tokenize(["A" * 1022]), "block0")
    with pytest.raises(UserError, match="1023 residues, but tiny-esm1 has positions for 1022"):
        model.tokenize(["MK", "A" * 1023])
