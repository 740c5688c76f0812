"""Gathers what a demo made, and renders it."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int

from experiments.report import figures
from experiments.report.examples import Example, best_examples
from extract.files import read_json, write_atomically
from extract.pages import page_templates
from extract.store import ActivationStore
from saejax.checkpoint import LoadedSAE, load_sae
from saejax.latents import LatentColumns, encode_store

log = logging.getLogger(__name__)

SHOWN_AMINO_ACIDS = 5
"""Amino-acid latents whose examples are shown: those of the highest F1."""
MIN_PROTEINS = 30
"""Proteins of the choosing part in which a latent must fire to be reported as a finding."""
MEANING = {
    "TRANSMEM": " (transmembrane segment)",
    "TOPO_DOM": " (part on one side of a membrane)",
    "DOMAIN": " (annotated domain)",
}
"""What Swiss-Prot's feature types mean."""
SHOWN_PRECISE = 2
"""Precise latents whose examples are shown, of each ranking, for helix and for strand."""


@dataclass(frozen=True)
class ReportConfig:
    """Write the demo's page."""

    demo: Path = Path("runs/demo")
    """Folder that ``python -m experiments.demo`` fills."""
    data: Path = Path("data")
    """Bundled data, for the secondary structure beside the examples."""


class Labelled(NamedTuple):
    """An annotated set of proteins and where latents fire on it."""

    store: ActivationStore
    columns: LatentColumns
    l0: Int[np.ndarray, " rows"]
    """Latents above zero on each residue."""

    @classmethod
    def encode(cls, loaded: LoadedSAE, folder: Path) -> Labelled:
        """Encode every residue of a store."""
        store = ActivationStore.open(folder)
        latents = encode_store(loaded.sae, store)
        return cls(store, latents.by_latent(), (latents.values > 0).sum(axis=1))


class Demo:
    """Everything a demo wrote."""

    def __init__(self, config: ReportConfig) -> None:
        folder = config.demo
        self.folder = folder
        self.loaded: LoadedSAE = load_sae(folder / "sae")
        metrics = pd.read_json(folder / "sae" / "metrics.jsonl", lines=True)
        self.metrics = metrics.dropna(subset="fvu")  # lines of held-out figures have none
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
        self.unseen = set(self.split.loc[self.split["part"] == "test", "id"])
        self.pdb = Labelled.encode(self.loaded, folder / "acts" / "pdb")
        self.swissprot = Labelled.encode(self.loaded, folder / "acts" / "swissprot")

    @property
    def identity(self) -> pd.DataFrame:
        """Probes of the 20 amino acids."""
        return _where(self.probes, self.probes["kind"] == "amino acid")

    @property
    def others(self) -> pd.DataFrame:
        """Probes of everything else."""
        return _where(self.probes, ~self.probes["kind"].isin(["amino acid", "amino-acid class"]))


def _where(table: pd.DataFrame, mask: Any) -> pd.DataFrame:
    return pd.DataFrame(table.loc[mask])


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
        for row in _records(_well_supported(_of(demo.precise, concept)).drop_duplicates("firing")):
            out.append((f"Beyond identity: {concept}", precise_sentence(row)))
    out += [("What single latents do not do", text) for text in honest_sentences(demo)]
    s = demo.steering_summary
    out.append((
        "Steering",
        f"Clamping {s['n_above_controls']} of {s['n_amino_acids']} amino-acid latents raises their "
        "amino acid at masked positions more than random latents of matched norm and frequency "
        f"do (95 % interval over proteins above 0); on average by {s['mean_delta_log_p']:+.2f} "
        f"nats against {s['mean_control']:+.2f}.",
    ))  # fmt: skip
    return out


def _well_supported(rows: pd.DataFrame) -> pd.DataFrame:
    """Latents that fired in many proteins of the part that chose them."""
    return _where(rows, rows["select_n_proteins"] >= MIN_PROTEINS) if len(rows) else rows


def where_it_fires(row: Mapping[str, Any]) -> str:
    """Words for the threshold of a precise latent."""
    fraction = row["threshold_fraction"]
    return f"above {fraction:.0%} of its maximum" if fraction else "at all"


