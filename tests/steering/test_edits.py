from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import UserError
from extract.esm import ESM2
from steering.changes import ErrorTerm, change_of
from steering.edits import Edit, EditRequest, Residues, Where, parse_edits, parse_where
from steering.torch_sae import TorchSAE

SEQUENCES = ["MKTAYIAKQR", "GAVLX", "WWPDE"]


@given(
    st.integers(0, 10**6),
    st.sampled_from(["set", "add", "scale", "direction", "zero", "ablate"]),
    st.integers(-(10**6), 10**6),
    st.booleans(),
    st.sampled_from(["all", "active", "masked", "ranges"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 50)), min_size=1, max_size=3),
)
def test_text_round_trips(latent, operation, thousandths, of_maximum, places, spans) -> None:
    ranges = tuple((a, a + n) for a, n in spans) if places == "ranges" else ()
    strength = 0.0 if operation in ("zero", "ablate") else thousandths / 1000
    of_maximum = of_maximum and operation in ("set", "add", "direction")
    request = EditRequest(latent, operation, strength, of_maximum, Where(places, ranges))
    assert parse_edits(f"{request}; {request}") == [request, request]


def test_text_by_hand() -> None:
    assert parse_edits("123:set:1.5xmax@3,10-15; 40:zero") == [
        EditRequest(123, "set", 1.5, True, Where("ranges", ((2, 3), (9, 15)))),
        EditRequest(40, "zero", 0.0, False, Where()),
    ]
    assert parse_edits("") == parse_edits(" ; ") == []
    assert str(Edit(7, "scale", 0.5, Where("active"))) == "7:scale:0.5@active"
    assert str(Edit(7, "zero", where=Where("ranges", ((0, 1), (4, 9))))) == "7:zero@1,5-9"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5", "must be LATENT:OPERATION"),
        ("5=2", "must be LATENT:OPERATION"),
        ("-1:set:2", "must be LATENT:OPERATION"),
        ("a:set:2", "must be LATENT:OPERATION"),
        ("5:set:2xmaxxmax", "must be LATENT:OPERATION"),
        ("5:set:two", "must be LATENT:OPERATION"),
        ("5:set:1:2", "must be LATENT:OPERATION"),
        ("5:put:2", "unknown operation 'put'"),
        ("5:set", "set needs a strength"),
        ("5:zero:1", "zero takes no strength"),
        ("5:ablate:1xmax", "ablate takes no strength"),
        ("5:scale:2xmax", "without xmax"),
        ("5:set:nan", "finite"),
        ("5:set:-inf", "finite"),
        ("5:set:1e999xmax", "finite"),
        ("5:set:1@", "where must be all"),
        ("5:set:1@here", "where must be all"),
        ("5:set:1@1-2-3", "where must be all"),
        ("5:set:1@1,,2", "where must be all"),
        ("5:set:1@0-3", "begin before 1"),
        ("5:set:1@5-2", "backwards"),
    ],
)
def test_malformed_text_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse_edits(text)
    assert "\n" not in str(caught.value)
    assert text in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for read in (parse_edits, lambda t: parse_where(t, "--mask")):
        try:
            read(text)
        except UserError as error:
            assert str(error)


def test_operations_by_hand() -> None:
    z = torch.tensor([0.0, 2.0])
    assert Edit(0, "set", 3.0).apply(z).tolist() == [3.0, 3.0]
    assert Edit(0, "add", -1.0).apply(z).tolist() == [0.0, 1.0]  # never below zero
    assert Edit(0, "scale", 1.5).apply(z).tolist() == [0.0, 3.0]
    assert Edit(0, "zero").apply(z).tolist() == [0.0, 0.0]


def test_where_by_hand(tiny: ESM2) -> None:
    tokens = tiny.tokenize(SEQUENCES)
    assert tiny.mask_token is not None
    tokens.ids[[1, 13]] = tiny.mask_token  # residue 1 of the first two
    residues = Residues(tokens, tiny.mask_token)
    assert residues.position.tolist() == [*range(10), *range(5), *range(5)]
    assert residues.sequence.tolist() == [0] * 10 + [1] * 5 + [2] * 5
    z = torch.zeros(20)
    z[7] = 1.0

    def at(where: Where) -> list[int]:
        return residues.chosen(where, z).nonzero().flatten().tolist()

    assert at(Where("all")) == list(range(20))
    assert at(Where("active")) == [7]
    assert at(Where("masked")) == [0, 10]
    assert at(Where("ranges", ((1, 3), (2, 5)))) == [1, 2, 3, 4, 11, 12, 13, 14, 16, 17, 18, 19]
    assert Where("ranges", ((3, 5), (1, 4))).positions() == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"residues 5-6 are outside .* 1 to 5"):
        at(Where("ranges", ((4, 6),)))
    with pytest.raises(UserError, match="not trained on masks"):
        Residues(tokens, None).chosen(Where("masked"), z)


def change(tiny: ESM2, sae: TorchSAE, *edits: Edit, error_term: ErrorTerm = "keep"):
    tokens = tiny.tokenize(SEQUENCES)
    residues = Residues(tokens, tiny.mask_token)
    x = tiny.residual(tokens, sae.site)[residues.rows]
    return x, change_of(sae, edits, x, residues, error_term=error_term)


def test_the_error_term_can_be_dropped(tiny: ESM2, sae: TorchSAE) -> None:
    where = Where("ranges", ((1, 3),))
    edits = [Edit(3, "set", 2.5, where), Edit(7, "scale", 2.0, where)]
    x, found = change(tiny, sae, *edits, error_term="drop")
    z = sae.encode_dense(x)
    at = found.edited_R
    assert at.nonzero().flatten().tolist() == [1, 2, 11, 12, 16, 17]
    z[at, 3], z[at, 7] = 2.5, 2 * z[at, 7]
    torch.testing.assert_close((x + found.delta_RD)[at], sae.decode_dense(z)[at])
    assert not found.delta_RD[~at].any()
    assert (x + found.delta_RD - x)[at].abs().max() > 0.1


def test_edits_of_one_latent_apply_in_their_order(tiny: ESM2, sae: TorchSAE) -> None:
    first, last = Where("ranges", ((0, 4),)), Where("ranges", ((2, 5),))
    _, found = change(tiny, sae, Edit(3, "set", 2.0, first), Edit(3, "scale", 3.0, last))
    before = found.before_RC[:5, 0]
    expected = torch.tensor([2.0, 2.0, 6.0, 6.0, 3 * float(before[4])])
    torch.testing.assert_close(found.after_RC[:5, 0], expected)


def test_direction_and_ablation_leave_latents_out(tiny: ESM2, sae: TorchSAE) -> None:
    x, added = change(tiny, sae, Edit(3, "direction", 2.5))
    torch.testing.assert_close(added.delta_RD, (2.5 * sae.W_dec[3] / sae.scale).expand(20, -1))
    x, removed = change(tiny, sae, Edit(3, "ablate"))
    unit = sae.W_dec[3] / sae.W_dec[3].norm()
    left = (x + removed.delta_RD - sae.mean) @ unit
    torch.testing.assert_close(left, torch.zeros(20), atol=1e-5, rtol=0)
    rest = torch.eye(16) - torch.outer(unit, unit)
    torch.testing.assert_close((x + removed.delta_RD) @ rest, x @ rest, atol=1e-5, rtol=1e-5)
