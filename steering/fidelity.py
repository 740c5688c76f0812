"""``python -m steering.fidelity``: what the parent's predictions lose to an SAE's reconstruction.

Cross-entropy is that of the parent's own task over its whole vocabulary: masked residues, or the
next one for a parent such as UniRep, which has no masked input. See ``docs/evaluation.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from extract.command_line import Optional, parse, require_at_least
from extract.errors import UserError, run_cli
from extract.fasta import Protein
from extract.files import (
    plain_settings,
    require_place_for,
    versions,
    without_nan,
    write_json_atomically,
)
from extract.selection import FastaReport, FastaSource, Selection, TooLong
from steering.controls import Interval, bootstrap_totals
from steering.splice import PASSES, SpliceSums, splice

if TYPE_CHECKING:
    from extract.plm import ProteinLM
    from saejax.checkpoint import LoadedSAE

log = logging.getLogger(__name__)

KIND, FORMAT_VERSION = "fidelity", 1
RULES = (
    "every residue's activation at the site is replaced, special tokens never; scored are standard "
    "residues: all of unmasked input, the masked ones of masked input; figures are means over the "
    "residues of all proteins; intervals are 95 % percentiles of a bootstrap over proteins"
)
POOR_FVU = 0.1
"""An FVU that exceeds the run's own by more than this is worth a warning."""


