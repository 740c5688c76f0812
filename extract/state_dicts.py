"""Tensors of an ESM by name: fair-esm's names, Hugging Face's and ours; files, hash, loading.

Every file is loaded with ``weights_only`` or as safetensors: nothing is unpickled beyond tensors
and an argparse namespace.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from extract.errors import UserError
from extract.esm import ESM2, pair_order

Tensors = dict[str, Tensor]

HF_BLOCK_NAMES = {
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
_OUTER_NAMES = {
    "embed_tokens.weight": "embedding.tokens.weight",
    "embed_positions.weight": "embedding.positions.weight",
    "emb_layer_norm_before.weight": "embedding.norm.weight",
    "emb_layer_norm_before.bias": "embedding.norm.bias",
    "emb_layer_norm_after.weight": "final_norm.weight",
    "emb_layer_norm_after.bias": "final_norm.bias",
}
HF_OUTER_NAMES = {
    "embeddings.word_embeddings.weight": "embed_tokens.weight",
    "embeddings.position_embeddings.weight": "embed_positions.weight",
    "embeddings.layer_norm.weight": "emb_layer_norm_before.weight",
    "embeddings.layer_norm.bias": "emb_layer_norm_before.bias",
}
_HEAD_NAMES = ("dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias", "bias")


def tensors_sha256(tensors: Tensors) -> str:
    """Hash of named tensors as float32, independent of their file format and order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def read_weights(path: Path) -> Tensors:
    """Read a weights file of fair-esm or Hugging Face into fair-esm's names.

    Contact heads, classifiers and rotary frequencies are dropped; the number format is kept.

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
    tensors = {n: t for k, t in raw.items() if (n := _fair_esm_name(k)) is not None}
    if "embed_tokens.weight" not in tensors:
        raise UserError(f"{path}: holds no ESM2 (no token embedding); give another file")
    return tensors


def _fair_esm_name(key: str) -> str | None:
    """fair-esm's name of a tensor of either format; None for what the encoder does not need."""
    key = re.sub(r"^(encoder\.sentence_encoder\.|encoder\.(?=lm_head)|esm\.)", "", key)
    if key in HF_OUTER_NAMES:
        return HF_OUTER_NAMES[key]
    block = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", key)
    if block and block[2] in HF_BLOCK_NAMES:
        return f"layers.{block[1]}.{HF_BLOCK_NAMES[block[2]]}.{block[3]}"
    key = key.removeprefix("encoder.")
    kept = re.fullmatch(
        r"(embed_tokens|embed_positions)\.weight|emb_layer_norm_(before|after)\.(weight|bias)"
        r"|layers\.\d+\.(?!.*inv_freq).+\.(weight|bias)"
        r"|lm_head\.(dense|layer_norm)\.(weight|bias)|lm_head\.bias",
        key,
    )
    return key if kept else None


def load_into(model: ESM2, tensors: Tensors, source: str, dtype: torch.dtype) -> None:
    """Give ``model``, whose own tensors may be on the meta device, those of a state dict.

    Tensors already of type ``dtype`` are taken over, not copied.

    Raises:
        UserError: when some are missing or of another size, naming the first with both shapes.
    """
    state = {ours: tensors.get(theirs) for theirs, ours in _OUTER_NAMES.items()}
    order = pair_order(model.shape)
    for n in range(model.n_blocks):
        for kind in ("weight", "bias"):
            for theirs, ours in _BLOCK_NAMES.items():
                state[f"blocks.{n}.{ours}.{kind}"] = tensors.get(f"layers.{n}.{theirs}.{kind}")
            qkv = [tensors.get(f"layers.{n}.self_attn.{p}_proj.{kind}") for p in "qkv"]
            state[f"blocks.{n}.attention.qkv.{kind}"] = _fuse(qkv, order, dtype)
    if model.lm_head is not None:
        state |= {f"lm_head.{name}": tensors.get(f"lm_head.{name}") for name in _HEAD_NAMES}
    fitting: Tensors = {}
    for name, expected in model.state_dict().items():
        found = state.pop(name)
        shape = "nothing" if found is None else tuple(found.shape)
        if found is None or shape != tuple(expected.shape):
            raise UserError(
                f"{source}: does not fit {model.name}: {name} should be {tuple(expected.shape)}, "
                f"found {shape}; give the weights of this model"
            )
        fitting[name] = found.to(dtype)
    extra = {k for k in tensors if k.startswith(f"layers.{model.n_blocks}.")}
    if extra:
        raise UserError(
            f"{source}: does not fit {model.name}: it has more than {model.n_blocks} blocks; "
            "give the weights of this model"
        )
    model.load_state_dict(fitting, assign=True)


def _fuse(qkv: list[Tensor | None], order: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Query, key and value weights one below the other; None, or as they are, if they don't fit."""
    q, k, v = qkv
    if q is None or k is None or v is None:
        return None
    if not len(q) == len(k) == len(order):
        return q
    return torch.cat([q.to(dtype)[order], k.to(dtype)[order], v.to(dtype)])
