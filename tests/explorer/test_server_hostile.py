"""Hostile requests and many clients: a clear 4xx or 429, never a 500 or a hang."""

import asyncio
import json
import socket
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
from tests.explorer.tiny_bundle import HOSTILE

ROOT = Path(__file__).parents[2]
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@pytest.fixture(scope="module")
def client(bundle_folder, tmp_path_factory):
    with serving(bundle_folder, tmp_path_factory.mktemp("notes") / "notes.sqlite") as client:
        yield client


def test_openapi_finds_no_server_error(client):
    schema = schemathesis.openapi.from_url(f"{client.base_url}{API}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]  # type: ignore[attr]
    assert len(operations) == 41
    for operation in operations:
        _run_operation(operation)


def _run_operation(operation) -> None:
    @settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=SLOW, database=None)  # fmt: skip
    @given(case=operation.as_strategy())
    def check(case):
        case.call_and_validate(
            checks=[not_a_server_error, response_schema_conformance, content_type_conformance]
        )

    check()


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
