"""What a parent's predictions lose when a reconstruction stands in for its activations.

At the SAE's site every residue's activation x is replaced by

    sae    x̂ = decode(encode(x)): the SAE's error term is dropped
    zero   0
    mean   the mean of the activations that the SAE was trained on

and all later blocks run. Residues alone are replaced and scored: special tokens (BOS, EOS, a start
token) keep their activations and have no score, and a packed batch has no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from extract.errors import UserError
from extract.plm import ProteinLM
from steering.masked import ScoredBatch, scored_batches
from steering.passes import EditedPasses
from steering.torch_sae import TorchSAE

STAND_INS = ("sae", "zero", "mean")
"""What is put in place of the activations."""
PASSES = ("original", *STAND_INS)


class SpliceSums(NamedTuple):
    """What was measured on one kind of input: sums over the scored residues of each protein."""

    n_scored: Int[np.ndarray, " proteins"]
    """Scored residues."""
    cross_entropy: Float[np.ndarray, "4 proteins"]
    """Σ −log p(the amino acid that is there), over the whole vocabulary (nats), of ``PASSES``."""
    kl: Float[np.ndarray, "4 proteins"]
    """Σ KL(original ‖ spliced) over the whole vocabulary (nats); 0 of the original."""
    agreement: Float[np.ndarray, "4 proteins"]
    """Residues whose likeliest token is the original's."""
    n_replaced: int
    """Residues whose activation was replaced, scored or not."""
    fvu: float
    """Of the SAE, on the activations that were replaced."""


@torch.inference_mode()
def splice(
    model: ProteinLM,
    sae: TorchSAE,
    sequences: Sequence[str],
    *,
    mask_fraction: float | None = None,
    seed: int = 0,
    batch_residues: int = 4096,
) -> SpliceSums:
    """Run every sequence as it is and with each stand-in for the activations at the SAE's site.

    Blocks up to the site run once, those behind it four times.

    Args:
        model: the parent that the SAE was trained on.
        sae: on the model's device.
        sequences: the proteins.
        mask_fraction: as in :func:`scored_batches`; unmasked by default.
        seed: of the masks.
        batch_residues: residues per forward pass.

    Raises:
        UserError: another parent, one without logits, one without a mask token where masks are
            asked for, no standard residue, or an output that is not finite.
    """
    sae.require_parent(model)
    batches = scored_batches(model, sequences, mask_fraction=mask_fraction, seed=seed,
                             batch_residues=batch_residues)  # fmt: skip
    n, n_replaced = len(sequences), 0
    count, sums = np.zeros(n, np.int64), np.zeros((len(PASSES), 3, n))
    error, x_D, x2 = 0.0, np.zeros(sae.d_model), 0.0
    what = "splice" if mask_fraction is None else "splice, masked"
    with tqdm(total=sum(map(len, sequences)), desc=what, unit="res", unit_scale=True,
              disable=None) as bar:  # fmt: skip
        for batch in batches:
            found = _measure(model, sae, batch)
            count += np.bincount(batch.proteins, minlength=n)
            for i, scores in enumerate(found.scores):
                sums[i] += [np.bincount(batch.proteins, s, minlength=n) for s in scores]
            error, x_D, x2 = error + found.error, x_D + found.x_D, x2 + found.x2
            n_replaced += found.n_replaced
            bar.update(found.n_replaced)
    if not count.any():
        raise UserError("no sequence has a standard residue to score; give other sequences")
    deviation = x2 - float(x_D @ x_D) / n_replaced
    fvu = error / deviation if deviation > 0 else float("nan")
    return SpliceSums(count, sums[:, 0], sums[:, 1], sums[:, 2], n_replaced, fvu)


class _Measured(NamedTuple):
    scores: Float[np.ndarray, "4 3 scored"]
    """Of every pass: cross-entropy, KL, agreement."""
    error: float
    """Σ‖x − x̂‖²."""
    x_D: Float[np.ndarray, " d_model"]
    """Σx, from the SAE's mean."""
    x2: float
    """Σ‖x‖², from the SAE's mean."""
    n_replaced: int


def _measure(model: ProteinLM, sae: TorchSAE, batch: ScoredBatch) -> _Measured:
    residues = batch.tokens.residue_rows()
    passes = EditedPasses(model, sae.site, batch.tokens, residues)
    x_RD = passes.x_RD.float()
    stand_ins = {
        "sae": sae(x_RD),
        "zero": torch.zeros_like(x_RD),
        "mean": sae.activation_mean.expand_as(x_RD),
    }
    base = _log_p(passes.base_logits, batch.rows)
    scores = [_scores(base, base, batch.targets, "original")]
    for name in STAND_INS:
        log_p = _log_p(passes.spliced(stand_ins[name]), batch.rows)
        scores.append(_scores(base, log_p, batch.targets, name))
    centred = (x_RD - sae.activation_mean).double()
    return _Measured(
        np.stack(scores),
        float((x_RD - stand_ins["sae"]).double().square().sum()),
        centred.sum(0).cpu().numpy(),
        float(centred.square().sum()),
        len(residues),
    )


def _log_p(logits: Tensor, rows: Tensor) -> Float[Tensor, "scored vocabulary"]:
    """Log probabilities of the scored rows, float64, on the CPU."""
    return logits[rows].cpu().double().log_softmax(dim=-1)


def _scores(base: Tensor, log_p: Tensor, targets: Tensor, name: str) -> np.ndarray:
    """Cross-entropy, KL(base ‖ this) and agreement with the base's argmax: ``[3, scored]``."""
    cross_entropy = -log_p.gather(1, targets[:, None])[:, 0]
    terms = torch.where(base == log_p, 0.0, base.exp() * (base - log_p))  # also of two -inf
    agreement = (log_p.argmax(dim=1) == base.argmax(dim=1)).double()
    found = torch.stack([cross_entropy, terms.sum(dim=1), agreement])
    if not found.isfinite().all():
        words = {"original": "as it is", "sae": "with the SAE's reconstruction",
                 "zero": "with zeros", "mean": "with the mean"}  # fmt: skip
        raise UserError(
            f"the parent's output {words[name]} at the SAE's site is not finite; check its weights"
        )
    return found.numpy()
