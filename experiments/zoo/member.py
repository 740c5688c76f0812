"""One SAE of the grid, from activations to a folder that can be published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.layers import LayersConfig, annotated, fidelity, probe, step
from experiments.zoo.config import Member, ZooConfig
from extract.files import read_json, write_atomically, write_json_atomically
from saejax import load_sae
from saejax.interop.formats import write_published

FORMAT = "plain"
UNSTATED = "The licence is the authors' to state."
WORDS = {
    "loss_recovered": "masked-LM loss recovered (of zero ablation)",
    "concepts_found": "concepts found by the frozen protocol",
    "concepts_tested": "concepts tested",
}


def layers_config(config: ZooConfig) -> LayersConfig:
    """The settings of the steps that are those of the table of layers."""
    return LayersConfig(
        config.activations, config.out, data=config.data, min_positives=config.min_positives,
        fidelity_proteins=config.fidelity_proteins,
    )  # fmt: skip


def annotated_stores(config: ZooConfig) -> None:
    """Extract the annotated proteins once for all members."""
    if config.evaluate:
        annotated(layers_config(config), _sites(config), "annotated")


def _sites(config: ZooConfig) -> list[str]:
    return list(dict.fromkeys(m.site for m in config.members()))


def make(config: ZooConfig, member: Member) -> None:
    """Train, evaluate and pack one SAE, as far as that is not done.

    Raises:
        UserError: a step refused its input; its message stands above.
    """
    run = config.run(member)
    step(
        finished(run), "saejax.train", "--activations", config.activations / member.site,
        "--out", run, "--d-sae", member.width, "--k", member.k, "--epochs", 1,
        "--learning-rate", config.learning_rate, "--holdout-fraction", config.holdout_fraction,
    )  # fmt: skip
    if config.evaluate:
        layers, sites = layers_config(config), _sites(config)
        folders = annotated(layers, sites, "annotated")
        stores = folders if len(sites) == 1 else [folder / member.site for folder in folders]
        probe(layers, run, stores, None)
        fidelity(layers, run)
    if not config.packed(member).exists():
        pack(run, config.packed(member), config.licence, row(config, member))


def finished(run: Path) -> bool:
    """Whether a run is trained."""
    path = run / "run.json"
    return path.exists() and read_json(path, "a training run").get("state") == "complete"


def row(config: ZooConfig, member: Member) -> dict[str, Any]:
    """One line of the table, from the files of the steps; what was not evaluated is left out."""
    run = config.run(member)
    record = read_json(run / "run.json", "a training run")
    batch = record["config"]["batch_size_tokens"]
    found: dict[str, Any] = {
        "name": member.name, "site": member.site, "d_sae": member.width, "k": member.k,
        "trained_residues": record["n_steps"] * batch,
    }  # fmt: skip
    found |= {key: record["results"][key] for key in ("fvu", "l0", "frac_dead")}
    spliced = config.out / "fidelity" / f"{run.name}.json"
    if spliced.exists():
        figures = read_json(spliced, "a fidelity report")["inputs"]["masked"]["figures"]
        found["loss_recovered"] = figures["loss_recovered_zero"]["mean"]
    counts = config.out / "probes" / run.name / "found.csv"
    if counts.exists():
        rows: list[dict[str, Any]] = pd.read_csv(counts).to_dict("records")
        of = next(r for r in rows if (r["protocol"], r["features"]) == ("frozen", "latents"))
        found["concepts_found"] = int(of["concepts_found"])
        found["concepts_tested"] = int(of["concepts_tested"])
    return found


def pack(run: Path, out: Path, licence: str, figures: dict[str, Any]) -> None:
    """Write what ``saejax.zoo`` loads: weights, record, latents' figures and card.

    The record keeps names of folders and files, not where they lay on this machine.

    Raises:
        UserError: the run can't be exported.
    """
    loaded = load_sae(run)
    building = out.with_name(out.name + ".packing")
    shutil.rmtree(building, ignore_errors=True)
    building.parent.mkdir(parents=True, exist_ok=True)
    write_published(FORMAT, loaded, building)
    record = dict(loaded.run)
    paths = ("activations", "out", "eval_activations")
    record["config"] = dict(record["config"]) | {
        name: Path(record["config"][name]).name for name in paths if record["config"].get(name)
    }
    write_json_atomically(building / "run.json", record)
    shutil.copyfile(run / "latent_stats.parquet", building / "latent_stats.parquet")
    card = stated((building / "README.md").read_text(), licence, figures)
    write_atomically(building / "README.md", lambda f: f.write(card.encode()))
    building.rename(out)


def stated(card: str, licence: str, figures: dict[str, Any]) -> str:
    """A card of ``saejax.interop.card`` with figures of the other steps, data and licence."""
    assert UNSTATED in card, "the card's last line has changed"
    more = "".join(f"- {words}: {json.dumps(figures[name])}\n"
                   for name, words in WORDS.items() if name in figures)  # fmt: skip
    lines = (
        f"{more}- residues trained on: {figures['trained_residues']:,}\n"
        f"\nLicence of these files: {licence}. It says nothing of the parent's weights or of the "
        "training data, which are named above and keep their own; UniProt's is CC BY 4.0.\n"
    )
    head = f"---\nlicense: {licence}\n"
    return card.replace("\n" + UNSTATED, lines).replace("---\n", head, 1)
