"""What a trained dictionary must beat: an untrained one, and labels that mean nothing.

Raw neurons and principal components are in ``probes/data/features.py``. An SAE of a parent with
shuffled weights is an ordinary run on an ordinary store (``experiments/shuffled_parent.py`` makes
the weights file), given to ``python -m probes`` with its own activations.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
from flax import nnx

from probes.data.concepts import Concept
from probes.data.rows import ProteinRows
from saejax.architectures import ARCHITECTURES
from saejax.checkpoint import LoadedSAE
from saejax.model import Constants


def random_dictionary(loaded: LoadedSAE, *, seed: int = 0) -> LoadedSAE:
    """An SAE of the same size and normalisation as ``loaded`` that has learned nothing.

    Decoder rows are random unit vectors and encoder rows the same, as before a TopK SAE's first
    step. It keeps the k largest: ``loaded``'s k, or its held-out L0 where that has a threshold.
    """
    k = max(1, round(float(loaded.run["results"]["l0"])))
    config = replace(
        loaded.config, architecture="topk", k=min(k, loaded.config.d_sae), d_out=None,
        multi_topk=False, prefixes=(), prefix_weights=(), target_l0=None, k_max=None,
    )  # fmt: skip
    arrays = loaded.arrays()
    constants = Constants(arrays["mean"], float(arrays["scale"]))
    with jax.default_device(jax.devices("cpu")[0]):
        sae = ARCHITECTURES["topk"](config, constants, rngs=nnx.Rngs(seed))
    return replace(loaded, sae=sae, config=config)


def shuffled_labels(concept: Concept, rows: ProteinRows, *, seed: int = 0) -> Concept:
    """The concept moved along each protein by a random number of residues, around its end.

    Lengths, numbers per protein and runs stay as they are, so that what is found by chance with
    labels like these is found here too; only where they lie is lost. A span around the end becomes
    two. Labels of whole proteins go to other proteins of those where the concept is defined.
    """
    rng = np.random.default_rng(seed)
    if concept.level == "protein":
        return _to_other_proteins(concept, rows, rng)
    offsets = rows.offsets
    lengths = np.diff(offsets)
    shift = rng.integers(0, lengths)
    spans = concept.spans
    protein = np.searchsorted(offsets, spans[:, 0], side="right") - 1
    first, length = offsets[protein], lengths[protein]
    start = (spans[:, 0] - first + shift[protein]) % length
    end = start + spans[:, 1] - spans[:, 0]
    over = end > length
    moved = np.concatenate([
        np.stack([first + start, first + np.minimum(end, length)], axis=1),
        np.stack([first[over], first[over] + end[over] - length[over]], axis=1),
    ])  # fmt: skip
    return _renamed(concept, moved)


def _to_other_proteins(concept: Concept, rows: ProteinRows, rng: np.random.Generator) -> Concept:
    defined = np.flatnonzero(concept.defined)
    members = np.searchsorted(rows.offsets, concept.spans[:, 0], side="right") - 1
    drawn = rng.choice(defined, size=len(members), replace=False)
    return _renamed(concept, np.stack([rows.offsets[drawn], rows.offsets[drawn + 1]], axis=1))


def _renamed(concept: Concept, spans: np.ndarray) -> Concept:
    ordered = spans[np.lexsort((spans[:, 1], spans[:, 0]))].astype(np.int64)
    return Concept(concept.name, concept.kind, ordered, concept.defined, concept.level)
