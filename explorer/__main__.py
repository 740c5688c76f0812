"""``python -m explorer``: ``build`` a bundle, and what is done with it."""

from __future__ import annotations

import logging
import sys

from extract.errors import UserError, run_cli

log = logging.getLogger(__name__)

COMMANDS = {
    "build": "a run, its activations and its probes in, a bundle out",
    "serve": "bundles in a browser",
    "export": "bundles as a static site",
    "openapi": "the server's OpenAPI, from which the pages' types are made",
}


def main() -> None:
    """Run the command that the first word names."""
    words = sys.argv[1:]
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        print("usage: python -m explorer COMMAND [--help]\n")
        print("\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items()))
    elif command == "build":
        _build(words[1:])
    elif command == "serve":
        _serve(words[1:])
    elif command == "export":
        _export(words[1:])
    elif command == "openapi":
        from explorer.server.serve import openapi

        print(openapi())
    else:
        raise UserError(f"unknown command {command[:40]!r}; there are {', '.join(COMMANDS)}")


def _build(words: list[str]) -> None:
    from explorer.build.command import build
    from explorer.build.config import BuildConfig
    from extract.command_line import parse

    config = parse(BuildConfig, prog="python -m explorer build", args=words)
    for name in ("labels", "uniprot", "fasta"):
        if f"--{name}" in words and not getattr(config, name):
            raise UserError(f"--{name}: no file is given; name one or more, or leave the flag out")
    folder = build(config)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    log.info("%s: a bundle of %.0f MB", folder, size / 1e6)
    print(f"python -m explorer serve {folder}")


def _serve(words: list[str]) -> None:
    from explorer.server.serve import ServeConfig, serve
    from extract.command_line import parse

    serve(parse(ServeConfig, prog="python -m explorer serve", args=words))


def _export(words: list[str]) -> None:
    from explorer.server.export import ExportConfig, export
    from extract.command_line import parse

    export(parse(ExportConfig, prog="python -m explorer export", args=words))


if __name__ == "__main__":
    run_cli(main)
