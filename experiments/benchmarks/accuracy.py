"""How close are our activations to fair-esm's, and does bfloat16 matter to an SAE?

On ESM2-8M's real weights and chains of the bundled PDB file, which no SAE of the demo was trained
on. At every site: the largest difference over the largest number, and per residue the difference's
norm over the norm (the mean over residues, and the worst one) and the cosine. Then the fraction of
variance that a trained SAE leaves unexplained on float32 and on bfloat16 activations of its site.

Command: ``python -m experiments.benchmarks.accuracy --run runs/demo/sae`` (about a minute on 2
cores; without ``--run`` the last part is left out). Writes ``accuracy.json`` and ``accuracy.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import tyro
from jaxtyping import Float
from tqdm import tqdm

from experiments.benchmarks.contestants import fair_esm, sites_of_fair_esm, tensors_of
from extract.errors import UserError, run_cli
from extract.esm import ESM2, ESM2_SHAPES
from extract.files import write_atomically, write_json_atomically
from extract.pipeline import residue_activations
from extract.selection import read_fasta
from extract.weights import build_esm2

if TYPE_CHECKING:
    from saejax.model import SAE

MODEL = "esm2_t6_8M_UR50D"
FLOAT32_LIMIT = 1e-4
"""Largest difference in float32, over the largest number at the site."""


@dataclass(frozen=True)
class AccuracyConfig:
    """Compare every site with fair-esm's, and an SAE on float32 and bfloat16 activations."""

    out: Path = Path("runs/benchmarks")
    """Folder of the results."""
    fasta: Path = Path("data/pdb.fasta.gz")
    """Where chains are sampled from."""
    run: Path | None = None
    """A finished SAE run on this model."""
    weights: str = "real"
    """"real" (found as ``python -m extract`` does), "random" or a file."""
    n_compared: int = 30
    """Chains compared with fair-esm."""
    n_chains: int = 200
    """Chains for the SAE."""
    seed: int = 0
    """Of the sample."""


class Difference(NamedTuple):
    """How far activations are from fair-esm's."""

    largest: float
    """Largest absolute difference, over the largest absolute number."""
    mean: float
    """Norm of a residue's difference over its norm: mean over residues."""
    worst: float
    """The same, largest of all residues."""
    cosine: float
    """Smallest cosine of a residue's activations with fair-esm's."""


def difference(
    found: Float[np.ndarray, "residues d"], expected: Float[np.ndarray, "residues d"]
) -> Difference:
    """Compare activations at one site, in float64."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(b, axis=1)
    relative = np.linalg.norm(a - b, axis=1) / norms
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * norms)
    largest = abs(a - b).max() / abs(b).max()
    return Difference(*(float(x) for x in (largest, relative.mean(), relative.max(), cosine.min())))


def compare_sites(
    models: dict[str, ESM2], tensors: dict, sequences: list[str]
) -> dict[str, dict[str, Difference]]:
    """Every site of every model against fair-esm, one sequence at a time."""
    theirs = fair_esm(next(iter(models.values())).shape, tensors)
    convert = theirs.alphabet.get_batch_converter()
    rows: dict[tuple[str, str], list[np.ndarray]] = {}
    for sequence in tqdm(sequences, desc="every site", disable=None):
        _, _, tokens = convert([("", sequence)])
        for site, found in sites_of_fair_esm(theirs, tokens).items():
            rows.setdefault(("fair-esm", site), []).append(found[0, 1:-1].numpy())
        for name, model in models.items():
            for site, x in model.residuals(model.tokenize([sequence]), model.sites).items():
                rows.setdefault((name, site), []).append(x[1:-1].float().numpy())
    whole = {key: np.concatenate(found) for key, found in rows.items()}
    return {
        name: {site: difference(whole[name, site], whole["fair-esm", site]) for site in model.sites}
        for name, model in models.items()
    }


def unexplained(
    run: Path, models: dict[str, ESM2], sequences: list[str]
) -> dict[str, dict[str, float]]:
    """Fraction of variance unexplained by a trained SAE on each model's activations.

    ``own`` scores its reconstruction against the activations it was given, ``float32`` against
    the float32 ones; ``same latents`` is the share of active latents also active on those.

    Raises:
        UserError: no finished run, or one of another parent.
    """
    from saejax.checkpoint import load_sae

    loaded = load_sae(run)
    weights = loaded.store_manifest["parent"]["weights"]
    if weights["encoder_sha256"] != models["float32"].weights.encoder_sha256:
        raise UserError(f"{run}: was trained on other weights ({weights['source']})")
    x = {
        name: np.concatenate(residue_activations(model, sequences, loaded.site))
        for name, model in models.items()
    }
    passed = {name: _through_sae(loaded.sae, rows) for name, rows in x.items()}
    _, exact_active = passed["float32"]
    return {
        name: {
            "own": _fvu(x[name], x_hat),
            "float32": _fvu(x["float32"], x_hat),
            "same latents": float((active & exact_active).sum() / active.sum()),
        }
        for name, (x_hat, active) in passed.items()
    }


def _through_sae(sae: SAE, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reconstruction ``[rows, d_model]`` and which latents are active ``[rows, d_sae]``."""
    from saejax.latents import encode_array

    latents = encode_array(sae, x)
    active = np.zeros((len(x), sae.config.d_sae), bool)
    rows, slots = np.nonzero(np.asarray(latents.values) > 0)
    active[rows, np.asarray(latents.indices)[rows, slots]] = True
    portions = [slice(i, i + 4096) for i in range(0, len(x), 4096)]
    x_hat = [sae.decode(type(latents)(*(field[rows] for field in latents))) for rows in portions]
    return np.concatenate([np.asarray(part) for part in x_hat]), active


