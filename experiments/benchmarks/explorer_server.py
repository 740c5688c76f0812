"""How long does each GET of the explorer take, and does its memory grow with what it serves?

A synthetic bundle (see ``explorer_data``) is served by a process of its own, with its notes, and
asked over HTTP through one connection that stays open, each time for another latent, protein,
concept, word or pattern. Then 16 clients ask at once. The bundle's pages are in the page cache: it
has just been written. Beside the times stands what a GET of ``/capabilities`` takes, which is the
time of HTTP alone on the machine as busy as it was. Times end with the last byte (kB: as sent, in
gzip where that is asked for, as browsers do). CPU is the server's own, and does not depend on who
else is busy.

Command: ``python -m experiments.benchmarks.explorer_server`` (some 10 minutes on 2 cores and 8 GB
of disk, which is freed at the end). Writes ``explorer_server.json`` and ``explorer_server.md``.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from tqdm import tqdm

from experiments.benchmarks.explorer_data import write_bundle
from experiments.benchmarks.explorer_tables import N_CONCEPTS, STEMS, Size
from experiments.benchmarks.extraction import machine
from extract.command_line import parse
from extract.errors import run_cli
from extract.files import write_atomically, write_json_atomically

API = "/api/v1"
SAE = f"{API}/saes/synthetic"
MIB = 2**20


@dataclass(frozen=True)
class ServerConfig:
    """Milliseconds of each GET, and the server's memory."""

    out: Path = Path("runs/benchmarks")
    """Folder of the results."""
    bundle: Path = Path("runs/benchmarks/bundle")
    """Where the synthetic bundle is made."""
    d_sae: int = 16_384
    """Latents."""
    n_proteins: int = 100_000
    """Proteins, a multiple of 500."""
    k: int = 32
    """Latents that fire on a residue."""
    requests: int = 200
    """Timed GETs of each route; motifs and substrings a tenth."""
    keep: bool = False
    """Leave the bundle there, and use one that is there."""


Ask = Callable[[random.Random, ServerConfig], str]


def _latent(r: random.Random, c: ServerConfig) -> str:
    return f"{SAE}/latents/{r.randrange(c.d_sae)}"


def _protein(r: random.Random, c: ServerConfig) -> str:
    return f"P{r.randrange(c.n_proteins):05d}"


def _concept(r: random.Random, _: ServerConfig) -> str:
    return f"concept%20{r.randrange(41, N_CONCEPTS)}"


def _outcome(name: str, concept: Ask) -> Ask:
    return lambda r, c: f"{_latent(r, c)}/concepts/{concept(r, c)}/examples?outcome={name}"


def _letters(r: random.Random, n: int) -> str:
    return "".join(r.choice("ACDEFGHIKLMNPQRSTVWY") for _ in range(n))


