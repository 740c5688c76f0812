"""The queue, the worker and the door: turns, refusals, giving up, a worker that dies."""

import asyncio
import itertools
import json
import os
import signal
import time
from typing import cast

import httpx
import pytest

from explorer.live.dispatch import Dispatcher, Full, Unavailable
from explorer.live.half import LIMITS, LiveHalf
from explorer.live.process import WorkerProcess
from explorer.live.settings import WorkerSettings
from explorer.server.app import create_app
from explorer.server.errors import Unprocessable
from explorer.server.library import open_bundles
from explorer.server.serve import ServeConfig
from extract.errors import UserError
from tests.explorer.live_inputs import MODEL, live_folder
from tests.explorer.serving import listening

__all__ = ["live_folder"]

LINES = {"accept": "application/x-ndjson"}
TOKEN = "open-sesame.1"


class ByHand:
    """A worker's process whose answers the test gives."""

    def __init__(self):
        self.sent, self.given_up, self.started, self.killed = [], [], 0, 0

    def start(self, receive):
        self.receive, self.started = receive, self.started + 1

    def send(self, message):
        self.sent.append(message)

    def give_up(self, lane, number):
        self.given_up.append(number)

    def kill(self):
        self.killed += 1

    def stop(self):
        pass


async def settle():
    for _ in range(5):
        await asyncio.sleep(0.005)


async def started(**limits):
    process = ByHand()
    dispatcher = Dispatcher(cast(WorkerProcess, process), LIMITS.model_copy(update=limits))
    await dispatcher.start()
    process.receive(("ready", 0, None))
    await settle()
    return process, dispatcher


def ask(dispatcher, client, task="encode", told=lambda _: None, **arguments):
    return asyncio.ensure_future(dispatcher.run(client, task, arguments, told))


def test_clients_take_turns():
    """One who asks eight times does not keep another waiting behind all eight."""

    async def scenario():
        process, dispatcher = await started()
        wanted = [ask(dispatcher, "a", n=n) for n in range(4)]
        await settle()
        wanted += [ask(dispatcher, "b", n=10), ask(dispatcher, "c", n=20)]
        await settle()
        for turn in itertools.count():
            if turn == len(wanted):
                break
            assert len(process.sent) == turn + 1  # one at a time
            process.receive(("result", process.sent[-1][0], None))
            await settle()
        await asyncio.gather(*wanted)
        await dispatcher.close()
        return [message[3]["n"] for message in process.sent]

    assert asyncio.run(scenario()) == [0, 1, 10, 20, 2, 3]


def test_a_long_task_leaves_room_for_a_quick_one():
    async def scenario():
        process, dispatcher = await started()
        tasks = [ask(dispatcher, "a", "scan"), ask(dispatcher, "a", "scan"), ask(dispatcher, "b")]
        await settle()
        for task in tasks:
            task.cancel()
        await settle()
        await dispatcher.close()
        return [message[2] for message in process.sent]

    assert asyncio.run(scenario()) == ["scan", "encode"]


def test_full_queues_say_when_to_come_back():
    async def scenario():
        _, dispatcher = await started(max_waiting=3, max_waiting_each=2)
        first = [ask(dispatcher, "a") for _ in range(3)]  # one runs, two wait
        await settle()
        with pytest.raises(Full) as mine:
            await dispatcher.run("a", "encode", {}, lambda _: None)
        assert "2 of your requests" in str(mine.value)
        assert int(mine.value.headers["Retry-After"]) >= 1
        first.append(ask(dispatcher, "b"))
        await settle()
        with pytest.raises(Full, match="3 requests are waiting"):
            await dispatcher.run("c", "scan", {}, lambda _: None)
        for task in first:
            task.cancel()
        await settle()
        await dispatcher.close()

    asyncio.run(scenario())


def test_giving_up_frees_the_place():
    async def scenario():
        process, dispatcher = await started()
        running, waiting = ask(dispatcher, "a", n=1), ask(dispatcher, "b", n=2)
        last = ask(dispatcher, "c", n=3)
        await settle()
        waiting.cancel()  # never sent
        running.cancel()  # sent: the process is told
        await settle()
        number = process.sent[0][0]
        assert process.given_up == [number]
        assert not last.done()
        process.receive(("given up", number, None))
        await settle()
        assert [message[3]["n"] for message in process.sent] == [1, 3]
        process.receive(("refused", process.sent[1][0], "no such thing"))
        with pytest.raises(Unprocessable, match="no such thing"):
            await last
        await dispatcher.close()

    asyncio.run(scenario())


def test_a_worker_that_does_not_let_go_is_ended(monkeypatch):
    monkeypatch.setattr("explorer.live.dispatch.GRACE_SECONDS", 0.01)

    async def scenario():
        process, dispatcher = await started()
        task = ask(dispatcher, "a")
        await settle()
        task.cancel()
        await asyncio.sleep(0.05)
        assert process.killed == 1
        other = ask(dispatcher, "b")
        process.receive(None)  # it is dead
        await settle()
        assert process.started == 2
        process.receive(("ready", 0, None))
        await settle()
        process.receive(("result", process.sent[-1][0], "found"))
        found, _ = await other
        assert found == "found"
        await dispatcher.close()

    asyncio.run(scenario())


