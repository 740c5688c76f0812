"""What latents know: every latent against every concept, scored on proteins unseen by the choice.

``probe_run(ProbeConfig(...))`` is ``python -m probes`` without the files.
"""

from probes.annotations import Annotations, Concept
from probes.config import ProbeConfig
from probes.evaluate import ProbeResults, probe_run
from probes.fit.scores import RankScores, rank_scores
from probes.logistic import LogisticFit, fit_logistic_1d, fit_logistic_dense
from probes.protocols.pooling import pool
from probes.splits import Split, split_proteins

__all__ = [
    "Annotations",
    "Concept",
    "LogisticFit",
    "ProbeConfig",
    "ProbeResults",
    "RankScores",
    "Split",
    "fit_logistic_1d",
    "fit_logistic_dense",
    "pool",
    "probe_run",
    "rank_scores",
    "split_proteins",
]
