from __future__ import annotations

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACID_TOKENS, AMINO_ACIDS
from extract.errors import UserError
from extract.esm import ESM2, ESM2Shape
from steering.edits import Edit, Where
from steering.effects import (
    amino_acid_log_p,
    delta_log_p,
    kl_divergence,
    sequence_effect,
)
from steering.hooks import edit_residual, steered_logits
from steering.passes import EditedPasses

SEQUENCE = "MKTAYIAKQRXW"


def test_delta_log_p_by_hand() -> None:
    # Base: 20 equal logits. Steered: alanine's is log 21 higher, so it has 21/40, others 1/40.
    base = torch.zeros(1, 33)
    base[0, 0] = 50.0  # a special token that holds nearly all the probability does not count
    steered = base.clone()
    steered[0, int(AMINO_ACID_TOKENS[0])] = np.log(21)
    delta = delta_log_p(base, steered, AMINO_ACID_TOKENS)[0]
    np.testing.assert_allclose(delta[0], np.log(21 / 40 * 20), atol=1e-6)
    np.testing.assert_allclose(delta[1:], np.log(20 / 40), atol=1e-6)


def test_log_p_is_the_whole_softmax_renormalised() -> None:
    logits = torch.randn(7, 33, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(-1)[:, AMINO_ACID_TOKENS]
    log_p = amino_acid_log_p(logits, AMINO_ACID_TOKENS)
    torch.testing.assert_close(log_p, (p / p.sum(-1, keepdim=True)).log())


def test_kl_by_hand() -> None:
    rest = [0.5 / 18] * 18
    base = torch.tensor([[0.25, 0.25, *rest]]).log()
    steered = torch.tensor([[0.125, 0.375, *rest]]).log()
    expected = 0.25 * np.log(2) + 0.25 * np.log(2 / 3)
    np.testing.assert_allclose(kl_divergence(base, steered), [expected], atol=1e-6)
    assert kl_divergence(base, base).tolist() == [0.0]


def test_sequence_effect_equals_two_passes(tiny: ESM2, sae) -> None:
    tokens = tiny.tokenize([SEQUENCE])
    where = Where("ranges", ((0, 1), (4, 5), (11, 12)))
    edits = [Edit(3, "set", 2.5, where), Edit(7, "zero", where=where)]
    effect = sequence_effect(tiny, sae, SEQUENCE, edits)
    assert np.flatnonzero(effect.edited).tolist() == [0, 4, 11]
    base, steered = tiny.logits(tokens), steered_logits(tiny, sae, tokens, edits)
    expected = delta_log_p(base, steered, AMINO_ACID_TOKENS)[1:-1]
    np.testing.assert_allclose(effect.delta_log_p, expected, atol=1e-5)
    assert effect.delta_log_p.shape == (12, 20)
    before, after = (amino_acid_log_p(x, AMINO_ACID_TOKENS)[1:-1] for x in (base, steered))
    np.testing.assert_allclose(effect.kl, kl_divergence(before, after), atol=1e-6)
    likeliest = after.argmax(1)
    assert effect.argmax_residues()[1] == "".join(AMINO_ACIDS[i] for i in likeliest)


def test_sequence_effect_reports_each_edit(tiny: ESM2, sae) -> None:
    effect = sequence_effect(tiny, sae, SEQUENCE, [Edit(3, "set", 2.5), Edit(7, "set", 1.0)])
    x = tiny.residual(tiny.tokenize([SEQUENCE]), sae.site)[1:-1]
    z = sae.encode_dense(x)[:, 3]
    change = (2.5 - z)[:, None] * sae.W_dec[3] / sae.scale
    first = effect.edits[0]
    np.testing.assert_allclose(first.fired_on, (z > 0).float().mean(), atol=1e-6)
    np.testing.assert_allclose(first.mean_before, z.mean(), atol=1e-5)
    np.testing.assert_allclose(first.mean_norm, change.norm(dim=1).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        first.relative_norm, (change.norm(dim=1) / x.norm(dim=1)).mean(), rtol=1e-5
    )
    both = change + (1.0 - sae.encode_dense(x)[:, 7])[:, None] * sae.W_dec[7] / sae.scale
    np.testing.assert_allclose(
        effect.relative_norm, (both.norm(dim=1) / x.norm(dim=1)).mean(), rtol=1e-5
    )


def test_no_edit_changes_nothing(tiny: ESM2, sae) -> None:
    effect = sequence_effect(tiny, sae, SEQUENCE, [])
    assert not effect.delta_log_p.any()
    assert not effect.kl.any()
    assert effect.edits == []


def test_edited_passes_see_the_unedited_stream(tiny: ESM2, sae) -> None:
    tokens, rows = tiny.tokenize([SEQUENCE]), torch.tensor([2, 3])
    passes = EditedPasses(tiny, sae.site, tokens, rows)
    assert torch.equal(passes.base_logits, tiny.logits(tokens))
    assert torch.equal(passes.x_RD, tiny.residual(tokens, sae.site)[rows])
    assert passes.logits(torch.zeros(2, 16)) is passes.base_logits
    assert not torch.equal(passes.logits(torch.ones(2, 16)), passes.base_logits)


def test_edited_passes_equal_the_hook(tiny: ESM2, sae) -> None:
    """Running only the later blocks on an edited stream is the same as hooking a whole pass."""
    tokens, rows = tiny.tokenize([SEQUENCE, SEQUENCE[:5]]), torch.tensor([2, 3])
    delta = torch.linspace(-1, 1, 32).view(2, 16)
    passes = EditedPasses(tiny, sae.site, tokens, rows)
    with edit_residual(tiny, sae.site, lambda _x: delta, tokens, rows=rows):
        hooked = tiny.logits(tokens)
    torch.testing.assert_close(passes.logits(delta), hooked, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strength", [1e30, -1e38])
def test_an_edit_that_overflows_is_refused(tiny: ESM2, sae, strength) -> None:
    with pytest.raises(UserError, match=r"3:set:.* not finite.*LATENT:set:1xmax"):
        sequence_effect(tiny, sae, SEQUENCE, [Edit(3, "set", strength)])


def test_needs_a_masked_lm_head(make_sae) -> None:
    model = ESM2("tiny", ESM2Shape(3, 16, 2)).requires_grad_(False)
    model.lm_head = None
    with pytest.raises(UserError, match="without a masked-LM head"):
        sequence_effect(model, make_sae(model, "block1"), SEQUENCE, [])


@pytest.mark.parametrize("site", ["block2.attn", "block3.mlp"])
def test_edited_passes_at_a_part_of_a_block(tiny: ESM2, site) -> None:
    tokens, rows = tiny.tokenize([SEQUENCE, SEQUENCE[:5]]), torch.tensor([2, 3])
    delta = torch.linspace(-1, 1, 32).view(2, 16)
    passes = EditedPasses(tiny, site, tokens, rows)
    assert torch.equal(passes.x_RD, tiny.residual(tokens, site)[rows])
    with edit_residual(tiny, site, lambda _x: delta, tokens, rows=rows):
        hooked = tiny.logits(tokens)
    torch.testing.assert_close(passes.logits(delta), hooked, rtol=1e-6, atol=1e-6)
    assert not torch.equal(hooked, passes.base_logits)


def test_masked_residues_are_hidden_in_both_passes(tiny: ESM2, sae) -> None:
    edits = [Edit(3, "set", 2.5, Where("masked"))]
    effect = sequence_effect(tiny, sae, SEQUENCE, edits, masked=[2, 5])
    tokens = tiny.tokenize([SEQUENCE])
    assert tiny.mask_token is not None
    tokens.ids[[3, 6]] = tiny.mask_token
    base, steered = tiny.logits(tokens), steered_logits(tiny, sae, tokens, edits)
    expected = delta_log_p(base, steered, AMINO_ACID_TOKENS)[1:-1]
    np.testing.assert_allclose(effect.delta_log_p, expected, atol=1e-5)
    assert np.flatnonzero(effect.edited).tolist() == effect.masked.tolist() == [2, 5]
    with pytest.raises(UserError, match="residues are 1 to 12"):
        sequence_effect(tiny, sae, SEQUENCE, edits, masked=[12])


def test_an_edit_that_applies_nowhere_says_so(tiny: ESM2, sae) -> None:
    effect = sequence_effect(tiny, sae, SEQUENCE, [Edit(3, "set", 2.5, Where("masked"))])
    assert not effect.delta_log_p.any()
    assert effect.edits[0].n_edited == 0
    assert np.isnan(effect.edits[0].mean_norm)
    assert effect.relative_norm == 0


@pytest.mark.parametrize("site", ["block0", "block1", "block2.attn", "final"])
@pytest.mark.parametrize("batch_tokens", [1, 40, 10**6])
def test_many_changes_at_once_equal_one_at_a_time(tiny: ESM2, site: str, batch_tokens: int) -> None:
    tokens, rows = tiny.tokenize([SEQUENCE, SEQUENCE[:5]]), torch.tensor([2, 3, 16])
    deltas = [torch.full((3, 16), v) for v in (0.5, 0.0, -1.0, 2.0)]
    passes = EditedPasses(tiny, site, tokens, rows, batch_tokens=batch_tokens)
    together = list(passes.each(deltas))
    for delta, found in zip(deltas, together, strict=True):
        with edit_residual(tiny, site, lambda _x, delta=delta: delta, tokens, rows=rows):
            expected = tiny.logits(tokens)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert together[1] is passes.base_logits
