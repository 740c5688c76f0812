"""``python -m explorer``: ``serve``, ``export`` and ``openapi``."""

import sys

import tyro

from extract.errors import UserError, run_cli


def main() -> None:
    """Run a subcommand."""
    command, rest = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command == "serve":
        from explorer.server.serve import ServeConfig, serve

        serve(tyro.cli(ServeConfig, prog="python -m explorer serve", args=rest))
    elif command == "export":
        from explorer.server.export import ExportConfig, export

        export(tyro.cli(ExportConfig, prog="python -m explorer export", args=rest))
    elif command == "openapi":
        from explorer.server.serve import openapi

        print(openapi())
    else:
        raise UserError(f"no command {command!r}; give serve, export or openapi, with --help")


if __name__ == "__main__":
    run_cli(main)
