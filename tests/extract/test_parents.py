"""What every parent must keep to, the registry, and loaders of the user's own."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACIDS, LEGAL_RESIDUES
from extract.errors import UserError
from extract.parents import check_parent_name, load_parent, load_parent_of, parent_names
from extract.store import ActivationStore
from extract.unirep import UniRep, UniRepShape
from tests.helpers import make_store, random_proteins, tiny_esm2

PAGE = Path(__file__).parents[2] / "docs" / "parents.md"
SEQUENCES = ["MKTAYIAKQR", "M", "".join(sorted(LEGAL_RESIDUES)), "GGGGG", "AAAAA"]


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """The example of the page, as a module on the path."""
    folder = tmp_path_factory.mktemp("example")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (folder / "conv_parent.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "conv_parent:load"
    sys.modules.pop("conv_parent", None)


@pytest.fixture(scope="module", params=["esm2", "unirep_64", "documented"])
def parent(request):
    if request.param == "esm2":
        return tiny_esm2()
    name = request.getfixturevalue("documented") if request.param == "documented" else "unirep_64"
    return load_parent(name, device="cpu")


def test_tokens_are_residues_between_the_special_ones(parent):
    tokens = parent.tokenize(SEQUENCES)
    special = tokens.n_before + tokens.n_after
    assert tokens.lengths == tuple(len(s) + special for s in SEQUENCES)
    assert tokens.ids.shape == (sum(tokens.lengths),)
    ids, letters = tokens.ids[tokens.residue_rows()].tolist(), "".join(SEQUENCES)
    assert len(ids) == len(letters)
    id_of = dict(zip(letters, ids))
    assert ids == [id_of[letter] for letter in letters]
    assert len({id_of[a] for a in AMINO_ACIDS}) == 20
    others = set(range(len(tokens.ids))) - set(tokens.residue_rows().tolist())
    assert not {int(tokens.ids[i]) for i in others} & set(ids)


def test_sites_have_d_model_columns_and_come_in_one_pass(parent):
    tokens = parent.tokenize(SEQUENCES)
    together = parent.residuals(tokens, parent.sites[::-1])
    for site in parent.sites:
        x = parent.residual(tokens, site)
        assert x.shape == (len(tokens.ids), parent.d_model)
        assert torch.equal(together[site], x)
    assert f"block{parent.n_blocks}" in parent.sites


def test_a_sequence_does_not_depend_on_its_batch(parent):
    tokens = parent.tokenize(SEQUENCES)
    for site in parent.sites:
        together = parent.residual(tokens, site).split(tokens.lengths)
        for sequence, x in zip(SEQUENCES, together, strict=True):
            alone = parent.residual(parent.tokenize([sequence]), site)
            torch.testing.assert_close(x, alone, rtol=1e-5, atol=1e-5)


def test_logits_see_a_hooks_edit_and_only_in_its_sequence(parent):
    tokens = parent.tokenize(SEQUENCES)
    row = int(tokens.residue_rows()[len("MKTAYIAKQRM")])  # first residue of the third sequence
    start, stop = sum(tokens.lengths[:2]), sum(tokens.lengths[:3])
    change = torch.linspace(-1, 1, parent.d_model)[None]  # not constant: LayerNorm drops that
    base = parent.logits(tokens)
    for site in parent.sites:
        handle = parent.site_module(site).register_forward_hook(
            lambda _m, _a, x: x.index_add(0, torch.tensor([row]), change)
        )
        edited = parent.logits(tokens)
        handle.remove()
        assert not torch.allclose(edited[start:stop], base[start:stop])
        assert torch.equal(edited[:start], base[:start])
        assert torch.equal(edited[stop:], base[stop:])
    assert torch.equal(parent.logits(tokens), base)


def test_logits_taken_up_at_a_site_are_the_logits(parent):
    tokens = parent.tokenize(SEQUENCES)
    logits = parent.logits(tokens)
    for site in parent.sites:
        site = parent.stream_site(site)
        assert torch.equal(parent.logits_from(parent.residual(tokens, site), tokens, site), logits)


def test_logits_have_a_column_for_each_amino_acid(parent):
    tokens = parent.tokenize(SEQUENCES)
    logits, columns = parent.logits(tokens), parent.amino_acid_tokens
    assert logits.isfinite().all()
    assert len(logits) == len(tokens.ids)
    assert len(set(columns.tolist())) == len(columns) == 20
    assert 0 <= columns.min() <= columns.max() < logits.shape[1]


def test_it_knows_itself(parent):
    record = json.loads(json.dumps(parent.describe()))
    assert (record["name"], record["d_model"]) == (parent.name, parent.d_model)
    assert record["token_dropout"] is parent.token_dropout
    assert record["weights"]["encoder_sha256"]
    assert parent.max_residues > 1000
    assert parent.mask_token is None or isinstance(parent.mask_token, int)
    for site in ("block99", "", "block-1", "layer1"):
        with pytest.raises(UserError, match=f"unknown site '{site}' of {parent.name}; it has") as e:
            parent.residual(parent.tokenize(["MK"]), site)
        assert all(s in str(e.value) for s in (parent.sites[0], parent.sites[-1]))


def test_a_store_leads_back_to_its_parent(parent, tmp_path):
    site = f"block{parent.n_blocks}"
    store = make_store(tmp_path / "acts", random_proteins(12, 20, 60), parent, site=site)
    assert store.n_rows > 0
    if parent.name != "tiny":
        manifest = ActivationStore.open(store.folder).manifest
        again = load_parent_of(manifest, device="cpu", model=manifest["parent"]["name"])
        assert again.describe() == parent.describe()


def test_names_are_checked_without_loading(documented, monkeypatch):
    monkeypatch.delitem(sys.modules, "conv_parent", raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as of a script
    assert len(parent_names()) == len(set(parent_names())) == 6 + 6 + 3  # ESM2, ESM-1, UniRep
    for name in (*parent_names(), documented):
        assert check_parent_name(name) == name
    assert "conv_parent" not in sys.modules
    with pytest.raises(UserError, match="unknown model 'esm9'; known: esm2_t6.*, unirep_1900, and"):
        check_parent_name("esm9")
    for name in ("a:", ":load", "a.b:c.d", "a..b:c", "a b:c", "a:b:c", "../a:b", "a:b()", "1a:b"):
        with pytest.raises(UserError, match=r"is written package.module:function"):
            check_parent_name(name)
    for module in ("no_such_module", "__main__"):
        with pytest.raises(UserError, match=f"there is no module '{module}'"):
            check_parent_name(f"{module}:load")


def test_sites_in_words():
    for n_blocks, words in ((1, "it has block1"), (4, "it has block1 to block4")):
        model = UniRep("tiny", UniRepShape(n_blocks, 8))
        assert refusal(model.check_site).endswith(words)
    assert refusal(tiny_esm2().check_site).endswith(
        "it has block0 (the embeddings) to block2 (block2 has the parts block2.attn and "
        "block2.mlp), and final"
    )


def refusal(check):
    with pytest.raises(UserError) as caught:
        check("nowhere")
    return str(caught.value)


HEAD = "from conv_parent import *\n"
BROKEN = {
    "raise ValueError('no disk')": "importing it raised ValueError: no disk (mine.py, line 2)",
    "raise ValueError('two\\nlines')": "raised ValueError: two lines (mine.py, line 2)",
    "import no_such": "importing it raised ModuleNotFoundError: No module named 'no_such'",
    "raise SystemExit(3)": "importing it raised SystemExit: 3",
    "def load(": "importing it raised SyntaxError",
    "del load": "'load' is not there in mine",
    "load = 3": "'load' is not a function in mine",
    "def load(): pass": "calling it raised TypeError",
    "def load(**k):\n    return 1 / 0": "raised ZeroDivisionError: division by zero (mine.py, line",
    "def load(**k): return 3": "returned int, not a ProteinLM",
    "def load(**k): return ConvLM": "returned ABCMeta, not a ProteinLM",
    "def load(**k): return type('A', (ProteinLM,), {})()": "raised TypeError: Can't instantiate",
    "del ConvLM.max_residues": "lacks max_residues",
    "ConvLM.amino_acid_tokens = [1, 2]": "amino_acid_tokens must be 20 integers",
    "ConvLM.amino_acid_tokens = np.ones(20)": "found float64 [20]",
    "tensors_sha256 = None\nConvLM.weights = 3\nConvLM.__init__ = nn.Module.__init__\n"
    "ConvLM.to = lambda s, d: s": "weights must be a WeightsInfo",
    "ConvLM.sites = []": "has no sites",
    "ConvLM.d_model = np.int64(32)": "recording it as JSON raised TypeError",
    "from extract.errors import UserError\n"
    "def load(**k): raise UserError('mine: give --weights')": "mine: give --weights",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_loader_is_one_line(code, documented, tmp_path, monkeypatch):
    for module in ("mine", "conv_parent"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "mine.py").write_text(HEAD + code + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(UserError) as caught:
        load_parent("mine:load", device="cpu")
    assert BROKEN[code] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_loader_gets_what_was_given(documented, tmp_path, monkeypatch):
    for module in ("mine", "conv_parent"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    code = "def load(**given):\n    model = ConvLM()\n    model.given = given\n    return model\n"
    (tmp_path / "mine.py").write_text(HEAD + code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    model = load_parent("mine:load", weights=Path("w.bin"), token_dropout=False, device="cpu")
    given = {"weights": Path("w.bin"), "token_dropout": False, "device": "cpu"}
    assert vars(model)["given"] == given
    assert model.name == "mine:load"
    np.testing.assert_array_equal(model.amino_acid_tokens, np.arange(20))


@pytest.mark.parametrize("allowed", [None, "other:load"])
def test_a_manifest_alone_runs_no_code(allowed):
    """A store may come from a stranger: naming os:abort in it must do nothing."""
    with pytest.raises(UserError, match="allow it with --model os:abort"):
        load_parent_of({"parent": {"name": "os:abort", "token_dropout": True}}, model=allowed)


def test_a_number_format_that_a_parent_lacks_is_refused():
    with pytest.raises(UserError, match="--compute bfloat16: unirep_64 runs in float32 only"):
        load_parent("unirep_64", dtype="bfloat16")
