"""Gathers what a demo made, and renders it."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from experiments.report import figures
from experiments.report.examples import Example, best_examples
from extract.store import ActivationStore, read_json
from saejax.checkpoint import LoadedSAE, load_sae
from saejax.latents import StoreLatents, encode_store

log = logging.getLogger(__name__)

SHOWN_AMINO_ACIDS = 5
"""Amino-acid latents whose examples are shown: those of the highest F1."""
SHOWN_PRECISE = 4
"""Precise latents whose examples are shown, for helix and for strand."""


@dataclass(frozen=True)
class ReportConfig:
    """Write the demo's page."""

    demo: Path = Path("runs/demo")
    """Folder that ``python -m experiments.demo`` fills."""
    data: Path = Path("data")
    """Bundled data, for the secondary structure beside the examples."""


class Demo:
    """Everything a demo wrote."""

    def __init__(self, config: ReportConfig) -> None:
        folder = config.demo
        self.folder = folder
        self.loaded: LoadedSAE = load_sae(folder / "sae")
        self.metrics = pd.read_json(folder / "sae" / "metrics.jsonl", lines=True)
        self.probes = pd.read_csv(folder / "probes" / "probes.csv")
        self.precise = _read_csv(folder / "probes" / "precise_latents.csv")
        self.sparse = _read_csv(folder / "probes" / "sparse_probes.csv")
        self.split = pd.read_csv(folder / "probes" / "split.csv", dtype=str)
        self.probe_summary = read_json(folder / "probes" / "summary.json", "a folder of probes")
        self.amino_acids = pd.read_csv(folder / "steering" / "amino_acids.csv")
        self.steering_summary = read_json(folder / "steering" / "amino_acids.json", "a summary")
        self.one = read_json(folder / "steering" / "one" / "steering.json", "a steering result")
        self.steps = read_json(folder / "steps.json", "a demo")
        dssp = pd.read_csv(config.data / "pdb_dssp.tsv.gz", sep="\t", dtype=str, na_filter=False)
        self.structures = dict(zip(dssp["id"], dssp["dssp"], strict=True))
        self.store = ActivationStore.open(folder / "acts" / "pdb")
        self.latents: StoreLatents = encode_store(self.loaded.sae, self.store)

    @property
    def identity(self) -> pd.DataFrame:
        """Probes of the 20 amino acids."""
        return self.probes[self.probes["kind"] == "amino acid"]

    @property
    def others(self) -> pd.DataFrame:
        """Probes of everything else."""
        return self.probes[self.probes["kind"] != "amino acid"]


def _read_csv(path: Path) -> pd.DataFrame:
    """A table that may be empty (no concept had enough positives)."""
    return pd.read_csv(path) if path.stat().st_size > 2 else pd.DataFrame()


def findings(demo: Demo) -> list[tuple[str, str]]:
    """The four findings, as (heading, sentence) with measured numbers only."""
    identity = demo.identity
    f1, neuron = identity["latent_f1"], identity["neuron_f1"]
    out = [(
        "Amino-acid identity",
        f"The best latent of each of {len(identity)} amino acids has F1 {f1.min():.2f} to "
        f"{f1.max():.2f} (best raw neuron {neuron.min():.2f} to {neuron.max():.2f}).",
    )]  # fmt: skip
    for concept in ("helix", "strand"):
        rows = _of(demo.precise, concept)
        if len(rows):
            best = rows.iloc[0]
            out.append((
                f"Beyond identity: {concept}",
                f"Latent {best['latent']:.0f} has precision {best['test_precision']:.2f} where it "
                f"fires ({best['test_n_fires']:.0f} residues of "
                f"{best['test_n_proteins']:.0f} proteins); the amino acids it fires on would give "
                f"{best['test_expected_precision']:.2f}, the base rate is "
                f"{best['test_base_rate']:.2f}.",
            ))  # fmt: skip
    out += [("Honestly", text) for text in honest_sentences(demo)]
    s = demo.steering_summary
    out.append((
        "Steering",
        f"Clamping {s['n_above_controls']} of {s['n_amino_acids']} amino-acid latents raises their "
        "amino acid at masked positions more than random latents of matched norm and frequency "
        f"do (95 % interval over proteins above 0); on average by {s['mean_delta_log_p']:+.2f} "
        f"nats against {s['mean_control']:+.2f}.",
    ))  # fmt: skip
    return out


