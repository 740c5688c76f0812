"""What a run trains and is evaluated on: a store, or a stream."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from extract.errors import UserError
from extract.fasta import Protein
from extract.statistics import Normalizer
from extract.store import ActivationStore, require_same_parent
from saejax.config import TrainConfig
from saejax.data import ActivationBatches, Batches, RowStore, held_out_rows
from saejax.model import Constants
from saejax.paired import PairedStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """What a run trains and is evaluated on."""

    name: str
    """Of the source, in messages: its folder or FASTA file."""
    manifest: Mapping[str, Any]
    """Of the training activations: parent, weights, site, source, mean and scale."""
    batches: Batches
    """In the order of training."""
    eval_store: ActivationStore
    """Where the held-out activations are."""
    eval_rows: Bool[np.ndarray, " rows"] | None
    """Which of its rows; None for all."""
    target: ActivationStore | None = None
    """What a transcoder predicts."""

    @property
    def d_model(self) -> int:
        """Dimensions of the activations."""
        return self.manifest["d_model"]

    @property
    def d_out(self) -> int | None:
        """Dimensions of what a transcoder predicts."""
        return None if self.target is None else self.target.manifest["d_model"]

    @property
    def constants(self) -> Constants:
        """Mean and scale of what goes in, and of what a transcoder predicts."""
        ours = Normalizer.of_manifest(self.manifest)
        if self.target is None:
            return Constants(ours.mean, ours.scale)
        theirs = Normalizer.of_manifest(self.target.manifest)
        return Constants(ours.mean, ours.scale, theirs.mean, theirs.scale)

    @property
    def eval_source(self) -> RowStore:
        """Held-out activations, a transcoder's targets beside them."""
        if self.target is None:
            return self.eval_store
        return PairedStore(self.eval_store, self.target)


def parent_device(config: TrainConfig) -> str | None:
    """The Torch device of a stream's parent; None for a store, and Torch stays unloaded.

    Raises:
        UserError: ``--parent-device`` names none that is there.
    """
    if config.source == "store":
        return None
    from saejax.streamed import torch_device

    return torch_device(config.stream.parent_device)


def open_data(
    config: TrainConfig, parent: str | None, devices: Sequence[Any], previous: Mapping | None
) -> Data:
    """Open the stores or the stream, and choose what is held out.

    Args:
        config: the run.
        parent: what :func:`parent_device` said.
        devices: the JAX devices that train.
        previous: ``run.json`` of the run to go on with, if there is one.

    Raises:
        UserError: what was given is missing, damaged, or does not fit together.
    """
    if parent is None:
        return _open_stores(config)
    from saejax.streamed import open_stream

    return open_stream(config, parent, devices, previous)


def _open_stores(config: TrainConfig) -> Data:
    assert config.activations is not None, "the config checks this"
    store, keep = ActivationStore.open(config.activations), None
    if config.eval_activations is not None:
        eval_store, eval_rows = open_eval_store(config, store.manifest, store.proteins)
    else:
        eval_store, eval_rows = store, held_out_rows(store, config.holdout_fraction)
        keep = ~eval_rows
    pool = config.pool_shards and config.pool_shards * store.manifest["shard_rows"]
    target = None
    if config.target_activations is not None:
        target = ActivationStore.open(config.target_activations)
    batches = ActivationBatches(
        store if target is None else PairedStore(store, target),
        batch_size=config.batch_size_tokens,
        seed=config.data_order_seed,
        keep_rows=keep,
        consecutive_rows=pool,
    )
    return Data(str(store.folder), store.manifest, batches, eval_store, eval_rows, target)


def open_eval_store(
    config: TrainConfig, manifest: Mapping, trained_on: Sequence[Protein]
) -> tuple[ActivationStore, Bool[np.ndarray, " rows"] | None]:
    """Open ``--eval-activations``, and mark its rows that are of no protein trained on.

    Args:
        config: the run.
        manifest: of the training activations, whose parent must be the same.
        trained_on: the training proteins.

    Returns:
        The store, and its rows to use; None when that is all of them.

    Raises:
        UserError: no store, another parent or site, or only proteins that are trained on.
    """
    assert config.eval_activations is not None
    store = ActivationStore.open(config.eval_activations)
    name = config.activations or config.stream.fasta
    what = f"stores {name} and {store.folder}"
    require_same_parent(manifest, store.manifest, what=what)
    sequences = {p.sequence for p in trained_on}
    unseen = np.array([p.sequence not in sequences for p in store.proteins])
    if unseen.all():
        return store, None
    if not unseen.any():
        raise UserError(
            f"{store.folder}: every protein is also in {name}, so none is held out; "
            "give other proteins, or leave --eval-activations away to hold some out"
        )
    log.warning("%s: %d of %d proteins are also trained on and left out of the held-out figures",
                store.folder, (~unseen).sum(), len(unseen))  # fmt: skip
    return store, np.repeat(unseen, np.diff(store.offsets))
