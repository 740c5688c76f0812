"""Truncated, damaged and hostile files end in one line, and nothing of them is run."""

import json
import pickle
import shutil
import struct
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from extract.errors import UserError, run_cli
from saejax import convert
from saejax.interop import Given, read_published
from tests.saejax.interop import references
from tests.saejax.interop.writing import Case, write_safetensors

NAMES = (
    "esmc", "plm-sae", "bionemo topk", "openai topk", "saelens topk", "saelens gated",
    "saelens gated, b_dec kept", "saelens jumprelu", "sparsify", "plain",
    *(f"dictionary_learning {kind}" for kind in
      ("GatedAutoEncoder", "BatchTopKSAE", "JumpReluAutoEncoder", "AutoEncoderTopK")),
)  # fmt: skip
"""Of every way to read."""
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def small(name, folder):
    """A case with tiny arrays."""
    if name == "plain":
        return plain(folder)
    case = references.CASES[name](folder)
    if case.given.k is not None:
        case = case._replace(given=Given(4, case.given.variant, case.given.token_zscore))
    root = case.path if case.path.is_dir() else case.path.parent
    for path in root.rglob("*"):
        if path.suffix == ".safetensors":
            save_file({k: shrunk(v) for k, v in load_file(path).items()}, path)
        elif path.suffix == ".pt":
            torch.save(shrunk_state(torch.load(path, weights_only=True)), path)
        elif path.suffix == ".json":
            path.write_text(json.dumps(smaller(json.loads(path.read_text()))))
    return case


def shrunk(array):
    """Of d = 96 or 320 and n = 512 or 1280: 6 and 8."""
    sizes = {96: 6, 320: 6, 512: 8, 1280: 8}
    return np.array(array[tuple(slice(sizes.get(n, n)) for n in array.shape)], order="C")


def shrunk_state(value):
    if isinstance(value, dict):
        return {k: 4 if k == "k" and isinstance(v, int) else shrunk_state(v)
                for k, v in value.items()}  # fmt: skip
    if not isinstance(value, torch.Tensor):
        return value
    array = value.numpy()
    return torch.from_numpy(np.array(4, np.int32) if array.dtype == np.int32 else shrunk(array))


def smaller(value):
    if isinstance(value, dict):
        return {k: smaller(v) for k, v in value.items()}
    return {96: 6, 320: 6, 512: 8, 1280: 8, 16: 4}.get(value, value) if (
        isinstance(value, int)) else value  # fmt: skip


