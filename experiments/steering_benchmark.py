"""The success rate of steering: how often do a layer's latents move what they are said to know?

Of every run: each amino acid's latent; each concept's latent whose F1 exceeds a half; and of each
concept the confirmed latent whose precision exceeds most what its residues' identity predicts
(``python -m probes`` chose all of them on other proteins). Concepts are read by probes on the
parent's last hidden state, fitted on the training part. Proteins are those of the probes' *test*
part, the same for every run. ``steering/benchmark.py`` defines success.

What tells latents that steer from those that don't is answered by rank correlations of success with
facts of the latent, over all targets of all runs, with permutation p-values.

Command (ESM2-8M, some minutes for each run on 2 cores)::

    python -m experiments.steering_benchmark --runs runs/block1 runs/block2 --probes
        runs/block1/probes runs/block2/probes --fasta data/pdb.fasta.gz data/swissprot.fasta.gz
        --labels data/pdb_dssp.tsv.gz data/swissprot.dat.gz --out runs/steering

Writes ``targets.csv``, ``classes.csv``, ``correlations.csv``, ``steering_benchmark.json``. A run
whose results are there is not done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tyro
from scipy.stats import rankdata

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError, run_cli
from extract.fasta import Protein
from extract.files import (
    file_sha256,
    read_json,
    without_nan,
    write_atomically,
    write_json_atomically,
)
from extract.sampling import by_hash
from extract.selection import read_fasta

if TYPE_CHECKING:
    from extract.plm import ProteinLM
    from probes.data.concepts import Concept
    from probes.data.rows import ProteinRows
    from steering.benchmark import Target
    from steering.concept_probe import ConceptProbe

log = logging.getLogger(__name__)

PROBE_SITE = "final"
PROBE_TABLES = ("probes.csv", "latents.csv", "split.csv")
FACTS = ("site_depth", "frequency", "maximum", "decoder_norm", "relative_norm", "kl", "kl_ratio",
         "largest_amino_acid_effect", "f1", "precision", "excess")  # fmt: skip
"""Facts of a latent that success may depend on."""


@dataclass(frozen=True)
class SteeringBenchmarkConfig:
    """Measure how often latents of several runs steer, and what distinguishes those that do."""

    runs: tuple[Path, ...]
    """Runs of one parent, such as one for each layer."""
    probes: tuple[Path, ...]
    """Folders of `python -m probes`, in the order of --runs."""
    fasta: tuple[Path, ...]
    """The proteins that the probes used."""
    labels: tuple[Path, ...]
    """Their annotations: DSSP table, UniProt file."""
    out: Path
    """Folder of the tables."""
    n_proteins: int = 20
    """Proteins steered: those of the test part with the smallest SHA-256, up to 400 residues."""
    min_f1: float = 0.5
    """F1 above which a concept's best latent is a target."""
    strength: float = 1.0
    """Multiple of the latent's own maximum."""
    random_latents: int = 10
    """Controls of every target."""
    random_directions: int = 10
    """Controls of every target."""
    max_concepts: int = 20
    """Concepts of a run at most, those with the most positive residues first."""
    train_proteins: int = 300
    """Proteins that the concepts' probes are fitted on, at most."""
    seed: int = 0
    """Of everything random."""
    weights: Path | None = None
    """Weights of the parent; by default found as `python -m extract` does."""

    def __post_init__(self) -> None:
        """Check the lists."""
        if len(self.runs) != len(self.probes):
            raise UserError(f"--runs ({len(self.runs)}) and --probes ({len(self.probes)}): give "
                            "one folder of probes for each run")  # fmt: skip


def targets_of(config: SteeringBenchmarkConfig, probes: Path) -> pd.DataFrame:
    """Which latents of a run to test: ``target, kind, why, latent, f1, precision, excess``."""
    table = pd.read_csv(probes / "probes.csv")
    named = pd.read_csv(probes / "latents.csv")
    rows = []
    for r in table.to_dict("records"):
        good = r["latent_f1"] > config.min_f1
        if r["kind"] == "amino acid" or (good and r["kind"] != "amino-acid class"):
            why = "amino acid" if r["kind"] == "amino acid" else "F1"
            rows.append((r["concept"], r["kind"], why, int(r["latent"]), r["latent_f1"],
                         r["latent_precision"], np.nan, r["n_positive_test"]))  # fmt: skip
    confirmed = named[named["confirmed"].astype(str) == "True"] if "concept" in named else named[:0]
    confirmed = confirmed.assign(excess=confirmed["precision"] - confirmed["expected_neighbours"])
    kinds = {r["concept"]: r for r in table.to_dict("records")}
    for concept, group in confirmed.groupby("concept"):
        if concept not in kinds or kinds[concept]["kind"] in ("amino acid", "amino-acid class"):
            continue
        best = group.loc[group["excess_select"].idxmax()]
        rows.append((concept, kinds[concept]["kind"], "precision", int(best["latent"]), np.nan,
                     best["precision"], best["excess"],
                     kinds[concept]["n_positive_test"]))  # fmt: skip
    columns = ["target", "kind", "why", "latent", "f1", "precision", "excess", "n_positive"]
    found = pd.DataFrame(rows, columns=columns).drop_duplicates(["target", "latent"])
    found = found.sort_values(by="n_positive", ascending=False, kind="stable")
    others = list(dict.fromkeys(found.loc[found["why"] != "amino acid", "target"]))
    letters = found.loc[found["why"] == "amino acid", "target"]
    keep = [*letters, *others[: config.max_concepts]]
    return found.loc[found["target"].isin(keep)].reset_index(drop=True)


