"""Every layer of a parent side by side: what its SAE reconstructs, keeps and knows.

For each site one SAE of the same settings on the same proteins; its held-out FVU; what the parent's
masked-LM loss keeps when the SAE's reconstruction is spliced in (``steering.fidelity``); and what
its latents know beside every baseline (``probes``) on proteins with annotations. Train it on
proteins of any kind: SAEs see no labels, but their training proteins may be relatives of the
annotated ones. The parent with shuffled weights is the control of Heap et al. 2025 (arXiv
2501.17727), at one site.

Command (ESM2-8M, 6.3 M residues: about 4 hours on 2 cores with the extraction)::

    python -m extract --fasta uniprot_20k.fasta.gz --sample all --dtype bfloat16
        --site block1 block2 block3 block4 block5 block6 --out acts/20k
    python -m experiments.shuffled_parent --out shuffled.safetensors
    python -m extract --fasta uniprot_20k.fasta.gz --sample all --dtype bfloat16
        --weights shuffled.safetensors --site block4 --out acts/shuffled
    python -m experiments.layers --activations acts/20k --out runs/layers
        --shuffled-weights shuffled.safetensors --shuffled-activations acts/shuffled

Writes ``layers.csv`` and ``layers.md``; a step whose result is there is not done again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tyro

from extract.errors import EXIT_USER_ERROR, UserError, run_cli
from extract.files import read_json, write_atomically
from extract.store import ActivationStore

BASELINES = {
    "neuron": "neurons",
    "component": "principal components",
    "random": "random dictionary",
    "shuffled_labels": "shuffled labels",
    "shuffled_parent": "shuffled parent",
}
"""Features of ``probes.csv`` and what ``found.csv`` calls them."""
TABULATED = ("helix", "strand")


@dataclass(frozen=True)
class LayersConfig:
    """Train, splice and probe one SAE for every site of a parent."""

    activations: Path
    """Folder with one activation store for each site, as `python -m extract --site …` writes it."""
    out: Path
    """Folder of the runs and of the table."""
    data: Path = Path("data")
    """Folder with the bundled, annotated proteins."""
    sites: tuple[str, ...] = ("block1", "block2", "block3", "block4", "block5", "block6")
    """Which stores."""
    d_sae: int = 2048
    """Latents."""
    k: int = 32
    """Active latents of a residue."""
    learning_rate: float = 1.5e-3
    """Peak of Adam's learning rate."""
    fidelity_proteins: int = 200
    """Annotated chains that reconstructions are spliced into."""
    min_positives: int = 50
    """Positive residues a concept needs in each part of the probes' split."""
    shuffled_weights: Path | None = None
    """The parent's weights, shuffled (`python -m experiments.shuffled_parent`)."""
    shuffled_activations: Path | None = None
    """Store of that parent on the same proteins; its site is the one where it is compared."""


def step(done: bool, *arguments: object) -> None:
    """Run ``python -m arguments`` unless it is done.

    Raises:
        UserError: the command refused its input; its message stands above.
    """
    if done:
        return
    words = [str(word) for word in arguments]
    print("python -m " + " ".join(words), flush=True)
    status = subprocess.run([sys.executable, "-m", *words], check=False).returncode
    if status == EXIT_USER_ERROR:
        raise UserError(f"{words[0]} stopped; its message stands above")
    if status:
        sys.exit(status)


def train(config: LayersConfig, activations: Path, name: str) -> Path:
    """The SAE of a store."""
    run = config.out / "sae" / name
    step(
        _finished(run), "saejax.train", "--activations", activations, "--out", run, "--d-sae",
        config.d_sae, "--k", config.k, "--epochs", 1, "--learning-rate", config.learning_rate,
    )  # fmt: skip
    return run


def _finished(run: Path) -> bool:
    path = run / "run.json"
    return path.exists() and read_json(path, "a training run").get("state") == "complete"


def annotated(config: LayersConfig, sites: Sequence[str], name: str, *more: object) -> list[Path]:
    """Folders with the stores of the annotated proteins, a subfolder for each site."""
    folders = [config.out / name / source for source in ("pdb", "swissprot")]
    for folder in folders:
        fasta = config.data / f"{folder.name}.fasta.gz"
        flags = ["--fasta", fasta, "--dtype", "bfloat16", *more]
        if len(sites) > 1 and not folder.exists():
            step(False, "extract", *flags, "--site", *sites, "--out", folder)
        for site in sites:  # what an earlier call with other sites has not made
            out = folder if len(sites) == 1 else folder / site
            step((out / "manifest.json").exists(), "extract", *flags, "--site", site, "--out", out)
    return folders


def probe(
    config: LayersConfig,
    run: Path,
    stores: Sequence[Path],
    shuffled: tuple[Path, list[Path]] | None,
) -> Path:
    """The tables of one run."""
    data, out = config.data, config.out / "probes" / run.name
    extra: list[object] = []
    if shuffled is not None:
        extra = ["--shuffled-run", shuffled[0], "--shuffled-activations", *shuffled[1]]
    step(
        (out / "summary.json").exists(),
        "probes", "--run", run, "--activations", *stores, "--dssp", data / "pdb_dssp.tsv.gz",
        "--swissprot", data / "swissprot.dat.gz", "--clusters", data / "clusters.tsv",
        "--structures", data / "structures", "--protocols", "k-sparse",
        "--min-positives", config.min_positives, "--out", out, *extra,
    )  # fmt: skip
    return out


