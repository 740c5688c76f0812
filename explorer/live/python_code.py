"""Code to paste that gives a page's numbers: the same calls as the worker makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.live.runs import LiveSource
from explorer.live.settings import WorkerSettings


class Code:
    """Writes code for the dictionaries of one server."""

    def __init__(self, sources: Mapping[str, LiveSource], settings: WorkerSettings) -> None:
        self._sources, self._settings = sources, settings

    def _load(self, sae: str, *imports: str) -> str:
        keywords = {
            "weights": self._settings.weights and str(self._settings.weights),
            "device": self._settings.device, "model": self._settings.model,
        }  # fmt: skip
        given = "".join(f", {k}={v!r}" for k, v in keywords.items() if v is not None)
        lines = [
            *(
                ["from pathlib import Path", ""]
                if any("Config" in line for line in imports)
                else []
            ),
            "from extract.parents import load_parent_of",
            "from saejax.checkpoint import load_sae",
            *imports,
            "from steering.torch_sae import TorchSAE",
            "",
            f"run = load_sae({shown(self._sources[sae].run)!r})",
            f"model = load_parent_of(run.store_manifest{given})",
            "sae = TorchSAE.from_run(run, device=model.device)",
        ]
        return "\n".join(lines)

    def encode(self, sae: str, sequence: str) -> str:
        """The latents of every residue."""
        return (
            self._load(sae)
            + f"""

tokens = model.tokenize([{sequence!r}])
x = model.residual(tokens, sae.site)[tokens.residue_rows()]
latents = sae.encode_dense(x)  # [residues, d_sae]
print(latents.max(0))
"""
        )

    def mutate(self, sae: str, sequence: str, mutations: list[str]) -> str:
        """Wild type and mutant."""
        return (
            self._load(sae, "from explorer.live.encoding import mutant_of")
            + f"""

wild_type = {sequence!r}
mutant, positions = mutant_of(wild_type, {mutations!r})
tokens = model.tokenize([wild_type, mutant])
x = model.residual(tokens, sae.site)[tokens.residue_rows()]
before, after = sae.encode_dense(x).split(len(wild_type))
change = after - before  # [residues, d_sae]
print(change.abs().max(0))
"""
        )

    def scan(self, sae: str, sequence: str, latent: int, start: int, end: int, at: int) -> str:
        """Every substitution."""
        return (
            self._load(sae, "from explorer.live.encoding import mutant_of")
            + f"""
wild_type, latent, at = {sequence!r}, {latent}, {at}  # at: from 1
highest, value_at = {{}}, {{}}
for position in range({start}, {end} + 1):
    for letter in "ACDEFGHIKLMNPQRSTVWY":
        change = f"{{wild_type[position - 1]}}{{position}}{{letter}}"
        tokens = model.tokenize([mutant_of(wild_type, [change])[0]])
        x = model.residual(tokens, sae.site)[tokens.residue_rows()]
        z = sae.encode(x).of([latent])[:, 0]
        highest[change], value_at[change] = float(z.max()), float(z[at - 1])
print(highest)
"""
        )

    def steer(self, sae: str, sequence: str, edits: str, masked: list[int], error_term: str) -> str:
        """Δlog p and KL under edits."""
        imports = ("from steering.edits import parse_edits",
                   "from steering.effects import sequence_effect")  # fmt: skip
        return (
            self._load(sae, *imports)
            + f"""

sequence = {sequence!r}
edits = [request.resolve(run) for request in parse_edits({edits!r})]
masked = {masked!r}  # from 0
effect = sequence_effect(model, sae, sequence, edits, masked=masked, error_term={error_term!r})
print(effect.delta_log_p)  # [residues, 20], nats
print(effect.kl)
"""
        )

    def sweep(self, sae: str, sequence: str, config: Mapping[str, Any]) -> str:
        """A dose-response."""
        imports = ("from steering.config_many import SweepConfig",
                   "from steering.controls import matched_latents",
                   "from steering.masked import scored_batches",
                   "from steering.sweep import dose_response")  # fmt: skip
        return (
            self._load(sae, *imports)
            + f"""

sequence = {sequence!r}
config = SweepConfig(run=Path(), out=Path(), fasta=Path(), **{dict(config)!r})
edits = [request.resolve(run) for request in config.requests()]
controls = []
if config.random_latents:
    controls = matched_latents(run.latent_frequency, config.latent, config.random_latents,
                               seed=config.seed).tolist()
fraction = config.mask_fraction if config.where == "masked" else None
batches = list(scored_batches(model, [sequence], mask_fraction=fraction, seed=config.seed))
response = dose_response(model, sae, batches, edits, n_proteins=1, control_latents=controls,
                         n_directions=config.random_directions, seed=config.seed,
                         error_term=config.error_term)
print(response.kl[:, :, 0])  # arms (the latent first) by norms
"""
        )

    def variants(self, sae: str, sequence: str, edits: str, config: Mapping[str, Any]) -> str:
        """Variants and their controls."""
        imports = ("from steering.config import DesignConfig",
                   "from steering.design_command import arms_of, judged_arm",
                   "from steering.edits import latents_of, parse_edits")  # fmt: skip
        return (
            self._load(sae, *imports)
            + f"""

sequence = {sequence!r}
edits = [request.resolve(run) for request in parse_edits({edits!r})]
config = DesignConfig(run=Path(), out=Path(), sequence=sequence, **{dict(config)!r})
for arm in arms_of(config, run, sae, edits):
    judged = judged_arm(config, model, sae, sequence, arm, latents_of(edits), [])
    print(arm.name, [variant.sequence for variant in judged.variants])
"""
        )

    def labels(self, sae: str, motif: str | None, name: str, min_positives: int) -> str:
        """Latents that tell labels."""
        source = self._sources[sae]
        probes = shown(source.probes) if source.probes else ""
        read = f"data.motif({motif!r}, {name!r})"
        if motif is None:
            read = 'data.table(open("labels.tsv").read())[0]  # your table'
        return f"""from explorer.live.labels import LabelData, score_labels
from saejax.checkpoint import load_sae

run = load_sae({shown(source.run)!r})
data = LabelData.open(run, {probes!r}, {shown(source.sequences)!r})
labels = {read}
for label in score_labels(data, labels, min_positives={min_positives}):
    print(label["label"], label["best"]["feature"], label["best"]["f1_test"])
"""

    def compare(self, a: str, b: str, by: str) -> str:
        """Matches of two dictionaries."""
        first, second = self._sources[a], self._sources[b]
        runs = (f"first, second = load_sae({shown(first.run)!r}), "
                f"load_sae({shown(second.run)!r})")  # fmt: skip
        if by == "cosine":
            return f"""from saejax.checkpoint import load_sae
from saejax.compare import compare_decoders

{runs}
found = compare_decoders(first.arrays()["W_dec"], second.arrays()["W_dec"])
print(found.forth.other, found.forth.value)
"""
        folders = [shown(source.probes) if source.probes else "" for source in (first, second)]
        return f"""from saejax.compare import compare_activations
from saejax.latent_store import LatentStore

first = LatentStore.open({folders[0] + "/latents"!r})
second = LatentStore.open({folders[1] + "/latents"!r})
found = compare_activations(first.columns(), second.columns())
print(found.forth.other, found.forth.value)
"""


def shown(path: Path) -> str:
    """As it was given; inside the folder where the server was started, relative to it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