def read_labels(
    config: SteeringBenchmarkConfig, proteins: Sequence[Protein]
) -> tuple[ProteinRows, dict[str, Concept]]:
    """Annotations of the proteins."""
    from extract.alphabet import residue_tokens
    from probes.annotations import Annotations
    from probes.data.rows import ProteinRows

    tokens = np.concatenate([residue_tokens(p.sequence) for p in proteins])
    rows = ProteinRows(proteins, tokens)
    annotations = Annotations.load(rows, sources=config.labels)
    return rows, {c.name: c for c in annotations.concepts if c.level == "residue"}


def fit_probes(
    config: SteeringBenchmarkConfig,
    model: ProteinLM,
    proteins: Sequence[Protein],
    part: dict[str, str],
    names: Sequence[str],
) -> dict[str, ConceptProbe]:
    """A probe of every concept, on the parent's last hidden state; kept in ``--out``."""
    from steering.concept_probe import ConceptProbe, fit_concept_probe, residue_activations

    folder = config.out / "concept_probes"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {n: folder / f"{hashlib.sha256(n.encode()).hexdigest()[:12]}.npz" for n in names}
    wanted = [name for name in names if not paths[name].exists()]
    if wanted:
        groups = [
            by_hash([p for p in proteins if part.get(p.id) == name], config.train_proteins)
            for name in ("train", "validation")
        ]
        labels = [concept_labels(config, group, wanted) for group in groups]
        train, held_out = (
            residue_activations(model, PROBE_SITE, [p.sequence for p in group]) for group in groups
        )
        for name in wanted:
            if name in labels[0] and name in labels[1]:
                try:
                    probe = fit_concept_probe(name, train, labels[0][name], held_out,
                                              labels[1][name], seed=config.seed)  # fmt: skip
                    probe.save(paths[name])
                except UserError as error:
                    log.warning("%s", error)
    return {name: ConceptProbe.load(path) for name, path in paths.items() if path.exists()}


def concept_labels(
    config: SteeringBenchmarkConfig, proteins: Sequence[Protein], names: Sequence[str]
) -> dict[str, list[np.ndarray]]:
    """1, 0 or unknown (−1) for every residue of every protein, by concept."""
    from steering.concept_probe import UNKNOWN

    rows, concepts = read_labels(config, proteins)
    found = {}
    for name in names:
        if name in concepts and concepts[name].defined.any():
            known = concepts[name].defined_rows(rows)
            values = np.where(known, concepts[name].labels(len(rows.token_id)), UNKNOWN)
            found[name] = np.split(values.astype(np.int8), rows.offsets[1:-1])
    return found


