"""Members as tasks of a SLURM array, through submitit (not a dependency)."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from experiments.zoo.config import Member, ZooConfig
from experiments.zoo.member import make
from extract.errors import UserError


def executor_of(config: ZooConfig) -> Any:
    """A submitit executor that writes its logs into the zoo's folder.

    Raises:
        UserError: submitit is missing, or there is no SLURM.
    """
    try:
        submitit = importlib.import_module("submitit")
    except ImportError:
        raise UserError(
            f"--launcher {config.launcher}: needs submitit (pip install submitit); or leave it away"
        ) from None
    folder, parameters = config.out / "jobs", {"timeout_min": 60 * config.slurm_hours}
    if config.launcher == "submitit-local":
        executor = submitit.LocalExecutor(folder=folder)
        executor.update_parameters(**parameters)
        return executor
    try:
        executor = submitit.SlurmExecutor(folder=folder)
    except RuntimeError as error:
        raise UserError(f"--launcher slurm: {error}; run it where sbatch is") from error
    executor.update_parameters(
        time=60 * config.slurm_hours, gpus_per_node=config.slurm_gpus, job_name="zoo",
        array_parallelism=config.slurm_parallel,
        **({"partition": config.slurm_partition} if config.slurm_partition else {}),
    )  # fmt: skip
    return executor


def launch(config: ZooConfig, members: list[Member]) -> list[Any]:
    """Submit members; returns their jobs.

    Raises:
        UserError: as :func:`executor_of`.
    """
    executor = executor_of(config)
    here = replace(config, launcher="here")
    return executor.map_array(make, [here] * len(members), members)
