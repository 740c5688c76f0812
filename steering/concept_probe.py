"""A linear probe of one concept on the parent's activations: does it hold at a residue?

``p = sigmoid(w · x + b)`` on raw activations x at a site, w and b from a logistic regression with
an L2 penalty on standardised activations, the standardisation folded in. The probe never sees the
SAE, so that it can judge what an edit of a latent did.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from extract.batching import token_batches
from extract.errors import UserError
from extract.files import write_atomically
from extract.plm import ProteinLM
from extract.store import require_same_parent

FORMAT_VERSION = 1
UNKNOWN = -1
"""Label of a residue of which nobody knows; it is left out."""


@dataclass(frozen=True, eq=False)
class ConceptProbe:
    """A probe of one concept, and what it knows about itself."""

    name: str
    """The concept, such as ``helix``."""
    weights: Float[np.ndarray, " d_model"]
    """w, for raw activations."""
    bias: float
    """b."""
    threshold: float
    """Probability from which a residue is called: of best F1 on the training residues."""
    manifest: dict[str, Any]
    """``parent``, ``site`` and ``d_model`` of the activations it reads."""
    record: dict[str, Any]
    """How it was trained (``train``, ``C``, ``seed``) and how good it is on proteins it has not
    seen (``held_out``: ``auroc``, ``average_precision``, ``f1``, and of how many residues)."""

    @property
    def site(self) -> str:
        """Where in the parent it reads."""
        return self.manifest["site"]

    def require_parent(self, model: ProteinLM) -> None:
        """Refuse a model of another name, weights or token dropout than the probe's.

        Raises:
            UserError: the first difference, with both values.
        """
        what = f"the probe of {self.name} and the loaded model {model.name}"
        require_same_parent(self.manifest, model.describe_site(self.site), what=what)

    def probability(self, x_RD: Float[Tensor, "rows d_model"]) -> Float[Tensor, " rows"]:
        """p of the concept at each row of raw activations."""
        w_D = torch.from_numpy(self.weights).to(x_RD.device)
        return (x_RD.double() @ w_D.double() + self.bias).sigmoid().float()

    def save(self, path: Path) -> None:
        """Write it as ``.npz``, whole or not at all."""
        about = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "bias": self.bias,
            "threshold": self.threshold,
            "manifest": self.manifest,
            "record": self.record,
        }
        buffer = io.BytesIO()
        np.savez(buffer, weights=self.weights, about=np.array(json.dumps(about)))
        write_atomically(path, lambda f: f.write(buffer.getvalue()))

    @classmethod
    def load(cls, path: Path) -> ConceptProbe:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: no such file, or not a probe.
        """
        try:
            with path.open("rb") as f, np.load(f, allow_pickle=False) as arrays:
                weights, about = arrays["weights"], json.loads(str(arrays["about"]))
            if about["format_version"] != FORMAT_VERSION:
                raise UserError(
                    f"{path}: probe format {about['format_version']}, this version reads "
                    f"{FORMAT_VERSION}; update the software or fit the probe again"
                )
            probe = cls(
                about["name"], weights, float(about["bias"]), float(about["threshold"]),
                about["manifest"], about["record"],
            )  # fmt: skip
            fits = weights.dtype == np.float32 and weights.shape == (probe.manifest["d_model"],)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; check the path of the probe") from None
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: is not a probe ({error}); fit it again") from error
        if not (fits and np.isfinite(weights).all() and np.isfinite(probe.bias)):
            raise UserError(f"{path}: damaged (its weights are not d_model numbers); fit it again")
        return probe


class ResidueActivations(NamedTuple):
    """Raw activations of whole proteins, which many concepts can share."""

    manifest: dict[str, Any]
    """``parent``, ``site`` and ``d_model``."""
    x_ND: Float[np.ndarray, "residues d_model"]
    """One row for each residue of each protein, in order."""
    lengths: Int[np.ndarray, " proteins"]
    """Residues of each protein."""


@torch.inference_mode()
def residue_activations(
    model: ProteinLM, site: str, sequences: Sequence[str], *, batch_residues: int = 4096
) -> ResidueActivations:
    """Run unmasked proteins up to a site.

    Raises:
        UserError: no such site, or no sequences.
    """
    model.check_site(site)
    if not sequences:
        raise UserError("no proteins to train or test a probe on; give some")
    lengths = [len(sequence) for sequence in sequences]
    x_ND = np.empty((sum(lengths), model.d_model), dtype=np.float32)
    done = 0
    with tqdm(total=len(x_ND), desc=site, unit="res", unit_scale=True, disable=None) as bar:
        for batch in token_batches(range(len(sequences)), lengths, batch_residues):
            tokens = model.tokenize([sequences[i] for i in batch])
            x_RD = model.residual(tokens, site)[tokens.residue_rows()].float().cpu().numpy()
            x_ND[done : done + len(x_RD)] = x_RD
            done += len(x_RD)
            bar.update(len(x_RD))
    lengths_P = np.array(lengths, dtype=np.int64)
    return ResidueActivations(model.describe_site(site), x_ND, lengths_P)