QUICK: dict[str, Ask] = {
    "capabilities (HTTP alone)": lambda r, c: f"{API}/capabilities",
    "saes/{sae}": lambda r, c: SAE,
    "saes/{sae}/columns": lambda r, c: f"{SAE}/columns",
    "latents/{j}": _latent,
    "latents/{j}/examples?group=top (64)": lambda r, c: f"{_latent(r, c)}/examples?group=top",
    "latents/{j}/examples?group=q5 (16)": lambda r, c: f"{_latent(r, c)}/examples?group=q5",
    "latents/{j}/concepts/{c}/examples?true_positive": _outcome("true_positive", _concept),
    "latents/{j}/concepts/{c}/examples?false_positive": _outcome("false_positive", _concept),
    "latents/{j}/concepts/{c}/examples?near_miss": _outcome("near_miss", _concept),
    "the same for a concept of every protein": _outcome("near_miss", lambda r, c: "helix"),
    "latents/{j}/proteins": lambda r, c: f"{_latent(r, c)}/proteins",
    "latents/{j}/proteins?cursor=": lambda r, c: f"{_latent(r, c)}/proteins?cursor=5000&n=200",
    "latents/{j}/neighbours": lambda r, c: f"{_latent(r, c)}/neighbours",
    "latents/{j}/proteins/{acc}": lambda r, c: f"{_latent(r, c)}/proteins/{_protein(r, c)}",
    "proteins/{acc}": lambda r, c: f"{API}/proteins/{_protein(r, c)}",
    "proteins/{acc}/latents": lambda r, c: f"{API}/proteins/{_protein(r, c)}/latents?sae=synthetic",
    "concepts": lambda r, c: f"{API}/concepts",
    "concepts/{c}": lambda r, c: f"{API}/concepts/{_concept(r, c)}",
    "search?q=word": lambda r, c: f"{API}/search?q={r.choice(STEMS)}",
    "search?q=two words": lambda r, c: f"{API}/search?q={r.choice(STEMS)}%20{r.randrange(1000)}",
    "search?q=a letter": lambda r, c: f"{API}/search?q={r.choice('hkzbs')}",
    "search?q=#j": lambda r, c: f"{API}/search?q=%23{r.randrange(c.d_sae)}",
    "search?q=accession": lambda r, c: f"{API}/search?q={_protein(r, c)}",
    "notes/{sae}/{j}": lambda r, c: f"{API}/notes/synthetic/{r.randrange(c.d_sae)}",
    "rate/next": lambda r, c: f"{API}/rate/next?sae=synthetic&rater=a",
}  # fmt: skip
SCANS: dict[str, Ask] = {
    "search?q=sequence (substring)": lambda r, c: f"{API}/search?q={_letters(r, 25)}",
    "search/motif?pattern=C-x(2,4)-C…": lambda r, c: (
        f"{API}/search/motif?pattern=C-x(2,4)-C-x({r.randrange(3, 9)})-[LIVMFYWC]"
        f"-x({r.randrange(3, 9)})-H"
    ),
    "search/motif?pattern=[AG]-x(4)-G-K-[ST]": lambda r, c: (
        f"{API}/search/motif?pattern=[AG]-x({r.randrange(1, 20)})-G-{r.choice('KRH')}-[ST]"
    ),
    "search/motif (kept from before)": lambda r, c: f"{API}/search/motif?pattern=N-x(2)-W-[ST]",
}


