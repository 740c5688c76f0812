"""Sparse autoencoders of protein language models, in JAX.

Only training from a stream (``saejax.streamed``) loads torch, when it starts.

``load_sae("runs/x")`` gives a trained SAE with its config and provenance.
"""

from saejax.architectures import TopKSAE
from saejax.checkpoint import LoadedSAE, load_sae
from saejax.config import TrainConfig
from saejax.model import SAE, Constants, ThresholdSAE
from saejax.sae_config import SAEConfig
from saejax.sparse import SparseLatents

__all__ = [
    "SAE",
    "Constants",
    "LoadedSAE",
    "SAEConfig",
    "SparseLatents",
    "ThresholdSAE",
    "TopKSAE",
    "TrainConfig",
    "load_sae",
]
