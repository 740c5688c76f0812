"""Does an SAE reconstruct these activations as well as it did? If not: what went wrong.

A wrong layer, a lost scale or another token dropout changes no shape, so nothing else notices
them. A few thousand residues do: the fraction of variance unexplained (FVU) is then far from the
one that the run records.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from extract.errors import UserError
from extract.store import ActivationStore
from saejax.loaded_sae import LoadedSAE
from saejax.losses import fvu
from saejax.model import SAE

log = logging.getLogger(__name__)

CHECK_RESIDUES = 4096
"""Residues of a store that are looked at."""
CHUNK_RESIDUES = 128
"""They are read in runs of this length, evenly spread."""
FEW_RESIDUES = 1024
"""With fewer, deviations are from the recorded mean: their own is too uncertain."""
POOR = 0.8
"""Where none is recorded: explaining less than a fifth is no SAE of these activations."""
LEAST_MARGIN, MOST_MARGIN = 0.1, 0.3
"""FVU may exceed the recorded one by itself, but at least and at most by these."""
SPREAD = 3.0
"""Activations whose spread is this many times the recorded one (or its inverse) were rescaled."""
SCALES = np.geomspace(1e-3, 1e3, 19)
"""Factors that a lost scale is looked for among, and then between the neighbours of the best."""
MUCH_LESS = 0.7
"""An FVU that something simple would bring down to this share of it is suspicious."""
TRIED_RESIDUES = 512
"""On which causes are tried out."""
BLOCK_ENTRIES = 2**25
"""Latents of a block of residues, as a dense array."""

Rows = Float[np.ndarray, "rows d_model"]


class Gate(NamedTuple):
    """What was found, and what was allowed."""

    fvu: float
    """On the residues given."""
    recorded: float | None
    """What the run says; None if it says nothing."""
    n_residues: int
    """How many were given."""

    @property
    def limit(self) -> float:
        """The largest FVU that passes."""
        return POOR if self.recorded is None else fvu_limit(self.recorded)


def fvu_limit(recorded: float) -> float:
    """The largest FVU that is not far from a recorded one."""
    return recorded + min(max(recorded, LEAST_MARGIN), MOST_MARGIN)


def check_fvu(
    loaded: LoadedSAE,
    activations: ActivationStore | str | Path | np.ndarray,
    *,
    expected: float | None = None,
    alike: bool = False,
) -> Gate:
    """Refuse an SAE whose FVU on some activations is far from its recorded value.

    Args:
        loaded: the run.
        activations: a store, of which a few thousand residues are read, or raw activations.
        expected: instead of the recorded FVU.
        alike: residues of a few proteins, which vary little: deviations are from the recorded mean.

    Raises:
        UserError: with both values and the likely cause; or a store of another parent or site, or
            a transcoder.
    """
    if loaded.config.d_out is not None:
        raise UserError(f"{loaded.folder}: is a transcoder; check it with `python -m "
                        "saejax.evaluate`, which takes both of its stores")  # fmt: skip
    recorded = expected if expected is not None else loaded.run.get("results", {}).get("fvu")
    if isinstance(activations, np.ndarray):
        name, x = "the activations given", np.asarray(activations, np.float32)
    else:
        store = activations
        store = store if isinstance(store, ActivationStore) else ActivationStore.open(store)
        loaded.require_store(store)
        name, x = str(store.folder), sample_rows(store)
    _require_rows(loaded, x, name)
    alike = alike or len(x) < FEW_RESIDUES
    mean = loaded.store_manifest.get("mean") if alike else None
    found = Gate(measured_fvu(loaded.sae, x, mean), recorded, len(x))
    scaled = None if alike else _rescaled(loaded, x, found.limit)
    if found.fvu <= found.limit and scaled is None:
        log.info("%s: FVU %.3f on %d residues of %s%s", loaded.folder, found.fvu, len(x), name,
                 "" if recorded is None else f", recorded {recorded:.3f}")  # fmt: skip
        return found
    was = "none is recorded" if recorded is None else f"recorded {recorded:.3f}"
    raise UserError(
        f"{loaded.folder}: FVU is {found.fvu:.3f} on {len(x):,} residues of {name} ({was}, at most "
        f"{found.limit:.3f} passes); {scaled or likely_cause(loaded, x, found.limit)}"
    )


def check_stores(loaded: LoadedSAE, stores: Sequence[ActivationStore]) -> None:
    """:func:`check_fvu` for a command line: a run that records no FVU has nothing to compare with.

    Raises:
        UserError: as there.
    """
    if loaded.run.get("results", {}).get("fvu") is None or loaded.config.d_out is not None:
        return
    for store in stores:
        check_fvu(loaded, store)


def sample_rows(store: ActivationStore, n: int = CHECK_RESIDUES) -> Rows:
    """About ``n`` rows of a store in runs, evenly spread over it; all when it has no more."""
    if store.n_rows <= n:
        return store.read(0, store.n_rows)
    starts = np.linspace(0, store.n_rows - CHUNK_RESIDUES, max(1, n // CHUNK_RESIDUES)).astype(int)
    return np.concatenate([store.read(int(s), int(s) + CHUNK_RESIDUES) for s in starts])


def measured_fvu(sae: SAE, x: Rows, mean: Sequence[float] | None = None) -> float:
    """Σ‖x − x̂‖² / Σ‖x − mean(x)‖² of raw activations; about ``mean`` if it is given."""
    error, size = 0.0, max(1, min(len(x), BLOCK_ENTRIES // sae.config.d_sae))
    for start in range(0, len(x), size):
        rows = np.zeros((size, x.shape[1]), np.float32)  # one compiled size
        rows[: len(x) - start] = x[start : start + size]
        x_hat = np.asarray(_reconstruct(sae, rows))
        missed = (rows - x_hat)[: len(x) - start]
        error += float((missed.astype(np.float64) ** 2).sum())
    centre = x.mean(axis=0, dtype=np.float64) if mean is None else np.asarray(mean, np.float64)
    return fvu(error, float(((x - centre) ** 2).sum()))


@nnx.jit
def _reconstruct(sae: SAE, x_BD: ArrayLike) -> Array:
    x_BD = jnp.asarray(x_BD)
    z_BF = sae.encode_dense_normalized(sae.normalize(x_BD))
    return sae.denormalize(z_BF @ sae.W_dec[...] + sae.b_dec[...][None], x_BD)


def _require_rows(loaded: LoadedSAE, x: np.ndarray, name: str) -> None:
    d_model = loaded.config.d_model
    if x.ndim != 2 or x.shape[1] != d_model or len(x) < 2:
        raise UserError(
            f"{loaded.folder}: takes activations [rows, {d_model}], got {list(x.shape)} of {name}; "
            "give at least two residues of its own site"
        )
    if not np.isfinite(x).all():
        raise UserError(f"{name}: some activations are not finite; extract them again")


def _rescaled(loaded: LoadedSAE, x: Rows, limit: float) -> str | None:
    """Words, when the activations spread far more or less than those that the run knows.

    Layers differ in that too, so a scale alone is named only where undoing it helps.
    """
    scale = loaded.store_manifest.get("scale")
    if not scale or loaded.config.token_zscore is not None:
        return None
    variance = float(x.var(axis=0, dtype=np.float64).sum())
    spread = scale * (variance / x.shape[1]) ** 0.5
    if 1 / SPREAD < spread < SPREAD:
        return None
    what = "likely cause: "
    if measured_fvu(loaded.sae, (x / spread).astype(np.float32)) > limit:
        simple = _simple_cause(loaded, x, limit)
        if simple is not None:
            return simple
        what = f"likely causes: {_elsewhere(loaded)}, or "
    return (
        f"{what}a scale that was lost or applied twice, since these activations spread "
        f"{spread:.3g} times as far as those that the run knows; give raw activations of that site"
    )


def _elsewhere(loaded: LoadedSAE) -> str:
    return f"another layer than {loaded.site}, before or after the final LayerNorm"


def better_fit(loaded: LoadedSAE, x: Rows, below: float) -> str | None:
    """What would make FVU much smaller than it is, in words; None when nothing that is tried does.

    Args:
        loaded: the run.
        x: raw activations, of which some are used.
        below: FVU as it is.
    """
    words, value = _best_attempt(loaded, x)
    return f"{words} (FVU would be {value:.3f})" if value < MUCH_LESS * below else None


def likely_cause(loaded: LoadedSAE, x: Rows, limit: float) -> str:
    """What would bring FVU below its limit, tried out on some of the residues, in words."""
    simple = _simple_cause(loaded, x, limit)
    if simple is not None:
        return simple
    manifest = loaded.store_manifest
    dropout = "on" if manifest["parent"]["token_dropout"] else "off"
    return (
        f"likely causes: {_elsewhere(loaded)}, token dropout (it should be {dropout}), other "
        "weights of the parent, or a mean or scale that was lost; extract the site again as the "
        "run's record says"
    )


def _simple_cause(loaded: LoadedSAE, x: Rows, limit: float) -> str | None:
    words, value = _best_attempt(loaded, x)
    return f"likely cause: {words} (FVU would be {value:.3f})" if value <= limit else None


def _best_attempt(loaded: LoadedSAE, x: Rows) -> tuple[str, float]:
    x = x[:: max(1, len(x) // TRIED_RESIDUES)][:TRIED_RESIDUES]
    attempts = _attempts(loaded.sae, x) | _undone(loaded.sae, x, loaded.store_manifest)
    words = min(attempts, key=lambda w: attempts[w])
    return words, attempts[words]


def _attempts(sae: SAE, x: Rows) -> dict[str, float]:
    """FVU with everything simple that could have gone wrong undone."""
    mean, std = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True, ddof=1)
    centred = x - x.mean(axis=0)
    factor, of_scale = _best_factor(sae, x)
    factor_centred, of_both = _best_factor(sae, centred)
    found = {
        "a lost mean: activations less their mean fit": measured_fvu(sae, centred),
        f"a lost scale: activations times {factor:.3g} fit": of_scale,
        f"a lost mean and scale: activations less their mean, times {factor_centred:.3g}, fit": (
            of_both
        ),
        "activations from before the final LayerNorm, or without the z-score of every residue over "
        "its own dimensions": measured_fvu(sae, (x - mean) / (std + 1e-5)),
    }
    for name in ("W_dec", "W_enc_T") if sae.config.d_sae == sae.config.d_model else ():
        found[_transposed(name)] = measured_fvu(_with_transposed(sae, name), x)
    return found


def _undone(sae: SAE, x: Rows, manifest: Mapping) -> dict[str, float]:
    """FVU of activations that were normalised already, with that undone."""
    if manifest.get("mean") is None or manifest.get("scale") is None:
        return {}
    mean = np.asarray(manifest["mean"], np.float32)
    raw = (x / manifest["scale"] + mean).astype(np.float32)
    return {
        "a mean that is subtracted twice, since these activations have none": measured_fvu(
            sae, x + mean
        ),
        "mean and scale applied twice, since these activations are normalised": measured_fvu(
            sae, raw
        ),
    }


def _best_factor(sae: SAE, x: Rows) -> tuple[float, float]:
    """The factor by which activations must be scaled to fit best, and their FVU then."""

    def best(factors: np.ndarray) -> tuple[float, float]:
        values = [measured_fvu(sae, (factor * x).astype(np.float32)) for factor in factors]
        return float(factors[int(np.argmin(values))]), min(values)

    coarse, _ = best(SCALES)
    step = float(SCALES[1] / SCALES[0])
    return best(np.geomspace(coarse / step, coarse * step, 11))


def _transposed(name: str) -> str:
    return f"the {'decoder' if name == 'W_dec' else 'encoder'} is transposed"


def _with_transposed(sae: SAE, name: str) -> SAE:
    graph, state = nnx.split(sae)
    state = {key: variable for key, variable in state.items()}
    state[name] = state[name].replace(state[name][...].T)
    return nnx.merge(graph, nnx.State(state))
