import pytest

from extract.errors import UserError
from extract.launch import worker_from_environment
from extract.prepare import Worker


@pytest.mark.parametrize(
    ("environment", "worker"),
    [
        ({}, Worker(0, 1, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Worker(5, 8, 1)),
        # torchrun inside a SLURM job: torchrun's own ranks count
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0",
          "SLURM_NTASKS": "1"}, Worker(1, 2, 0)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "3"},
         Worker(3, 4, 3)),
        # a batch script without srun is one process, whatever was allocated
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Worker(0, 1, 0)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2",
          "SLURM_ARRAY_TASK_COUNT": "4"}, Worker(3, 4, 0)),
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "3",
          "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"},
         Worker(5, 6, 1)),
    ],
)  # fmt: skip
def test_ranks(environment, worker):
    assert worker_from_environment(environment) == worker


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x', not a number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "rank 2 of 2 processes"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT is None"),
    ],
)
def test_nonsense_is_refused(environment, message):
    with pytest.raises(UserError, match=message):
        worker_from_environment(environment)
