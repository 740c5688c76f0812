"""Before a run starts: can its recipe work on these activations?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from extract.errors import UserError
from saejax.data import ActivationBatches, RowStore
from saejax.presets import PRESETS, preset_values
from saejax.sae_config import WITH_K
from saejax.settings import Dictionary, Recipe

if TYPE_CHECKING:
    from saejax.config import TrainConfig
    from saejax.sources import Data

log = logging.getLogger(__name__)

SAMPLE_PLACES, SAMPLE_ROWS = 8, 256
"""The sample: so many places of the store, evenly spread, and residues at each."""
SHORT_RUN_STEPS = 500
"""Fewer steps than this leave an SAE close to where it started."""
FAR_FROM_RULE = 4.0
"""A learning rate is far from the scaling rule's when it is this many times more or less."""
LARGE_GAMMA = 3.0
"""A mean this many times as long as the spread kills latents of SAEs that do not remove it."""
OUTLIER_RATIO = 10.0
"""A residue is an outlier when its norm is this many times the median."""


def check(configs: Sequence[TrainConfig], data: Data, n_steps: int) -> dict[str, Any]:
    """Look at the activations and the recipe, and warn where they do not fit, a line each.

    A store is sampled; of a stream, whose activations cost forward passes, only mean and scale are
    looked at.

    Args:
        configs: the run, or the runs of a sweep.
        data: what they train on.
        n_steps: of the whole run.

    Returns:
        What was found, for ``run.json``: ``gamma``, and of a store ``norm_mean``, ``norm_median``,
        ``norm_max`` and ``scaled_norm_mean``.

    Raises:
        UserError: activations, their mean or their scale are not finite.
    """
    found, warnings = gamma_of(data.name, data.manifest, data.d_model)
    if isinstance(data.batches, ActivationBatches):
        rows = sample_rows(data.batches.store)
        norms, more = norms_of(data.name, rows, data.manifest, data.d_model)
        found, warnings = found | norms, warnings + more
    for config in configs:
        warnings += recipe_warnings(config, data.d_model, n_steps)
    for warning in dict.fromkeys(warnings):  # runs of a sweep share most of them
        log.warning("warning: %s", warning)
    if found["gamma"] is not None and found["gamma"] > LARGE_GAMMA:
        log.info("gamma is %.1f: the mean of the activations is that many times as long as their "
                 "spread; it is subtracted before training", found["gamma"])  # fmt: skip
    return found


def gamma_of(
    name: str, manifest: Mapping[str, Any], d_model: int
) -> tuple[dict[str, Any], list[str]]:
    """γ = ‖μ‖ / ‖σ‖ from mean and scale, where ‖σ‖² = d_model / scale².

    In arXiv 2605.31518 it predicts the share of dead latents of an SAE without mean-centring
    (ρ = 0.89). Ours centres, so it is a figure to know, not a fault.

    Args:
        name: of the store or stream, in messages.
        manifest: with ``mean``, ``scale`` and ``gamma``, which is None for constant activations.
        d_model: dimensions.

    Returns:
        ``gamma``, and warnings.

    Raises:
        UserError: mean or scale are not finite.
    """
    mean, scale = np.asarray(manifest["mean"], np.float64), float(manifest["scale"])
    if not (np.isfinite(mean).all() and np.isfinite(scale) and scale > 0):
        raise UserError(
            f"{name}: the mean or scale in its manifest is not finite; check it with "
            f"`python -m extract verify {name}`, or extract it again"
        )
    if manifest.get("gamma", 0.0) is None:
        return {"gamma": None}, [
            f"{name}: the activations are all the same, so there is nothing to learn; check the "
            "site and the proteins"
        ]
    return {"gamma": float(np.linalg.norm(mean) * scale / np.sqrt(d_model))}, []


def sample_rows(store: RowStore) -> Float[np.ndarray, "rows d_model"]:
    """Residues from places evenly spread over a store; reading them takes no longer than a pool."""
    starts = np.linspace(0, max(0, store.n_rows - SAMPLE_ROWS), SAMPLE_PLACES).astype(int)
    parts = [store.read(int(s), min(int(s) + SAMPLE_ROWS, store.n_rows)) for s in np.unique(starts)]
    return np.concatenate(parts)


