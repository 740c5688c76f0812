from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from extract.errors import UserError
from extract.esm import ESM2
from extract.plm import PackedTokens
from steering.changes import change_of, decoded_change
from steering.edits import Edit, Residues, Where
from steering.hooks import edit_latents, edit_residual, steered_logits
from steering.torch_sae import TorchSAE

SEQUENCES = ["MKTAYIAKQR", "GAVLX", "WWPDE"]
RESIDUES = [*range(1, 11), *range(13, 18), *range(20, 25)]  # BOS at 0, 12, 19; EOS at 11, 18, 25


def put(latent: int, value: float, *ranges: tuple[int, int]) -> Edit:
    """Set a latent, everywhere or at given residues."""
    return Edit(latent, "set", value, Where("ranges", ranges) if ranges else Where())


def edit_by_hand(sae: TorchSAE, x: Tensor, clamps: dict[int, float], rows: list[int]) -> Tensor:
    """x + decode(z′) − decode(z) in float64, row by row, from the equations."""
    a = {name: getattr(sae, name).double().numpy() for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    mean, scale = sae.mean.double().numpy(), float(sae.scale)
    out = x.double().numpy().copy()

    def decode(z: np.ndarray) -> np.ndarray:
        return (z @ a["W_dec"] + a["b_dec"]) / scale + mean

    for row in rows:
        pre = ((out[row] - mean) * scale - a["b_dec"]) @ a["W_enc"] + a["b_enc"]
        z = np.zeros(sae.d_sae)
        top = np.argsort(-pre)[: sae.k]
        z[top] = np.maximum(pre[top], 0)
        steered = z.copy()
        for latent, value in clamps.items():
            steered[latent] = value
        out[row] += decode(steered) - decode(z)
    return torch.from_numpy(out).to(x.dtype)


def logits_by_hand(model: ESM2, tokens: PackedTokens, site: str, change) -> Tensor:
    """The model's layers called one by one, the residual stream changed at one site."""
    x = model.embedding(tokens)
    rotation = model._rotation(tokens.lengths)
    x = change(x) if site == "block0" else x
    for n, block in enumerate(model.blocks, start=1):
        x = block(x, tokens.lengths, rotation)
        x = change(x) if site == f"block{n}" else x
    x = model.final_norm(x)
    x = change(x) if site == "final" else x
    assert model.lm_head is not None
    return model.lm_head(x, model.embedding.tokens.weight)


@pytest.mark.parametrize("clamps", [{3: 2.5}, {3: 2.5, 7: 0.0, 20: -1.0}])
def test_equals_the_edit_by_hand(tiny: ESM2, sae: TorchSAE, clamps: dict[int, float]) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    expected = logits_by_hand(
        tiny, tokens, sae.site, lambda x: edit_by_hand(sae, x, clamps, RESIDUES)
    )
    found = steered_logits(tiny, sae, tokens, [put(j, v) for j, v in clamps.items()])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - tiny.logits(tokens)).abs().max() > 1e-2


def test_edits_the_given_residues_only(tiny: ESM2, sae: TorchSAE) -> None:
    tokens, rows = tiny.tokenize(SEQUENCES), [2, 5, 14, 17, 21, 24]  # residues 2 and 5 of each
    expected = logits_by_hand(
        tiny, tokens, sae.site, lambda x: edit_by_hand(sae, x, {3: 2.5}, rows)
    )
    found = steered_logits(tiny, sae, tokens, [put(3, 2.5, (1, 2), (4, 5))])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_empty_edit_leaves_logits_bit_identical(tiny: ESM2, sae: TorchSAE) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    assert torch.equal(steered_logits(tiny, sae, tokens, []), tiny.logits(tokens))


def test_setting_its_own_value_is_bit_identical(tiny: ESM2, sae: TorchSAE) -> None:
    tokens = tiny.tokenize(SEQUENCES[:1])
    values, indices = sae.encode(tiny.residual(tokens, sae.site)[tokens.residue_rows()])
    assert values[3, 0] > 0
    silent = next(j for j in range(sae.d_sae) if j not in indices[3].tolist())
    edits = [put(int(indices[3, 0]), float(values[3, 0]), (3, 4)), put(silent, 0.0, (3, 4))]
    edits += [Edit(5, "scale", 1.0), Edit(6, "add", 0.0), Edit(7, "direction", 0.0)]
    assert torch.equal(steered_logits(tiny, sae, tokens, edits), tiny.logits(tokens))


def test_unchanged_rows_keep_negative_zero(tiny: ESM2) -> None:
    # −0.0 + 0.0 is +0.0: adding a zero tensor would not be the identity.
    tokens = tiny.tokenize(["MK"])
    seen = []
    module = tiny.site_module("block1")
    first = module.register_forward_hook(lambda _m, _a, x: -0.0 * x.abs())
    second_row = torch.tensor([[0.0], [1.0]])
    with edit_residual(tiny, "block1", lambda x: second_row.expand(x.shape), tokens):
        last = module.register_forward_hook(lambda _m, _a, x: seen.append(x))
        tiny.logits(tokens)
    first.remove()
    last.remove()
    assert torch.signbit(seen[0]).all(dim=1).tolist() == [True, True, False, True]


