"""What a decoder row does to the parent's amino-acid logits, to first order.

Adding δ to latent j at residue r adds δ · W_dec[j] / scale to the activation there. With J the mean
over residues of the derivative of a residue's own 20 logits with respect to its own activation,
through every later block, the final norm and the head::

    effect[j] = J · W_dec[j] / scale,  less its mean over the 20

in logits per unit of the latent. Inputs are whole, unmasked proteins, as those the SAE was trained
on. A parent that reads left to right is asked for the next residue's logits.

J is estimated with random signs (Hutchinson 1989, Commun. Stat. Simul. 18:1059)::

    J = E_s mean_r s_r · ∂(Σ_q s_q logits[q]) / ∂activation[r]

since the terms of q ≠ r cancel on average. One pass backwards per amino acid then serves all
residues of a batch, where the exact mean would need one for each residue.

Differs from the direct path (decoder row through final norm and head alone): that ignores what the
later blocks make of it, which is most of it in the middle of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from explorer.build.hashing import protein_keys
from extract.batching import token_batches
from extract.fasta import Protein
from extract.store import require_same_parent

if TYPE_CHECKING:
    import torch

    from extract.plm import PackedTokens, ProteinLM
    from saejax.checkpoint import LoadedSAE

BATCH_RESIDUES = 1024


def logit_effects(
    loaded: LoadedSAE, model: ProteinLM, proteins: Sequence[Protein], n_residues: int
) -> Float[np.ndarray, "d_sae 20"]:
    """Effect of each latent on each amino acid's logit, per unit: float32, rows of mean 0.

    Args:
        loaded: the run; no transcoder.
        model: its parent, with a head.
        proteins: from which some are taken, by the hash of their ids, until there are enough.
        n_residues: over which the derivative is averaged.

    Raises:
        UserError: another parent, or one without logits.
    """
    found = {"parent": model.describe(), "site": loaded.site, "d_model": model.d_model}
    named = {key: loaded.store_manifest[key] for key in found}
    require_same_parent(named, found, what=f"run {loaded.folder} and the loaded model {model.name}")
    arrays = loaded.arrays()
    chosen = some_proteins(proteins, n_residues, model.max_residues)
    jacobian = mean_jacobian(model, loaded.site, chosen)
    effect = arrays["W_dec"].astype(np.float64) @ jacobian.T / float(arrays["scale"])
    return (effect - effect.mean(axis=1, keepdims=True)).astype(np.float32)


def some_proteins(proteins: Sequence[Protein], n_residues: int, longest: int) -> list[Protein]:
    """Whole proteins in the order of the hash of their ids, until they have enough residues."""
    chosen: list[Protein] = []
    for at in np.argsort(protein_keys(p.id for p in proteins), kind="stable").tolist():
        if sum(len(p.sequence) for p in chosen) >= n_residues:
            break
        if len(proteins[at].sequence) <= longest:
            chosen.append(proteins[at])
    return chosen


def mean_jacobian(
    model: ProteinLM, site: str, proteins: Sequence[Protein], *, draws: int = 1
) -> Float[np.ndarray, "20 d_model"]:
    """J of this module's docstring, over all residues of the proteins.

    Args:
        model: with a head.
        site: of the activations.
        proteins: at least one.
        draws: of the signs, which are averaged.

    Raises:
        UserError: a parent without logits.
    """
    total, n = np.zeros((20, model.d_model)), 0
    lengths = [len(p.sequence) for p in proteins]
    for batch in token_batches(range(len(proteins)), lengths, BATCH_RESIDUES):
        some = [proteins[i] for i in batch]
        seed = int(protein_keys([some[0].id])[0])
        tokens = model.tokenize([p.sequence for p in some])
        for draw in range(draws):
            found, counted = _batch(model, site, tokens, np.random.default_rng([seed, draw]))
            total, n = total + found, n + counted
    return total / max(n, 1)


def _batch(
    model: ProteinLM, site: str, tokens: PackedTokens, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """(Σ over residues of the estimate, residues)."""
    import torch

    rows = tokens.residue_rows()
    scored, asked = _scored_rows(model, tokens)
    with torch.enable_grad():
        delta_RD, logits = _logits_of_change(model, site, tokens, rows)
        signs = torch.from_numpy(rng.choice([-1.0, 1.0], size=len(scored))).to(logits)
        found = np.zeros((20, model.d_model))
        for i, column in enumerate(model.amino_acid_tokens.tolist()):
            score = (signs * logits[scored, column]).sum()
            [gradient] = torch.autograd.grad(score, delta_RD, retain_graph=True)
            found[i] = (signs[:, None] * gradient[asked].double()).sum(dim=0).cpu().numpy()
    return found, len(scored)


def _scored_rows(model: ProteinLM, tokens: PackedTokens) -> tuple[torch.Tensor, torch.Tensor]:
    """(packed rows whose logits count, which residue's activation each is asked about)."""
    import torch

    rows = tokens.residue_rows()
    places = torch.arange(len(rows), device=rows.device)
    if model.mask_token is not None:
        return rows, places
    follows = rows[1:] == rows[:-1] + 1  # the next residue of the same sequence
    return rows[1:][follows], places[:-1][follows]


def _logits_of_change(
    model: ProteinLM, site: str, tokens: PackedTokens, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(a change of zero at the residues' activations, the logits that depend on it)."""
    import torch

    stream_site = model.stream_site(site)
    with torch.no_grad():
        stream = model.residual(tokens, stream_site)
    delta_RD = torch.zeros(len(rows), model.d_model, device=stream.device, requires_grad=True)

    def add(x: torch.Tensor) -> torch.Tensor:
        return x.index_add(0, rows, delta_RD.to(x.dtype))

    def changed(_module: torch.nn.Module, _args: tuple, x: torch.Tensor) -> torch.Tensor:
        return add(x)

    if stream_site == site:
        return delta_RD, model.logits_from(add(stream), tokens, site)
    handle = model.site_module(site).register_forward_hook(changed)
    try:
        return delta_RD, model.logits_from(stream, tokens, stream_site)
    finally:
        handle.remove()