def run_layer(
    config: SteeringBenchmarkConfig,
    run: Path,
    probes_folder: Path,
    proteins: Sequence[Protein],
) -> pd.DataFrame:
    """Every target of one run."""
    from extract.parents import load_parent_of
    from saejax.checkpoint import load_sae
    from steering.benchmark import BenchmarkSettings, Target, row_of, run_target
    from steering.benchmark_command import line_of
    from steering.torch_sae import TorchSAE

    loaded = load_sae(run)
    model = load_parent_of(loaded.store_manifest, weights=config.weights)
    sae = TorchSAE.from_run(loaded)
    sae.require_parent(model)
    split = pd.read_csv(probes_folder / "split.csv", dtype=str)
    part = dict(zip(split["id"], split["part"], strict=True))
    wanted = targets_of(config, probes_folder)
    concepts = [t for t in dict.fromkeys(wanted["target"]) if t not in set(AMINO_ACIDS)]
    readers = fit_probes(config, model, proteins, part, concepts)
    unseen = by_hash(
        [p for p in proteins if part.get(p.id) == "test" and len(p.sequence) <= 400],
        config.n_proteins,
    )
    settings = BenchmarkSettings(
        config.strength, n_latents=config.random_latents, n_directions=config.random_directions,
        seed=config.seed,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    chosen = sorted(set(wanted["latent"]))
    for t in wanted.to_dict("records"):
        target: Target = Target(t["target"], t["kind"], t["latent"])
        if not target.is_amino_acid and target.name not in readers:
            log.warning("%s: no probe of %s could be fitted; left out", run, target.name)
            continue
        result = run_target(
            model, sae, loaded, [p.sequence for p in unseen], target, settings, probes=readers,
            exclude=[j for j in chosen if j != target.latent],
        )  # fmt: skip
        log.info("%s: %s", run.name, line_of(result))
        reader = readers.get(target.name)
        rows.append(
            {"run": run.name, "site": loaded.site, "site_depth": model.sites.index(loaded.site)}
            | row_of(result)
            | {k: t[k] for k in ("why", "f1", "precision", "excess")}
            | {"probe_auroc": reader.record["held_out"]["auroc"] if reader else np.nan}
        )
    return pd.DataFrame(rows)


def classes(table: pd.DataFrame) -> pd.DataFrame:
    """Success by run and class."""
    groups = table.groupby(["run", "site", "kind", "why"], sort=False)
    found = groups.agg(
        targets=("success", "size"), success=("success", "mean"), steer=("steers", "sum"),
        effect=("effect", "mean"), control=("control", "mean"),
    )  # fmt: skip
    return found.reset_index()


def correlations(table: pd.DataFrame, seed: int = 0, n: int = 2000) -> pd.DataFrame:
    """Spearman's ρ of success with each fact, among amino acids and among other concepts."""
    rng = np.random.default_rng(seed)
    rows = []
    for group, of in (("amino acids", table[table["why"] == "amino acid"]),
                      ("concepts", table[table["why"] != "amino acid"])):  # fmt: skip
        for fact in FACTS:
            x, y = (np.asarray(of[name], float) for name in (fact, "success"))
            known = np.isfinite(x) & np.isfinite(y)
            if known.sum() < 5 or np.ptp(x[known]) == 0 or np.ptp(y[known]) == 0:
                continue
            a, b = rankdata(x[known]), rankdata(y[known])
            rho = float(np.corrcoef(a, b)[0, 1])
            drawn = np.array([np.corrcoef(a, rng.permutation(b))[0, 1] for _ in range(n)])
            p = (1 + int((np.abs(drawn) >= abs(rho) - 1e-12).sum())) / (1 + n)
            rows.append({"among": group, "fact": fact, "n": len(a), "rho": rho, "p": p})
    return pd.DataFrame(rows)


def main() -> None:
    """Every run that is not done yet, then the tables."""
    config = tyro.cli(SteeringBenchmarkConfig, prog="python -m experiments.steering_benchmark")
    config.out.mkdir(parents=True, exist_ok=True)
    proteins = [p for path in config.fasta for p in read_fasta(path)[0]]
    settings = {
        k: [str(v) for v in value] if isinstance(value, tuple) else str(value)
        for k, value in asdict(config).items()
        if k not in ("out", "runs", "probes")
    }
    tables = []
    for run, probes in zip(config.runs, config.probes, strict=True):
        trained = read_json(run / "run.json", "a training run")["results"]
        tables_read = [file_sha256(probes / name) for name in PROBE_TABLES]
        facts = json.dumps([settings, str(run), str(probes), trained, tables_read], sort_keys=True)
        key = hashlib.sha256(facts.encode()).hexdigest()[:12]
        path = config.out / f"{run.resolve().name}_{key}.csv"
        if not path.exists():
            table = run_layer(config, run, probes, proteins)
            write_atomically(path, lambda f, t=table: f.write(t.to_csv(index=False).encode()))
        tables.append(pd.read_csv(path))
    table = pd.concat(tables, ignore_index=True)
    summary, related = classes(table), correlations(table, config.seed)
    for name, found in (("targets", table), ("classes", summary), ("correlations", related)):
        write_atomically(
            config.out / f"{name}.csv", lambda f, t=found: f.write(t.to_csv(index=False).encode())
        )
    whole = {"config": settings, "runs": [str(r) for r in config.runs],
             "classes": summary.to_dict("records"),
             "correlations": related.to_dict("records")}  # fmt: skip
    write_json_atomically(config.out / "steering_benchmark.json", without_nan(whole))
    print(summary.to_string(index=False, float_format="%.3f"))
    print(related.to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    run_cli(main)