def honest_sentences(demo: Demo) -> list[str]:
    """What single latents do not do."""
    sentences = []
    for concept in ("helix", "strand"):
        rows = _of(demo.probes, concept)
        if not len(rows):
            continue
        row = rows.iloc[0]
        text = (
            f"No single latent is “{concept}”: by F1 the best one reaches {row['latent_f1']:.2f}, "
            f"the best raw neuron {row['neuron_f1']:.2f}, calling everything {concept} "
            f"{row['f1_all_positive']:.2f}."
        )
        together = _of(demo.sparse, concept)
        if len(together):
            many = together.iloc[0]
            text += (
                f" {many['k']:.0f} latents together reach AUROC {many['latents_auroc']:.2f}, a "
                f"probe on all raw dimensions {many['dense_auroc']:.2f}."
            )
        sentences.append(text)
    return sentences


def _of(table: pd.DataFrame, concept: str) -> pd.DataFrame:
    return table[table["concept"] == concept] if len(table) else table


@dataclass(frozen=True)
class ShownLatent:
    """A latent with its examples."""

    latent: int
    label: str
    """What it is good at."""
    frequency: float
    maximum: float
    examples: list[Example]


def shown_latents(demo: Demo) -> list[ShownLatent]:
    """Latents worth looking at: identity, then structure, then Swiss-Prot concepts."""
    labels: dict[int, str] = {}
    for row in demo.identity.nlargest(SHOWN_AMINO_ACIDS, "latent_f1").itertuples():
        labels.setdefault(int(row.latent), f"{row.concept}: F1 {row.latent_f1:.2f}")  # type: ignore[arg-type]
    for concept in ("helix", "strand"):
        for row in _of(demo.precise, concept).head(SHOWN_PRECISE).itertuples():
            labels.setdefault(
                int(row.latent),  # type: ignore[arg-type]
                f"{concept}: precision {row.test_precision:.2f}, its amino acids alone "
                f"{row.test_expected_precision:.2f}",
            )
    others = demo.others[~demo.others["concept"].isin(["helix", "strand"])]
    for row in others.nlargest(4, "latent_f1").itertuples():
        labels.setdefault(int(row.latent), f"{row.concept}: F1 {row.latent_f1:.2f}")  # type: ignore[arg-type]
    columns = demo.latents.by_latent()
    unseen = set(demo.split.loc[demo.split["part"] == "test", "id"])
    return [
        ShownLatent(
            latent,
            label,
            float(demo.loaded.latent_frequency[latent]),
            float(demo.loaded.latent_max[latent]),
            best_examples(columns, demo.store, latent, structures=demo.structures, allowed=unseen),
        )
        for latent, label in labels.items()
    ]


def context(demo: Demo) -> dict[str, Any]:
    """Everything the template shows."""
    loaded = demo.loaded
    structured = [c for c in ("helix", "strand") if len(_of(demo.precise, c))]
    l0 = (demo.latents.values > 0).sum(axis=1)
    image = (demo.folder / "steering" / "one" / "delta_log_p.png").read_bytes()
    return {
        "findings": findings(demo),
        "run": loaded.run,
        "store": loaded.store_manifest,
        "eval_store": loaded.run["eval_store"],
        "probes": demo.probe_summary,
        "identity": demo.identity.to_dict("records"),
        "others": demo.others.to_dict("records"),
        "precise": demo.precise.to_dict("records"),
        "sparse": demo.sparse.to_dict("records"),
        "amino_acids": demo.amino_acids.to_dict("records"),
        "steering": demo.steering_summary,
        "one": demo.one,
        "one_image": base64.b64encode(image).decode(),
        "latents": shown_latents(demo),
        "steps": demo.steps,
        "curves": figures.training_curves(demo.metrics, loaded.run["results"]["fvu"]),
        "histograms": figures.histograms(loaded.latent_frequency, l0, loaded.config.k),
        "identity_figure": figures.identity_bars(demo.identity),
        "precise_figure": figures.precision_against_composition(demo.precise, structured)
        if structured
        else "",
        "steering_figure": figures.steering_bars(demo.amino_acids),
    }


def build(config: ReportConfig) -> Path:
    """Write ``report.html`` and ``findings.txt`` into the demo's folder.

    Raises:
        UserError: a step of the demo is missing.
    """
    demo = Demo(config)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda v, digits=1: f"{100 * v:.{digits}f} %"
    environment.filters["number"] = lambda v, digits=2: (
        "–" if v is None or not np.isfinite(v) else f"{v:.{digits}f}"
    )
    environment.filters["thousands"] = lambda v: f"{v:,.0f}".replace(",", " ")
    page = environment.get_template("template.html").render(context(demo))
    path = config.demo / "report.html"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    lines = [f"{heading}: {sentence}" for heading, sentence in findings(demo)]
    (config.demo / "findings.txt").write_text("\n" + "\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)
    log.info("%s: %s", path, json.dumps({"bytes": path.stat().st_size}))
    return path
