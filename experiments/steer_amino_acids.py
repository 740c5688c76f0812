"""Does clamping an amino acid's latent raise that amino acid at masked positions?

For each of the 20 amino acids: the latent that predicts it best (chosen by ``python -m probes`` on
the select part of the proteins) is clamped to its own maximum at masked positions of proteins of
the *test* part, which neither the SAE nor the choice has seen, and the change of log p of the
amino acid is measured there. On the same axis: latents of the nearest firing frequency, each
adding a change of the same norm at the same position. Intervals are bootstrapped over proteins.

Command: ``python -m experiments.steer_amino_acids --run runs/demo/sae --probes runs/demo/probes
--activations runs/demo/acts/pdb --out runs/demo/amino_acids.csv`` (about a minute on 2 cores).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tyro

from extract.errors import UserError, run_cli
from extract.fasta import Protein
from extract.files import plain_settings, read_json, write_atomically, write_json_atomically
from extract.sampling import by_hash
from extract.store import ActivationStore

if TYPE_CHECKING:
    from steering.sweep import DoseResponse

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AminoAcidConfig:
    """Steer every amino acid's best latent at masked positions, beside matched random latents."""

    run: Path
    """Folder of a finished ``python -m saejax.train``."""
    probes: Path
    """Folder of ``python -m probes`` on that run: which latents, and which proteins are unseen."""
    activations: Path
    """Store whose proteins are steered (those in the test part)."""
    out: Path
    """The table to write (CSV); its summary goes beside it, as JSON."""
    strength: float = 1.0
    """Multiple of the latent's own maximum on the run's held-out residues."""
    n_proteins: int = 30
    """Proteins steered: those of the test part with the smallest SHA-256."""
    n_controls: int = 10
    """Random latents of matched frequency, for each amino acid."""
    mask_fraction: float = 0.1
    """Share of residues masked at once."""
    seed: int = 0
    """Seed of masks, controls and bootstrap."""
    weights: Path | None = None
    """Weights file of the parent; by default found as ``python -m extract`` does."""


def unseen_proteins(config: AminoAcidConfig) -> list[Protein]:
    """Proteins of the store that the probes kept for testing."""
    store = ActivationStore.open(config.activations)
    split = pd.read_csv(config.probes / "split.csv", dtype=str)
    test = set(split.loc[split["part"] == "test", "id"])
    unseen = [p for p in store.proteins if p.id in test]
    if not unseen:
        raise UserError(f"{config.activations}: none of its proteins is in the probes' test part")
    return by_hash(unseen, config.n_proteins)


def best_latents(config: AminoAcidConfig, run_name: str) -> dict[str, int]:
    """The latent chosen for each amino acid."""
    summary = read_json(config.probes / "summary.json", "a folder of probes")
    if summary["run"] != run_name:
        raise UserError(
            f"{config.probes}: probes of run {summary['run']!r}, not of {run_name!r}; run "
            "`python -m probes` on this run"
        )
    table = pd.read_csv(config.probes / "probes.csv")
    table = table[table["kind"] == "amino acid"]
    return {str(c): int(j) for c, j in zip(table["concept"], table["latent"], strict=True)}


def steer_all(config: AminoAcidConfig) -> pd.DataFrame:
    """One row per amino acid: its latent's effect, its controls', intervals over proteins."""
    from extract.parents import load_parent_of
    from saejax.checkpoint import load_sae
    from steering.controls import matched_latents
    from steering.edits import Edit, Where, multiple_of_maximum
    from steering.masked import scored_batches
    from steering.sweep import dose_response
    from steering.torch_sae import TorchSAE

    loaded = load_sae(config.run)
    latents = best_latents(config, loaded.folder.resolve().name)
    proteins = unseen_proteins(config)
    model = load_parent_of(loaded.store_manifest, weights=config.weights)
    sae = TorchSAE.from_run(loaded)
    sequences = [p.sequence for p in proteins]
    batches = list(
        scored_batches(model, sequences, mask_fraction=config.mask_fraction, seed=config.seed)
    )
    rows = []
    for concept, latent in latents.items():
        amino_acid = concept[-1]
        value = multiple_of_maximum(loaded, latent, config.strength)
        controls = matched_latents(
            loaded.latent_frequency, latent, config.n_controls, seed=config.seed,
            exclude=sorted(set(latents.values()) - {latent}),
        )  # fmt: skip
        set_to, zero = (Edit(latent, "set", v, Where("masked")) for v in (value, 0.0))
        steered = dose_response(model, sae, batches, [set_to], n_proteins=len(proteins),
                                control_latents=controls.tolist(), extra_norms=(),
                                seed=config.seed)  # fmt: skip
        zeroed = dose_response(model, sae, batches, [zero], n_proteins=len(proteins))
        rows.append(_row(config, amino_acid, latent, value, steered, zeroed))
        log.info("%s: latent %d = %.2f raises log p by %.2f nats (matched random latents %+.2f)",
                 amino_acid, latent, value, rows[-1]["delta_log_p"],
                 rows[-1]["control_mean"])  # fmt: skip
    return pd.DataFrame(rows)