def fit_concept_probe(
    name: str,
    train: ResidueActivations,
    train_labels: Sequence[np.ndarray],
    held_out: ResidueActivations,
    held_out_labels: Sequence[np.ndarray],
    *,
    C: float = 0.01,
    max_residues: int = 100_000,
    seed: int = 0,
) -> ConceptProbe:
    """Fit on some proteins' residues, score on others'. No protein should be, nor have a homologue,
    in both; who splits them takes care of it.

    Args:
        name: the concept.
        train: activations of the training proteins.
        train_labels: for each of them one label per residue: 1, 0, or :data:`UNKNOWN`.
        held_out: activations of other proteins at the same site.
        held_out_labels: theirs.
        C: inverse strength of the L2 penalty (scikit-learn's).
        max_residues: most residues to train on; more are drawn from, at random.
        seed: of that draw.

    Raises:
        UserError: labels that do not fit their proteins or are all equal, or activations of
            different parents or sites.
    """
    from sklearn.linear_model import LogisticRegression

    require_same_parent(train.manifest, held_out.manifest, what=f"{name}: train and held out")
    x_ND, y_N = _known(name, "training", train, train_labels)
    if len(y_N) > max_residues:
        drawn = np.sort(np.random.default_rng(seed).choice(len(y_N), max_residues, replace=False))
        x_ND, y_N = x_ND[drawn], y_N[drawn]
    _require_both(name, "training", y_N)
    mean_D, std_D = x_ND.mean(0, dtype=np.float64), x_ND.std(0, dtype=np.float64)
    std_D = np.where(std_D > 0, std_D, 1.0)
    fit = LogisticRegression(C=C, max_iter=2000)
    fit.fit(((x_ND - mean_D) / std_D).astype(np.float32), y_N)
    coef_D, intercept = np.ravel(fit.coef_), float(np.ravel(fit.intercept_)[0])
    w_D = (coef_D / std_D).astype(np.float32)
    bias = float(intercept - w_D.astype(np.float64) @ mean_D)
    threshold = _best_threshold(y_N, _sigmoid(x_ND @ w_D.astype(np.float64) + bias))
    x_held_ND, y_held_N = _known(name, "held-out", held_out, held_out_labels)
    _require_both(name, "held-out", y_held_N)
    p_N = _sigmoid(x_held_ND @ w_D.astype(np.float64) + bias)
    record = {
        "C": C,
        "seed": seed,
        "train": _counts(train, y_N),
        "held_out": _counts(held_out, y_held_N) | _scores(y_held_N, p_N, threshold),
    }
    return ConceptProbe(name, w_D, bias, threshold, train.manifest, record)


def _known(
    name: str, part: str, activations: ResidueActivations, labels: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Activations and labels of the residues that have one."""
    lengths = [len(label) for label in labels]
    if lengths != activations.lengths.tolist():
        raise UserError(
            f"{name}: the labels of the {part} proteins have {lengths[:5]} residues, the proteins "
            f"{activations.lengths[:5].tolist()} (the first five); give one label per residue"
        )
    y_N = np.concatenate(labels).astype(np.int8)
    known = y_N != UNKNOWN
    return activations.x_ND[known], y_N[known]


def _require_both(name: str, part: str, y_N: np.ndarray) -> None:
    if set(np.unique(y_N).tolist()) != {0, 1}:
        raise UserError(
            f"{name}: the {part} residues must have labels 0 and 1, found "
            f"{np.unique(y_N).tolist()}; give proteins with and without it"
        )


def _counts(activations: ResidueActivations, y_N: np.ndarray) -> dict[str, int]:
    return {
        "n_proteins": len(activations.lengths),
        "n_residues": len(y_N),
        "n_positive": int(y_N.sum()),
    }


def _scores(y_N: np.ndarray, p_N: np.ndarray, threshold: float) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    return {
        "auroc": float(roc_auc_score(y_N, p_N)),
        "average_precision": float(average_precision_score(y_N, p_N)),
        "f1": float(f1_score(y_N, p_N >= threshold)),
    }


def _best_threshold(y_N: np.ndarray, p_N: np.ndarray) -> float:
    """The probability of best F1; the lowest of several."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(y_N, p_N)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
    return float(thresholds[f1[:-1].argmax()])


def _sigmoid(h: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -h))