def precise_sentence(row: Mapping[str, Any]) -> str:
    """One latent's precision beside what its amino acids predict."""
    return (
        f"Where latent {row['latent']:.0f} fires {where_it_fires(row)} "
        f"({row['test_n_fires']:.0f} residues of {row['test_n_proteins']:.0f} proteins), "
        f"{row['test_precision']:.2f} of the residues are in a {row['concept']}; the amino acids "
        f"it fires on would give {row['test_expected_precision']:.2f}, the base rate is "
        f"{row['test_base_rate']:.2f}. It finds {row['test_recall']:.1%} of all {row['concept']} "
        "residues: precise, and rare."
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


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
            many = together.iloc[-1]  # the most latents
            text += (
                f" {many['k']:.0f} latents together reach AUROC {many['latents_auroc']:.2f}, a "
                f"probe on all raw dimensions {many['dense_auroc']:.2f}."
            )
        sentences.append(text)
    return sentences


def _of(table: pd.DataFrame, concept: str) -> pd.DataFrame:
    return _where(table, table["concept"] == concept) if len(table) else table


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
    labels: dict[int, tuple[str, Labelled]] = {}
    for row in _records(demo.identity.nlargest(SHOWN_AMINO_ACIDS, "latent_f1")):
        words = f"amino acid {row['concept']}: F1 {row['latent_f1']:.2f}"
        labels.setdefault(row["latent"], (words, demo.pdb))
    for concept in ("helix", "strand"):
        for row in _records(_well_supported(_of(demo.precise, concept))):
            if row["rank"] <= SHOWN_PRECISE:
                labels.setdefault(row["latent"], (precise_sentence(row), demo.pdb))
    structural = demo.others["concept"].str.contains("helix|strand", case=False)
    features = _where(demo.others, ~structural)
    better = _where(features, features["latent_f1"] > features["f1_all_positive"])
    for row in _records(better):
        words = f"{row['concept']}{MEANING.get(row['concept'], '')}, on Swiss-Prot entries: "
        words += f"F1 {row['latent_f1']:.2f}, precision {row['latent_precision']:.2f}, "
        words += f"recall {row['latent_recall']:.2f}"
        labels.setdefault(row["latent"], (words, demo.swissprot))
    return [
        ShownLatent(
            latent,
            label,
            float(demo.loaded.latent_frequency[latent]),
            float(demo.loaded.latent_max[latent]),
            best_examples(
                where.columns,
                where.store,
                latent,
                structures=demo.structures,
                allowed=demo.unseen,
            ),
        )
        for latent, (label, where) in labels.items()
    ]


def context(demo: Demo) -> dict[str, Any]:
    """Everything the template shows."""
    loaded = demo.loaded
    amino_acids = _records(demo.amino_acids)
    structured = [c for c in ("helix", "strand") if len(_of(demo.precise, c))]
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
        "amino_acids": amino_acids,
        "steering": demo.steering_summary,
        "one": demo.one,
        "latent_amino_acid": {row["latent"]: row["amino_acid"] for row in amino_acids},
        "one_image": base64.b64encode(image).decode(),
        "latents": shown_latents(demo),
        "steps": demo.steps,
        "curves": figures.training_curves(demo.metrics, loaded.run["results"]["fvu"]),
        "histograms": figures.histograms(loaded.latent_frequency, demo.pdb.l0, loaded.config.k),
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
    environment = page_templates(Path(__file__).parent, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda v, digits=1: f"{100 * v:.{digits}f} %"
    environment.filters["number"] = lambda v, digits=2: (
        "–" if v is None or not np.isfinite(v) else f"{v:.{digits}f}"
    )
    environment.filters["where"] = where_it_fires
    environment.filters["thousands"] = lambda v: f"{v:,.0f}".replace(",", " ")
    page = environment.get_template("template.html").render(context(demo))
    path = config.demo / "report.html"
    lines = [f"{heading}: {sentence}" for heading, sentence in findings(demo)]
    (config.demo / "findings.txt").write_text("\n" + "\n".join(lines) + "\n", encoding="utf-8")
    write_atomically(path, lambda f: f.write(page.encode()))
    log.info("%s: %s", path, json.dumps({"bytes": path.stat().st_size}))
    return path