def _row(
    config: AminoAcidConfig,
    amino_acid: str,
    latent: int,
    value: float,
    effect: DoseResponse,
    zeroed: DoseResponse,
) -> dict[str, Any]:
    from steering.controls import bootstrap_mean
    from steering.success import amino_acid_readout

    target, *rest = amino_acid_readout(effect, amino_acid)[:, 0]
    controls = np.stack(rest)
    raised = bootstrap_mean(target, seed=config.seed)
    excess = bootstrap_mean(target - controls.mean(axis=0), seed=config.seed)
    per_control = np.nanmean(controls, axis=1)
    return {
        "amino_acid": amino_acid,
        "latent": latent,
        "value": value,
        "delta_log_p": raised.mean,
        "delta_log_p_low": raised.low,
        "delta_log_p_high": raised.high,
        "control_mean": float(per_control.mean()),
        "control_min": float(per_control.min()),
        "control_max": float(per_control.max()),
        "excess": excess.mean,
        "excess_low": excess.low,
        "excess_high": excess.high,
        "frac_proteins_above_all_controls": float(np.nanmean(target > controls.max(axis=0))),
        "zeroed_delta_log_p": float(np.nanmean(amino_acid_readout(zeroed, amino_acid)[0, 0])),
        "kl": float(np.nanmean(effect.kl[0, 0])),
        "control_kl": float(np.nanmean(effect.kl[1:, 0])),
        "relative_norm": float(np.nanmean(effect.relative_norm[0])),
        "n_masked": int(effect.n_read.sum()),
        "n_proteins": len(target),
        "control_latents": " ".join(map(str, effect.control_latents)),
    }


def summarize(config: AminoAcidConfig, table: pd.DataFrame) -> dict[str, Any]:
    """The finding in a few numbers, with the settings."""
    column = {name: table[name].to_numpy(dtype=float) for name in table.select_dtypes("number")}
    target = column["delta_log_p"]
    run = read_json(config.run / "run.json", "a training run")
    return {
        "config": plain_settings(config),
        "parent": run["store"]["parent"],
        "site": run["store"]["site"],
        "n_amino_acids": len(table),
        "n_raised": int((column["delta_log_p_low"] > 0).sum()),
        "n_above_controls": int((column["excess_low"] > 0).sum()),
        "n_above_every_control": int((target > column["control_max"]).sum()),
        "mean_delta_log_p": float(target.mean()),
        "mean_control": float(column["control_mean"].mean()),
    }


def main() -> None:
    """Steer, write the table and its summary."""
    config = tyro.cli(AminoAcidConfig, prog="python -m experiments.steer_amino_acids")
    table = steer_all(config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(config.out, lambda f: f.write(table.to_csv(index=False).encode()))
    summary = summarize(config, table)
    write_json_atomically(config.out.with_suffix(".json"), summary)
    print(
        f"steering: {summary['n_above_controls']} of {summary['n_amino_acids']} amino-acid latents "
        f"raise their amino acid more than matched random latents do (95 % interval above 0): "
        f"mean {summary['mean_delta_log_p']:+.2f} nats against {summary['mean_control']:+.2f}\n"
        + json.dumps({"table": str(config.out)})
    )


if __name__ == "__main__":
    run_cli(main)