def plain(folder):
    rng = np.random.default_rng(0)
    shapes = {"W_enc": (6, 8), "b_enc": 8, "W_dec": (8, 6), "b_dec": 6, "mean": 6}
    arrays = {n: rng.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    facts = {"model": "tiny", "site": "block1", "token_dropout": True}
    config = {"kind": "saejax sparse autoencoder", "selection": "topk", "k": 4,
              "token_zscore": [1e-5, 0.0], "facts": facts}  # fmt: skip
    write_safetensors(folder / "sae.safetensors", arrays | {"scale": np.float32(2)},
                                 config)  # fmt: skip
    return Case("plain", folder, arrays["W_enc"], arrays["W_enc"], arrays["W_enc"])


def read(case):
    """Read it; a user's mistake is the only thing that may go wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read_published(case.format_name, case.path, case.given)
        except UserError as error:
            assert "\n" not in str(error)
            assert 20 < len(str(error)) < 700
            return None


@pytest.fixture(scope="module", params=NAMES)
def case(request, tmp_path_factory):
    made = small(request.param, tmp_path_factory.mktemp("fuzz"))
    assert read(made) is not None
    return made


def files_of(case):
    root = case.path if case.path.is_dir() else case.path.parent
    return sorted(p for p in root.iterdir() if p.is_file())


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_damaged_bytes(case, data):
    path = data.draw(st.sampled_from(files_of(case)))
    whole = path.read_bytes()
    try:
        if data.draw(st.booleans()):
            path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        else:
            changed = bytearray(whole)
            for _ in range(data.draw(st.integers(1, 4))):
                changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
            path.write_bytes(changed)
        read(case)
    finally:
        path.write_bytes(whole)


ODD = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers()),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_odd_configurations(case, data):
    configs = [p for p in files_of(case) if p.suffix == ".json"]
    if not configs:
        return
    whole = configs[0].read_text()
    config = inner = json.loads(whole)
    for name in ("trainer", "metadata", "facts"):
        inner = inner[name] if name in inner and data.draw(st.booleans()) else inner
    key = data.draw(st.sampled_from(sorted(inner)))
    if data.draw(st.booleans()):
        inner[key] = data.draw(ODD)
    else:
        del inner[key]
    try:
        configs[0].write_text(json.dumps(config))
        read(case)
    finally:
        configs[0].write_text(whole)


def altered(array, how):
    array = np.asarray(array)
    return {"nan": lambda: np.full_like(array, np.nan if array.dtype.kind == "f" else 0),
            "transposed": lambda: np.ascontiguousarray(array.T), "short": lambda: array[:-1],
            "flat": lambda: array.reshape(-1), "deep": lambda: array[None], "none": lambda: None,
            "text": lambda: array.astype(np.int8), "huge": lambda: array.astype(np.float64) * 1e300,
            "empty": lambda: array[:0], "scalar": lambda: np.array(array.reshape(-1)[0]),
            }[how]()  # fmt: skip


HOW = ("nan", "transposed", "short", "flat", "deep", "none", "text", "huge", "empty", "scalar")


@pytest.mark.parametrize("how", HOW)
def test_altered_arrays(case, how):
    """Every array of a file in turn: refused, unless the change says nothing."""
    path = next(p for p in files_of(case) if p.suffix in (".pt", ".safetensors"))
    whole = path.read_bytes()
    load = load_file if path.suffix == ".safetensors" else torch.load
    state: dict[str, Any] = load(path)
    inner = state.get("model_state_dict", state)
    arrays = {k: v if isinstance(v, np.ndarray) else v.numpy() for k, v in inner.items()
              if isinstance(v, np.ndarray | torch.Tensor)}  # fmt: skip
    for name, array in arrays.items():
        if how in ("short", "empty") and array.ndim == 0:
            continue
        changed = altered(array, how)
        try:
            if path.suffix == ".safetensors":
                save_file({k: v for k, v in (inner | {name: changed}).items() if v is not None},
                          path)  # fmt: skip
            else:
                tensor = "none" if changed is None else torch.from_numpy(np.array(changed))
                new = inner | {name: tensor}
                torch.save(state | {"model_state_dict": new} if inner is not state else new, path)
            found = read(case)
        finally:
            path.write_bytes(whole)
        dropped = name in ("idf", "max", "group_sizes") or name.startswith(("stats", "latents_"))
        same = changed is not None and np.array_equal(changed, array)
        if how in ("nan", "short", "none", "huge", "empty") and not dropped and not same:
            scalar = array.ndim == 0
            assert found is None or scalar, (name, how)


class Harm:
    """What unpickling would run."""

    def __reduce__(self):
        return open, ("harmed", "w")


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = small("plm-sae", tmp_path / "a")
    state = torch.load(case.path, weights_only=True)
    torch.save(state | {"W_enc": Harm()}, case.path)
    with pytest.raises(UserError, match="holds pickled code .* nothing of it was run"):
        read_published("plm-sae", case.path)
    case.path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(UserError, match="holds pickled code .* nothing of it was run"):
        read_published("plm-sae", case.path)
    assert not (tmp_path / "harmed").exists()


def test_tensors_that_claim_more_than_is_there(tmp_path):
    case = small("plm-sae", tmp_path)
    state = torch.load(case.path, weights_only=True)
    torch.save(state | {"W_enc": torch.zeros(1).expand(2**20, 2**20)}, case.path)
    with pytest.raises(UserError, match=r"W_enc claims the shape .*it is damaged or hostile"):
        read_published("plm-sae", case.path)
    torch.save(state | {"W_enc": torch.zeros(6, 8, dtype=torch.float8_e4m3fn)}, case.path)
    with pytest.raises(UserError, match="W_enc holds torch.float8_e4m3fn"):
        read_published("plm-sae", case.path)
    torch.save(state, case.path)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(case.path) as a, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as b:
        for entry in a.infolist():
            b.writestr(entry.filename, a.read(entry))
    with pytest.raises(UserError, match="is compressed, as torch never does"):
        read_published("plm-sae", packed)


def safetensors_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is truncated or no safetensors file"),
        (struct.pack("<Q", 2**62) + b"{}", "is truncated or no safetensors file"),
        (safetensors_of(b"[" * 100_000), "header is damaged"),
        (safetensors_of({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}},
                        b"1234"), "header is damaged"),
        (safetensors_of({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
                        b"1234"), r"its header tells of 4,398,046,511,104 bytes"),
        (safetensors_of({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}),
         "header is damaged"),
        (safetensors_of({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"},
                        b"1234"), "header is damaged .arrays overlap"),
        (safetensors_of({"a": {"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]}}, b"1"),
         "header is damaged"),
        (safetensors_of({"a": 5}), "header is damaged"),
        (safetensors_of([1]), "header is damaged"),
    ],
)  # fmt: skip
def test_hostile_headers(content, words, tmp_path):
    path = tmp_path / "esm2_l4_.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_published("interprot", path)


@pytest.mark.parametrize("name", ["saelens topk", "plm-sae"])
def test_the_command_ends_with_status_2(name, tiny_store, tmp_path, monkeypatch, capsys):
    case = small(name, tmp_path / "a")
    broken = tmp_path / "b"
    shutil.copytree(case.path if case.path.is_dir() else case.path.parent, broken)
    weights = next(p for p in broken.iterdir() if p.suffix in (".pt", ".safetensors"))
    weights.write_bytes(weights.read_bytes()[:-300])
    source = broken if case.path.is_dir() else weights
    words = ["convert", "import", "--source", source, "--format", case.format_name,
             "--activations", tiny_store.folder, "--out", tmp_path / "run"]  # fmt: skip
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    with pytest.raises(SystemExit, match="2"):
        run_cli(convert.main)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {weights}: is truncated")
    assert not (tmp_path / "run").exists()
