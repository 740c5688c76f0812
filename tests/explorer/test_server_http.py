"""The server as a browser and a shell see it: tags, headers, what it loads, what it refuses."""

import gc
import gzip
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn

from explorer.server.library import open_bundles
from explorer.server.serve import ServeConfig, serve
from extract.errors import UserError
from tests.explorer.serving import API, ask, serving
from tests.explorer.tiny_bundle import write_tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(bundle_folder, tmp_path_factory):
    with serving(bundle_folder, tmp_path_factory.mktemp("notes") / "notes.sqlite") as client:
        yield client


def test_etag_and_304(client):
    for path in ("saes", "saes/tiny/columns", "saes/tiny/latents/3", "concepts", "search?q=helix"):
        first = client.get(f"{API}/{path}")
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        again = client.get(f"{API}/{path}", headers={"if-none-match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        other = client.get(f"{API}/{path}", headers={"if-none-match": '"else"'})
        assert (other.status_code, other.content) == (200, first.content)
    notes = client.get(f"{API}/notes", headers={"if-none-match": tag})
    assert (notes.status_code, notes.headers["cache-control"]) == (200, "no-store")
    assert "etag" not in notes.headers


def test_the_tag_changes_with_the_bundle(tmp_path, bundle_folder, client):
    write_tiny(tmp_path / "a", "tiny", seed=5)
    with serving(tmp_path) as other:
        assert other.get(f"{API}/saes").headers["etag"] != client.get(f"{API}/saes").headers["etag"]


def test_gzip_is_the_same_answer(client):
    for name in (
        "saes/tiny/latents/2/examples",
        "saes/tiny/columns",
        "proteins/1ECA_A/latents?sae=tiny",
    ):
        path = f"{API}/{name}"
        plain = client.get(path, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        with client.stream("GET", path, headers={"accept-encoding": "gzip"}) as zipped:
            raw = b"".join(zipped.iter_raw())
        if zipped.headers.get("content-encoding") == "gzip":
            raw = gzip.decompress(raw)
        else:
            assert len(raw) < 8_192
        assert raw == plain.content


def test_security_headers_on_every_answer(client):
    for path in (
        "/",
        "/sae/tiny",
        f"{API}/saes",
        f"{API}/nothing",
        "/assets/none.js",
        f"{API}/saes/x",
    ):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe-eval'" not in headers["content-security-policy"].replace(
            "wasm-unsafe-eval", ""
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_reading_loads_neither_torch_nor_jax_nor_pandas(bundle_folder, tmp_path):
    code = f"""
import asyncio, sys
from pathlib import Path
from explorer.server.app import create_app
from explorer.server.database import Database
from explorer.server.export import get
from explorer.server.library import open_bundles
from explorer.server import serve, export
notes = Database(Path({str(tmp_path / "n.sqlite")!r}))
app = create_app(open_bundles([Path({str(bundle_folder)!r})]), notes)
n = 0
for path, query in {EVERY_GET!r}:
    asyncio.run(get(app, path, query))
    n += 1
loaded = [m for m in ("torch", "jax", "jaxlib", "pandas", "flax", "sklearn") if m in sys.modules]
print(n, loaded)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == f"{len(EVERY_GET)} []", result.stderr[-2000:]


EVERY_GET = [
    (f"{API}/{path}", query)
    for path, query in [
        ("capabilities", {}), ("saes", {}), ("saes/tiny", {}), ("saes/tiny/columns", {}),
        ("saes/tiny/latents.csv", {}), ("saes/tiny/latents/3", {}),
        ("saes/tiny/latents/3/examples", {"group": "q5"}),
        ("saes/tiny/latents/3/concepts/helix/examples", {"outcome": "near_miss"}),
        ("saes/tiny/latents/3/proteins", {}), ("saes/tiny/latents/3/neighbours", {}),
        ("saes/tiny/latents/3/proteins/1ECA_A", {}), ("proteins/1ECA_A", {}),
        ("proteins/1ECA_A/latents", {"sae": "tiny"}), ("structures/1ECA_A", {}), ("concepts", {}),
        ("concepts/helix", {}), ("search", {"q": "helix"}),
        ("search", {"q": "MKTAYIAKQRQISFVKSHFSRQ"}),
        ("search/motif", {"pattern": "C-x-C"}), ("notes", {}), ("notes.jsonl", {}),
        ("notes/tiny/3", {}), ("lists", {}), ("rate/next", {"sae": "tiny", "rater": "me"}),
        ("rate/summary", {}), ("ratings.jsonl", {}), ("openapi.json", {}), ("live", {}),
    ]
]  # fmt: skip


def test_every_get_is_in_the_list_above(client):
    """A new route must be asked in the test of imports, too."""
    paths = ask(client, "openapi.json")["paths"]
    gets = {path for path, methods in paths.items() if "get" in methods}
    patterns = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in gets}
    missing = {
        path
        for path, known in patterns.items()
        if not any(known.fullmatch(p) for p, _ in EVERY_GET)
    }
    # these need a list to be there, and a model
    assert missing == {f"{API}/lists/{{list_id}}", f"{API}/compare"}


def run(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "explorer", *arguments], cwd=ROOT, capture_output=True, text=True,
        check=False, **kwargs,
    )  # fmt: skip


def test_serve_from_the_command_line(bundle_folder, tmp_path):
    command = [sys.executable, "-m", "explorer", "serve", str(bundle_folder), "--port", "0",
               "--notes", str(tmp_path / "notes.sqlite")]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    url = next(word for word in line.split() if word.startswith("http://127.0.0.1:")).rstrip(";")
    assert "tiny, other" in line
    assert [s["id"] for s in httpx.get(f"{url}api/v1/saes").json()] == ["tiny", "other"]
    page = httpx.get(f"{url}sae/tiny/latent/3?tab=top")
    assert (page.status_code, '<base href="/">' in page.text) == (200, True)
    assert httpx.get(f"{url}no/such/page").status_code == 404
    port = url.split(":")[-1].strip("/")
    taken = run("serve", str(bundle_folder), "--port", port, "--read-only")
    assert (taken.returncode, taken.stderr.count("\n")) == (2, 1)
    assert "give another --port" in taken.stderr
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    process.stderr.close()


def test_what_is_there_at_the_start_is_no_garbage(bundle_folder, monkeypatch):
    """A look through it all would make one answer in some tens late."""
    frozen = []

    def run_none(_, sockets):
        frozen.append(gc.get_freeze_count())
        for one in sockets:
            one.close()

    monkeypatch.setattr(uvicorn.Server, "run", run_none)
    try:
        serve(ServeConfig((bundle_folder,), port=0, read_only=True))
    finally:
        gc.unfreeze()
    assert frozen[0] > 10_000


def test_bundles_that_are_refused(tiny_bundles, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bundles[0].folder, broken)
    path = broken / "tracks" / "value.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="checksum mismatch"):
        open_bundles([tmp_path])
    path.write_bytes(data[:-10])
    result = run("serve", str(tmp_path), "--port", "0", "--read-only", timeout=60)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert "tracks/value.npy" in result.stderr
    with pytest.raises(UserError, match="nothing"):
        open_bundles([tmp_path / "nothing"])


def test_the_same_id_twice(tiny_bundles, tmp_path):
    shutil.copytree(tiny_bundles[0].folder, tmp_path / "a")
    shutil.copytree(tiny_bundles[0].folder, tmp_path / "same")
    write_tiny(tmp_path / "b", "tiny", seed=3)
    with serving(tmp_path) as client:
        ids = [s["id"] for s in ask(client, "saes")]
        assert len(set(ids)) == len(ids) == 2
        assert all(name.startswith("tiny-") for name in ids)
        for name in ids:
            assert ask(client, f"saes/{name}/latents/1")["sae"] == name
