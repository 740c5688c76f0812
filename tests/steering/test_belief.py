from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACID_TOKENS, AMINO_ACIDS, MASK
from extract.errors import UserError
from extract.esm import ESM2
from steering.belief import composition, judge, pseudo_perplexity
from steering.concept_probe import ConceptProbe
from steering.design import Variant, design
from steering.design_settings import DesignSettings
from steering.edits import Edit, Where
from steering.effects import amino_acid_log_p

SEQUENCE = "MKTAYIAKQRXGAVLUPDEC"
OTHERS = ["MKTAYIAKQRXGAVLUPDEC", "XX", "WWGW", "MKTAYWWKQRXGAVLUPDEC"]


def log_p_by_hand(model: ESM2, sequence: str, masked: list[int]) -> list[float]:
    """log p of the masked residues' own letters."""
    tokens = model.tokenize([sequence])
    tokens.ids[[1 + p for p in masked]] = MASK
    logits = model.logits(tokens)[:, AMINO_ACID_TOKENS].double().log_softmax(-1)
    return [float(logits[1 + p, AMINO_ACIDS.index(sequence[p])]) for p in masked]


def standard(sequence: str) -> list[int]:
    return [i for i, a in enumerate(sequence) if a in AMINO_ACIDS]


@pytest.mark.parametrize("batch_residues", [1, 4096])
def test_one_at_a_time_equals_a_loop(tiny: ESM2, batch_residues: int) -> None:
    found = pseudo_perplexity(tiny, OTHERS, copies=None, batch_residues=batch_residues)
    for sequence, value in zip(OTHERS, found, strict=True):
        log_ps = [log_p_by_hand(tiny, sequence, [p])[0] for p in standard(sequence)]
        expected = math.exp(-np.mean(log_ps)) if log_ps else math.nan
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_copies_mask_every_residue_once(tiny: ESM2) -> None:
    # one copy masks all residues at once; as many copies as residues mask one at a time
    one = pseudo_perplexity(tiny, OTHERS[:1], copies=1)
    log_ps = log_p_by_hand(tiny, SEQUENCE, standard(SEQUENCE))
    np.testing.assert_allclose(one, [math.exp(-np.mean(log_ps))], rtol=1e-5)
    many = pseudo_perplexity(tiny, OTHERS, copies=99)
    np.testing.assert_allclose(many, pseudo_perplexity(tiny, OTHERS, copies=None), rtol=1e-5)


def test_masks_are_those_of_the_seed_whatever_else_is_in_the_batch(tiny: ESM2) -> None:
    together = pseudo_perplexity(tiny, OTHERS, copies=4)
    alone = [pseudo_perplexity(tiny, [s], copies=4)[0] for s in OTHERS]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert abs(together[0] - pseudo_perplexity(tiny, OTHERS, copies=4, seed=1)[0]) > 1e-4


def make_variants() -> list[Variant]:
    """Two hand-made variants: one equal to the input, one with two tryptophans."""
    nothing = np.array([], dtype=np.int64)
    at = np.array([5, 6])
    return [
        Variant(0, SEQUENCE, nothing, at, np.zeros(2), nothing, 1, 0),
        Variant(1, OTHERS[3], at, at, np.zeros(2), np.array([5, 6, 8]), 1, 0),
    ]


def probe_at(model: ESM2, site: str, name: str = "helix") -> ConceptProbe:
    weights = np.random.default_rng(0).normal(size=model.d_model).astype(np.float32)
    manifest = model.describe_site(site)
    return ConceptProbe(name, weights, 0.3, 0.5, manifest, {})


def test_readings_equal_encoding_by_hand(tiny: ESM2, sae) -> None:
    probe = probe_at(tiny, "block2")
    same, changed = judge(tiny, sae, SEQUENCE, make_variants(), [3, 7], probes=[probe])
    z, p = [], []
    for sequence in (SEQUENCE, OTHERS[3]):
        tokens = tiny.tokenize([sequence])
        z.append(sae.encode_dense(tiny.residual(tokens, sae.site))[1:-1].numpy())
        x = tiny.residual(tokens, "block2")[1:-1].double().numpy()
        p.append(1 / (1 + np.exp(-(x @ probe.weights + 0.3))))
    at = [5, 6, 8]
    for latent in (3, 7):
        compared = changed.latents[latent]
        for reading, values in ((compared.input, z[0]), (compared.variant, z[1])):
            z_R = values[:, latent]
            expected = [z_R.mean(), z_R.max(), z_R[at].mean(), z_R[at].max()]
            np.testing.assert_allclose(reading, expected, atol=1e-5)
        np.testing.assert_allclose(
            [compared.rise, compared.edited_rise],
            [(z[1] - z[0])[:, latent].mean(), (z[1] - z[0])[at, latent].mean()],
            atol=1e-5,
        )
    helix = changed.probes["helix"]
    for reading, p_R in ((helix.input, p[0]), (helix.variant, p[1])):
        expected = [p_R.mean(), p_R.max(), p_R[at].mean(), p_R[at].max()]
        np.testing.assert_allclose(reading, expected, atol=1e-5)
    assert same.latents[3].rise == 0.0
    assert math.isnan(same.latents[3].edited_rise)  # it has no edited residues
    assert (same.index, same.n_changes, same.identity) == (0, 0, 1.0)
    assert (changed.index, changed.n_changes, changed.identity) == (1, 2, 0.9)


