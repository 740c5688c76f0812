"""``python -m saejax.info runs/x``: what a run or a sweep is and how it goes, for a person."""

from __future__ import annotations

import json
import shlex
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from extract.command_line import parse
from extract.errors import UserError, run_cli
from extract.files import read_json
from saejax.config import TrainConfig
from saejax.imported_facts import imported_facts
from saejax.plots import curve, short
from saejax.presets import PRESETS
from saejax.run_record import settings_of

CURVES = {"fvu": "FVU (training)", "l0": "L0 (training)", "frac_dead": "dead latents (share)"}
"""Metrics drawn, and their titles."""
FIGURES = {
    "fvu": "FVU",
    "normalized_mse": "squared error / variance",
    "l0": "L0",
    "frac_dead": "dead latents (share)",
    "frac_dense": "dense latents (share)",
    "decoder_cosine_max": "largest decoder cosine",
    "decoder_cosine_mean_max": "mean largest cosine",
    "n_tokens": "residues",
}
"""Results, and what to call them."""
_SHOWN_ELSEWHERE = {
    "activations", "out", "fasta", "architecture", "d_sae", "k", "eval_activations", "preset",
    "target_activations", "model", "site", "epochs", "batch_size_tokens",
}  # fmt: skip


@dataclass(frozen=True)
class InfoConfig:
    """Show what a training run is and how it goes: data, settings, curves, figures, checkpoints.

    Works while it trains, and on the folder of a sweep.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, or of a sweep."""
    json: bool = False
    """Print everything as JSON, for programs."""


class RunInfo:
    """What lies in a run's folder, read without loading JAX's arrays."""

    def __init__(self, folder: Path) -> None:
        """Read it.

        Raises:
            UserError: no run there, or damaged.
        """
        self.folder = folder
        self.record = read_json(folder / "run.json", "a training run")
        missing = {"state", "config", "sae", "store"} - self.record.keys()
        if missing:
            raise UserError(
                f"{folder}: is not a training run (run.json has no {', '.join(sorted(missing))}); "
                "check the path"
            )
        lines = _metric_lines(folder / "metrics.jsonl")
        self.metrics = [line for line in lines if "fvu" in line]
        self.evaluations = [line for line in lines if "held_out_fvu" in line]
        self.checkpoints = _checkpoints(folder / "checkpoints")

    @property
    def n_steps(self) -> int | None:
        """Of the whole run, where the record says it."""
        return self.record.get("n_steps")

    @property
    def last_step(self) -> int:
        """The last one known of."""
        steps = [line["step"] for line in self.metrics] + self.checkpoints
        return max(steps, default=0)

    def state(self) -> str:
        """In words."""
        of = f" of {self.n_steps:,}" if self.n_steps else ""
        if self.record["state"] == "complete":
            steps = "" if "imported" in self.record else f", {self.last_step:,} steps"
            return f"complete{steps}"
        saved = (
            f"saved after step {self.checkpoints[-1]:,}"
            if self.checkpoints
            else "nothing saved yet"
        )
        return f"training: {self.last_step:,}{of} steps, {saved}"

    def changed(self, preset: str | None = None) -> dict[str, Any]:
        """Settings that are not the defaults, or not those of a preset."""
        config = self.record["config"]
        source: dict[str, Any] = {"preset": preset}
        if config.get("source") == "stream":
            source |= {"source": "stream", "fasta": Path()}
        activations = Path() if "fasta" not in source else None
        plain = settings_of(TrainConfig.of(activations, Path(), **source))
        return {k: v for k, v in config.items() if k in plain and plain[k] != v}

    def resume_command(self) -> str:
        """The command that goes on with it."""
        preset = self.record["config"].get("preset")
        preset = preset if preset in PRESETS else None
        words = ["python -m saejax.train"] + ([f"--preset {preset}"] if preset else [])
        for name, value in self.changed(preset).items():
            flag = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(flag if value else flag.replace("--", "--no-", 1))
            elif value is not None and name != "preset":
                values = value if isinstance(value, list) else [value]
                words.append(" ".join([flag, *(shlex.quote(str(v)) for v in values)]))
        return " ".join(words)

    def plain(self) -> dict[str, Any]:
        """Everything, for JSON."""
        own = {
            "run": str(self.folder),
            "last_step": self.last_step,
            "n_steps": self.n_steps,
            "checkpoints": self.checkpoints,
            "changed": self.changed(),
            "resume": None if self.record["state"] == "complete" else self.resume_command(),
            "evaluations": self.evaluations,
            "metrics": self.metrics,
        }
        return own | {k: v for k, v in self.record.items() if k not in _MANIFESTS} | {
            name: _provenance(self.record.get(name)) for name in _MANIFESTS
        }  # fmt: skip


_MANIFESTS = ("store", "target_store", "eval_store")


def _metric_lines(path: Path) -> list[dict]:
    """Whole lines of ``metrics.jsonl``; one that is being written is left out."""
    if not path.exists():
        return []
    try:
        return [json.loads(s) for s in path.read_text().splitlines(True) if s.endswith("\n")]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: damaged ({error}); resume the run, or train again") from error


def _checkpoints(folder: Path) -> list[int]:
    """Steps of whole checkpoints; Orbax gives a folder its name last."""
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(int(p.name) for p in found if p.name.isdecimal())


