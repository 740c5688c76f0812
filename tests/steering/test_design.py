from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACID_TOKENS, AMINO_ACIDS, MASK
from extract.errors import UserError
from extract.esm import ESM2, ESM2Shape
from steering.controls import latent_directions
from steering.design import Variant, design
from steering.design_settings import DesignSettings
from steering.edits import Edit, Where
from steering.effects import amino_acid_log_p
from steering.hooks import edit_residual, steered_logits
from steering.torch_sae import TorchSAE

SEQUENCE = "MKTAYIAKQRXGAVLUPDEC"
STANDARD = [i for i, a in enumerate(SEQUENCE) if a in AMINO_ACIDS]
MASKED = Where("masked")
FORCE_W = [Edit(5, "set", 1000.0, MASKED)]


@pytest.fixture(scope="module")
def forced(make_sae) -> tuple[ESM2, TorchSAE]:
    """A model and an SAE at its final norm, whose latent 5 makes the head say tryptophan.

    The head's dense layer is the identity, so a stream that is large along axis 3 alone leaves its
    norm as √15 there and −1/√15 elsewhere: tryptophan's logit is 10 · √15, the others' below 3.
    """
    torch.manual_seed(0)
    model = ESM2("forced", ESM2Shape(1, 16, 2)).eval().requires_grad_(False)
    assert model.lm_head is not None
    model.lm_head.dense.weight.copy_(torch.eye(16))
    model.lm_head.dense.bias.zero_()
    table = model.embedding.tokens.weight
    table.copy_(0.1 * torch.randn(table.shape))
    table[AMINO_ACID_TOKENS[AMINO_ACIDS.index("W")]] = 10 * torch.eye(16)[3]
    sae = make_sae(model, "final")
    sae.W_dec[5] = torch.eye(16)[3]
    return model, sae


def sequences(variants: list[Variant]) -> list[str]:
    return [variant.sequence for variant in variants]


def test_a_forced_amino_acid_is_written_at_the_masks_alone(forced) -> None:
    settings = DesignSettings(n_variants=7, mask_fraction=0.3)
    variants = design(forced[0], forced[1], SEQUENCE, FORCE_W, settings)
    assert [v.index for v in variants] == list(range(7))
    assert len({tuple(v.chosen) for v in variants}) > 1
    for v in variants:
        assert len(v.chosen) == round(0.3 * len(STANDARD))
        assert set(v.chosen) <= set(STANDARD)
        expected = "".join("W" if i in v.chosen else a for i, a in enumerate(SEQUENCE))
        assert v.sequence == expected
        assert v.changed.tolist() == v.chosen.tolist() == v.edited.tolist()
        np.testing.assert_allclose(v.log_p, 0, atol=1e-5)
        assert (v.n_passes, v.n_refused) == (1, 0)


def test_a_single_pass_by_hand(tiny: ESM2, sae: TorchSAE) -> None:
    edits = [Edit(3, "set", 4.0), Edit(7, "add", 2.0, MASKED)]
    settings = DesignSettings(n_variants=3, temperature=0.0, mask_fraction=0.5)
    for v in design(tiny, sae, SEQUENCE, edits, settings):
        tokens = tiny.tokenize([SEQUENCE])
        masked = tokens.ids.clone()
        masked[1 + torch.from_numpy(v.chosen)] = MASK
        logits = steered_logits(tiny, sae, tokens._replace(ids=masked), edits)
        log_p = amino_acid_log_p(logits, AMINO_ACID_TOKENS)[1:-1]
        letters = list(SEQUENCE)
        for p in v.chosen:
            letters[p] = AMINO_ACIDS[int(log_p[p].argmax())]
        assert v.sequence == "".join(letters)
        np.testing.assert_allclose(v.log_p, log_p.max(-1).values[v.chosen], atol=1e-5)
        assert v.changed.tolist() == [i for i, a in enumerate(letters) if a != SEQUENCE[i]]
        assert v.edited.tolist() == list(range(len(SEQUENCE)))  # latent 3 is set everywhere


@pytest.mark.parametrize("method", ["single", "gibbs"])
def test_variants_do_not_depend_on_the_batch(tiny: ESM2, make_sae, method) -> None:
    sae, edits = make_sae(tiny, "block1"), [Edit(3, "set", 6.0)]

    def run(**changes) -> list[str]:
        given = {"method": method, "n_variants": 6, "max_changes": 8, "n_per_step": 3} | changes
        return sequences(design(tiny, sae, SEQUENCE, edits, DesignSettings(**given)))

    found = run()
    assert len(set(found)) == 6
    assert run(batch_residues=1) == run(batch_residues=50) == found
    assert run(n_variants=4) == found[:4]
    assert run(seed=1) != found


