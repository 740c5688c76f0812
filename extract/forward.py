"""Activations of proteins: batches through a parent, residues out, in the type they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from extract.batching import token_batches
from extract.plm import ProteinLM


@torch.inference_mode()
def residue_batches(
    model: ProteinLM, sequences: Sequence[str], sites: Sequence[str], *, batch_residues: int = 1024
) -> Iterator[dict[str, Tensor]]:
    """Activations of the residues of one batch of sequences after another, on the model's device.

    Args:
        model: the parent.
        sequences: proteins; neighbours share a batch.
        sites: where to read.
        batch_residues: residues per pass.

    Yields:
        ``[residues, d_model]`` for each site, in the parent's own number format.
    """
    lengths = [len(s) for s in sequences]
    for batch in token_batches(range(len(sequences)), lengths, batch_residues):
        tokens = model.tokenize([sequences[i] for i in batch])
        rows = tokens.residue_rows()
        yield {site: x[rows] for site, x in model.residuals(tokens, sites).items()}


def site_activations(
    model: ProteinLM,
    sequences: Sequence[str],
    sites: Sequence[str],
    *,
    dtype: str = "float32",
    batch_residues: int = 1024,
) -> dict[str, np.ndarray]:
    """Activations of all residues at several sites, in one pass.

    On a GPU every copy to the host is asynchronous into pinned memory, with one wait at the end
    (written from documentation, not run on a GPU).

    Args:
        model: the parent.
        sequences: proteins, in row order.
        sites: where to read.
        dtype: "float32" or "bfloat16" (rounded to nearest even).
        batch_residues: residues per pass.

    Returns:
        ``[residues, d_model]`` for each site, sequences one after another.
    """
    shape, on_gpu = (sum(map(len, sequences)), model.d_model), model.device.type == "cuda"
    torch_dtype = getattr(torch, dtype)
    out = {s: torch.empty(shape, dtype=torch_dtype, pin_memory=on_gpu) for s in sites}
    start = n = 0
    for batch in residue_batches(model, sequences, sites, batch_residues=batch_residues):
        for site, x in batch.items():
            n = len(x)
            out[site][start : start + n].copy_(x.to(torch_dtype), non_blocking=on_gpu)
        start += n
    if on_gpu:
        torch.cuda.synchronize(model.device)
    return {site: _as_numpy(array) for site, array in out.items()}


def residue_activations(
    model: ProteinLM, sequences: Sequence[str], site: str, *, batch_residues: int = 1024
) -> list[np.ndarray]:
    """Activations of each sequence at ``site``: float32 ``[residues, d_model]`` each."""
    found = site_activations(model, sequences, [site], batch_residues=batch_residues)
    return np.split(found[site], np.cumsum([len(s) for s in sequences])[:-1])


def _as_numpy(array: Tensor) -> np.ndarray:
    """The same memory; NumPy has bfloat16 only through ml_dtypes."""
    if array.dtype == torch.bfloat16:
        return array.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return array.numpy()
