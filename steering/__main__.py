"""``python -m steering edit | sweep | design | benchmark``: edit latents inside the parent."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

from extract.command_line import parse
from extract.errors import UserError, run_cli


class Command(NamedTuple):
    """A word of the command line."""

    config: str
    """Its flags: module and dataclass."""
    run: str
    """What it does: module and function."""
    purpose: str
    """In a few words."""


COMMANDS = {
    "edit": Command("steering.config:EditConfig", "steering.commands:run_edit",
                    "edit latents in one protein and see what the predictions do"),
    "sweep": Command("steering.config_many:SweepConfig", "steering.commands:run_sweep",
                     "dose-response of one latent over many proteins, beside its controls"),
    "design": Command("steering.config:DesignConfig", "steering.design_command:run_design",
                      "let the edited model rewrite a protein, and judge the variants"),
    "benchmark": Command("steering.config_many:BenchmarkConfig",
                         "steering.benchmark_command:run_benchmark",
                         "how often many latents move their targets, beside controls"),
}  # fmt: skip
USAGE = "python -m steering COMMAND --help; COMMAND is one of\n" + "\n".join(
    f"  {name:10} {command.purpose}" for name, command in COMMANDS.items()
)


def main() -> None:
    """Find the command, parse its flags, run it."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE)
        return
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}; it is one of {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    given = parse(_found(command.config), prog=f"python -m steering {name}", args=words)
    _found(command.run)(given)


def _found(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    run_cli(main)
