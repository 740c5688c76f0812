"""``python -m experiments.report``: the demo's outputs in, one self-contained HTML page out."""

import tyro

from experiments.report.build import ReportConfig, build
from extract.errors import run_cli


def main() -> None:
    """Parse the flags and write ``report.html`` and ``findings.txt``."""
    build(tyro.cli(ReportConfig, prog="python -m experiments.report"))


if __name__ == "__main__":
    run_cli(main)
