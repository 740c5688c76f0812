"""Kill an extraction again and again; the store it ends with must be the uninterrupted one.

    python -m experiments.soak_extraction --kills 50 --engine processes
    python -m experiments.soak_extraction --kills 50 --engine ray

Every round starts ``python -m extract`` and kills at a random moment: either everything at once
(a machine that is lost) or one worker (a process or node that is lost, after which the others must
finish). A store that gets complete meanwhile is compared byte for byte with the one that a single
process wrote without a disturbance, and a new one is begun, so that kills also hit its creation.
About 10 minutes each on two cores with ESM2-8M.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from extract.errors import UserError, run_cli
from extract.location import Location
from extract.store import committed_shards

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class SoakConfig:
    """Kill an extraction at random moments and compare its stores with an undisturbed one."""

    out: Path = Path("runs/soak")
    """Folder for the stores (removed first, kept afterwards)."""
    kills: int = 50
    """Kills that must hit a living extraction."""
    engine: Literal["processes", "ray"] = "processes"
    """Two processes, or Ray on this machine."""
    fasta: Path = ROOT / "data" / "pdb.fasta.gz"
    """Where the proteins come from."""
    proteins: int = 80
    """How many of them."""
    model: str = "esm2_t6_8M_UR50D"
    """Parent."""
    sites: tuple[str, ...] = ("block2", "block3.mlp")
    """What is extracted."""
    extra: tuple[str, ...] = field(default=())
    """More flags of `python -m extract`, such as --weights FILE."""
    longest_seconds: float | None = None
    """A kill comes at most this long after the start; by default 12 s, with Ray 30 s."""
    seed: int = 0
    """Seed of the moments."""


@dataclass
class Tally:
    """What a soak did."""

    kills_of_all: int = 0
    """Kills of every process at once."""
    kills_of_one: int = 0
    """Kills of one worker."""
    during_creation: int = 0
    """Kills that came before the store had a manifest."""
    runs_to_the_end: int = 0
    """Runs that ended by themselves (several after a worker was killed)."""
    stores_compared: int = 0
    """Complete stores that were equal to the undisturbed one."""

    @property
    def kills(self) -> int:
        """All of them."""
        return self.kills_of_all + self.kills_of_one


def soak(config: SoakConfig) -> Tally:
    """Kill until there were ``config.kills``, finish, compare.

    Raises:
        UserError: a store that differs, or an extraction that failed by itself.
    """
    shutil.rmtree(config.out, ignore_errors=True)
    config.out.mkdir(parents=True)
    fasta = _some_proteins(config)
    reference, store = config.out / "undisturbed", config.out / "soaked"
    if _start(config, fasta, reference, "one").wait():
        raise UserError(f"{config.out}: the undisturbed extraction failed; see {_log_of(config)}")
    rng, tally = random.Random(config.seed), Tally()
    while tally.kills < config.kills:
        process = _start(config, fasta, store, config.engine)
        _disturb(process, store, rng, config, tally)
        if process.poll() == 0:
            _compare(reference, store, tally)
    while _start(config, fasta, store, config.engine).wait():
        raise UserError(f"{config.out}: resuming failed; see {_log_of(config)}")
    _compare(reference, store, tally)
    log.info("%s: %s", config.engine, tally)
    return tally


def _some_proteins(config: SoakConfig) -> Path:
    path = config.out / "proteins.fasta"
    n = 0
    with gzip.open(config.fasta, "rt") as source, path.open("w") as target:
        for line in source:
            n += line.startswith(">")
            if n > config.proteins:
                break
            target.write(line)
    return path


def _log_of(config: SoakConfig) -> Path:
    return config.out / "log.txt"


def _start(config: SoakConfig, fasta: Path, store: Path, engine: str) -> subprocess.Popen:
    flags = {"one": [], "processes": ["--processes", "2"], "ray": ["--engine", "ray"]}[engine]
    command = [sys.executable, "-m", "extract", "--fasta", fasta, "--out", store]
    command += ["--model", config.model, "--shard-rows", "1024", "--site", *config.sites]
    command += [*config.extra, *flags]
    with _log_of(config).open("a") as out:
        return subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=out, start_new_session=True
        )


def _disturb(
    process: subprocess.Popen, store: Path, rng: random.Random, config: SoakConfig, tally: Tally
) -> None:
    """Wait a random while and kill all or one; after one, wait for the others to finish."""
    all_at_once = rng.random() < 0.7
    longest = config.longest_seconds or (30.0 if config.engine == "ray" else 12.0)
    moment = time.monotonic() + rng.uniform(0, longest)
    # half of the moments are counted from the first commit of this run, where the writing is
    first = store / config.sites[0] if len(config.sites) > 1 else store
    done = _committed(first)
    counted_from_commit = rng.random() < 0.5
    while time.monotonic() < moment and process.poll() is None:
        if counted_from_commit and _committed(first) > done:
            moment = min(moment, time.monotonic() + rng.uniform(0, 1.0))
            counted_from_commit = False
        time.sleep(0.01)
    if process.poll() is not None:
        tally.runs_to_the_end += 1
        if process.returncode:
            raise UserError(f"an undisturbed run failed; see {_log_of(config)}")
        return
    early = not (first / "manifest.json").exists()
    workers = [p for p in _descendants(process.pid) if _is_worker(p)]
    if all_at_once or not workers:
        for pid in [process.pid, *_descendants(process.pid)]:
            _kill(pid)
        process.wait()
        tally.kills_of_all += 1
    else:
        _kill(rng.choice(workers))
        tally.kills_of_one += 1
        process.wait()  # with a status when the last worker was killed: the next run resumes
    tally.during_creation += early
    log.info("kill %d of %d (%s%s): %d shards", tally.kills, config.kills,
             "all" if all_at_once or not workers else "one worker",
             ", while it was made" if early else "", _committed(first))  # fmt: skip


def _committed(store: Path) -> int:
    return len(committed_shards(Location.of(store))) if store.is_dir() else 0


def _descendants(pid: int) -> list[int]:
    """Processes below ``pid``, from /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _is_worker(pid: int) -> bool:
    """Whether a process computes shards: a spawned Python or a Ray worker that runs a task."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return any(name in words for name in (b"spawn_main", b"ray::write_one_shard", b"ray::IDLE"))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _compare(reference: Path, store: Path, tally: Tally) -> None:
    """Byte for byte, every file; then away with it.

    Raises:
        UserError: naming the first file that differs.
    """
    files = [
        {str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()} for f in (reference, store)
    ]
    if files[0] != files[1]:
        raise UserError(f"{store}: other files: {sorted(files[0] ^ files[1])[:5]}")
    for name in sorted(files[0]):
        if (reference / name).read_bytes() != (store / name).read_bytes():
            raise UserError(f"{store}/{name}: differs from the undisturbed store")
    tally.stores_compared += 1
    shutil.rmtree(store)


def main() -> None:
    """Parse the flags and soak."""
    tally = soak(tyro.cli(SoakConfig, prog="python -m experiments.soak_extraction"))
    print(tally)


if __name__ == "__main__":
    run_cli(main)
