"""What the worker holds: parents, SAEs and the last sequences' latents. Loads torch and jax."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from explorer.live.runs import LiveSource
from explorer.live.settings import WorkerSettings
from extract.errors import UserError
from extract.parents import load_parent_of
from extract.plm import ProteinLM
from saejax.checkpoint import LoadedSAE, load_sae
from steering.torch_sae import TorchSAE

Report = Callable[[float, str], None]
"""Told of the share that is done, and of what is being done."""

KEPT_BYTES = 64_000_000
"""Latents of the sequences that were encoded last; in memory only."""

MOST_AT_START = 8
"""Dictionaries that are loaded before the first request; others when they are asked for."""


class Entries(NamedTuple):
    """The latents of one sequence above zero, by latent and then by residue."""

    latent: np.ndarray
    """int32 ``[entries]``"""
    position: np.ndarray
    """From 0; int32."""
    value: np.ndarray
    """float32"""

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in self)


class Loaded(NamedTuple):
    """A dictionary, ready to run."""

    run: LoadedSAE
    model: ProteinLM
    sae: TorchSAE


class Context:
    """Everything a task needs."""

    def __init__(
        self, sources: Mapping[str, LiveSource], settings: WorkerSettings, report: Report
    ) -> None:
        """``report``: called between steps; raises when the request was given up."""
        self.sources, self.settings, self.report = sources, settings, report
        self._models: dict[tuple[str, bool], ProteinLM] = {}
        self._loaded: dict[str, Loaded] = {}
        self._kept: OrderedDict[tuple[str, str], Entries] = OrderedDict()
        self._kept_bytes = 0

    def get(self, sae: str) -> Loaded:
        """A dictionary and its parent, loaded once.

        Raises:
            UserError: no weights, or those of another parent.
        """
        if sae not in self._loaded:
            run = load_sae(self.sources[sae].run)
            model = self._parent(run)
            torch_sae = TorchSAE.from_run(run, device=model.device)
            torch_sae.require_parent(model)
            self._loaded[sae] = Loaded(run, model, torch_sae)
        return self._loaded[sae]

    def _parent(self, run: LoadedSAE) -> ProteinLM:
        parent = run.store_manifest["parent"]
        key = (parent["name"], parent["token_dropout"])
        if key not in self._models:
            self._models[key] = load_parent_of(
                run.store_manifest, weights=self.settings.weights, device=self.settings.device,
                model=self.settings.model,
            )  # fmt: skip
        return self._models[key]

    def entries(self, sae: str, sequence: str) -> tuple[Entries, bool]:
        """Latents of a sequence, and whether they were kept from before."""
        key = (sae, sequence)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key], True
        found = encode_sequence(self.get(sae), sequence)
        self._kept[key] = found
        self._kept_bytes += found.n_bytes
        while self._kept_bytes > KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= dropped.n_bytes
        return found, False

    @cached_property
    def ready(self) -> bool:
        """Load dictionaries and run each once, so that the first request need not wait."""
        for sae in list(self.sources)[:MOST_AT_START]:
            encode_sequence(self.get(sae), "MKTAYIAKQR")
        return True


@torch.inference_mode()
def encode_sequence(loaded: Loaded, sequence: str) -> Entries:
    """The latents of every residue, as ``TorchSAE.encode`` gives them.

    Raises:
        UserError: longer than the parent takes.
    """
    require_length(loaded.model, sequence)
    tokens = loaded.model.tokenize([sequence])
    x_RD = loaded.model.residual(tokens, loaded.sae.site)[tokens.residue_rows()]
    values, indices = (t.cpu().numpy() for t in loaded.sae.encode(x_RD))
    position, slot = np.nonzero(values > 0)
    latent, value = indices[position, slot], values[position, slot]
    order = np.lexsort((position, latent))
    return Entries(latent[order].astype(np.int32), position[order].astype(np.int32), value[order])


def require_length(model: ProteinLM, sequence: str) -> None:
    """Refuse a sequence that the parent does not take.

    Raises:
        UserError: with both numbers.
    """
    if len(sequence) > model.max_residues:
        raise UserError(
            f"the sequence has {len(sequence):,} residues, {model.name} takes "
            f"{model.max_residues:,}; give a part of it"
        )