@pytest.mark.parametrize("method", ["single", "gibbs"])
def test_strength_0_and_no_edits_are_the_same_controls(tiny: ESM2, sae, method) -> None:
    settings = DesignSettings(method=method, n_variants=5, max_changes=9)

    def run(*edits: Edit) -> list[Variant]:
        return design(tiny, sae, SEQUENCE, edits, settings)

    plain = run()
    assert sequences(run(Edit(3, "add", 0.0))) == sequences(run(Edit(3, "scale", 1.0)))
    assert sequences(run(Edit(3, "add", 0.0))) == sequences(plain)
    assert [v.edited.tolist() for v in plain] == [[]] * 5
    assert sequences(run(Edit(3, "set", 60.0))) != sequences(plain)


def test_an_edit_leaves_the_masks_of_its_control(tiny: ESM2, make_sae) -> None:
    sae, settings = make_sae(tiny, "block1"), DesignSettings(n_variants=5, mask_fraction=0.4)
    steered = design(tiny, sae, SEQUENCE, [Edit(3, "set", 9.0)], settings)
    plain = design(tiny, sae, SEQUENCE, [], settings)
    assert [v.chosen.tolist() for v in steered] == [v.chosen.tolist() for v in plain]


@pytest.mark.parametrize("n_per_step", [1, 4, 50])
@pytest.mark.parametrize("method", ["single", "gibbs"])
def test_the_budget_is_used_and_never_exceeded(forced, method, n_per_step) -> None:
    settings = DesignSettings(
        method=method, n_variants=9, n_per_step=n_per_step, max_changes=3,
        mask_fraction=1.0 if method == "single" else None,
    )  # fmt: skip
    for v in design(forced[0], forced[1], SEQUENCE, FORCE_W, settings):
        assert len(v.changed) == sum(a != b for a, b in zip(SEQUENCE, v.sequence, strict=True)) == 3
        assert v.sequence.count("W") == 3
        if method == "gibbs":
            assert v.n_passes == math.ceil(3 / n_per_step)
    free = DesignSettings(method="gibbs", n_variants=1, n_per_step=n_per_step)
    (v,) = design(forced[0], forced[1], SEQUENCE, FORCE_W, free)
    assert v.n_passes == math.ceil(len(STANDARD) / n_per_step)
    assert v.changed.tolist() == STANDARD


def test_gibbs_sees_what_it_wrote_before(tiny: ESM2, make_sae) -> None:
    sae, edits, places = make_sae(tiny, "block1"), [Edit(3, "set", 6.0, MASKED)], (2, 3)

    def by_hand(order: tuple[int, ...]) -> tuple[str, list[float]]:
        letters, log_ps = list(SEQUENCE), {}
        for p in order:
            tokens = tiny.tokenize(["".join(letters)])
            tokens.ids[1 + p] = MASK
            logits = steered_logits(tiny, sae, tokens, edits)
            log_p = amino_acid_log_p(logits, AMINO_ACID_TOKENS)[1 + p]
            letters[p] = AMINO_ACIDS[int(log_p.argmax())]
            log_ps[p] = float(log_p.max())
        return "".join(letters), [log_ps[p] for p in places]

    orders = by_hand(places), by_hand(places[::-1])
    assert np.abs(np.subtract(orders[0][1], orders[1][1])).max() > 1e-3
    settings = DesignSettings("gibbs", n_variants=12, positions=places, temperature=0.0)
    seen = set()
    for v in design(tiny, sae, SEQUENCE, edits, settings):
        fits = [np.allclose(v.log_p, log_ps, atol=1e-5) for _, log_ps in orders]
        assert sum(fits) == 1
        assert v.sequence == orders[fits.index(True)][0]
        seen.add(fits.index(True))
    assert seen == {0, 1}


