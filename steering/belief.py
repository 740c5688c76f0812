"""Can a variant be believed? What the *unedited* model says of a sequence that an edit wrote.

- **Re-activation**: the edited latent, encoded again on the new sequence. If it does not rise, the
  edit moved the model's output but not to sequences that carry what the latent reads.
- **Pseudo-perplexity**: exp of the mean −log p of the residues, each of them masked, p over the 20
  amino acids (Salazar et al. 2020, arXiv 1910.14659). Low is likely.
- **Identity** to the input, and the **shift of composition**: a latent that only writes more of one
  amino acid shows there.
- **Probes** of any concept (:mod:`steering.concept_probe`), which never saw the SAE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from extract.alphabet import AMINO_ACIDS, residue_tokens, residue_types
from extract.batching import token_batches
from extract.errors import UserError
from extract.plm import ProteinLM
from steering.concept_probe import ConceptProbe
from steering.design import Variant
from steering.effects import amino_acid_log_p
from steering.masked import batches_of_jobs, disjoint_parts, standard_residues
from steering.torch_sae import TorchSAE

COPIES = 10
"""By default a tenth of the residues is masked at a time."""


class Reading(NamedTuple):
    """A number per residue, in short; NaN where there are no such residues."""

    mean: float
    """Over all residues."""
    maximum: float
    """Over all residues."""
    edited_mean: float
    """Over the residues at which edits applied."""
    edited_maximum: float
    """Over those."""


class Compared(NamedTuple):
    """The same reading of a variant and of its input, at the same residues."""

    variant: Reading
    """Of the variant."""
    input: Reading
    """Of the input."""

    @property
    def rise(self) -> float:
        """By how much the mean over all residues is higher in the variant."""
        return self.variant.mean - self.input.mean

    @property
    def edited_rise(self) -> float:
        """By how much the mean over the edited residues is higher; NaN if there are none."""
        return self.variant.edited_mean - self.input.edited_mean


class Judgement(NamedTuple):
    """What the unedited model says of a variant."""

    index: int
    """The variant's."""
    n_changes: int
    """Positions that differ from the input."""
    identity: float
    """Share of positions that do not."""
    latents: dict[int, Compared]
    """Re-activation: each latent (normalised units) on the new sequence, beside the input."""
    probes: dict[str, Compared]
    """Probability of each probe's concept."""
    pseudo_perplexity: float
    """Of the variant; NaN without a standard residue."""
    input_pseudo_perplexity: float
    """Of the input, with the same masks."""
    pseudo_perplexity_masks: str
    """How the residues were masked, in words."""
    composition_shift: Float[np.ndarray, " 20"]
    """Share of each amino acid among standard residues, variant − input."""
    total_variation: float
    """½ Σ|shift|: the share of residues that would have to change to give it back."""


@torch.inference_mode()
def judge(
    model: ProteinLM,
    sae: TorchSAE,
    input_sequence: str,
    variants: Sequence[Variant],
    latents: Sequence[int],
    *,
    probes: Sequence[ConceptProbe] = (),
    at: Int[np.ndarray, " at"] | None = None,
    copies: int | None = COPIES,
    seed: int = 0,
    batch_residues: int = 4096,
) -> list[Judgement]:
    """Judge variants of one sequence by the unedited model.

    Cost: one pass over every variant up to the SAE's site, and ``copies`` whole ones.

    Args:
        model: the parent.
        sae: on the model's device.
        input_sequence: what the variants were made of.
        variants: see :func:`steering.design.design`.
        latents: whose re-activation to read; the edited ones, see
            :func:`steering.edits.latents_of`.
        probes: of concepts, each of another name.
        at: 0-based residues to take for the edited ones in every variant. By default they are each
            variant's own (``Variant.edited``); controls without edits have none.
        copies: disjoint masks that cover every residue once; None masks one residue at a time,
            which is exact and costs as many passes as residues.
        seed: of the masks, which are the same for the input and all variants.
        batch_residues: residues per forward pass.

    Raises:
        UserError: another parent (of the SAE or a probe), an unknown latent, two probes of one
            name, residues outside the sequence, or a parent without masks or logits.
    """
    sae.require_parent(model)
    _check_probes(model, probes)
    for latent in latents:
        sae.check_latent(latent)
    if at is not None and len(at) and not 0 <= at.min() <= at.max() < len(input_sequence):
        raise UserError(
            f"at: a residue is outside the sequence, whose residues are 1 to {len(input_sequence)}"
        )
    sequences = [input_sequence, *(variant.sequence for variant in variants)]
    perplexities = pseudo_perplexity(
        model, sequences, copies=copies, seed=seed, batch_residues=batch_residues
    )
    read = _read(model, sae, sequences, latents, probes, batch_residues)
    masks = "one residue at a time" if copies is None else f"{copies} disjoint masks, seed {seed}"
    found = []
    for n, variant in enumerate(variants, start=1):
        edited = variant.edited if at is None else at
        compared = [
            Compared(_reading(read[n][:, c], edited), _reading(read[0][:, c], edited))
            for c in range(read[0].shape[1])
        ]
        shift = composition(variant.sequence) - composition(input_sequence)
        found.append(Judgement(
            variant.index,
            len(variant.changed),
            1 - len(variant.changed) / len(input_sequence),
            dict(zip(latents, compared[: len(latents)], strict=True)),
            dict(zip([p.name for p in probes], compared[len(latents) :], strict=True)),
            float(perplexities[n]),
            float(perplexities[0]),
            masks,
            shift,
            float(np.abs(shift).sum() / 2),
        ))  # fmt: skip
    return found


