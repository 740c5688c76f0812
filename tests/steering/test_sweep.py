from __future__ import annotations

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACID_TOKENS, AMINO_ACIDS
from extract.errors import UserError
from extract.esm import ESM2
from steering.edits import Edit, Where
from steering.effects import amino_acid_log_p, delta_log_p, kl_divergence
from steering.hooks import edit_residual, steered_logits
from steering.masked import scored_batches
from steering.success import amino_acid_readout, strongest_amino_acid, success
from steering.sweep import DoseResponse, _interpolated, dose_response

SEQUENCES = ["MKTAYIAKQRQISFVKSHFS", "XXX", "GAVLIWWPDEGAVLIWWPDEGAVLIWWPDE"]
MASKED = Where("masked")


def sweep(tiny: ESM2, sae, strengths=(0.0, 3.0), where=MASKED, **settings) -> DoseResponse:
    fraction = 0.2 if where == MASKED else None
    batches = list(scored_batches(tiny, SEQUENCES, mask_fraction=fraction, batch_residues=40))
    assert len(batches) > 1
    edits = [Edit(5, "set", s, where) for s in strengths]
    given = {"control_latents": [7, 9], "n_directions": 2} | settings
    return dose_response(tiny, sae, batches, edits, n_proteins=3, **given)


@pytest.mark.parametrize("where", [MASKED, Where("all"), Where("active")])
def test_equals_one_pass_after_another(tiny: ESM2, sae, where: Where) -> None:
    found = sweep(tiny, sae, where=where, extra_norms=(4.0,))
    fraction = 0.2 if where == MASKED else None
    assert found.n_read.tolist() == ([4, 0, 6] if where == MASKED else [20, 0, 30])
    assert np.isnan(found.delta_log_p[:, :, 1]).all()
    (batch,) = scored_batches(tiny, SEQUENCES[2:], mask_fraction=fraction)
    tokens, rows = batch.tokens, batch.rows
    base = tiny.logits(tokens)
    edit = Edit(5, "set", 3.0, where)

    def effect(logits) -> tuple[np.ndarray, float]:
        before, after = (amino_acid_log_p(x[rows], AMINO_ACID_TOKENS) for x in (base, logits))
        delta = delta_log_p(base, logits, AMINO_ACID_TOKENS)[rows]
        return delta.mean(0).numpy(), float(kl_divergence(before, after).mean())

    delta, kl = effect(steered_logits(tiny, sae, tokens, [edit]))
    np.testing.assert_allclose(found.delta_log_p[0, 1, 2], delta, atol=1e-5)
    np.testing.assert_allclose(found.kl[0, 1, 2], kl, atol=1e-5)
    x = tiny.residual(tokens, sae.site)[tokens.residue_rows()]
    z = sae.encode_dense(x)[:, 5]
    at = {"masked": tokens.ids[tokens.residue_rows()] == tiny.mask_token, "all": z == z,
          "active": z > 0}[where.places]  # fmt: skip
    size = torch.where(at, 3.0 - z, 0.0).abs() * sae.W_dec[5].norm() / sae.scale
    for norm, multiple in ((1, 1.0), (2, 4.0)):
        change = multiple * size[:, None] * sae.W_dec[9] / sae.W_dec[9].norm()
        with edit_residual(tiny, sae.site, lambda _x, change=change: change, tokens):
            delta, kl = effect(tiny.logits(tokens))
        np.testing.assert_allclose(found.delta_log_p[2, norm, 2], delta, atol=1e-5)
        np.testing.assert_allclose(found.kl[2, norm, 2], kl, atol=1e-5)
    assert np.isnan(found.kl[0, 2]).all()  # the latent itself has no extra norms
    assert np.abs(found.delta_log_p[0, 1, 2]).max() > 1e-3 or where == Where("active")


def test_batches_do_not_matter(tiny: ESM2, sae) -> None:
    one, other = (sweep(tiny, sae, batch_tokens=n) for n in (1, 10**6))
    np.testing.assert_allclose(one.delta_log_p, other.delta_log_p, atol=1e-5)


