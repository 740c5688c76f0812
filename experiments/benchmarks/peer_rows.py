"""The rows that all trainers of ``peers.py`` read, and the one judge of their SAEs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Float
from tqdm import tqdm

from experiments.benchmarks.peer_trainers import Answer
from extract.errors import UserError
from extract.files import write_json_atomically
from extract.statistics import Normalizer
from extract.store import ActivationStore
from saejax.data import ActivationBatches, hold_out_position

HALVES = ("validation", "test")
"""Of the held-out proteins: the first chooses settings, the second is reported."""
CHECK_ROWS = 1024
"""Rows that trainers reconstruct themselves."""


@dataclasses.dataclass(frozen=True)
class RowsConfig:
    """Which rows, in which order."""

    activations: Path = tyro.MISSING
    """Store made by ``python -m extract``."""
    out: Path = Path("runs/benchmarks/peers")
    """Folder of the results, and of the rows that all trainers read."""
    tokens: int = 6_000_000
    """Budget of the final runs, in residues; more than the store has are epochs."""
    batch_size_tokens: int = 2048
    """Residues per step."""
    seed: int = 0
    """Of the initial weights and the order of the rows."""
    holdout_fraction: float = 0.02
    """Share of proteins held out, as ``python -m saejax.train`` does; a half of them chooses
    settings, the other is reported."""
    held_out_rows: int = 65_536
    """Most rows of each half."""
    subset: int | None = None
    """Use only so many rows of the store, for a short trial."""


def prepare(config: RowsConfig) -> dict[str, Any]:
    """Write ``train.npy`` in the order of training, both halves, and ``check.npy``.

    All are x = scale · (row − mean).

    Returns:
        What decides the rows, apart from how many they are, with ``d_model``.

    Raises:
        UserError: no store, or no proteins to hold out.
    """
    store = ActivationStore.open(config.activations)
    kept = ("batch_size_tokens", "seed", "holdout_fraction", "held_out_rows", "subset")
    identity = {name: getattr(config, name) for name in kept} | {
        "source": store.manifest["source"]["sha256"],
        "site": store.site,
        "n_rows": store.n_rows,
        "d_model": store.d_model,
    }
    done, plan = config.out / "rows.json", identity | {"tokens": config.tokens}
    if done.exists() and json.loads(done.read_text()) == plan:
        return identity
    done.unlink(missing_ok=True)
    constants = Normalizer.of_manifest(store.manifest)
    size, n_steps = config.batch_size_tokens, max(1, config.tokens // config.batch_size_tokens)
    train_rows = np.arange(store.n_rows) < (config.subset or store.n_rows)
    for half, rows in _held_out(config, store, train_rows).items():
        x = (rows - constants.mean) * constants.scale
        np.save(config.out / f"{half}.npy", x)
        if half == "validation":
            np.save(config.out / "check.npy", x[:CHECK_ROWS])
    batches = ActivationBatches(store, batch_size=size, seed=config.seed, keep_rows=train_rows)
    train = np.lib.format.open_memmap(
        config.out / "train.npy", "w+", np.float32, (n_steps * size, store.d_model)
    )
    iterator = batches.iterate(0, n_steps)
    for i, rows in enumerate(tqdm(iterator, "rows", n_steps, disable=None)):
        train[i * size : (i + 1) * size] = (rows - constants.mean) * constants.scale
    train.flush()
    write_json_atomically(done, plan)
    return identity


def _held_out(
    config: RowsConfig, store: ActivationStore, train_rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Raw rows of both halves; they are unmarked in ``train_rows``."""
    held = hold_out_position(store.proteins) < config.holdout_fraction
    chosen = np.flatnonzero(held & train_rows[store.offsets[:-1]])
    train_rows &= ~np.repeat(held, np.diff(store.offsets))
    if len(chosen) < 2:
        raise UserError(
            f"{config.activations}: {len(chosen)} proteins are held out, two are needed; raise "
            f"--holdout-fraction ({config.holdout_fraction}) or --subset ({config.subset})"
        )
    rows = {}
    for half, proteins in zip(HALVES, (chosen[::2], chosen[1::2])):
        spans = [store.offsets[i : i + 2].tolist() for i in proteins]
        rows[half] = np.concatenate([store.read(*span) for span in spans])[: config.held_out_rows]
    return rows


class Score(NamedTuple):
    """Figures of one SAE on one set of rows."""

    fvu: float
    """Σ‖x − x̂‖² / Σ‖x − mean(x)‖²."""
    l0: float
    """Latents above zero per row."""
    frac_dead: float
    """Share of latents that are zero on all rows."""


def reconstruct(
    sae: Answer, x_BD: Float[np.ndarray, "batch d"], k: int
) -> tuple[Float[np.ndarray, "batch d"], Float[np.ndarray, "batch d_sae"]]:
    """x̂ = z W_dec + b_dec, and z = ReLU(TopK_k((x − b_dec) W_enc + b_enc)), dense."""
    pre_acts_BF = (x_BD - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
    top_BK = np.argpartition(pre_acts_BF, -k, axis=1)[:, -k:]
    z_BF = np.zeros_like(pre_acts_BF)
    values_BK = np.maximum(np.take_along_axis(pre_acts_BF, top_BK, axis=1), 0)
    np.put_along_axis(z_BF, top_BK, values_BK, axis=1)
    return z_BF @ sae["W_dec"] + sae["b_dec"], z_BF


def score(sae: Answer, x_ND: Float[np.ndarray, "rows d"], k: int, block: int = 4096) -> Score:
    """Figures of an SAE in the common form, sums in float64."""
    error, fired_F = 0.0, np.zeros(len(sae["b_enc"]), np.int64)
    for start in range(0, len(x_ND), block):
        x_BD = x_ND[start : start + block]
        x_hat_BD, z_BF = reconstruct(sae, x_BD, k)
        error += float(np.square(x_BD - x_hat_BD, dtype=np.float64).sum())
        fired_F += (z_BF > 0).sum(axis=0)
    mean_D = x_ND.mean(axis=0, dtype=np.float64)
    deviation = float(np.square(x_ND - mean_D).sum())
    return Score(error / deviation, float(fired_F.sum() / len(x_ND)), float((fired_F == 0).mean()))
