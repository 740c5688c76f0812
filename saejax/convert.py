"""``python -m saejax.convert import | export``: published SAEs in and out (docs/interop.md)."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from extract.command_line import Optional, parse
from extract.errors import UserError, run_cli
from extract.store import ActivationStore
from saejax.checkpoint import load_sae
from saejax.interop.formats import ExportFormat, ImportFormat, write_published
from saejax.interop.importing import Request, import_sae
from saejax.interop.published import Facts, Given

log = logging.getLogger(__name__)
PROG = "python -m saejax.convert"


@dataclass(frozen=True)
class ImportConfig:
    """Make a run of an SAE that others published.

    It is checked on activations of its parent and site, and refused when it does not reconstruct
    them. Its preprocessing becomes part of the run.
    """

    source: str
    """Its weights file or folder, or hf://owner/name[@revision][/path] (needs huggingface_hub)."""
    format: ImportFormat
    """Whose format it is in; never guessed."""
    activations: Path
    """Store of residues at its site, from `python -m extract`; a few thousand are enough."""
    out: Path
    """Run folder (made)."""
    k: Optional[int] = None
    """Latents active per residue, where the file does not say (interprot, bionemo)."""
    find_k: bool = False
    """Find k on the activations instead."""
    variant: Optional[str] = None
    """bionemo: topk or relu. dictionary_learning: the class, for a file without config.json."""
    token_zscore: Optional[bool] = None
    """bionemo: whether every residue is standardised over its own dimensions first."""
    input_scale: Optional[float] = None
    """Factor that activations were multiplied with in training, where the file lost it."""
    model: Optional[str] = None
    """The parent's name as in the store, where the file has another."""
    site: Optional[str] = None
    """The site, where the file has another or its name was changed."""
    token_dropout: Optional[bool] = None
    """Whether the parent ran with token dropout, where the format says otherwise."""
    expected_fvu: Optional[float] = None
    """FVU as published; without it an SAE is refused when it explains less than a fifth."""
    residues: int = 16384
    """On which its figures, and each latent's frequency and maximum, are measured."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.k is not None and self.find_k:
            raise UserError("--k and --find-k exclude each other; give one of them")
        for name in ("k", "residues", "input_scale", "expected_fvu"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"--{name.replace('_', '-')} ({value}) must be above 0")

    def request(self) -> Request:
        """The same for :func:`import_sae`."""
        given = Given(self.k, self.variant, self.token_zscore, self.input_scale)
        claims = Facts(self.model, self.site, self.token_dropout)
        return Request(self.source, self.format, self.out, given, claims, self.find_k,
                       self.expected_fvu, self.residues)  # fmt: skip


@dataclass(frozen=True)
class ExportConfig:
    """Write a run's SAE in another trainer's format, or refuse when that would lose something."""

    run: Path
    """Folder of a finished run."""
    format: ExportFormat
    """Who shall read it; plain is safetensors, config.json and a model card."""
    out: Path
    """Folder (made)."""
    check: Optional[Path] = None
    """Store of the run's site: first check that FVU is as recorded."""


COMMANDS = {
    "import": "make a run of an SAE that others published",
    "export": "write a run's SAE for another trainer's users",
}
USAGE = f"{PROG} COMMAND --help; COMMAND is one of\n" + "\n".join(
    f"  {name:8} {purpose}" for name, purpose in COMMANDS.items()
)


def run_import(config: ImportConfig) -> None:
    """Import, and say what came of it."""
    loaded = import_sae(config.request(), ActivationStore.open(config.activations))
    said = loaded.run["imported"]
    k = f"k {loaded.config.k} ({said['k_from']})" if loaded.config.architecture == "topk" else (
        "thresholds")  # fmt: skip
    parent, results = loaded.store_manifest["parent"]["name"], loaded.run["results"]
    print(f"{config.out}: {loaded.config.d_sae:,} latents at {loaded.site} of {parent}, {k}, "
          f"FVU {results['fvu']:.4f}, L0 {results['l0']:.1f}")  # fmt: skip


def run_export(config: ExportConfig) -> None:
    """Export, and say where it is."""
    write_published(config.format, load_sae(config.run, check=config.check), config.out)
    print(f"written: {config.out}")


def main() -> None:
    """Find the command, parse its flags, run it."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help"):
        print(f"usage: {USAGE}")
    elif name == "import":
        run_import(parse(ImportConfig, prog=f"{PROG} import", args=sys.argv[2:]))
    elif name == "export":
        run_export(parse(ExportConfig, prog=f"{PROG} export", args=sys.argv[2:]))
    else:
        raise UserError(f"unknown command {name!r}; usage: {USAGE}")


if __name__ == "__main__":
    run_cli(main)
