"""``python -m explorer serve --live`` as a person starts it: what each process holds."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.explorer.live_inputs import MODEL, live_folder

__all__ = ["live_folder"]

ROOT = Path(__file__).parents[2]


def maps(pid: int) -> str:
    """Files that are loaded; nothing of a process that has ended."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """Processes that this one started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"PPid:\t{pid}\n" in status.read_text():
                found.append(int(status.parent.name))
        except OSError:
            continue  # it has ended
    return found


def test_only_the_worker_holds_torch_and_jax(live_folder, tmp_path):
    words = [sys.executable, "-m", "explorer", "serve", str(live_folder.bundles), "--live",
             "--runs", *map(str, live_folder.runs), "--model", MODEL, "--port", "0"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                              env=environment)  # fmt: skip
    try:
        assert server.stderr is not None
        url = next(m[1] for line in server.stderr if (m := re.search(r"at (http\S+);", line)))
        with httpx.Client(base_url=f"{url}api/v1/", timeout=60) as client:
            body = {"sae": "block1", "sequence": "MKTAYIAKQR"}
            for path, more in (
                ("encode", {}), ("mutate", {"mutations": ["K2A"]}), ("steer", {"edits": "5:zero"}),
                ("scan", {"latent": 5, "start": 2, "end": 2}),
                ("steer/sweep", {"latent": 5, "random_latents": 1, "random_directions": 1}),
                ("steer/variants", {"edits": "5:set:1", "n": 1, "controls": 0}),
            ):  # fmt: skip
                assert client.post(path, json=body | more).status_code == 200, path
            motif = {"sae": "block1", "motif": "[CM]", "min_positives": 5}
            assert client.post("labels", json=motif).status_code == 200
            both = {"a": "block1", "b": "block2"}
            assert client.get("compare", params=both).status_code == 200
        (worker,) = [pid for pid in children(server.pid) if "libtorch" in maps(pid)]
        assert "libtorch" not in maps(server.pid)
        assert "jaxlib" not in maps(server.pid)
        server.send_signal(signal.SIGINT)
        server.wait(15)
        end = time.monotonic() + 5
        while Path(f"/proc/{worker}").exists() and maps(worker):
            assert time.monotonic() < end, "the worker outlives its server"
            time.sleep(0.05)
    finally:
        server.kill()
        server.communicate()
