from __future__ import annotations

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACID_TOKENS, AMINO_ACIDS, MASK
from extract.errors import UserError
from extract.esm import ESM2
from steering.controls import matched_latents
from steering.effects import amino_acid_log_p, delta_log_p
from steering.hooks import Clamp, edit_residual, steered_logits
from steering.masked import masked_batches, masked_positions_effect

SEQUENCES = ["MKTAYIAKQRQISFVKSHFS", "XXX", "GAVLIWWPDEGAVLIWWPDEGAVLIWWPDE"]
FREQUENCY = np.linspace(0.01, 0.3, 24)


def test_copies_cover_every_standard_residue_once(tiny: ESM2) -> None:
    batches = list(masked_batches(tiny, SEQUENCES, mask_fraction=0.1, copies=10, batch_residues=64))
    assert len(batches) > 3
    seen = [np.zeros(len(s), int) for s in SEQUENCES]
    for batch in batches:
        masks = (batch.tokens.ids == MASK).nonzero().flatten().numpy()
        assert masks.tolist() == batch.rows.tolist()
        assert np.isin(masks, batch.tokens.residue_rows().numpy()).all()
        first = np.cumsum([0, *batch.tokens.lengths[:-1]]) + 1
        sequence = np.searchsorted(first, masks, side="right") - 1
        for row, which, protein in zip(masks, sequence, batch.proteins, strict=True):
            assert batch.tokens.lengths[which] == len(SEQUENCES[protein]) + 2
            seen[protein][row - first[which]] += 1
    assert [s.tolist() for s in seen] == [[1] * 20, [0] * 3, [1] * 30]


def test_masks_depend_on_the_seed_alone(tiny: ESM2) -> None:
    def masks(seed: int, batch_residues: int) -> torch.Tensor:
        batches = masked_batches(tiny, SEQUENCES, seed=seed, batch_residues=batch_residues)
        return torch.cat([b.tokens.ids for b in batches])

    assert torch.equal(masks(0, 10), masks(0, 1000))
    assert not torch.equal(masks(0, 10), masks(1, 10))


def test_equals_one_pass_after_another(tiny: ESM2, sae) -> None:
    clamp = Clamp(5, 3.0)
    found = masked_positions_effect(
        tiny, sae, SEQUENCES, clamp, "W", frequency=FREQUENCY, n_controls=3, copies=2,
        batch_residues=40,
    )  # fmt: skip
    assert found.controls.shape == found.control_kl.shape == (3, 3)
    assert found.n_positions.tolist() == [4, 0, 6]
    assert np.isnan(found.target[1])
    column = AMINO_ACIDS.index("W")
    controls = matched_latents(FREQUENCY, 5, 3)
    assert found.control_latents.tolist() == controls.tolist()
    deltas: dict[str, list] = {"target": [], "zeroed": [], "controls": []}
    for batch in masked_batches(tiny, SEQUENCES, copies=2):
        tokens, rows = batch.tokens, batch.rows
        base = tiny.logits(tokens)
        for name, value in (("target", 3.0), ("zeroed", 0.0)):
            logits = steered_logits(tiny, sae, tokens, [Clamp(5, value)], rows=rows)
            delta = delta_log_p(base, logits, AMINO_ACID_TOKENS)[rows, column].numpy()
            deltas[name].append(delta[batch.proteins == 2])
        x = tiny.residual(tokens, sae.site)[rows]
        dz = 3.0 - sae.encode_dense(x)[:, 5]
        size = dz.abs() * sae.W_dec[5].norm() / sae.scale
        change = size[:, None] * sae.W_dec[controls[1]] / sae.W_dec[controls[1]].norm()
        with edit_residual(tiny, sae.site, lambda _x, change=change: change, tokens, rows=rows):
            logits = tiny.logits(tokens)
        delta = delta_log_p(base, logits, AMINO_ACID_TOKENS)[rows, column].numpy()
        deltas["controls"].append(delta[batch.proteins == 2])
    mean = {name: np.concatenate(parts).mean() for name, parts in deltas.items()}
    np.testing.assert_allclose(found.target[2], mean["target"], atol=1e-5)
    np.testing.assert_allclose(found.zeroed[2], mean["zeroed"], atol=1e-5)
    np.testing.assert_allclose(found.controls[1, 2], mean["controls"], atol=1e-5)
    np.testing.assert_allclose(found.excess()[2], found.target[2] - found.controls[:, 2].mean())


def test_a_latent_that_writes_the_amino_acid_beats_its_controls(tiny: ESM2, make_sae) -> None:
    # At the final norm a latent's direction reaches the logits through the head alone: choose
    # the direction that raises tryptophan most there, by a finite difference at the mean.
    sae = make_sae(tiny, "final")
    x = tiny.residual(tiny.tokenize(SEQUENCES), "final").mean(0).requires_grad_(True)
    assert tiny.lm_head is not None
    logits = tiny.lm_head(x[None], tiny.embedding.tokens.weight)
    log_p = amino_acid_log_p(logits, AMINO_ACID_TOKENS)
    log_p[0, AMINO_ACIDS.index("W")].backward()
    assert x.grad is not None
    sae.W_dec[5] = x.grad / x.grad.norm()
    found = masked_positions_effect(
        tiny, sae, SEQUENCES, Clamp(5, 3.0), "W", frequency=FREQUENCY, n_controls=8, copies=4
    )
    assert (np.delete(found.excess(), 1) > 0.05).all()
    np.testing.assert_array_less(found.controls.mean(0)[[0, 2]], found.target[[0, 2]])


def test_refuses(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")

    def run(**changes) -> None:
        given = {"sequences": SEQUENCES, "clamp": Clamp(5, 1.0), "amino_acid": "W"} | changes
        masked_positions_effect(tiny, sae, frequency=FREQUENCY, **given)  # type: ignore[arg-type]

    with pytest.raises(UserError, match="unknown amino acid 'B'"):
        run(amino_acid="B")
    with pytest.raises(UserError, match="latent 99 is out of range"):
        run(clamp=Clamp(99, 1.0))
    with pytest.raises(UserError, match="no sequence has a standard residue"):
        run(sequences=["XX"])
    with pytest.raises(UserError, match=r"mask_fraction \(1.5\)"):
        run(mask_fraction=1.5)