def test_a_second_sweep_goes_on_from_the_first(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")

    def run(n_sweeps: int) -> list[Variant]:
        settings = DesignSettings("gibbs", n_variants=4, positions=(1, 2, 3), n_sweeps=n_sweeps)
        return design(tiny, sae, SEQUENCE, [], settings)

    assert [v.n_passes for v in run(3)] == [9] * 4
    assert sequences(run(1)) != sequences(run(3))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_residues_are_drawn_with_their_probability(tiny, make_sae, temperature) -> None:
    model, sae = tiny, make_sae(tiny, "block3")
    sequence, n = "MKTAY", 800
    settings = DesignSettings(n_variants=n, positions=(2,), temperature=temperature)
    variants = design(model, sae, sequence, [Edit(5, "add", 2.0)], settings)
    tokens = model.tokenize([sequence])
    tokens.ids[3] = MASK
    log_p = amino_acid_log_p(
        steered_logits(model, sae, tokens, [Edit(5, "add", 2.0)]), AMINO_ACID_TOKENS
    )[3]
    p = (log_p / temperature).softmax(-1).numpy()
    count = Counter(v.sequence[2] for v in variants)
    drawn = np.array([count[a] / n for a in AMINO_ACIDS])
    assert p.max() < 0.97  # there is something to draw
    np.testing.assert_allclose(drawn, p, atol=4 * np.sqrt(0.25 / n))
    written = [AMINO_ACIDS.index(v.sequence[2]) for v in variants]
    np.testing.assert_allclose([v.log_p[0] for v in variants], log_p[written], atol=1e-5)


def test_positions_and_fixed_residues(forced) -> None:
    places = tuple(range(8, 16))  # QRXGAVLU
    settings = DesignSettings(n_variants=2, positions=places, fixed=(9, 0))
    for v in design(forced[0], forced[1], SEQUENCE, FORCE_W, settings):
        assert v.sequence == SEQUENCE[:8] + "WRXWWWWU" + SEQUENCE[16:]


def test_the_control_direction_has_the_edits_norm(tiny: ESM2, make_sae) -> None:
    # along the latent's own direction it is the edit itself, if that raises the latent anywhere
    sae, settings = make_sae(tiny, "block1"), DesignSettings(n_variants=8, mask_fraction=0.8)
    edits = [Edit(3, "add", 6.0)]
    own, other = latent_directions(sae, [3, 4])
    steered = design(tiny, sae, SEQUENCE, edits, settings)
    assert sequences(design(tiny, sae, SEQUENCE, edits, settings, direction_D=own)) == sequences(
        steered
    )
    found = design(tiny, sae, SEQUENCE, edits, settings, direction_D=other)
    masked = tiny.tokenize([SEQUENCE])
    masked.ids[1 + torch.from_numpy(found[0].chosen)] = MASK
    size = 6 * sae.W_dec[3].norm() / sae.scale
    with edit_residual(tiny, "block1", lambda x: (size * other).expand(x.shape), masked):
        log_p = amino_acid_log_p(tiny.logits(masked), AMINO_ACID_TOKENS)[1:-1]
    written = [AMINO_ACIDS.index(found[0].sequence[p]) for p in found[0].chosen]
    np.testing.assert_allclose(found[0].log_p, log_p[found[0].chosen, written], atol=1e-5)
    assert sequences(found) != sequences(steered)


def test_dropping_the_error_term_reaches_the_choice(tiny: ESM2, make_sae) -> None:
    sae, settings = make_sae(tiny, "block1"), DesignSettings(n_variants=1, temperature=0.0)
    kept, dropped = (
        design(tiny, sae, SEQUENCE, [Edit(3, "set", 4.0)], settings, error_term=term)[0].log_p
        for term in ("keep", "drop")
    )
    assert np.abs(kept - dropped).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": (20,)}, "positions: residue 21 is outside the sequence, .* 1 to 20"),
        ({"fixed": (-1,)}, "fixed: residue 0 is outside"),
        ({"positions": (10, 15)}, "no residue may change"),
        ({"positions": (2,), "fixed": (2,)}, "no residue may change"),
        ({"mask_fraction": 0.0}, r"mask_fraction \(0.0\) must be above 0"),
        ({"mask_fraction": math.nan}, r"mask_fraction \(nan\)"),
        ({"mask_fraction": 0.5, "method": "gibbs"}, "belongs to the method single"),
        ({"temperature": -1.0}, r"temperature \(-1.0\)"),
        ({"temperature": math.nan}, r"temperature \(nan\)"),
        ({"temperature": math.inf}, r"temperature \(inf\)"),
        ({"seed": -1}, r"seed \(-1\)"),
        ({"max_changes": 0}, r"max_changes \(0\) .* must be at least 1"),
        ({"n_variants": 0}, r"n_variants \(0\)"),
    ],
)
def test_refuses_settings(forced, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        design(forced[0], forced[1], SEQUENCE, [], DesignSettings(**changes))


def test_refuses_edits_and_models(forced, tiny: ESM2, make_sae, monkeypatch) -> None:
    model, sae = forced
    settings = DesignSettings(n_variants=2)
    with pytest.raises(UserError, match="must be a finite number"):
        Edit(5, "set", math.nan)
    # the square of such a stream is beyond float32, so the output is not a number
    with pytest.raises(UserError, match="5:set:3e\\+38: so strong an edit"):
        design(model, sae, SEQUENCE, [Edit(5, "set", 3e38)], settings)
    with pytest.raises(UserError, match="latent 24 is out of range"):
        design(model, sae, SEQUENCE, [Edit(24, "zero")], settings)
    with pytest.raises(UserError, match="residues 18-22 are outside the sequence"):
        design(model, sae, SEQUENCE, [Edit(5, "zero", 0.0, Where("ranges", ((17, 22),)))], settings)
    with pytest.raises(UserError, match="'forced' in the first and 'tiny' in the second"):
        design(tiny, sae, SEQUENCE, [], settings)
    with pytest.raises(UserError, match="the sequence has 1023 residues, forced takes 1 to 1022"):
        design(model, sae, "A" * 1023, [], settings)
    monkeypatch.setattr(model, "mask_token", None)
    with pytest.raises(UserError, match="forced was not trained on masks"):
        design(model, sae, SEQUENCE, [], settings)
    assert not model.site_module("final")._forward_hooks


def test_gumbels_of_neighbours_are_their_own(forced) -> None:
    # variants with the same masks still draw differently
    settings = DesignSettings(n_variants=20, positions=tuple(range(10)), temperature=5.0)
    found = sequences(design(forced[0], forced[1], SEQUENCE, [], settings))
    assert all(a != b for a, b in pairwise(found))