def composition(sequence: str) -> Float[np.ndarray, " 20"]:
    """Share of each of ``AMINO_ACIDS`` among the standard residues; NaN if there are none."""
    types = residue_types(residue_tokens(sequence))
    counts = np.bincount(types, minlength=len(AMINO_ACIDS) + 1)[: len(AMINO_ACIDS)]
    return counts / counts.sum() if counts.any() else np.full(len(AMINO_ACIDS), np.nan)


@torch.inference_mode()
def pseudo_perplexity(
    model: ProteinLM,
    sequences: Sequence[str],
    *,
    copies: int | None = COPIES,
    seed: int = 0,
    batch_residues: int = 4096,
) -> Float[np.ndarray, " sequences"]:
    """exp(mean −log p) of each sequence's standard residues, each masked once; p over the 20.

    With ``copies`` the residues are masked in so many disjoint random parts, which depend on the
    seed and on where the standard residues are alone: variants of one sequence have equal masks.
    That is slightly higher than one at a time, for other residues are hidden too.

    Args:
        model: a parent with a mask token.
        sequences: of legal residues.
        copies: parts; None is one residue at a time.
        seed: of the parts.
        batch_residues: residues per forward pass.

    Returns:
        One number per sequence, NaN for one without a standard residue.

    Raises:
        UserError: a parent without a mask token or logits, ``copies`` below 1, or an output that
            is not finite.
    """
    if model.mask_token is None:
        raise UserError(f"{model.name} was not trained on masks, so it has no pseudo-perplexity")
    if copies is not None and copies < 1:
        raise UserError(f"copies ({copies}) must be at least 1")
    jobs = [(s, part) for s, sequence in enumerate(sequences)
            for part in disjoint_parts(standard_residues(sequence), copies, seed)]  # fmt: skip
    sums, counts = np.zeros(len(sequences)), np.zeros(len(sequences))
    with tqdm(total=sum(len(sequences[s]) for s, _ in jobs), desc="pseudo-perplexity", unit="res",
              unit_scale=True, disable=None) as bar:  # fmt: skip
        for batch in batches_of_jobs(model, sequences, jobs, mask=model.mask_token,
                                     batch_residues=batch_residues):  # fmt: skip
            logits = model.logits(batch.tokens)[batch.rows]
            log_p = amino_acid_log_p(logits, model.amino_acid_tokens).cpu().double().numpy()
            of_residues = log_p[np.arange(len(batch.types)), batch.types]
            sums += np.bincount(batch.proteins, -of_residues, minlength=len(sequences))
            counts += np.bincount(batch.proteins, minlength=len(sequences))
            bar.update(len(batch.tokens.residue_rows()))
    if not np.isfinite(sums).all():
        raise UserError(f"the output of {model.name} is not finite; check its weights")
    return np.exp(np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0))


def read_probes(
    model: ProteinLM,
    sequences: Sequence[str],
    probes: Sequence[ConceptProbe],
    *,
    batch_residues: int = 4096,
) -> Float[np.ndarray, "sequences probes"]:
    """Mean probability over the residues of each sequence, by the unedited model.

    Raises:
        UserError: a probe of another parent, or two of one name.
    """
    _check_probes(model, probes)
    read = _read(model, None, sequences, (), probes, batch_residues)
    return np.stack([values.mean(axis=0, dtype=np.float64) for values in read])


@torch.inference_mode()
def _read(
    model: ProteinLM,
    sae: TorchSAE | None,
    sequences: Sequence[str],
    latents: Sequence[int],
    probes: Sequence[ConceptProbe],
    batch_residues: int,
) -> list[Float[np.ndarray, "residues columns"]]:
    """Latents, then probes, at every residue of every sequence."""
    wanted = [sae.site] if sae is not None and latents else []
    wanted += [probe.site for probe in probes]
    sites = list(dict.fromkeys(wanted))
    if not sites:
        return [np.empty((len(sequence), 0), np.float32) for sequence in sequences]
    lengths = [len(sequence) for sequence in sequences]
    found = []
    for batch in token_batches(range(len(sequences)), lengths, batch_residues):
        tokens = model.tokenize([sequences[i] for i in batch])
        rows = tokens.residue_rows()
        streams = {site: x[rows] for site, x in model.residuals(tokens, sites).items()}
        columns = [probe.probability(streams[probe.site]) for probe in probes]
        if sae is not None and latents:
            columns = [*sae.encode(streams[sae.site]).of(latents).unbind(-1), *columns]
        per_residue = torch.stack(columns, -1).cpu().numpy()
        found += np.split(per_residue, np.cumsum([lengths[i] for i in batch])[:-1])
    return found


def _reading(values: np.ndarray, edited: np.ndarray) -> Reading:
    inside, nan = values[edited], float("nan")
    return Reading(
        float(values.mean()),
        float(values.max()),
        float(inside.mean()) if len(inside) else nan,
        float(inside.max()) if len(inside) else nan,
    )


def _check_probes(model: ProteinLM, probes: Sequence[ConceptProbe]) -> None:
    names = [probe.name for probe in probes]
    for i, probe in enumerate(probes):
        probe.require_parent(model)
        if probe.name in names[:i]:
            raise UserError(f"two probes are called {probe.name!r}; give one of them")