def measure(config: ServerConfig) -> dict[str, Any]:
    """Serve, ask, and read the process's memory."""
    command = [sys.executable, "-m", "explorer", "serve", str(config.bundle), "--port", "0",
               "--no-check", "--notes", str(config.bundle.parent / "notes.sqlite")]  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        seconds = time.perf_counter() - started
        url = next(word for word in line.split() if word.startswith("http://")).rstrip(";")
        before = _memory(process.pid)
        with httpx.Client(base_url=url, timeout=60) as client:
            rows = [
                _time(client, process.pid, name, ask, config, config.requests)
                for name, ask in QUICK.items()
            ]
            rows += [
                _time(client, process.pid, name, ask, config, max(config.requests // 10, 5))
                for name, ask in SCANS.items()
            ]
        crowd = _crowd(url, config)
        after = _memory(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    size = sum(p.stat().st_size for p in config.bundle.rglob("*") if p.is_file())
    return {
        "kind": "explorer_server", "load": os.getloadavg(),
        "machine": machine(1, "fastapi", "uvicorn", "pydantic", "numpy"),
        "d_sae": config.d_sae, "n_proteins": config.n_proteins, "k": config.k,
        "bundle_bytes": size, "seconds_to_start": seconds, "memory_before": before,
        "memory_after": after, "crowd": crowd, "rows": rows,
    }  # fmt: skip


def _time(
    client: httpx.Client, pid: int, name: str, ask: Ask, config: ServerConfig, n: int
) -> dict[str, Any]:
    r = random.Random(name)
    client.get(ask(r, config)).raise_for_status()
    seconds, sizes = [], []
    cpu = _cpu_seconds(pid)
    for _ in tqdm(range(n), desc=name[:40], disable=None, leave=False):
        path = ask(r, config)
        started = time.perf_counter()
        with client.stream("GET", path) as response:
            sizes.append(sum(map(len, response.iter_raw())))
        seconds.append(time.perf_counter() - started)
        response.raise_for_status()
    p50, p95, worst = (float(np.quantile(seconds, q)) * 1e3 for q in (0.5, 0.95, 1))
    cpu = (_cpu_seconds(pid) - cpu) / n * 1e3
    return {"route": name, "n": n, "cpu_ms": cpu, "p50_ms": p50, "p95_ms": p95, "max_ms": worst,
            "bytes": int(np.median(sizes))}  # fmt: skip


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _crowd(url: str, config: ServerConfig, clients: int = 16) -> dict[str, Any]:
    """Requests per second when some clients ask at once."""
    asks = list(QUICK.values())

    def one(i: int) -> tuple[float, int]:
        r = random.Random(i)
        started = time.perf_counter()
        response = many.get(r.choice(asks)(r, config))
        return time.perf_counter() - started, response.status_code

    n = config.requests * 4
    with (
        httpx.Client(
            base_url=url, timeout=60, limits=httpx.Limits(max_connections=clients)
        ) as many,
        ThreadPoolExecutor(clients) as threads,
    ):
        started = time.perf_counter()
        answers = list(threads.map(one, range(n)))
        wall = time.perf_counter() - started
    statuses = sorted({status for _, status in answers})
    p95 = float(np.quantile([seconds for seconds, _ in answers], 0.95)) * 1e3
    return {"clients": clients, "per_second": n / wall, "p95_ms": p95, "statuses": statuses}


def _memory(pid: int) -> dict[str, float]:
    """MiB: all that is resident, and what of it is the process's own and not pages of files."""
    info = psutil.Process(pid).memory_info()
    return {"rss": info.rss / MIB, "own": (info.rss - info.shared) / MIB}


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| GET | CPU ms | p50 ms | p95 ms | max ms | kB |", "|---|---:|---:|---:|---:|---:|"]
    for row in result["rows"]:
        times = " | ".join(f"{row[name]:.1f}" for name in ("cpu_ms", "p50_ms", "p95_ms", "max_ms"))
        lines.append(f"| `{row['route']}` | {times} | {row['bytes'] / 1e3:,.0f} |")
    before, after, crowd = result["memory_before"], result["memory_after"], result["crowd"]
    lines += [
        "",
        f"{result['d_sae']:,} latents × {result['n_proteins']:,} proteins, "
        f"{result['bundle_bytes'] / 1e9:.1f} GB. Ready after {result['seconds_to_start']:.1f} s.",
        f"Memory of the process's own (with mapped pages): {before['own']:.0f} MiB "
        f"({before['rss']:.0f}) at start,",
        f"{after['own']:.0f} MiB ({after['rss']:.0f}) after all of these.",
        f"{crowd['clients']} clients at once: {crowd['per_second']:.0f} GETs a second, p95 "
        f"{crowd['p95_ms']:.0f} ms. Load of the machine: {result['load'][0]:.1f}.",
    ]
    return "\n".join(lines) + "\n"


def run(config: ServerConfig) -> None:
    """Make the bundle, measure, write the results, remove the bundle."""
    size = Size(config.d_sae, config.n_proteins, config.k)
    config.out.mkdir(parents=True, exist_ok=True)
    if not (config.keep and (config.bundle / "manifest.json").exists()):
        write_bundle(config.bundle, size)
    result = measure(config)
    write_json_atomically(config.out / "explorer_server.json", result)
    write_atomically(config.out / "explorer_server.md", lambda f: f.write(table(result).encode()))
    print(table(result))
    if not config.keep:
        shutil.rmtree(config.bundle)


if __name__ == "__main__":
    run_cli(
        lambda: run(parse(ServerConfig, prog="python -m experiments.benchmarks.explorer_server"))
    )