def test_a_worker_that_keeps_dying_is_given_up():
    async def scenario():
        process, dispatcher = await started()
        task = ask(dispatcher, "a")
        await settle()
        process.receive(None)
        with pytest.raises(Unavailable, match="has stopped"):
            await task
        for _ in range(4):
            process.receive(None)
            await settle()
        assert process.started == 4
        with pytest.raises(Unavailable, match="keeps stopping"):
            await dispatcher.run("a", "encode", {}, lambda _: None)
        await dispatcher.close()

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def half(live_folder):
    library = open_bundles([live_folder.bundles])
    return LiveHalf.of(
        library, live_folder.runs, (), WorkerSettings(model=MODEL, batch_residues=64)
    )


@pytest.fixture(scope="module")
def client(half):
    app = create_app(half.live.library, live=half, token=TOKEN)
    with (
        listening(app) as url,
        httpx.Client(base_url=f"{url}/api/v1/", timeout=60) as client,
    ):
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield client


SCAN = {"sae": "block1", "sequence": "MKTAYIAKQRQISFVKSHFSRQ" * 20, "latent": 5}


def running(half, lane=1):
    return half.live.dispatcher._lanes[lane].running


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_progress_is_told_and_leaving_frees_the_worker(client, half):
    with client.stream("POST", "scan", json=SCAN, headers=LINES) as answer:
        lines, states = answer.iter_lines(), []  # kept: httpx leaves when nobody reads on
        while len(states) < 4:
            states.append(json.loads(next(lines)))
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        assert running(half) is not None
        # an encode need not wait for the scan
        quick = client.post("encode", json={"sae": "block1", "sequence": "MKTAY"})
        assert quick.status_code == 200
        assert running(half) is not None
    assert {s["state"] for s in states} <= {"waiting", "running"}
    shares = [s["done"] for s in states if s["state"] == "running"]
    assert shares == sorted(shares)
    wait_until(lambda: running(half) is None, 2)


def test_leaving_a_plain_request_frees_the_worker(client, half):
    with pytest.raises(httpx.ReadTimeout):
        client.post("scan", json=SCAN, timeout=httpx.Timeout(20, read=0.5))
    wait_until(lambda: running(half) is None, 2)


def test_a_refusal_comes_as_a_line(client):
    body = {"sae": "block1", "sequence": "MKTAY", "edits": "9999:zero"}
    with client.stream("POST", "steer", json=body, headers=LINES) as answer:
        last = json.loads(list(answer.iter_lines())[-1])
    assert (last["state"], last["status"]) == ("failed", 422)
    assert "out of range" in last["detail"]


def test_a_result_comes_as_the_last_line(client):
    body = {"sae": "block1", "sequence": "MKTAY"}
    with client.stream("POST", "encode", json=body, headers=LINES) as answer:
        last = json.loads(list(answer.iter_lines())[-1])
    plain = client.post("encode", json=body).json()
    assert last["state"] == "done"
    assert last["result"]["latents"] == plain["latents"]


def test_a_killed_worker_comes_back(client, half):
    with client.stream("POST", "scan", json=SCAN, headers=LINES) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["state"] == "running"
        os.kill(half.live.dispatcher._process.pid, signal.SIGKILL)
        last = json.loads(list(lines)[-1])
    assert (last["status"], "stopped" in last["detail"]) == (503, True)
    assert client.post("encode", json={"sae": "block1", "sequence": "MKT"}).status_code == 200


def test_the_door(client):
    root = str(client.base_url).removesuffix("/api/v1/")
    with httpx.Client(base_url=root) as stranger:
        asked = stranger.get("/api/v1/saes")
        assert (asked.status_code, asked.headers["www-authenticate"]) == (401, "Bearer")
        assert stranger.get("/play").status_code == 401
        assert stranger.get("/play?token=wrong").status_code == 401
        assert (
            stranger.get("/api/v1/saes", headers={"cookie": "explorer_token=x"}).status_code == 401
        )
        let_in = stranger.get(f"/play?sae=block1&token={TOKEN}")
        assert (let_in.status_code, let_in.headers["location"]) == (303, "/play?sae=block1")
        assert "HttpOnly" in let_in.headers["set-cookie"]
        assert TOKEN not in let_in.headers["set-cookie"]
        assert stranger.get("/api/v1/saes").status_code == 200  # with the cookie
    with httpx.Client(base_url=root) as stranger:
        away = stranger.get(f"{root}//evil.example/?token={TOKEN}")
        assert away.headers["location"] == "/evil.example/"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"live": True, "read_only": True}, "runs no model"),
        ({"device": "cpu"}, "--device is for --live"),
        ({"token": "short"}, "8 to 200"),
        ({"live": True, "max_residues": 0}, "at least 1"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        ServeConfig((tmp_path,), **flags)


def test_bundles_without_their_runs(live_folder, tmp_path):
    library = open_bundles([live_folder.bundles])
    with pytest.raises(UserError, match="none of the bundles"):
        LiveHalf.of(library)
    with pytest.raises(UserError, match=r"holds no run\.json"):
        LiveHalf.of(library, [tmp_path])
    found = LiveHalf.of(library, [live_folder.runs[1]])
    assert list(found.live.sources) == ["block2"]
    assert found.live.sources["block2"].probes == live_folder.folder / "block2" / "probes"
