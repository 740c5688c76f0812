"""``python -m extract``: FASTA in, activation store out; ``verify`` and ``info`` read one."""

import os
import sys

import tyro

from extract.errors import run_cli


def main() -> None:
    """Parse the flags and run the extraction, its estimate, or a subcommand."""
    if sys.argv[1:2] == ["verify"]:
        from extract.verify import VerifyConfig, verify

        verify(tyro.cli(VerifyConfig, prog="python -m extract verify", args=sys.argv[2:]))
    elif sys.argv[1:2] == ["info"]:
        from extract.info import InfoConfig, info

        info(tyro.cli(InfoConfig, prog="python -m extract info", args=sys.argv[2:]))
    else:
        _extract()


def _extract() -> None:
    from extract.config import ExtractConfig

    config = tyro.cli(ExtractConfig, prog="python -m extract")
    from extract.engines import run
    from extract.estimate import estimate
    from extract.fasta import read_records
    from extract.launch import worker_from_environment
    from extract.parents import check_device, check_parent_name, check_sites
    from extract.prepare import refuse_foreign_folder

    check_parent_name(config.model)
    # what can be told before a large model is loaded
    check_sites(config.model, config.site)
    check_device(config.device)
    for place in config.places():
        refuse_foreign_folder(place)
    next(read_records(config.fasta), None)
    if config.dry_run:
        estimate(config)
    else:
        run(config, worker_from_environment(os.environ))


if __name__ == "__main__":
    run_cli(main)
