"""The SAE's inference half in Torch, so that it can run inside the parent's forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from extract.errors import UserError
from extract.plm import ProteinLM
from extract.store import require_same_parent

if TYPE_CHECKING:
    from saejax.checkpoint import LoadedSAE

ARRAYS = ("W_enc", "b_enc", "W_dec", "b_dec", "mean", "scale")


class TorchLatents(NamedTuple):
    """The latents that fire on each residue, and nothing else."""

    values: Float[Tensor, "*batch k"]
    """Activations, ≥ 0 and descending; an entry may be 0 when fewer than k are positive."""
    indices: Int[Tensor, "*batch k"]
    """Which latents, distinct within a row."""

    def of(self, latents: Sequence[int]) -> Float[Tensor, "*batch chosen"]:
        """Activations of given latents, a column for each; 0 where one does not fire."""
        columns = [torch.where(self.indices == j, self.values, 0.0).sum(-1) for j in latents]
        empty = self.values.new_zeros((*self.values.shape[:-1], 0))
        return torch.stack(columns, -1) if columns else empty


class TorchSAE(nn.Module):
    """An SAE for inference, the same function as the one that ``saejax.load_sae`` gives::

        x  = scale · (activation − mean);   h = (x − b_dec) W_enc + b_enc
        z  = ReLU(TopK_k(h)),   or where latents have thresholds   z = h·1[h > θ]
        x̂  = z W_dec + b_dec
        reconstruction = x̂ / scale + mean

    An imported SAE may standardise every residue over its own dimensions first
    (``SAEConfig.token_zscore``); mean and scale are then those of the standardised activations.

    Raw activations in and out. Latents z live in the normalised space: changing z_j by δ changes
    the decoded raw activation by δ · W_dec[j] · :meth:`unit`, which is 1 / scale, times the
    residue's own σ where that was divided out. All arrays are buffers; no gradients.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    mean: Tensor
    scale: Tensor
    threshold: Tensor | None
    activation_mean: Tensor
    """Mean of the raw activations: ``mean`` of our own runs; what an import was checked on."""

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        k: int,
        manifest: Mapping[str, Any],
        *,
        name: str,
        token_zscore: tuple[float, float] | None = None,
    ) -> None:
        """Copy the arrays of ``LoadedSAE.arrays()``.

        Args:
            arrays: float32 ``W_enc [d_model, d_sae]``, ``b_enc``, ``W_dec [d_sae, d_model]``,
                ``b_dec``, ``mean [d_model]``, ``scale []``; ``threshold [d_sae]`` where
                latents fire above a threshold.
            k: latents active per residue, where there is no threshold.
            manifest: the store's manifest: ``parent``, ``site``, ``d_model`` and ``mean`` are kept.
            name: what to call this SAE in messages, such as the run folder.
            token_zscore: as in ``SAEConfig``.
        """
        super().__init__()
        for key in ARRAYS:
            copy = np.array(arrays[key], dtype=np.float32, order="C")
            self.register_buffer(key, torch.from_numpy(copy))
        threshold = arrays.get("threshold")
        given = None if threshold is None else torch.tensor(threshold, dtype=torch.float32)
        self.register_buffer("threshold", given)
        mean = torch.tensor(manifest.get("mean", arrays["mean"]), dtype=torch.float32)
        self.register_buffer("activation_mean", mean)
        self.k = k
        self.token_zscore = token_zscore
        self.name = name
        self.manifest = {key: manifest[key] for key in ("parent", "site", "d_model")}
        self.d_sae, self.d_model = self.W_dec.shape

    @classmethod
    def from_run(
        cls, run: LoadedSAE | str | Path, *, device: torch.device | str | None = None
    ) -> TorchSAE:
        """The SAE of a finished run, given loaded or as a folder.

        Raises:
            UserError: no run there, unfinished or damaged, or a transcoder.
        """
        if isinstance(run, str | Path):
            from saejax.checkpoint import load_sae

            run = load_sae(run)
        if run.config.d_out is not None:
            raise UserError(
                f"run {run.folder} is a transcoder, which predicts another site than it reads; "
                "steering needs an autoencoder"
            )
        sae = cls(run.arrays(), run.config.k, run.store_manifest, name=f"run {run.folder}",
                  token_zscore=run.config.token_zscore)  # fmt: skip
        return sae.to(device) if device is not None else sae

    @property
    def site(self) -> str:
        """Where in the parent its input lies."""
        return self.manifest["site"]

    def require_parent(self, model: ProteinLM) -> None:
        """Refuse a model of another name, weights or token dropout than the SAE was trained on.

        Raises:
            UserError: the first difference, with both values.
        """
        what = f"{self.name} and the loaded model {model.name}"
        require_same_parent(self.manifest, model.describe_site(self.site), what=what)

    def check_latent(self, latent: int) -> int:
        """Return ``latent`` if the dictionary has it, else raise a :class:`UserError`."""
        if not 0 <= latent < self.d_sae:
            raise UserError(
                f"latent {latent} is out of range: {self.name} has latents 0 to {self.d_sae - 1}"
            )
        return latent

    @torch.no_grad()
    def pre_activations(
        self, activations: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_sae"]:
        """(x − b_dec) W_enc + b_enc, before selection."""
        x = activations.float()
        if self.token_zscore is not None:
            mean, std = _token_statistics(x)
            x = (x - mean) / (std + self.token_zscore[0])
        x = (x - self.mean) * self.scale
        return (x - self.b_dec) @ self.W_enc + self.b_enc

    @torch.no_grad()
    def encode(self, activations: Float[Tensor, "*batch d_model"]) -> TorchLatents:
        """The latents that fire on each raw activation: k, or as many as are above θ anywhere."""
        pre_acts = self.pre_activations(activations)
        if self.threshold is None:
            values, indices = pre_acts.topk(self.k, dim=-1)
            return TorchLatents(values.relu(), indices)
        latents = torch.where(pre_acts > self.threshold, pre_acts, 0.0)
        active = (latents > 0).sum(-1)
        width = max(1, int(active.max())) if active.numel() else 1
        return TorchLatents(*latents.topk(width, dim=-1))

    def encode_dense(
        self, activations: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_sae"]:
        """The same as a dense array, zero for every latent that does not fire."""
        return self.dense(self.encode(activations))

    def dense(self, latents: TorchLatents) -> Float[Tensor, "*batch d_sae"]:
        """Sparse latents as a dense array."""
        values, indices = latents
        empty = values.new_zeros((*values.shape[:-1], self.d_sae))
        return empty.scatter(-1, indices, values)

    @torch.no_grad()
    def decode(
        self, latents: TorchLatents, activations: Float[Tensor, "*batch d_model"] | None = None
    ) -> Float[Tensor, "*batch d_model"]:
        """Raw activations reconstructed from sparse latents; gathers k decoder rows per residue.

        Args:
            latents: of some residues.
            activations: what was encoded, raw; needed with ``token_zscore``.
        """
        values, indices = (t.reshape(-1, t.shape[-1]) for t in latents)
        x_hat = F.embedding_bag(indices, self.W_dec, per_sample_weights=values, mode="sum")
        x_hat = x_hat.reshape(*latents.values.shape[:-1], self.d_model)
        return self._denormalize(x_hat, activations)

    @torch.no_grad()
    def decode_dense(
        self,
        latents: Float[Tensor, "*batch d_sae"],
        activations: Float[Tensor, "*batch d_model"] | None = None,
    ) -> Float[Tensor, "*batch d_model"]:
        """Raw activations reconstructed from dense latents; see :meth:`decode`."""
        return self._denormalize(latents @ self.W_dec, activations)

    def forward(
        self, activations: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """Reconstruction of raw activations."""
        return self.decode(self.encode(activations), activations)

    def unit(self, activations: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """What a latent's decoder row is multiplied with, beside its value, at each residue."""
        one = activations.new_ones((*activations.shape[:-1], 1), dtype=torch.float32) / self.scale
        if self.token_zscore is None:
            return one
        return one * (_token_statistics(activations.float())[1] + self.token_zscore[1])

    def _denormalize(self, z_W_dec: Tensor, activations: Tensor | None) -> Tensor:
        x_hat = (z_W_dec + self.b_dec) / self.scale + self.mean
        if self.token_zscore is None:
            return x_hat
        if activations is None:
            raise ValueError("an SAE with token_zscore decodes only beside the raw activations")
        mean, std = _token_statistics(activations.float())
        return x_hat * (std + self.token_zscore[1]) + mean


def _token_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of every residue over its own dimensions."""
    return x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
