"""What a run ends with: held-out figures, and of a sweep how alike its seeds became."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from extract.files import write_atomically, write_json_atomically
from saejax.calibrate import calibrate_threshold
from saejax.checkpoint import latest_sae, load_sae
from saejax.config import TrainConfig
from saejax.evaluate import Evaluation, evaluate, row_blocks
from saejax.model import SAE
from saejax.sources import Data
from saejax.sweep import stability_of

log = logging.getLogger(__name__)


def evaluate_training(
    trained: SAE, config: TrainConfig, data: Data
) -> tuple[Evaluation, dict[str, float]]:
    """Figures on the held-out residues, with the threshold calibrated on them where there is one.

    Returns:
        The figures, and ``threshold`` or nothing.
    """

    def blocks():
        return row_blocks(data.eval_source, data.eval_rows)

    extra = {}
    if config.dictionary.architecture in ("batchtopk", "matryoshka"):
        extra["threshold"] = calibrate_threshold(trained, blocks, config.dictionary.k)
    return evaluate(trained.for_inference(extra.get("threshold")), blocks()), extra


def finish(config: TrainConfig, record: dict[str, Any], data: Data) -> dict[str, float]:
    """Evaluate a run on held-out residues, and mark it complete.

    Args:
        config: the run.
        record: its ``run.json``.
        data: what it was trained and is evaluated on.

    Returns:
        The figures.
    """
    out = config.out
    sae = latest_sae(out, config.sae(data.d_model, data.d_out))
    result, extra = evaluate_training(sae, config, data)
    write_latent_stats(out / "latent_stats.parquet", result)
    results = result.summary() | extra
    write_json_atomically(out / "run.json", record | {"state": "complete", "results": results})
    log.info("%s: held-out FVU %.4f, L0 %.1f, dead %.2f %%, on %d residues", out,
             result.fvu, result.l0, 100 * result.frac_dead, result.n_tokens)  # fmt: skip
    return results


def write_latent_stats(path: Path, result: Evaluation) -> None:
    """``latent_stats.parquet``: how often each latent fires, and its largest value."""
    columns = {
        "latent": np.arange(len(result.frequency), dtype=np.int32),
        "frequency": result.frequency,
        "maximum": result.maximum,
    }
    write_atomically(path, lambda f: pq.write_table(pa.table(columns), f))


def write_stability(config: TrainConfig, configs: Sequence[TrainConfig]) -> None:
    """``sweep.json``: which runs there are, and how alike seeds became."""
    decoders = [np.asarray(load_sae(c.out).sae.W_dec[...]) for c in configs]
    pairs = stability_of(configs, decoders)
    found = {"runs": [c.out.name for c in configs], "seed_stability": pairs}
    write_json_atomically(config.out / "sweep.json", found)
    for pair in pairs:
        log.info("%s and %s: %.0f %% of latents are in both, mean cosine %.2f", pair["first"],
                 pair["second"], 100 * pair["shared"], pair["mean_cosine"])  # fmt: skip
