"""Which of several processes this is, from what SLURM or torchrun put into the environment."""

from __future__ import annotations

from collections.abc import Mapping

from extract.errors import UserError
from extract.prepare import ALONE, Worker


def worker_from_environment(environment: Mapping[str, str]) -> Worker:
    """Rank and number of processes; alone when neither launcher is there.

    torchrun sets ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``. A SLURM job has ``SLURM_PROCID`` of
    ``SLURM_NTASKS`` when ``srun`` started it, and in an array every task counts as well.

    Raises:
        UserError: a variable that is no number, or a rank outside the range.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, world = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
        return _checked(rank, world, _number(environment, "LOCAL_RANK", 0), "RANK and WORLD_SIZE")
    task, n_tasks, local = 0, 1, 0
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
        task, n_tasks = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_NTASKS")
        local = _number(environment, "SLURM_LOCALID", 0)
    if "SLURM_ARRAY_TASK_ID" in environment:
        first = _number(environment, "SLURM_ARRAY_TASK_MIN", 0)
        step = max(1, _number(environment, "SLURM_ARRAY_TASK_STEP", 1))
        job = (_number(environment, "SLURM_ARRAY_TASK_ID") - first) // step
        n_jobs = _number(environment, "SLURM_ARRAY_TASK_COUNT")
        task, n_tasks = job * n_tasks + task, n_jobs * n_tasks
    if n_tasks == 1:
        return ALONE
    return _checked(task, n_tasks, local, "SLURM's variables")


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(
            f"environment variable {name} is {text!r}, not a number; unset it, or start the "
            "processes with srun or torchrun"
        ) from None


def _checked(rank: int, world: int, local_rank: int, names: str) -> Worker:
    if not 0 <= rank < world:
        raise UserError(f"{names} give rank {rank} of {world} processes; ranks are 0 to world - 1")
    return Worker(rank, world, local_rank)
