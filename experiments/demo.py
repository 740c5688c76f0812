"""The whole path on the bundled data: sequences in, a report of latents and a steering result out.

Command: ``make demo`` or ``python -m experiments.demo`` (about 8 minutes on 2 cores, once packages
are installed; run again, it reuses what is done).
Expected, on proteins that neither the SAE nor the choice of latent has seen: held-out FVU about
0.17; a latent of F1 above 0.9 for each of the 20 amino acids; latents of helix precision about 0.9
where their amino acids alone give 0.45; amino-acid latents that steer more than matched random
latents do. ``report.html`` says what came out.

Settings (``--preset demo``), by held-out FVU on the unseen chains (2,048 latents, 4 epochs, k = 32
unless said): the scaling rule's learning rate 5.7e-4 gives 0.192, 1e-3 0.181, 2e-3 0.177; batches
of 1,024 at 2e-3 0.179 although training FVU falls from 0.141 to 0.122: more steps only overfit 1.7
M residues. So k = 40 with 1.5e-3 and 3 epochs: 0.168, in three quarters of the time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from extract.errors import EXIT_USER_ERROR, UserError, run_cli
from extract.files import write_json_atomically

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DemoConfig:
    """Extract, train, probe, steer and report on real proteins with real weights."""

    out: Path = Path("runs/demo")
    """Folder of everything the demo makes."""
    data: Path = Path("data")
    """Folder with the bundled data (see its README)."""
    model: str = "esm2_t6_8M_UR50D"
    """Parent model."""
    site: str = "block4"
    """Where its residual stream is read and steered."""
    d_sae: int | None = None
    """Latents in the dictionary; this and the next three are the preset's unless given."""
    k: int | None = None
    """Latents active per residue."""
    epochs: int | None = None
    """Passes over the training sequences."""
    learning_rate: float | None = None
    """Peak of Adam's learning rate; see this file's docstring."""
    n_steered: int = 30
    """Unseen proteins for the steering experiment."""
    min_positives: int = 50
    """Positive residues a concept needs in each part of the probes' split."""


@dataclass(frozen=True)
class Step:
    """One command line of the path."""

    title: str
    """What it does, for the log."""
    arguments: Sequence[str]
    """``python -m`` and what follows."""
    inputs: Sequence[Path]
    """Files whose content decides whether it must run again."""
    done: Path
    """A file that exists once it has run."""

    def fingerprint(self) -> str:
        """Hash of the command and of its inputs."""
        digest = hashlib.sha256(json.dumps(list(self.arguments)).encode())
        for path in self.inputs:
            digest.update(path.read_bytes())
        return digest.hexdigest()


class Runner:
    """Runs steps in order, and skips those whose command and inputs have not changed."""

    def __init__(self, folder: Path, n_steps: int) -> None:
        self.record = folder / "steps.json"
        self.n_steps, self.count = n_steps, 0
        self.steps = json.loads(self.record.read_text()) if self.record.exists() else {}

    def run(self, step: Step) -> None:
        """Run a step, or say that it is done; a failing command ends the demo with its status."""
        self.count += 1
        command = "python -m " + " ".join(step.arguments)
        log.info("\n[%d/%d] %s\n      %s", self.count, self.n_steps, step.title, command)
        fingerprint = step.fingerprint()
        name = step.arguments[0] + " " + step.done.parent.name
        old = self.steps.get(name, {})
        if old.get("fingerprint") == fingerprint and step.done.exists():
            log.info("      already done (%.0f s then)", old["seconds"])
            return
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-m", *step.arguments], check=False)
        if done.returncode == EXIT_USER_ERROR:
            raise UserError(f"step {self.count} stopped: {command}")
        if done.returncode:
            sys.exit(done.returncode)
        seconds = time.monotonic() - start
        self.steps[name] = {
            "command": command,
            "fingerprint": fingerprint,
            "seconds": round(seconds, 1),
        }
        write_json_atomically(self.record, self.steps)
        log.info("      %.0f s", seconds)


def extract_steps(config: DemoConfig) -> list[Step]:
    """Activations of the training sequences and of the two sets with annotations."""
    steps = []
    for name, words in (
        ("uniprot", "training sequences (UniProt)"),
        ("pdb", "unseen chains with secondary structure (PDB)"),
        ("swissprot", "unseen entries with feature tables (Swiss-Prot)"),
    ):
        fasta, out = config.data / f"{name}.fasta.gz", config.out / "acts" / name
        flags = ["--fasta", str(fasta), "--out", str(out), "--model", config.model]
        flags += ["--site", config.site, "--dtype", "bfloat16"]
        steps.append(
            Step(f"activations of {words}", ["extract", *flags], [fasta], out / "manifest.json")
        )
    return steps


def train_step(config: DemoConfig) -> Step:
    """The SAE, on all training sequences, evaluated on the unseen chains."""
    acts, out = config.out / "acts", config.out / "sae"
    flags = ["--activations", str(acts / "uniprot"), "--eval-activations", str(acts / "pdb")]
    flags += ["--out", str(out), "--preset", "demo"]
    for name in ("d_sae", "k", "epochs", "learning_rate"):
        if getattr(config, name) is not None:
            flags += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    inputs = [acts / "uniprot" / "manifest.json", acts / "pdb" / "manifest.json"]
    return Step("train the SAE", ["saejax.train", *flags], inputs, out / "run.json")


