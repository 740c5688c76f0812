"""The server as a network sees it: tags, headers, hostile requests, many clients, its processes."""

import asyncio
import gzip
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
)

from explorer.server import app as server_app
from explorer.server import motif
from explorer.server.errors import TooBusy
from explorer.server.pool import Pool
from explorer.server.scan import Matches
from tests.explorer.serving import API, ask, segment, serving
from tests.explorer.tiny_bundle import HOSTILE, write_tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(bundle_folder, tmp_path_factory):
    with serving(bundle_folder, tmp_path_factory.mktemp("notes") / "notes.sqlite") as client:
        yield client


def test_openapi_finds_no_server_error(client):
    schema = schemathesis.openapi.from_url(f"{client.base_url}{API}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]  # type: ignore[attr]
    assert len(operations) == 31
    for operation in operations:
        _run_operation(operation)


def _run_operation(operation) -> None:
    @settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], database=None)  # fmt: skip
    @given(case=operation.as_strategy())
    def check(case):
        case.call_and_validate(
            checks=[not_a_server_error, response_schema_conformance, content_type_conformance]
        )

    check()


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


def test_other_names_of_this_server_are_refused(client):
    """DNS rebinding: a foreign name that points here."""
    for host, status in (
        ("evil.example", 421), ("localhost.evil.example:80", 421), ("", 421),
        ("localhost", 200), ("LOCALHOST:1234", 200), ("127.0.0.1:99", 200), ("[::1]:99", 200),
        ("192.168.0.7:8000", 200),
    ):  # fmt: skip
        response = client.get(f"{API}/saes", headers={"host": host})
        assert response.status_code == status, host


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({}, 415),
        ({"content-type": "application/json", "origin": "https://evil.example"}, 403),
        ({"content-type": "application/json", "origin": "null"}, 403),
        ({"content-type": "application/json", "sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "application/json", "sec-fetch-site": "same-site"}, 403),
        ({"content-type": "application/json", "sec-fetch-site": "same-origin"}, 200),
        ({"content-type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_writes_from_elsewhere_are_refused(client, headers, status):
    body = json.dumps({"text": "forged"}).encode()
    response = client.put(f"{API}/notes/tiny/1", content=body, headers=headers)
    assert response.status_code == status
    assert (
        client.delete(f"{API}/lists/x", headers={"origin": "https://evil.example"}).status_code
        == 403
    )


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/../../x",
     "/assets/..%2f..%2f..%2fpyproject.toml", "//etc/passwd", "/....//etc/passwd", "/%00",
     "/\\..\\x", f"{API}/structures/..%2f..%2fetc%2fpasswd", f"{API}/saes/..%2f..",
     f"{API}/proteins/%2e%2e%2f"],
)  # fmt: skip
def test_no_path_leaves_the_folder(client, path):
    with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert int(answer.split()[1]) in (400, 404)
    assert b"root:" not in answer
    assert b"[project]" not in answer


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("saes/nobody", 404), ("saes/tiny/latents/12", 404), ("saes/tiny/latents/-1", 422),
        ("saes/tiny/latents/99999999999999999999", 422), ("saes/tiny/latents/1e3", 422),
        ("saes/tiny/latents/1/examples?group=q11", 422), ("saes/tiny/latents/1/examples?n=0", 422),
        ("saes/tiny/latents/1/examples?n=1000000", 422),
        ("saes/tiny/latents/1/concepts/nothing/examples?outcome=near_miss", 404),
        ("saes/tiny/latents/1/concepts/helix/examples", 422),
        ("saes/tiny/latents/1/proteins?cursor=abc", 422),
        ("saes/tiny/latents/1/proteins?cursor=-5", 422),
        ("saes/tiny/latents/1/proteins?cursor=99999999999", 200),
        ("saes/tiny/latents/1/proteins?cursor=%D9%A3", 422),
        ("proteins/nobody", 404), ("proteins/1ECA_A/latents", 422),
        ("proteins/1ECA_A/latents?sae=nobody", 404), ("concepts/nothing", 404),
        ("search", 422), ("search?q=" + "A" * 5_001, 422), ("search?q=" + "%00" * 100, 200),
        ("search?q=%ff%fe", 200), ("search?q=helix&n=x", 422), ("search?q=x&sae=nobody", 404),
        ("search?q=" + "A" * 20_000, 414), ("nothing", 404),
        ("search?q=" + "x " * 2_000, 200),
    ],
)  # fmt: skip
def test_malformed_queries_are_refused_in_a_sentence(client, path, status):
    response = client.get(f"{API}/{path}")
    assert response.status_code == status
    if status != 200:
        assert list(response.json()) == ["detail"]
        assert isinstance(response.json()["detail"], str)