def fidelity(config: LayersConfig, run: Path) -> Path:
    """What the parent's loss keeps."""
    out = config.out / "fidelity" / f"{run.name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    step(
        out.exists(), "steering.fidelity", "--run", run, "--fasta", config.data / "pdb.fasta.gz",
        "--sample", config.fidelity_proteins, "--out", out,
    )  # fmt: skip
    return out


def row_of(run: Path, probes: Path, spliced: Path) -> dict[str, Any]:
    """One line of the table."""
    trained = read_json(run / "run.json", "a training run")["results"]
    masked = read_json(spliced, "a fidelity report")["inputs"]["masked"]["figures"]
    row: dict[str, Any] = {"site": run.name}
    row |= {name: trained[name] for name in ("fvu", "l0", "frac_dead")}
    row["loss_recovered"] = masked["loss_recovered_zero"]["mean"]
    row["loss_recovered_mean"] = masked["loss_recovered_mean"]["mean"]
    row["delta_cross_entropy"] = masked["delta_cross_entropy"]["mean"]
    found: list[dict[str, Any]] = pd.read_csv(probes / "found.csv").to_dict("records")
    frozen = {r["features"]: r for r in found if r["protocol"] == "frozen"}
    for short, name in {"latent": "latents", **BASELINES}.items():
        if name in frozen:
            row[f"{short}_found"] = int(frozen[name]["concepts_found"])
            row[f"{short}_tested"] = int(frozen[name]["concepts_tested"])
    latents = pd.read_csv(probes / "latents.csv")
    row["confirmed"] = latents["confirmed"].astype(str).tolist().count("True")
    table = pd.read_csv(probes / "probes.csv").set_index("concept")
    for concept in TABULATED:
        if concept not in table.index:
            continue
        of: dict[str, Any] = table.loc[[concept]].to_dict("records")[0]
        row[f"{concept}_all_positive"] = of["f1_all_positive"]
        for short in ("latent", *BASELINES):
            if f"{short}_f1" in table.columns:
                row[f"{concept}_{short}"] = of[f"{short}_f1"]
    return row


def tables(rows: pd.DataFrame) -> str:
    """Markdown: one table of figures, then F1 of each concept beside every baseline."""
    text = (
        "| Site | FVU | Dead | Loss recovered | (of mean ablation) | Concepts found | Neurons | "
        "Components | Random dictionary | Shuffled labels | Confirmed latents |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    for r in rows.to_dict("records"):
        counts = [f"{_count(r, name)}" for name in ("latent", *list(BASELINES)[:4])]
        text += (
            f"| {r['site']} | {r['fvu']:.4f} | {100 * r['frac_dead']:.1f} % | "
            f"{100 * r['loss_recovered']:.1f} % | {100 * r['loss_recovered_mean']:.1f} % | "
            f"{' | '.join(counts)} | {r['confirmed']} |\n"
        )
    for concept in TABULATED:
        text += (
            f"\nF1 of {concept} on test\n\n| Site | Latent | Neuron | Component | Random dictionary"
            " | Shuffled labels | Shuffled parent | All positive |\n"
            "|---|---|---|---|---|---|---|---|\n"
        )
        for r in rows.to_dict("records"):
            names = ("latent", *BASELINES, "all_positive")
            values = [_f1(r.get(f"{concept}_{name}")) for name in names]
            text += f"| {r['site']} | {' | '.join(values)} |\n"
    return text


def _count(row: dict[str, Any], name: str) -> str:
    n, of = row.get(f"{name}_found"), row.get(f"{name}_tested")
    return "" if n is None or pd.isna(n) else f"{n:.0f} of {of:.0f}"


def _f1(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.3f}"


def shuffled_parent(config: LayersConfig) -> tuple[str, tuple[Path, list[Path]]] | None:
    """Site, run and annotated stores of the parent with shuffled weights."""
    if config.shuffled_activations is None or config.shuffled_weights is None:
        return None
    site = str(ActivationStore.open(config.shuffled_activations).manifest["site"])
    run = train(config, config.shuffled_activations, "shuffled")
    stores = annotated(config, [site], "shuffled", "--weights", config.shuffled_weights)
    return site, (run, stores)


def main() -> None:
    """Whatever is not done yet, then the table."""
    config = tyro.cli(LayersConfig, prog="python -m experiments.layers")
    if (config.shuffled_weights is None) != (config.shuffled_activations is None):
        raise UserError("--shuffled-weights and --shuffled-activations go together")
    for site in config.sites:
        if not (config.activations / site / "manifest.json").exists():
            raise UserError(f"{config.activations}: has no store {site}; give --sites that it has")
    control = shuffled_parent(config)
    folders = annotated(config, config.sites, "annotated")
    rows = []
    for site in config.sites:
        run = train(config, config.activations / site, site)
        stores = folders if len(config.sites) == 1 else [folder / site for folder in folders]
        beside = control[1] if control is not None and control[0] == site else None
        probes = probe(config, run, stores, beside)
        rows.append(row_of(run, probes, fidelity(config, run)))
        found = pd.DataFrame(rows)
        for name, text in (("csv", found.to_csv(index=False)), ("md", tables(found))):
            write_atomically(config.out / f"layers.{name}", lambda f, t=text: f.write(t.encode()))
    print((config.out / "layers.md").read_text())


if __name__ == "__main__":
    run_cli(main)
