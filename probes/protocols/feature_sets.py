"""The sets of features that a probing run compares: the SAE's latents and their baselines."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator

from extract.errors import UserError
from extract.store import ActivationStore
from probes.data.features import DenseFeatures, Features, StoreFeatures, principal_components
from probes.data.rows import ProteinRows
from probes.inputs import Inputs
from probes.protocols.baselines import random_dictionary
from saejax.checkpoint import load_sae
from saejax.latent_store import LatentStore

log = logging.getLogger(__name__)

LATENTS = "latents"


def feature_sets(inputs: Inputs) -> Iterator[Features]:
    """The latents, then each baseline that was asked for, one in memory at a time."""
    yield StoreFeatures(LATENTS, inputs.latents)
    wanted = inputs.config.baselines
    dense = [name for name in wanted if name in ("neurons", "principal components")]
    if dense and inputs.rows.n_rows > inputs.config.dense_rows:
        log.warning("%s left out: %d residues are more than --dense-rows %d", " and ".join(dense),
                    inputs.rows.n_rows, inputs.config.dense_rows)  # fmt: skip
        dense = []
    if dense:
        x = inputs.activations()
        if "neurons" in dense:
            yield DenseFeatures("neurons", x)
        if "principal components" in dense:
            yield DenseFeatures("principal components", x @ principal_components(inputs.stores))
        del x
    if "random dictionary" in wanted:
        loaded = random_dictionary(inputs.loaded, seed=inputs.config.seed)
        folder = inputs.config.folder / "random_latents"
        yield StoreFeatures("random dictionary", LatentStore.build(loaded, inputs.stores, folder))
        shutil.rmtree(folder)
    if inputs.config.shuffled_run is not None:
        yield _shuffled_parent(inputs)


def _shuffled_parent(inputs: Inputs) -> Features:
    """Latents of an SAE whose parent has shuffled weights, on the same proteins."""
    config = inputs.config
    assert config.shuffled_run is not None
    loaded = load_sae(config.shuffled_run)
    stores = [ActivationStore.open(path) for path in config.shuffled_activations]
    for store in stores:
        loaded.require_store(store)
    theirs = [(p.id, p.sequence) for p in ProteinRows.from_stores(stores).proteins]
    if theirs != [(p.id, p.sequence) for p in inputs.rows.proteins]:
        raise UserError(
            f"--shuffled-activations hold {len(theirs)} proteins, --activations "
            f"{inputs.rows.n_proteins}, and they are not the same in the same order; extract the "
            "same FASTA files with the same flags and the shuffled weights"
        )
    latents = LatentStore.build(loaded, stores, config.folder / "shuffled_latents")
    return StoreFeatures("shuffled parent", latents)
