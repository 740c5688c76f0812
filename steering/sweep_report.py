"""A dose-response as CSV, figure, page and verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from extract.alphabet import AMINO_ACIDS
from extract.fasta import Protein
from extract.files import without_nan, write_atomically, write_csv, write_json_atomically
from steering.controls import bootstrap_mean
from steering.page import write_page
from steering.results import FORMAT_VERSION, RECORD, begin_result, png
from steering.success import (
    Success,
    amino_acid_readout,
    beyond_chance,
    chance,
    steers,
    strongest_amino_acid,
    success,
)
from steering.sweep import DoseResponse

SWEEP_COLUMNS = ("arm", "number", "multiple", "norm_of_multiple", "kl",
                 *(f"delta_log_p_{a}" for a in AMINO_ACIDS))  # fmt: skip
PROTEIN_COLUMNS = ("protein", "reported", "residues_read", "multiple", "delta_log_p", "kl",
                   "controls_95_equal_norm", "controls_95_equal_kl")  # fmt: skip


class Sweep(NamedTuple):
    """What a sweep measured, and what is reported of it."""

    response: DoseResponse
    """Everything."""
    multiples: Sequence[float]
    """The grid as given: × the latent's maximum, of ``scale`` factors."""
    amino_acid: str
    """Whose log p is followed."""
    chosen_here: bool
    """Whether that was the strongest on proteins that are not reported."""
    reported: np.ndarray
    """Indices of the proteins that are."""
    strengths: list[Success]
    """Of ``amino_acid``."""
    shown: int
    """Strength of the verdict: the grid's nearest to 1."""


def summarize(
    response: DoseResponse, multiples: Sequence[float], amino_acid: str | None, seed: int
) -> Sweep:
    """Choose the amino acid if none is given, on every other protein, and report on the rest."""
    shown = int(np.argmin([abs(np.log(m)) if m > 0 else np.inf for m in multiples]))
    readable = np.flatnonzero(response.n_read > 0)
    chosen_here = amino_acid is None and len(readable) > 1
    reported = readable[1::2] if chosen_here else readable
    if amino_acid is None:
        amino_acid = strongest_amino_acid(response, proteins=readable[::2], strength=shown)
    readout = amino_acid_readout(response, amino_acid)
    found = success(response, readout, proteins=reported, seed=seed)
    return Sweep(response, multiples, amino_acid, chosen_here, reported, found, shown)


def verdict(sweep: Sweep) -> dict[str, Any]:
    """Whether the latent steers, by how much and against what, in words."""
    s, at = sweep.strengths[sweep.shown], sweep.multiples[sweep.shown]
    latent, residue = sweep.response.edits[0].latent, sweep.amino_acid
    effect = (
        f"At {at:g} × its maximum latent {latent} changes log p of {residue} by "
        f"{s.effect.mean:+.2f} nats (95 %: {s.effect.low:+.2f} to {s.effect.high:+.2f}, "
        f"{s.n_proteins} proteins)"
    )
    if np.isnan(s.excess.mean):
        return {"steers": False, "words": f"{effect}. No controls were run, so this is no verdict."}
    against = (
        f"; random latents and directions of the same norm "
        f"{round(s.effect.mean - s.excess.mean, 2) + 0.0:+.2f}. "
        f"On {100 * s.steered_at_equal_kl.mean:.0f} % of proteins it exceeds the 95th percentile "
        f"of controls that disturb the prediction as much (equal KL), on "
        f"{100 * s.steered_at_equal_norm.mean:.0f} % of those of equal norm."
    )
    given = s.steered_at_equal_kl, sweep.response.n_controls
    head = "No evidence that it steers."
    if steers(*given):
        head = "It steers."
    elif beyond_chance(*given):
        head = "It steers some proteins only."
    return {"steers": steers(*given), "words": f"{head} {effect}{against}"}


def write_sweep(
    out: Path, sweep: Sweep, proteins: Sequence[Protein], record: dict[str, Any]
) -> dict[str, Any]:
    """Write both tables, the figure, the page and, last, ``steering.json``, which is returned."""
    begin_result(out)
    response = sweep.response
    write_csv(out / "sweep.csv", SWEEP_COLUMNS, _sweep_rows(sweep))
    write_csv(out / "proteins.csv", PROTEIN_COLUMNS, _protein_rows(sweep, proteins))
    image = png(dose_figure(sweep))
    write_atomically(out / "dose_response.png", lambda f: f.write(image))
    words = ", which it raises most on the other half of the proteins" if sweep.chosen_here else ""
    whole = {
        "kind": "sweep",
        "format_version": FORMAT_VERSION,
        **record,
        "amino_acid": sweep.amino_acid,
        "amino_acid_chosen": words,
        "n_proteins": len(sweep.reported),
        "n_read": int(response.n_read[sweep.reported].sum()),
        "strengths": [
            {"multiple": float(m), **{k: _plain(v) for k, v in s._asdict().items()}}
            for m, s in zip(sweep.multiples, sweep.strengths, strict=True)
        ],
        "shown_multiple": float(sweep.multiples[sweep.shown]),
        "amino_acids": [_amino_acid(sweep, a) for a in AMINO_ACIDS],
        "control_latents": response.control_latents.tolist(),
        "chance": chance(response.n_controls),
        "verdict": verdict(sweep),
    }
    write_page(out, "sweep.html", whole, {"dose_response": image})
    write_json_atomically(out / RECORD, without_nan(whole))
    return whole


