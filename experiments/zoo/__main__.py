"""``python -m experiments.zoo``."""

from __future__ import annotations

import tyro

from experiments.zoo.config import ZooConfig
from experiments.zoo.launch import launch
from experiments.zoo.member import annotated_stores, make, row
from experiments.zoo.table import write
from experiments.zoo.upload import upload
from extract.errors import UserError, run_cli


def zoo(config: ZooConfig) -> None:
    """Whatever is not done yet, then the table of what is.

    Raises:
        UserError: the settings, the stores or a step's input do not fit.
    """
    if config.dry_run and not config.upload:
        raise UserError("--dry-run: goes with --upload; give both")
    if config.upload:
        upload(config)
        return
    members = config.members()
    missing = [m for m in members if not config.packed(m).exists()]
    if missing and config.launcher != "here":
        annotated_stores(config)  # once, not by every task
        jobs = launch(config, missing)
        print(f"submitted {len(jobs)} tasks; logs are in {config.out / 'jobs'}", flush=True)
        if config.launcher == "slurm":
            return  # the same command without --launcher makes the table
        for job in jobs:
            job.result()
        missing = []
    for member in missing:
        make(config, member)
        _write_table(config)
    _write_table(config)
    print((config.out / "zoo.md").read_text())


def _write_table(config: ZooConfig) -> None:
    done = [m for m in config.members() if config.packed(m).exists()]
    write([row(config, m) for m in done], config.out)


def main() -> None:
    """Parse the flags and go."""
    zoo(tyro.cli(ZooConfig, prog="python -m experiments.zoo"))


if __name__ == "__main__":
    run_cli(main)