def test_bos_and_eos_are_never_written(tiny: ESM2, sae: TorchSAE) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    with edit_latents(tiny, sae, [put(3, 9.0)], tokens):
        edited = tiny.residual(tokens, sae.site)
    changed = (edited != tiny.residual(tokens, sae.site)).any(dim=1)
    assert changed.nonzero().flatten().tolist() == RESIDUES


def test_a_batch_equals_each_sequence_alone(tiny: ESM2, sae: TorchSAE) -> None:
    clamps = [put(3, 2.5), put(9, 1.0)]
    together = steered_logits(tiny, sae, tiny.tokenize(SEQUENCES), clamps)
    alone = [steered_logits(tiny, sae, tiny.tokenize([s]), clamps) for s in SEQUENCES]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_an_edited_latent_joins_the_top_k(tiny: ESM2, sae: TorchSAE) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    residues = Residues(tokens, tiny.mask_token)
    x = tiny.residual(tokens, sae.site)[residues.rows]
    _, indices = sae.encode(x)
    outsider = next(j for j in range(sae.d_sae) if j not in indices[5].tolist())
    change = change_of(sae, [put(outsider, 1.5)], x, residues)
    assert (change.before_RC[5], change.after_RC[5]) == (0.0, 1.5)
    torch.testing.assert_close(change.delta_RD[5], 1.5 * sae.W_dec[outsider] / sae.scale)


def test_decoded_change_by_hand(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    dz = torch.tensor([[2.0, 0.0], [0.0, -1.0]])
    expected = torch.stack([2 * sae.W_dec[5] / 1.7, -sae.W_dec[6] / 1.7])
    torch.testing.assert_close(
        decoded_change(sae, dz, [5, 6], torch.zeros(len(dz), sae.d_model)), expected
    )


def test_nested_contexts_apply_in_turn(tiny: ESM2, make_sae) -> None:
    outer, inner = make_sae(tiny, "block1"), make_sae(tiny, "block3", seed=2)
    tokens = tiny.tokenize(SEQUENCES)
    with edit_latents(tiny, outer, [put(3, 2.5)], tokens):
        middle = tiny.residual(tokens, "block3")
        with edit_latents(tiny, inner, [put(4, 3.0)], tokens):
            found = tiny.logits(tokens)
        assert torch.equal(tiny.residual(tokens, "block3"), middle)
    changed = edit_by_hand(inner, middle, {4: 3.0}, RESIDUES)
    expected = logits_by_hand(tiny, tokens, "block3", lambda _x: changed)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_nested_at_one_site_encodes_what_the_outer_left(tiny: ESM2, sae: TorchSAE) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    with (
        edit_latents(tiny, sae, [put(3, 2.5)], tokens),
        edit_latents(tiny, sae, [put(4, 3.0)], tokens),
    ):
        found = tiny.logits(tokens)

    def twice(x: Tensor) -> Tensor:
        return edit_by_hand(sae, edit_by_hand(sae, x, {3: 2.5}, RESIDUES), {4: 3.0}, RESIDUES)

    expected = logits_by_hand(tiny, tokens, sae.site, twice)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_hook_goes_after_an_exception(tiny: ESM2, sae: TorchSAE) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    before = tiny.logits(tokens)
    with pytest.raises(RuntimeError), edit_latents(tiny, sae, [put(3, 9.0)], tokens):
        raise RuntimeError
    assert not tiny.site_module(sae.site)._forward_hooks
    assert torch.equal(tiny.logits(tokens), before)


def test_refuses_a_batch_it_was_not_made_for(tiny: ESM2, sae: TorchSAE) -> None:
    context = edit_latents(tiny, sae, [put(3, 9.0)], tiny.tokenize(SEQUENCES))
    with context, pytest.raises(ValueError, match="a batch of 26 tokens but the model runs on 4"):
        tiny.logits(tiny.tokenize(["MK"]))


@pytest.mark.parametrize("row", [0, 11, 12, 25, 26, -1])
def test_refuses_rows_that_are_no_residue(tiny: ESM2, row: int) -> None:
    tokens, rows = tiny.tokenize(SEQUENCES), torch.tensor([1, row])
    with (
        pytest.raises(UserError, match=f"row {row} is not a residue"),
        edit_residual(tiny, "block1", torch.zeros_like, tokens, rows=rows),
    ):
        pass


def test_refuses_bad_edits(tiny: ESM2, sae: TorchSAE) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    with pytest.raises(UserError, match="latent 24 is out of range"):
        steered_logits(tiny, sae, tokens, [put(24, 1.0)])
    with pytest.raises(UserError, match="latent 3 is edited twice at the same residues"):
        steered_logits(tiny, sae, tokens, [put(3, 1.0), put(3, 2.0)])
    with pytest.raises(UserError, match=r"residues 6-6 are outside .* 1 to 5"):
        steered_logits(tiny, sae, tokens, [put(3, 1.0, (5, 6))])
    for value in (math.nan, math.inf, -math.inf, 1e39):
        with pytest.raises(UserError, match="must be a finite number"):
            put(3, value)


def test_refuses_another_parent(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    sae.manifest = {**sae.manifest, "parent": {**tiny.describe(), "name": "other"}}
    with pytest.raises(UserError, match="model is 'other' in the first and 'tiny' in the second"):
        steered_logits(tiny, sae, tiny.tokenize(["MK"]), [])