def labels(config: DemoConfig) -> list[str]:
    """Flags of the bundled annotations."""
    paths = {
        "--dssp": config.data / "pdb_dssp.tsv.gz",
        "--swissprot": config.data / "swissprot.dat.gz",
        "--clusters": config.data / "clusters.tsv",
        "--structures": config.data / "structures",
    }
    return [word for flag, path in paths.items() for word in (flag, str(path))]


def probe_step(config: DemoConfig) -> Step:
    """Every latent against every concept."""
    acts, run, out = config.out / "acts", config.out / "sae", config.out / "probes"
    flags = ["--run", str(run), "--activations", str(acts / "pdb"), str(acts / "swissprot")]
    flags += [*labels(config), "--out", str(out), "--min-positives", str(config.min_positives)]
    flags += ["--baselines", "neurons", "shuffled labels"]  # the others take minutes more
    inputs = [run / "run.json", *(p for p in map(Path, labels(config)) if p.is_file())]
    return Step("what the latents know", ["probes", *flags], inputs, out / "summary.json")


def steer_amino_acids_step(config: DemoConfig) -> Step:
    """Amino-acid latents at masked positions, beside matched random latents."""
    run, probes, out = config.out / "sae", config.out / "probes", config.out / "steering"
    flags = ["--run", str(run), "--probes", str(probes), "--out", str(out / "amino_acids.csv")]
    flags += ["--activations", str(config.out / "acts" / "pdb")]
    flags += ["--n-proteins", str(config.n_steered)]
    inputs = [run / "run.json", probes / "probes.csv", probes / "split.csv"]
    title = "steer every amino acid's latent, beside matched random latents"
    command = ["experiments.steer_amino_acids", *flags]
    return Step(title, command, inputs, out / "amino_acids.csv")


def steer_one_step(config: DemoConfig) -> Step:
    """One unseen chain, its middle third clamped with the amino-acid latent that steers best."""
    table = pd.read_csv(config.out / "steering" / "amino_acids.csv")
    best = table.loc[table["excess"].idxmax()]
    from experiments.steer_amino_acids import AminoAcidConfig, unseen_proteins

    run, probes, out = config.out / "sae", config.out / "probes", config.out / "steering" / "one"
    pdb = config.out / "acts" / "pdb"
    proteins = unseen_proteins(AminoAcidConfig(run, probes, pdb, out, n_proteins=10**6))
    protein = next((p for p in proteins if len(p.sequence) <= 110), proteins[0])
    n = len(protein.sequence)
    flags = ["--run", str(run), "--sequence", protein.sequence, "--out", str(out)]
    flags += ["--edit", f"{best['latent']}:set:1xmax@{n // 3}-{2 * n // 3}"]
    title = f"steer {protein.id} towards {best['amino_acid']}"
    inputs = [run / "run.json"]
    return Step(title, ["steering", "edit", *flags], inputs, out / "steering.json")


def report_step(config: DemoConfig) -> Step:
    """The page."""
    flags = ["--demo", str(config.out), "--data", str(config.data)]
    out = config.out
    inputs = [
        out / "sae" / "run.json",
        out / "probes" / "summary.json",
        out / "probes" / "probes.csv",
        out / "steering" / "amino_acids.csv",
        out / "steering" / "one" / "steering.json",
        Path(__file__).parent / "report" / "template.html",
    ]
    return Step("the report", ["experiments.report", *flags], inputs, out / "report.html")


def bundle_step(config: DemoConfig) -> Step:
    """What the explorer shows of this SAE."""
    acts, run, probes = config.out / "acts", config.out / "sae", config.out / "probes"
    flags = ["--run", str(run), "--probes", str(probes), "--out", str(config.out / "bundle")]
    flags += ["--activations", str(acts / "pdb"), str(acts / "swissprot"), *labels(config)]
    inputs = [run / "run.json", probes / "summary.json"]
    command = ["explorer", "build", *flags]
    return Step("the explorer's bundle", command, inputs, config.out / "bundle" / "manifest.json")


def main() -> None:
    """Run every step, then say what was found and where it lies."""
    config = tyro.cli(DemoConfig, prog="python -m experiments.demo")
    if not (config.data / "uniprot.fasta.gz").exists():
        raise UserError(f"{config.data}: no bundled data there; run from the repository's folder")
    config.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    runner = Runner(config.out, n_steps=9)
    for step in extract_steps(config):
        runner.run(step)
    # each step is made when its turn comes: it reads what the ones before it wrote
    for make in (
        train_step, probe_step, steer_amino_acids_step, steer_one_step, report_step, bundle_step
    ):  # fmt: skip
        runner.run(make(config))
    print((config.out / "findings.txt").read_text())
    bundle = config.out / "bundle"
    ours = config.out == DemoConfig.out
    explore = "make explore" if ours else f"python -m explorer serve {bundle} --live --open"
    print(
        f"Done in {(time.monotonic() - start) / 60:.1f} minutes. Open the explorer:\n\n"
        f"    {explore}\n\n"
        f"or the report: {(config.out / 'report.html').resolve()}\n"
        f"SAE: {config.out / 'sae'} (saejax.load_sae), tables: {config.out / 'probes'}."
    )


if __name__ == "__main__":
    run_cli(main)