def _provenance(manifest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A manifest without its means of 1,280 numbers."""
    return None if manifest is None else {k: v for k, v in manifest.items() if k != "mean"}


def runs_in(folder: Path) -> list[Path]:
    """The runs of a sweep, or of a folder of runs.

    Raises:
        UserError: none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path")
    found = sorted(p.parent for p in folder.glob("*/run.json"))
    if not found:
        raise UserError(
            f"{folder}: is neither a training run (no run.json) nor a folder of runs; check the "
            "path"
        )
    return found


def show_run(info: RunInfo, width: int) -> list[str]:
    """A run on lines of at most ``width`` characters, save paths and the command."""
    facts = _facts(info)
    wrap = textwrap.TextWrapper(width, subsequent_indent=" " * 13, break_long_words=False)
    lines = [line for name, value in facts.items() for line in wrap.wrap(f"{name:<13}{value}")]
    steps = [line["step"] for line in info.metrics]
    for name, title in CURVES.items():
        lines += ["", *curve(title, steps, [line[name] for line in info.metrics], width=width)]
    if info.evaluations:
        at = [line["step"] for line in info.evaluations]
        values = [line["held_out_fvu"] for line in info.evaluations]
        lines += ["", *curve("FVU (held out)", at, values, width=width, height=2)]
    if info.record["state"] == "complete":
        lines += ["", "on held-out residues", *_results(info.record["results"])]
    else:
        lines += ["", "to go on with it:", f"  {info.resume_command()}"]
    return lines


def _facts(info: RunInfo) -> dict[str, str]:
    if "imported" in info.record:
        return imported_facts(info.folder, info.record)
    record, config, sae = info.record, info.record["config"], info.record["sae"]
    store = record["store"]
    parent, source = store["parent"], store["source"]
    held_out = record.get("eval_store") or store
    sparsity = (
        f", k {sae['k']}" if sae["architecture"] in ("topk", "batchtopk", "matryoshka") else ""
    )
    facts = {
        "run": str(info.folder),
        "state": info.state(),
        "parent": f"{parent['name']}, token dropout {'on' if parent['token_dropout'] else 'off'}, "
        f"weights {parent['weights']['encoder_sha256'][:12]}",
        "site": f"{store['site']}, {store['d_model']:,} dimensions",
        "proteins": f"{store['n_proteins']:,} of {Path(source['file']).name}, "
        f"{store['n_rows']:,} residues" + (" (a stream)" if store.get("streamed") else ""),
        "held out": f"{100 * config.get('holdout_fraction', 0):g} % of them"
        if not config.get("eval_activations") and not store.get("streamed")
        else f"{held_out['n_proteins']:,} proteins, {held_out['n_rows']:,} residues",
        "SAE": f"{sae['architecture']}, {sae['d_sae']:,} latents{sparsity}",
        "trained with": f"batches of {config['batch_size_tokens']:,} residues, "
        f"{config['epochs']} {'pass' if config['epochs'] == 1 else 'passes'}"
        + (f", preset {config['preset']}" if config.get("preset") else ""),
    }
    if sae.get("d_out") is not None:
        facts["transcoder"] = f"to {record['target_store']['site']}"
    others = {k: v for k, v in info.changed().items() if k not in _SHOWN_ELSEWHERE}
    if others:
        facts["not default"] = ", ".join(f"{k} {_words(v)}" for k, v in others.items())
    sanity = record.get("sanity") or {}
    if sanity.get("gamma") is not None:
        facts["gamma"] = f"{sanity['gamma']:.2f} = |mean| / |std| of the activations"
    facts["checkpoints"] = ", ".join(f"{s:,}" for s in info.checkpoints) or "none yet"
    if info.metrics:
        last = info.metrics[-1]
        facts["speed"] = (
            f"{last['tokens_per_sec']:,.0f} residues/s, {100 * last['data_wait']:.0f} % "
            "of the time waiting for data"
        )
    return facts


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(results: Mapping[str, float | int]) -> list[str]:
    named = {FIGURES.get(name, name.replace("_", " ")): v for name, v in results.items()}
    return [f"  {name:<26}{short(value)}" for name, value in named.items()]


def show_sweep(folder: Path, infos: list[RunInfo]) -> list[str]:
    """A table of the runs, best held-out FVU first, and how alike the seeds became."""
    order = sorted(infos, key=lambda i: (i.record.get("results") or {}).get("fvu", float("inf")))
    width = max(len("run"), *(len(i.folder.name) for i in infos))
    lines = [f"{folder}: {len(infos)} runs", "",
             f"{'run':<{width}}  held-out FVU      L0    dead  state"]  # fmt: skip
    for info in order:
        results = info.record.get("results") or {}
        figures = [results.get(name) for name in ("fvu", "l0", "frac_dead")]
        fvu, l0, dead = ("–" if v is None else f"{v:.{n}f}" for v, n in zip(figures, (4, 1, 3)))
        lines.append(f"{info.folder.name:<{width}}  {fvu:>12}  {l0:>6}  {dead:>6}  {info.state()}")
    if (folder / "sweep.json").exists():
        pairs = read_json(folder / "sweep.json", "a sweep").get("seed_stability", [])
        lines += [""] if pairs else []
        lines += [
            f"{pair['first']} and {pair['second']}: {100 * pair['shared']:.0f} % of latents are in "
            f"both, mean cosine {pair['mean_cosine']:.2f}"
            for pair in pairs
        ]
    return lines


def info(config: InfoConfig) -> None:
    """Print a run, or the runs of a sweep.

    Raises:
        UserError: neither is there.
    """
    width = min(80, shutil.get_terminal_size().columns)
    if (config.run / "run.json").exists():
        one = RunInfo(config.run)
        print(json.dumps(one.plain(), indent=1) if config.json else "\n".join(show_run(one, width)))
        return
    infos = [RunInfo(folder) for folder in runs_in(config.run)]
    if config.json:
        print(json.dumps([one.plain() for one in infos], indent=1))
    else:
        print("\n".join(show_sweep(config.run, infos)))


def main() -> None:
    """Parse the flags and print."""
    info(parse(InfoConfig, prog="python -m saejax.info"))


if __name__ == "__main__":
    run_cli(main)
