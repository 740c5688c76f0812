"""Small models, proteins and stores that many tests share."""

import numpy as np
import torch

from extract.esm import ESM2, ESM2Shape
from extract.fasta import Protein
from extract.pipeline import ExtractConfig, extract
from extract.plm import WeightsInfo

AMINO = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def random_proteins(n, low, high, seed=0):
    """n random sequences of low to high residues."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(low, high, size=n, endpoint=True)
    sequences = ["".join(rng.choice(AMINO, size=length)) for length in lengths]
    return [Protein(f"p{i}", sequence) for i, sequence in enumerate(sequences)]


def tiny_esm2(seed=0, name="tiny"):
    """Two blocks of 16 dimensions with random weights."""
    torch.manual_seed(seed)
    model = ESM2(name, ESM2Shape(2, 16, 2)).eval().requires_grad_(False)
    model.weights = WeightsInfo("random", f"seed{seed}", "random", "")
    return model


def make_stores(folder, proteins, model=None, **settings):
    """Extract proteins with a tiny model; the store of each site."""
    defaults = {"site": ("block1",), "shard_rows": 1024, "batch_residues": 300}
    config = ExtractConfig(folder / "test.fasta", folder, **{**defaults, **settings})
    return extract(config, model or tiny_esm2(), proteins)


def make_store(folder, proteins, model=None, site="block1", **settings):
    """Extract proteins with a tiny model at one site."""
    return make_stores(folder, proteins, model, site=(site,), **settings)[0]


def fair_esm_names(model):
    """A state dict as fair-esm's files have it."""
    fused = {"attention.out": "self_attn.out_proj", "attention.norm": "self_attn_layer_norm",
             "mlp.norm": "final_layer_norm", "mlp.fc1": "fc1", "mlp.fc2": "fc2"}  # fmt: skip
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("blocks."):
            _, n, branch, part, kind = name.split(".")
            if part == "qkv":
                for p, chunk in zip("qkv", tensor.chunk(3), strict=True):
                    tensors[f"layers.{n}.self_attn.{p}_proj.{kind}"] = chunk.clone()
                continue
            name = f"layers.{n}.{fused[f'{branch}.{part}']}.{kind}"
        name = name.replace("embedding.tokens", "embed_tokens")
        tensors[name.replace("final_norm", "emb_layer_norm_after")] = tensor
    return tensors