def norms_of(
    name: str, rows: Float[np.ndarray, "rows width"], manifest: Mapping[str, Any], d_model: int
) -> tuple[dict[str, float], list[str]]:
    """Norms of sampled activations, as they are and as they are trained on.

    Args:
        name: of the store, in messages.
        rows: the sample; a transcoder's targets lie beside its inputs.
        manifest: with the mean and scale that training uses.
        d_model: dimensions of the inputs.

    Returns:
        Mean, median and largest ‖x‖, the mean of ‖s(x − μ)‖ / √d_model, and warnings.

    Raises:
        UserError: an activation is not finite.
    """
    bad = int((~np.isfinite(rows).all(axis=1)).sum())
    if bad:
        raise UserError(
            f"{name}: {bad} of {len(rows)} sampled residues have activations that are not finite; "
            f"check it with `python -m extract verify {name}`, or extract it again"
        )
    x_BD = rows[:, :d_model].astype(np.float64)
    norms_B = np.linalg.norm(x_BD, axis=1)
    scaled_BD = (x_BD - np.asarray(manifest["mean"])) * manifest["scale"]
    found = {
        "norm_mean": float(norms_B.mean()),
        "norm_median": float(np.median(norms_B)),
        "norm_max": float(norms_B.max()),
        "scaled_norm_mean": float(np.sqrt((scaled_BD**2).sum(axis=1).mean() / d_model)),
    }
    warnings = []
    if found["norm_max"] > OUTLIER_RATIO * found["norm_median"]:
        warnings.append(
            f"{name}: a residue's activation is {found['norm_max'] / found['norm_median']:.0f} "
            "times as long as the median; such outliers rule the loss; try another block"
        )
    if manifest.get("gamma", 0.0) is not None and not 0.5 < found["scaled_norm_mean"] < 2:
        warnings.append(
            f"{name}: sampled activations have {found['scaled_norm_mean']:.2g} times the spread "
            "that the manifest's scale says; check the store with `python -m extract verify`"
        )
    return found, warnings


def recipe_warnings(config: TrainConfig, d_model: int, n_steps: int) -> list[str]:
    """What in a recipe cannot work, or is unlikely to, each with the remedy."""
    return [
        *_unused_warnings(config),
        *_size_warnings(config, d_model),
        *_rate_warnings(config),
        *_length_warnings(config, n_steps),
    ]


def _unused_warnings(config: TrainConfig) -> list[str]:
    d = config.dictionary
    usual = preset_values(config.preset, config.source).get("k", Dictionary.k)
    if d.architecture in WITH_K or d.k == usual:
        return []
    other = " or --target-l0" * (d.architecture == "jumprelu")
    return [
        f"k ({d.k}) is not used by {d.architecture}, whose sparsity comes from --sparsity{other}; "
        "leave --k away"
    ]


def _size_warnings(config: TrainConfig, d_model: int) -> list[str]:
    d, found = config.dictionary, []
    if d.architecture in WITH_K and d.k > d.d_sae / 2:
        found.append(
            f"k ({d.k}) is more than half of d_sae ({d.d_sae}), so latents cannot be sparse; "
            f"lower --k to {max(1, d.d_sae // 16)} or so, or raise --d-sae"
        )
    if d.d_sae < d_model:
        found.append(
            f"d_sae ({d.d_sae}) is less than the {d_model} dimensions of the activations, so they "
            f"cannot all be described; raise --d-sae to {4 * d_model} or more"
        )
    if config.preset is not None and PRESETS[config.preset].d_model != d_model:
        found.append(
            f"--preset {config.preset} is for activations of {PRESETS[config.preset].d_model} "
            f"dimensions, these have {d_model}; check --activations, or choose another preset"
        )
    return found


def _rate_warnings(config: TrainConfig) -> list[str]:
    rate, rule = config.peak_learning_rate(), config.scaled_learning_rate()
    if rule / FAR_FROM_RULE <= rate <= rule * FAR_FROM_RULE:
        return []
    return [
        f"learning_rate ({rate:.2g}) is {rate / rule:.2g} times the {rule:.2g} that suits "
        f"{config.dictionary.architecture} with {config.dictionary.d_sae} latents; leave "
        "--learning-rate away, or sweep it"
    ]


def _length_warnings(config: TrainConfig, n_steps: int) -> list[str]:
    recipe, found = config.recipe, []
    n_tokens = n_steps * config.batch_size_tokens
    if n_steps < SHORT_RUN_STEPS:
        found.append(
            f"the run has {n_steps} steps, and fewer than {SHORT_RUN_STEPS} rarely suffice; give "
            "more proteins, raise --epochs, or lower --batch-size-tokens"
        )
    if recipe.dead_after_tokens is not None and recipe.dead_after_tokens > n_tokens:
        found.append(
            f"dead_after_tokens ({recipe.dead_after_tokens}) is more than the run's {n_tokens} "
            "residues, so no latent ever counts as dead or is revived; lower --dead-after-tokens, "
            "or leave it away"
        )
    default_warmup = Recipe.__dataclass_fields__["warmup_steps"].default
    if recipe.warmup_steps > n_steps and recipe.warmup_steps != default_warmup:
        found.append(
            f"warmup_steps ({recipe.warmup_steps}) is more than the run's {n_steps} steps and is "
            f"cut to {max(1, n_steps // 10)}; lower --warmup-steps, or leave it away"
        )
    if recipe.ema_decay is not None and 1 / (1 - recipe.ema_decay) > n_steps / 4:
        found.append(
            f"ema_decay ({recipe.ema_decay}) averages over about {1 / (1 - recipe.ema_decay):.0f} "
            f"steps, more than a quarter of the run's {n_steps}; lower --ema-decay, or leave it "
            "away"
        )
    return found
