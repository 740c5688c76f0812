"""The architectures, one small module each, behind the interface of :class:`saejax.model.SAE`."""

from saejax.architectures.batch_topk import BatchTopKSAE
from saejax.architectures.gated import GatedSAE
from saejax.architectures.jumprelu import JumpReLUSAE
from saejax.architectures.matryoshka import MatryoshkaSAE
from saejax.architectures.relu import ReLUSAE
from saejax.architectures.threshold import PublishedThresholdSAE
from saejax.architectures.topk import TopKSAE
from saejax.model import SAE
from saejax.sae_config import Form

ARCHITECTURES: dict[Form, type[SAE]] = {
    "topk": TopKSAE,
    "batchtopk": BatchTopKSAE,
    "matryoshka": MatryoshkaSAE,
    "jumprelu": JumpReLUSAE,
    "gated": GatedSAE,
    "relu": ReLUSAE,
    "threshold": PublishedThresholdSAE,
}

__all__ = [
    "ARCHITECTURES",
    "BatchTopKSAE",
    "GatedSAE",
    "JumpReLUSAE",
    "MatryoshkaSAE",
    "PublishedThresholdSAE",
    "ReLUSAE",
    "TopKSAE",
]