@dataclass(frozen=True)
class FidelityConfig:
    """Splice an SAE's reconstruction into its parent and measure what the predictions lose.

    Example: python -m steering.fidelity --run runs/x --fasta proteins.fasta --sample 100
    """

    run: Path
    """Folder of a finished `python -m saejax.train`."""
    fasta: Path
    """FASTA or FASTA.gz of proteins that the SAE was not trained on."""
    out: Optional[Path] = None
    """JSON file to write; by default fidelity.json in the run's folder."""
    sample: Optional[int] = None
    """Distinct sequences to take, by seeded hash; by default every record."""
    too_long: TooLong = "skip"
    """What happens to sequences longer than the parent takes: leave out (skip), or cut (crop)."""
    mask_fraction: float = 0.15
    """Share of each protein's standard residues that masked input hides."""
    seed: int = 0
    """Seed of the sample, the masks and the bootstrap."""
    resamples: int = 2000
    """Of the bootstrap."""
    batch_residues: int = 4096
    """Residues per forward pass."""
    weights: Optional[Path] = None
    """Weights of the parent; by default they are looked for as `python -m extract` does."""
    device: Optional[str] = None
    """Torch device; by default the first GPU, else the CPU."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Number format of the parent's forward pass."""
    model: Optional[str] = None
    """Only for a parent of your own: its package.module:function, to allow that code to run."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 < self.mask_fraction < 1:
            raise UserError(f"--mask-fraction ({self.mask_fraction}) must be between 0 and 1")
        require_at_least(self, 1, "sample", "resamples", "batch_residues")
        require_at_least(self, 0, "seed")


def figures(totals: Float[np.ndarray, "*many 13"]) -> dict[str, Float[np.ndarray, "*many"]]:
    """Every figure, from the sums of :func:`measures` over proteins::

        delta_cross_entropy = CE_sae − CE_original
        loss_recovered_zero = (CE_zero − CE_sae) / (CE_zero − CE_original)
        loss_recovered_mean = (CE_mean − CE_sae) / (CE_mean − CE_original)

    CE, KL and agreement are means over scored residues. Loss recovered is NaN where the ablation
    does not raise CE, since there is then no loss to recover.
    """
    means = totals[..., 1:] / totals[..., :1]
    ce, kl, agree = means[..., 0:4], means[..., 4:8], means[..., 8:12]
    found = {f"cross_entropy_{name}": ce[..., i] for i, name in enumerate(PASSES)}
    found["delta_cross_entropy"] = ce[..., 1] - ce[..., 0]
    for i, name in ((2, "zero"), (3, "mean")):
        harm = ce[..., i] - ce[..., 0]
        found[f"loss_recovered_{name}"] = np.divide(
            ce[..., i] - ce[..., 1], harm, out=np.full(harm.shape, np.nan), where=harm > 0
        )
    for i, name in enumerate(PASSES[1:], start=1):
        found[f"kl_{name}"], found[f"agreement_{name}"] = kl[..., i], agree[..., i]
    return found


def measures(sums: SpliceSums) -> Float[np.ndarray, "proteins 13"]:
    """What is summed over proteins: residues, then CE, KL and agreement of the four passes."""
    parts = [sums.n_scored[None], sums.cross_entropy, sums.kl, sums.agreement]
    per_protein = np.concatenate(parts).T
    return per_protein[sums.n_scored > 0]


def intervals(sums: SpliceSums, *, n_resamples: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """Every figure with its 95 % interval.

    The ends are NaN for a single protein, or where a resample has no such figure.
    """
    per_protein = measures(sums)
    drawn = figures(bootstrap_totals(per_protein, n_resamples=n_resamples, seed=seed))
    found = {}
    for name, value in figures(per_protein.sum(axis=0)).items():
        low, high = (float(q) for q in np.quantile(drawn[name], [0.025, 0.975]))
        if len(per_protein) == 1:
            low = high = float("nan")
        found[name] = Interval(float(value), low, high)
    return found


def fidelity(config: FidelityConfig) -> dict[str, Any]:
    """Everything that ``fidelity.json`` says.

    Raises:
        UserError: no run, weights or proteins there, or they don't fit each other.
    """
    from extract.parents import load_parent_of
    from saejax.checkpoint import load_sae
    from steering.torch_sae import TorchSAE

    loaded = load_sae(config.run)
    sae = TorchSAE.from_run(loaded)
    model = load_parent_of(
        loaded.store_manifest, weights=config.weights, device=config.device, dtype=config.compute,
        model=config.model,
    )  # fmt: skip
    sae = sae.to(model.device)
    sae.require_parent(model)
    proteins, report = _proteins(config, model.max_residues)
    kinds: dict[str, float | None] = {"unmasked": None}
    if model.mask_token is not None:
        kinds["masked"] = config.mask_fraction
    else:
        log.warning("%s was not trained on masks: no masked input, and the cross-entropy is that "
                    "of a residue given those before it", model.name)  # fmt: skip
    inputs = {}
    for kind, fraction in kinds.items():
        sums = splice(model, sae, [p.sequence for p in proteins], mask_fraction=fraction,
                      seed=config.seed, batch_residues=config.batch_residues)  # fmt: skip
        found = intervals(sums, n_resamples=config.resamples, seed=config.seed)
        inputs[kind] = {
            "mask_fraction": fraction,
            "n_proteins": int((sums.n_scored > 0).sum()),
            "n_scored": int(sums.n_scored.sum()),
            "n_replaced": sums.n_replaced,
            "fvu": sums.fvu,
            "figures": {name: interval._asdict() for name, interval in found.items()},
        }
    _warn(config, loaded, report, inputs)
    return _record(config, loaded, model, report, inputs)


def _proteins(config: FidelityConfig, max_residues: int) -> tuple[list[Protein], FastaReport]:
    selection = Selection(max_residues=max_residues, too_long=config.too_long,
                          sample=config.sample, seed=config.seed)  # fmt: skip
    source = FastaSource(config.fasta, selection)
    return list(source), source.report


def _warn(
    config: FidelityConfig, loaded: LoadedSAE, report: FastaReport, inputs: Mapping[str, Any]
) -> None:
    if _trained_on(loaded, report):
        log.warning("%s: the very file that the SAE was trained on; these figures are not of "
                    "unseen proteins", config.fasta)  # fmt: skip
    ours, theirs = inputs["unmasked"]["fvu"], loaded.run["results"]["fvu"]
    if ours > theirs + POOR_FVU:
        log.warning("FVU is %.3f on these proteins, and %.3f on those held out in training: they "
                    "are unlike, or the parent is not quite the same", ours, theirs)  # fmt: skip


def _trained_on(loaded: LoadedSAE, report: FastaReport) -> bool:
    source = loaded.store_manifest.get("source") or {}
    return source.get("sha256") == report.sha256


def _record(
    config: FidelityConfig,
    loaded: LoadedSAE,
    model: ProteinLM,
    report: FastaReport,
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "run": str(loaded.folder),
        "sae": loaded.run["sae"],
        "run_results": loaded.run["results"],
        "parent": model.describe(),
        "site": loaded.site,
        "task": "next residue" if model.mask_token is None else "masked residues",
        "proteins": asdict(report),
        "trained_on": _trained_on(loaded, report),
        "config": plain_settings(config),
        "rules": RULES,
        "units": "natural log; cross-entropy and KL per residue, over the whole vocabulary",
        "inputs": inputs,
        "versions": versions("torch", "numpy"),
    }


_ROWS = (
    ("cross-entropy, original", "cross_entropy_original"),
    ("  SAE spliced in", "cross_entropy_sae"),
    ("  zero ablation", "cross_entropy_zero"),
    ("  mean ablation", "cross_entropy_mean"),
    ("delta cross-entropy, SAE", "delta_cross_entropy"),
    ("loss recovered, of zero", "loss_recovered_zero"),
    ("loss recovered, of mean", "loss_recovered_mean"),
    ("KL(original || SAE)", "kl_sae"),
    ("KL(original || zero)", "kl_zero"),
    ("KL(original || mean)", "kl_mean"),
    ("argmax agreement, SAE", "agreement_sae"),
    ("argmax agreement, zero", "agreement_zero"),
    ("argmax agreement, mean", "agreement_mean"),
)


def table(record: Mapping[str, Any]) -> list[str]:
    """The record for a person: a column for each kind of input."""
    inputs, sae, source = record["inputs"], record["sae"], record["proteins"]
    lines = [
        f"parent    {record['parent']['name']}, weights: {record['parent']['weights']['source']}, "
        f"head: {record['parent']['lm_head']['source']}",
        f"SAE       {record['run']}: {sae['architecture']}, {sae['d_sae']:,} latents at "
        f"{record['site']}, held-out FVU {record['run_results']['fvu']:.4f}",
        f"proteins  {source['n_kept']:,} of {source['file']}, {source['n_residues']:,} residues; "
        "special tokens are neither replaced nor scored",
        f"task      {record['task']}; cross-entropy and KL in nats per residue",
        "",
    ]
    titles = [
        kind if i["mask_fraction"] is None else f"{kind}, {100 * i['mask_fraction']:.0f} %"
        for kind, i in inputs.items()
    ]
    lines.append(_row("", titles))
    lines.append(_row("residues scored", [f"{i['n_scored']:,}" for i in inputs.values()]))
    lines.append(_row("FVU of what is replaced", [f"{i['fvu']:.4f}" for i in inputs.values()]))
    for title, name in _ROWS:
        lines.append(_row(title, [_cell(i["figures"][name]) for i in inputs.values()]))
    return lines


def _row(title: str, cells: Sequence[str]) -> str:
    return f"{title:<26}" + "".join(f"{cell:>26}" for cell in cells)


def _cell(value: Mapping[str, float]) -> str:
    mean, low, high = (f"{value[key]:.4f}" for key in ("mean", "low", "high"))
    return "undefined" if mean == "nan" else f"{mean} [{low}, {high}]"


def main() -> None:
    """Parse the flags, measure, write, print."""
    config = parse(FidelityConfig, prog="python -m steering.fidelity")
    out = config.out or config.run / "fidelity.json"
    require_place_for(out, KIND)
    record = fidelity(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(out, without_nan(record))
    print("\n".join(table(record)))
    print(f"\nwritten: {out}")


if __name__ == "__main__":
    run_cli(main)
