"""Programs that compute a block's output for every residue: ours, fair-esm's, Hugging Face's.

All take the same tensors and the same sequences and give float32 ``[residues, d_model]`` each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import esm
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from extract.alphabet import CLS, EOS, MASK, PAD, residue_tokens
from extract.esm import ESM2_SHAPES, ESM2Shape
from extract.pipeline import residue_activations
from extract.state_dicts import HF_BLOCK_NAMES, HF_OUTER_NAMES, Tensors
from extract.weights import (
    LEARNED_POSITIONS,
    ComputeType,
    build_esm2,
    find_weights,
    random_tensors,
)

Run = Callable[[list[str], int], list[np.ndarray]]
"""(sequences, block) → float32 ``[residues, d_model]`` of each, in the same order."""

TOKENS_PER_BATCH = 4096
"""``--toks_per_batch`` of fair-esm's ``scripts/extract.py``; Hugging Face gets the same."""


def tensors_of(model: str, weights: str) -> tuple[Tensors, str]:
    """Weights with fair-esm's names, and words for where they are from.

    Args:
        model: a published ESM2.
        weights: "random", "real" (found as ``python -m extract`` does), or a file.
    """
    if weights == "random":
        return random_tensors(ESM2_SHAPES[model]), "random"
    tensors, source = find_weights(model, None if weights == "real" else Path(weights))
    return {k: v for k, v in tensors.items() if not k.startswith(LEARNED_POSITIONS)}, source


def ours(model: str, tensors: Tensors, dtype: ComputeType) -> Run:
    """What ``python -m extract`` runs, with its function's default batches."""
    parent = build_esm2(model, ESM2_SHAPES[model], tensors, source="benchmark", dtype=dtype)
    return lambda sequences, block: residue_activations(parent, sequences, f"block{block}")


def fair_esm(shape: ESM2Shape, tensors: Tensors) -> esm.ESM2:
    """fair-esm's own ESM2, for inference."""
    model = esm.ESM2(shape.n_blocks, shape.d_model, shape.n_heads)
    _, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
    assert not unexpected, unexpected
    return model.eval().requires_grad_(False)


def fair_esm_loop(shape: ESM2Shape, tensors: Tensors) -> Run:
    """The loop of fair-esm's ``scripts/extract.py`` (MIT), without files."""
    model = fair_esm(shape, tensors)

    def run(sequences: list[str], block: int) -> list[np.ndarray]:
        labels = [str(i) for i in range(len(sequences))]
        dataset = esm.FastaBatchedDataset(labels, sequences)
        batches = dataset.get_batch_indices(TOKENS_PER_BATCH, extra_toks_per_seq=1)
        convert = model.alphabet.get_batch_converter(1022)
        found: dict[int, np.ndarray] = {}
        loader = DataLoader(dataset, collate_fn=convert, batch_sampler=batches)  # type: ignore[arg-type]
        with torch.no_grad():
            for names, strings, tokens in loader:
                out = model(tokens, repr_layers=[block], return_contacts=False)
                rows = out["representations"][block].to("cpu")
                for i, name in enumerate(names):
                    found[int(name)] = rows[i, 1 : min(1022, len(strings[i])) + 1].clone().numpy()
        return [found[i] for i in range(len(sequences))]

    return run


def hugging_face_loop(shape: ESM2Shape, tensors: Tensors) -> Run:
    """``transformers.EsmModel`` with SDPA attention on padded batches sorted by length.

    It has no way to stop at a block; ``hidden_states[block]`` is taken from all of them.
    """
    import transformers  # type: ignore[import-not-found]

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=shape.d_model, num_hidden_layers=shape.n_blocks,
        num_attention_heads=shape.n_heads, intermediate_size=4 * shape.d_model,
        max_position_embeddings=1026, position_embedding_type="rotary", token_dropout=True,
        mask_token_id=MASK, pad_token_id=PAD, layer_norm_eps=1e-5,
    )  # fmt: skip
    encoder = {hf_name(k): v for k, v in tensors.items() if not k.startswith("lm_head.")}
    model = transformers.EsmModel.from_pretrained(
        None,
        config=config,
        state_dict=encoder,
        add_pooling_layer=False,
        attn_implementation="sdpa",
    )
    model.eval().requires_grad_(False)

    def run(sequences: list[str], block: int) -> list[np.ndarray]:
        found: dict[int, np.ndarray] = {}
        with torch.inference_mode():
            for batch in padded_batches(sequences):
                ids = [[CLS, *residue_tokens(sequences[i]), EOS] for i in batch]
                tokens = torch.full((len(ids), max(map(len, ids))), PAD)
                for row, one in zip(tokens, ids, strict=True):
                    row[: len(one)] = torch.tensor(one)
                mask = (tokens != PAD).long()
                out = model(tokens, attention_mask=mask, output_hidden_states=True)
                for i, rows in zip(batch, out.hidden_states[block], strict=True):
                    found[i] = rows[1 : len(sequences[i]) + 1].clone().numpy()
        return [found[i] for i in range(len(sequences))]

    return run


def padded_batches(sequences: list[str]) -> Iterable[list[int]]:
    """Batches sorted by length, of at most ``TOKENS_PER_BATCH`` tokens with padding."""
    batch: list[int] = []
    for i in sorted(range(len(sequences)), key=lambda i: len(sequences[i])):
        if batch and (len(batch) + 1) * (len(sequences[i]) + 2) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def hf_name(name: str) -> str:
    """Hugging Face's name (in ``EsmModel``) of an encoder tensor that fair-esm calls ``name``."""
    blocks = {theirs: hf for hf, theirs in HF_BLOCK_NAMES.items()}
    outer = {theirs: hf for hf, theirs in HF_OUTER_NAMES.items()}
    block = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if block:
        return f"encoder.layer.{block[1]}.{blocks[block[2]]}.{block[3]}"
    return outer.get(name, f"encoder.{name}")


def sites_of_fair_esm(model: esm.ESM2, tokens: Tensor) -> dict[str, Tensor]:
    """fair-esm's activations ``[batch, tokens, d_model]`` at every site of ours."""
    found: dict[str, Tensor] = {}

    def keep(site: str) -> Callable:
        def hook(_module: nn.Module, _args: tuple, out: Tensor | tuple) -> None:
            rows = out[0] if isinstance(out, tuple) else out
            found[site] = rows.transpose(0, 1)

        return hook

    handles = []
    for n, layer in enumerate(model.layers, start=1):
        for module, part in ((layer.self_attn, ".attn"), (layer.fc2, ".mlp"), (layer, "")):
            handles.append(module.register_forward_hook(keep(f"block{n}{part}")))  # type: ignore[union-attr]
    with torch.no_grad():
        out = model(tokens, repr_layers=[0, model.num_layers])["representations"]
    for handle in handles:
        handle.remove()
    return found | {"block0": out[0], "final": out[model.num_layers]}


def build(contestant: str, model: str, weights: str) -> tuple[Run, str]:
    """A contestant of ``extraction.CONTESTANTS`` ready to run, and where its weights are from."""
    tensors, source = tensors_of(model, weights)
    shape = ESM2_SHAPES[model]
    makers: dict[str, Callable[[], Run]] = {
        "fair-esm": lambda: fair_esm_loop(shape, tensors),
        "transformers": lambda: hugging_face_loop(shape, tensors),
        "ours float32": lambda: ours(model, tensors, "float32"),
        "ours bfloat16": lambda: ours(model, tensors, "bfloat16"),
    }
    return makers[contestant](), source