def _plain(value: Any) -> Any:
    return value._asdict() if hasattr(value, "_asdict") else value


def _amino_acid(sweep: Sweep, amino_acid: str) -> dict[str, Any]:
    readout = amino_acid_readout(sweep.response, amino_acid)[:, sweep.shown][:, sweep.reported]
    controls = np.nanmean(readout[1:], axis=1) if len(readout) > 1 else np.full(1, np.nan)
    return {
        "amino_acid": amino_acid,
        "effect": bootstrap_mean(readout[0])._asdict(),
        "control_mean": float(controls.mean()),
        "control_low": float(controls.min()),
        "control_high": float(controls.max()),
    }


def _arms(response: DoseResponse) -> list[tuple[str, int | str]]:
    latents = [("random latent", int(j)) for j in response.control_latents]
    directions = [("random direction", i) for i in range(response.n_directions)]
    return [("latent", response.edits[0].latent), *latents, *directions]


def _sweep_rows(sweep: Sweep) -> Iterator[list[Any]]:
    """One line for each arm and norm: means over the reported proteins.

    The norm is ``norm_of_multiple`` times that of the latent's edit at ``multiple``.
    """
    response = sweep.response
    norms = [(m, 1.0) for m in sweep.multiples]
    norms += [(sweep.multiples[-1], extra) for extra in response.extra_norms]
    for arm, (kind, number) in enumerate(_arms(response)):
        for i, (multiple, norm) in enumerate(norms):
            kl = response.kl[arm, i, sweep.reported].mean()
            change = response.delta_log_p[arm, i, sweep.reported].mean(axis=0)
            if not np.isnan(kl):
                yield [kind, number, multiple, norm, f"{kl:.7g}", *(f"{v:.6f}" for v in change)]


def _protein_rows(sweep: Sweep, proteins: Sequence[Protein]) -> Iterator[list[Any]]:
    """One line for each protein and strength: the latent's effect and its controls' quantile."""
    readout = amino_acid_readout(sweep.response, sweep.amino_acid)
    equal_kl, _ = sweep.response.at_equal_kl(readout)
    for p, protein in enumerate(proteins):
        for i, multiple in enumerate(sweep.multiples):
            numbers = [readout[0, i, p], sweep.response.kl[0, i, p]]
            for controls in (readout[1:, i, p], equal_kl[:, i, p]):
                numbers.append(np.quantile(controls, 0.95) if len(controls) else np.nan)
            shown = ["" if np.isnan(v) else f"{v:.6f}" for v in numbers]
            reported = int(p in sweep.reported)
            yield [protein.id, reported, sweep.response.n_read[p], multiple, *shown]


def dose_figure(sweep: Sweep) -> Figure:
    """Change of log p against strength, and against KL, with the controls on the same axes."""
    figure = Figure(figsize=(11, 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    response = sweep.response
    readout = amino_acid_readout(response, sweep.amino_acid)[:, :, sweep.reported].mean(axis=2)
    kl = response.kl[:, :, sweep.reported].mean(axis=2)
    n = len(sweep.multiples)
    multiples = np.broadcast_to(np.asarray(sweep.multiples), (len(readout), n))
    _curves(left, sweep, multiples, readout[:, :n])
    _curves(right, sweep, kl, readout)
    unit = "factor" if response.edits[0].operation == "scale" else "× the latent's own maximum"
    left.set_xlabel(f"strength ({unit})")
    left.set_ylabel(f"Δ log p of {sweep.amino_acid} (nats)")
    right.set_xlabel("KL(base ‖ steered) (nats)")
    right.set_xscale("symlog", linthresh=max(float(np.nanmax(kl)) * 1e-3, 1e-9))
    right.set_xlim(left=0)
    left.legend(frameon=False, fontsize=9)
    return figure


def _curves(
    axes: Axes,
    sweep: Sweep,
    x: Float[np.ndarray, "arms norms"],
    y: Float[np.ndarray, "arms norms"],
) -> None:
    n = len(sweep.response.control_latents)
    groups = (("random latents", slice(1, 1 + n), "#d55e00"),
              ("random directions", slice(1 + n, None), "#8c8c8c"))  # fmt: skip
    for label, arms, color in groups:
        for i, (a, b) in enumerate(zip(x[arms], y[arms], strict=True)):
            axes.plot(a, b, color=color, linewidth=1, alpha=0.65, label=None if i else label)
    low, high = ([getattr(s.effect, end) for s in sweep.strengths] for end in ("low", "high"))
    n = len(sweep.multiples)
    axes.fill_between(x[0, :n], low, high, color="#0072b2", alpha=0.18, linewidth=0)
    axes.plot(x[0, :n], y[0, :n], color="#0072b2", linewidth=2.2, marker="o", markersize=4,
              label=f"latent {sweep.response.edits[0].latent} (95 % over proteins)")  # fmt: skip
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
