"""Sparse autoencoders of protein language models, in JAX.

Only training from a stream (``saejax.streamed``) loads torch, when it starts.

``load_sae("runs/x")`` gives a trained SAE with its config and provenance.
"""

from saejax.checkpoint import LoadedSAE, load_sae
from saejax.config import SAEConfig, TrainConfig
from saejax.model import TopKSAE
from saejax.sparse import SparseLatents

__all__ = ["LoadedSAE", "SAEConfig", "SparseLatents", "TopKSAE", "TrainConfig", "load_sae"]