def test_catastrophic_motifs_are_quick(client):
    for pattern in (
        "-".join(["A-x(0,90)"] * 10) + "-W(3)", "-".join(["[AC](0,9)"] * 38) + "-W",
        "-".join(["L(0,1)"] * 30 + ["L"] * 30) + "-W", "-".join(["x(0,1)"] * 50) + "-W>",
    ):  # fmt: skip
        response = client.get(f"{API}/search/motif", params={"pattern": pattern}, timeout=5)
        assert response.status_code == 200, response.text


def test_large_bodies_are_refused(client):
    headers = {"content-type": "application/json"}
    big = json.dumps({"text": "x" * 2_100_000}).encode()
    assert client.put(f"{API}/notes/tiny/1", content=big, headers=headers).status_code == 413

    def chunks():
        for _ in range(40):
            yield b"x" * 100_000

    response = client.put(f"{API}/notes/tiny/1", content=chunks(), headers=headers)
    assert response.status_code == 413
    assert isinstance(response.json()["detail"], str)
    for body in (
        b"",
        b"{",
        b"[]",
        b'{"text": 5}',
        b'{"text": "\\ud800"}',
        b'{"other": 1}',
        b"\xff",
    ):
        response = client.put(f"{API}/notes/tiny/1", content=body, headers=headers)
        assert response.status_code in (400, 422), body
        assert isinstance(response.json()["detail"], str)


def test_hostile_texts_come_back_as_data(client, tiny_bundles):
    response = client.get(f"{API}/concepts/{segment(HOSTILE)}")
    assert response.headers["content-type"] == "application/json"
    assert response.json()["concept"] == HOSTILE
    found = ask(client, "search", q="<script>alert")
    assert found["query"] == "<script>alert"


def test_200_clients_at_once(client):
    """Each ends in an answer or in 429 with a time to come back; none hangs."""
    url = f"{client.base_url}{API}"
    paths = ["saes", "saes/tiny/columns", "saes/tiny/latents/3/examples", "search?q=helix", "notes",
             "search/motif?pattern=C-x(2)-C", "proteins/1ECA_A", "concepts"]  # fmt: skip

    def ask_one(i: int) -> int:
        response = many.get(f"{url}/{paths[i % len(paths)]}")
        if response.status_code == 429:
            assert response.headers["retry-after"]
        return response.status_code

    limits = httpx.Limits(max_connections=200)
    with httpx.Client(timeout=20, limits=limits) as many, ThreadPoolExecutor(200) as threads:
        statuses = list(threads.map(ask_one, range(400)))
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) > 200
    assert ask(client, "saes")


def test_a_full_queue_is_429(bundle_folder, monkeypatch):
    """Scans have a queue of their own: while they fill it, reads go on."""
    monkeypatch.setattr(server_app, "N_SCANS", 1)
    monkeypatch.setattr(server_app, "MOST_SCANS_WAITING", 1)
    running, go = threading.Event(), threading.Event()

    def slow(*_):
        running.set()
        go.wait(10)
        return Matches(*[np.zeros(0, dtype=np.int64)] * 3)

    monkeypatch.setattr(motif, "find_motif", slow)
    with serving(bundle_folder) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.get, f"{API}/search/motif?pattern=C-x-C")
        assert running.wait(10)
        second = httpx.get(f"{client.base_url}{API}/search/motif?pattern=C-x-C")
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert httpx.get(f"{client.base_url}{API}/search?q=helix").status_code == 200
        go.set()
        assert first.result().status_code == 200


def test_pool_refuses_when_full():

    pool = Pool("test", 1, 2)
    go = threading.Event()

    async def main() -> list:
        slow = pool.answering(go.wait)
        first = [asyncio.create_task(slow(5)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(TooBusy):
            await slow(5)
        go.set()
        await asyncio.gather(*first)
        return [await slow(1)]

    assert asyncio.run(main()) == [True]
    pool.close()


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
        ("rate/summary", {}), ("ratings.jsonl", {}), ("openapi.json", {}),
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
    # that needs a list to be there
    assert missing == {f"{API}/lists/{{list_id}}"}


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


def test_bundles_that_are_refused(tiny_bundles, tmp_path):
    def refused(folder: Path) -> str:
        result = run("serve", str(folder), "--port", "0", "--read-only", timeout=60)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        return result.stderr

    assert "nothing" in refused(tmp_path / "nothing")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bundles[0].folder, broken)
    path = broken / "tracks" / "value.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "checksum mismatch" in refused(broken)
    path.write_bytes(data[:-10])
    assert "tracks/value.npy" in refused(broken)


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
