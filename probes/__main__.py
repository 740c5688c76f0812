"""``python -m probes``: a trained run and annotations in, tables of what latents know out."""

from __future__ import annotations

import logging

import tyro

from extract.errors import require_free_space, run_cli
from probes.config import ProbeConfig
from probes.evaluate import probe_run
from probes.report import check_out, top_list, write_results

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the flags, probe, write the tables, print the top list."""
    config = tyro.cli(ProbeConfig, prog="python -m probes")
    check_out(config.folder)
    require_free_space(config.folder, 50_000_000)
    results = probe_run(config)
    write_results(results, config.folder)
    print(top_list(results))
    log.info("%s: tables written", config.folder)


if __name__ == "__main__":
    run_cli(main)
