"""``python -m probes``: a run and annotations in, what latents know out; ``report``: its page."""

from __future__ import annotations

import logging
import sys
from typing import Any

import tyro

from extract.errors import UserError, require_free_space, run_cli

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the flags and probe, or make the page of an earlier probing again."""
    if sys.argv[1:2] == ["report"]:
        from probes.report.page import PageConfig, write_page

        config = tyro.cli(PageConfig, prog="python -m probes report", args=sys.argv[2:])
        print(write_page(config.folder))
    else:
        _probe()


def _require_values(words: list[str], config: Any) -> None:
    """Refuse a flag of files without a file, which otherwise is the same as no flag."""
    for name in ("labels", "uniprot"):
        if f"--{name}" in words and not getattr(config, name):
            raise UserError(f"--{name}: no file is given; name one or more, or leave the flag out")


def _probe() -> None:
    """Probe, write tables and page, print the top list."""
    from probes.config import ProbeConfig
    from probes.evaluate import probe_run
    from probes.report.page import write_page
    from probes.report.tables import check_out, top_list, write_results

    config = tyro.cli(ProbeConfig, prog="python -m probes")
    _require_values(sys.argv, config)
    check_out(config)
    require_free_space(config.folder, 50_000_000)
    results = probe_run(config)
    write_results(results, config.folder)
    page = write_page(config.folder)
    print(top_list(results))
    log.info("%s: tables written; open %s", config.folder, page)


if __name__ == "__main__":
    run_cli(main)