def test_residues_can_be_given_to_controls(tiny: ESM2, make_sae) -> None:
    sae, at = make_sae(tiny, "block1"), np.array([5, 6, 8])
    own = judge(tiny, sae, SEQUENCE, make_variants(), [3])
    given = judge(tiny, sae, SEQUENCE, make_variants(), [3], at=at)
    assert given[1].latents == own[1].latents
    assert given[0].latents[3].variant.edited_mean == own[1].latents[3].input.edited_mean


def test_pseudo_perplexity_stands_in_the_record(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    for copies, words in ((None, "one residue at a time"), (3, "3 disjoint masks, seed 2")):
        found = judge(tiny, sae, SEQUENCE, make_variants(), [], copies=copies, seed=2)
        expected = pseudo_perplexity(tiny, [SEQUENCE, OTHERS[3]], copies=copies, seed=2)
        assert [j.pseudo_perplexity_masks for j in found] == [words] * 2
        np.testing.assert_allclose([j.pseudo_perplexity for j in found], expected, rtol=1e-5)
        assert found[0].pseudo_perplexity == pytest.approx(found[1].input_pseudo_perplexity)


def test_composition_by_hand(tiny: ESM2, make_sae) -> None:
    found = composition("AAWXU")
    assert found[[0, AMINO_ACIDS.index("W")]].tolist() == [2 / 3, 1 / 3]
    assert found.sum() == 1
    assert np.isnan(composition("XX")).all()
    _, changed = judge(tiny, make_sae(tiny, "block1"), SEQUENCE, make_variants(), [])
    shift = dict(zip(AMINO_ACIDS, changed.composition_shift, strict=True))
    # I6W and A7W of 18 standard residues
    expected = {"W": 2 / 18, "I": -1 / 18, "A": -1 / 18}
    np.testing.assert_allclose([shift[a] for a in AMINO_ACIDS],
                               [expected.get(a, 0) for a in AMINO_ACIDS], atol=1e-12)  # fmt: skip
    assert changed.total_variation == pytest.approx(2 / 18)


def test_the_judge_is_the_unedited_model(tiny: ESM2, make_sae) -> None:
    # a latent that is set very high in the edited passes is read as the new sequence has it
    sae = make_sae(tiny, "block1")
    edits = [Edit(3, "set", 500.0, Where("ranges", ((2, 6),)))]
    variants = design(tiny, sae, SEQUENCE, edits, DesignSettings(n_variants=3))
    for variant, judgement in zip(variants, judge(tiny, sae, SEQUENCE, variants, [3]), strict=True):
        x = tiny.residual(tiny.tokenize([variant.sequence]), "block1")[3:7]
        expected = sae.encode_dense(x)[:, 3]
        reading = judgement.latents[3].variant
        np.testing.assert_allclose(reading.edited_maximum, expected.max(), atol=1e-5)
        assert reading.edited_maximum < 100


def test_the_edited_model_finds_its_own_choices_likely(tiny: ESM2, make_sae) -> None:
    # at temperature 0 and one masked position the written residue is the model's argmax
    sae = make_sae(tiny, "block1")
    settings = DesignSettings(n_variants=1, positions=(4,), temperature=0.0)
    (variant,) = design(tiny, sae, SEQUENCE, [], settings)
    tokens = tiny.tokenize([SEQUENCE])
    tokens.ids[5] = MASK
    best = amino_acid_log_p(tiny.logits(tokens), AMINO_ACID_TOKENS)[5].max()
    np.testing.assert_allclose(log_p_by_hand(tiny, variant.sequence, [4]), [best], atol=1e-5)


def test_refuses(tiny: ESM2, make_sae, monkeypatch) -> None:
    sae, variants = make_sae(tiny, "block1"), make_variants()
    probe = probe_at(tiny, "block2")
    stranger = {**probe.manifest, "parent": {**tiny.describe(), "name": "other"}}

    def run(latents=(), **changes) -> None:
        judge(tiny, sae, SEQUENCE, variants, list(latents), **changes)

    with pytest.raises(UserError, match="latent 24 is out of range"):
        run([24])
    with pytest.raises(UserError, match="two probes are called 'helix'"):
        run(probes=[probe, probe_at(tiny, "block1")])
    with pytest.raises(UserError, match="the probe of helix .* 'other' in the first"):
        run(probes=[dataclasses.replace(probe, manifest=stranger)])
    with pytest.raises(UserError, match="outside the sequence, whose residues are 1 to 20"):
        run(at=np.array([3, 20]))
    with pytest.raises(UserError, match=r"copies \(0\) must be at least 1"):
        run(copies=0)
    with monkeypatch.context() as patch:
        patch.setattr(tiny, "mask_token", None)
        with pytest.raises(UserError, match="tiny was not trained on masks"):
            run()
    assert tiny.lm_head is not None
    bias = tiny.lm_head.bias
    monkeypatch.setattr(bias, "data", torch.full_like(bias, math.nan))
    with pytest.raises(UserError, match="the output of tiny is not finite"):
        run()