def test_strength_zero_of_a_silent_latent_does_nothing(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    sae.b_enc[5] = -100.0
    found = sweep(tiny, sae)
    assert not found.delta_log_p[0, 0, [0, 2]].any()
    assert not found.kl[0, 0, [0, 2]].any()
    assert found.delta_log_p[0, 1, 0].any()


def test_a_latent_that_writes_the_amino_acid_beats_its_controls(tiny: ESM2, make_sae) -> None:
    # At the final norm a latent's direction reaches the logits through the head alone: choose
    # the direction that raises tryptophan most there, by the gradient at the mean.
    sae = make_sae(tiny, "final")
    x = tiny.residual(tiny.tokenize(SEQUENCES), "final").mean(0).requires_grad_(True)
    assert tiny.lm_head is not None
    log_p = amino_acid_log_p(tiny.lm_head(x[None], tiny.embedding.tokens.weight), AMINO_ACID_TOKENS)
    log_p[0, AMINO_ACIDS.index("W")].backward()
    assert x.grad is not None
    sae.W_dec[5] = x.grad / x.grad.norm()
    found = sweep(tiny, sae, (0.0, 0.3, 3.0), control_latents=[1, 2, 3, 4], n_directions=16)
    nothing, little, last = success(found, amino_acid_readout(found, "W"))
    assert last.excess.low > 0.05
    assert last.n_proteins == 2
    assert little.steered_at_equal_norm == (1.0, 1.0, 1.0)  # no direction does more
    assert 0 < last.controls_reached <= 1
    # a read-out that falls is no success
    fallen = success(found, -amino_acid_readout(found, "W"))[1]
    assert fallen.steered_at_equal_kl.mean == fallen.steered_at_equal_norm.mean == 0
    assert nothing.strength == 0


def test_without_controls_there_is_no_comparison(tiny: ESM2, sae) -> None:
    found = sweep(tiny, sae, control_latents=[], n_directions=0)
    assert found.kl.shape == (1, 2, 3)
    last = success(found, amino_acid_readout(found, "W"))[-1]
    assert np.isfinite(last.effect.mean)
    assert np.isnan([last.excess.mean, last.steered_at_equal_kl.mean, last.control_kl]).all()


def test_interpolation_by_hand() -> None:
    kl, value = np.array([0.0, 0.01, 1.0]), np.array([0.0, 2.0, 6.0])
    at = np.array([0.01, 0.1, 1.0, 50.0, 0.0025])
    # halfway in log KL; the last where it never gets so high; √(1/4) of the first below it
    np.testing.assert_allclose(_interpolated(kl, value, at), [2.0, 4.0, 6.0, 6.0, 1.0])
    np.testing.assert_allclose(_interpolated(kl[::-1], value[::-1], at), [2, 4, 6, 6, 1])
    assert _interpolated(np.zeros(2), np.zeros(2), at).tolist() == [0.0] * 5
    assert np.isnan(_interpolated(np.full(2, np.nan), np.full(2, np.nan), at)).all()


def test_equal_kl_needs_more_than_equal_norm() -> None:
    """Controls that hardly disturb are compared where they disturb as much."""
    kl = np.array([[0.0, 1.0, np.nan], [0.0, 0.1, 1.0]])[:, :, None]
    readout = np.array([[0.0, 2.0, np.nan], [0.0, 0.5, 3.0]])[:, :, None]
    edits = [Edit(0, "set", s) for s in (0.0, 1.0)]
    response = DoseResponse(edits, np.array([1]), 0, (2.0,), np.zeros((2, 3, 1, 20)), kl,
                            np.ones((2, 1)), np.ones(1, int))  # fmt: skip
    matched, reached = response.at_equal_kl(readout)
    np.testing.assert_allclose(matched[0, :, 0], [0.0, 3.0], atol=1e-12)
    assert reached[0, :, 0].tolist() == [True, True]
    last = success(response, readout)[1]
    assert last.steered_at_equal_norm.mean == 1.0
    assert last.steered_at_equal_kl.mean == 0.0


def test_the_strongest_amino_acid_is_of_the_proteins_asked_for() -> None:
    delta = np.zeros((1, 2, 3, 20))
    delta[0, 1, 0, 4], delta[0, 1, 1, 7], delta[0, 0, 0, 9] = 1.0, 5.0, 9.0
    response = DoseResponse([], np.zeros(0, int), 0, (), delta, delta[..., 0], delta[0, ..., 0],
                            np.ones(3, int))  # fmt: skip
    chosen = strongest_amino_acid(response, proteins=np.array([0, 2]), strength=1)
    assert chosen == AMINO_ACIDS[4]


def test_refuses(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    with pytest.raises(UserError, match="latent 99 is out of range"):
        dose_response(tiny, sae, [], [Edit(99, "zero")], n_proteins=1)
    with pytest.raises(UserError, match="no sequence has a standard residue"):
        dose_response(tiny, sae, [], [Edit(9, "zero")], n_proteins=1)
    with pytest.raises(UserError, match="so strong an edit"):
        sweep(tiny, sae, (1e38,))