def _fvu(x: np.ndarray, x_hat: np.ndarray) -> float:
    from saejax.losses import fvu

    deviation = ((x - x.mean(0)) ** 2).sum(dtype=np.float64)
    return fvu(float(((x - x_hat) ** 2).sum(dtype=np.float64)), float(deviation))


def table(sites: dict[str, dict[str, Difference]]) -> str:
    """Differences at every site as a Markdown table."""
    lines = [
        "| Site | float32: largest | per residue, mean | worst | bfloat16: largest | "
        "per residue, mean | worst | smallest cosine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for site, a in sites["float32"].items():
        b = sites["bfloat16"][site]
        lines.append(
            f"| {site} | {a.largest:.1e} | {a.mean:.1e} | {a.worst:.1e} | {b.largest:.4f} | "
            f"{b.mean:.4f} | {b.worst:.4f} | {b.cosine:.5f} |"
        )
    return "\n".join(lines) + "\n"


def sae_table(results: dict[str, dict[str, float]]) -> str:
    """The SAE's part as a Markdown table."""
    lines = ["| Activations | FVU | against float32 activations | same active latents |"]
    lines.append("|---|---|---|---|")
    lines += [
        f"| {name} | {r['own']:.5f} | {r['float32']:.5f} | {r['same latents']:.4f} |"
        for name, r in results.items()
    ]
    return "\n".join(lines) + "\n"


def require_float32(sites: Iterable[tuple[str, Difference]]) -> None:
    """Raise a :class:`UserError` for the first site beyond :data:`FLOAT32_LIMIT`."""
    for site, found in sites:
        if found.largest > FLOAT32_LIMIT:
            raise UserError(f"float32 differs from fair-esm by {found.largest:.1e} at {site}")


def main() -> None:
    """Measure, print and write."""
    config = tyro.cli(AccuracyConfig, prog="python -m experiments.benchmarks.accuracy")
    torch.set_num_threads(2)
    tensors, source = tensors_of(MODEL, config.weights)
    models = {
        dtype: build_esm2(MODEL, ESM2_SHAPES[MODEL], dict(tensors), source=source, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    }
    proteins, _ = read_fasta(config.fasta)
    order = np.random.default_rng(config.seed).permutation(len(proteins))
    chains = [proteins[i].sequence for i in order[: config.n_chains]]
    sites = compare_sites(models, tensors, chains[: config.n_compared])
    require_float32(sites["float32"].items())
    text = table(sites)
    results: dict = {"weights": source, "sites": {n: dict(s) for n, s in sites.items()}}
    if config.run is not None:
        results["sae"] = unexplained(config.run, models, chains)
        text += "\n" + sae_table(results["sae"])
    config.out.mkdir(parents=True, exist_ok=True)
    write_json_atomically(config.out / "accuracy.json", results)
    write_atomically(config.out / "accuracy.md", lambda f: f.write(text.encode()))
    print(text)


if __name__ == "__main__":
    run_cli(main)
