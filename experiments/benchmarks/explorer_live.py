"""Many people at once: reads of bundles and encodes, mutants and edits of one live server.

    python -m explorer serve runs/demo/bundle --live --port 8123
    python -m experiments.benchmarks.explorer_live --url http://127.0.0.1:8123

Every user asks one thing after another with a pause between (half a second on average); four of
five times a page is read, else a sequence of 300 residues is encoded, mutated or steered. Expected:
no answer of 5xx, and a 95th percentile of reads below 100 ms while the worker is busy all the time
(429 is an answer: the queue is full). Time: ``--seconds``, 300 by default.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tyro

from extract.alphabet import AMINO_ACIDS
from extract.command_line import Optional
from extract.errors import UserError, run_cli
from extract.files import write_json_atomically

API = "/api/v1"


@dataclass(frozen=True)
class LoadConfig:
    """Load a live server with users who read and encode."""

    url: str = "http://127.0.0.1:8000"
    """Where it is."""
    users: int = 50
    """How many people."""
    seconds: float = 300.0
    """How long."""
    pause: float = 0.5
    """Mean pause of a user between two requests, in seconds."""
    live_share: float = 0.2
    """Share of requests that run the model."""
    length: int = 300
    """Residues of a sequence."""
    seed: int = 0
    """Of everything random."""
    out: Optional[Path] = None
    """JSON of the result."""


class Tally:
    """What the answers were."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.status: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, kind: str, status: int, seconds: float) -> None:
        """Count one answer; times are of those with a result."""
        self.status[kind][status] += 1
        if status == 200:
            self.seconds[kind].append(seconds)

    def summary(self) -> dict[str, Any]:
        """Counts and times in milliseconds, by kind."""
        found: dict[str, Any] = {}
        for kind, statuses in sorted(self.status.items()):
            times = 1000 * np.array(self.seconds[kind] or [np.nan])
            found[kind] = {
                "answers": dict(statuses),
                "p50_ms": round(float(np.median(times)), 1),
                "p95_ms": round(float(np.quantile(times, 0.95)), 1),
                "max_ms": round(float(times.max()), 1),
            }
        return found


class User:
    """One person's requests."""

    def __init__(self, config: LoadConfig, number: int, saes: list[dict[str, Any]]) -> None:
        self.rng = np.random.default_rng((config.seed, number))
        self.config, self.saes, self.name = config, saes, f"user{number}"

    def _sequence(self) -> str:
        return "M" + "".join(self.rng.choice(list(AMINO_ACIDS), self.config.length - 1))

    def _live(self) -> tuple[str, str, dict[str, Any]]:
        sae = self.rng.choice([s["id"] for s in self.saes])
        body: dict[str, Any] = {"sae": str(sae), "sequence": self._sequence()}
        what = str(self.rng.choice(["encode", "mutate", "steer"]))
        if what == "mutate":
            letter = body["sequence"][41]
            body["mutations"] = [f"{letter}42{'A' if letter != 'A' else 'V'}"]
        if what == "steer":
            body["edits"] = f"{self.rng.integers(100)}:add:1"
        return "live " + what, f"{API}/{what}", body

    def _read(self) -> tuple[str, str]:
        sae = self.saes[self.rng.integers(len(self.saes))]
        latent = int(self.rng.integers(sae["d_sae"]))
        home = f"{API}/saes/{sae['id']}"
        paths = [
            ("columns", f"{home}/columns"), ("latent", f"{home}/latents/{latent}"),
            ("examples", f"{home}/latents/{latent}/examples?group=top"),
            ("proteins", f"{home}/latents/{latent}/proteins"),
            ("search", f"{API}/search?q=zinc"), ("concepts", f"{API}/concepts"),
        ]  # fmt: skip
        kind, path = paths[self.rng.integers(len(paths))]
        return f"read {kind}", path

    async def use(self, client: httpx.AsyncClient, until: float, tally: Tally) -> None:
        """Ask one thing after another."""
        headers = {"x-explorer-client": self.name}
        while time.monotonic() < until:
            await asyncio.sleep(float(self.rng.exponential(self.config.pause)))
            if self.rng.random() < self.config.live_share:
                kind, path, body = self._live()
                asked = client.post(path, json=body, headers=headers)
            else:
                kind, path = self._read()
                asked = client.get(path, headers=headers)
            start = time.monotonic()
            try:
                status = (await asked).status_code
            except httpx.HTTPError:
                status = 0
            tally.add(kind, status, time.monotonic() - start)


async def load(config: LoadConfig) -> dict[str, Any]:
    """Run all users and tell how it went."""
    limits = httpx.Limits(max_connections=config.users + 4)
    async with httpx.AsyncClient(base_url=config.url, timeout=120, limits=limits) as client:
        live = (await client.get(f"{API}/live")).json()["saes"]
        if not live:
            raise UserError(f"{config.url}: only reads; start it with --live")
        names = {one["sae"] for one in live}
        saes = [s for s in (await client.get(f"{API}/saes")).json() if s["id"] in names]
        tally, until = Tally(), time.monotonic() + config.seconds
        users = [User(config, n, saes) for n in range(config.users)]
        await asyncio.gather(*(user.use(client, until, tally) for user in users))
    reads = [t for kind, ts in tally.seconds.items() if kind.startswith("read") for t in ts]
    statuses = [s for of_kind in tally.status.values() for s in of_kind]
    return {
        "users": config.users, "seconds": config.seconds, "length": config.length,
        "reads": len(reads), "reads_p95_ms": round(1000 * float(np.quantile(reads, 0.95)), 1),
        "server_errors": sum(s == 0 or s >= 500 for s in statuses), "kinds": tally.summary(),
    }  # fmt: skip


def main() -> None:
    """Parse the flags, load the server, print."""
    config = tyro.cli(LoadConfig, prog="python -m experiments.benchmarks.explorer_live")
    found = asyncio.run(load(config))
    print(json.dumps(found, indent=1))
    if config.out is not None:
        write_json_atomically(config.out, found)


if __name__ == "__main__":
    run_cli(main)
