"""Notes, lists and blind ratings; what was answered is there after a kill."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from explorer.server.agreement import krippendorff_alpha
from explorer.server.database import Database
from extract.errors import UserError
from tests.explorer.serving import API, ask, serving
from tests.explorer.tiny_bundle import write_tiny
from tests.explorer.tiny_tables import D_SAE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(bundle_folder, tmp_path):
    with serving(bundle_folder, tmp_path / "notes.sqlite") as client:
        yield client


def test_notes_are_kept_and_an_empty_one_is_removed(client):
    text = '<script>alert("note")</script>\n=1+1 ünïcode 🧬'
    edit = {"text": text, "rating": 4, "tags": ["zinc", " zinc ", "finger"]}
    kept = client.put(f"{API}/notes/tiny/3", json=edit).json()
    assert (kept["text"], kept["rating"], kept["tags"]) == (text, 4, ["zinc", "finger"])
    assert ask(client, "notes/tiny/3") == kept
    client.put(f"{API}/notes/other/1", json={"text": "b"})
    assert [(n["sae"], n["latent"]) for n in ask(client, "notes")] == [("other", 1), ("tiny", 3)]
    assert [n["latent"] for n in ask(client, "notes", sae="tiny")] == [3]
    lines = client.get(f"{API}/notes.jsonl")
    assert "attachment" in lines.headers["content-disposition"]
    found = [json.loads(line) for line in lines.text.splitlines()]
    assert found[1] == kept | {"label": "helix of globins"}
    empty = client.put(f"{API}/notes/tiny/3", json={"text": " "}).json()
    assert (empty["text"], empty["changed"]) == ("", "")
    assert [n["sae"] for n in ask(client, "notes")] == ["other"]
    assert ask(client, "notes/tiny/3")["text"] == ""


@pytest.mark.parametrize(
    ("path", "edit", "status"),
    [
        ("notes/tiny/12", {"text": "a"}, 404), ("notes/nobody/1", {"text": "a"}, 404),
        ("notes/tiny/1", {"text": "a" * 20_001}, 422), ("notes/tiny/1", {"rating": 6}, 422),
        ("notes/tiny/1", {"tags": ["a" * 101]}, 422), ("notes/tiny/1", {"tags": [""]}, 422),
        ("notes/tiny/1", {"tags": ["a"] * 33}, 422), ("notes/tiny/1", {"who": "me"}, 422),
    ],
)  # fmt: skip
def test_notes_that_are_refused(client, path, edit, status):
    assert client.put(f"{API}/{path}", json=edit).status_code == status
    assert ask(client, "notes") == []


def test_lists(client):
    edit = {"name": "helices", "description": "d",
            "items": [{"sae": "tiny", "latent": 3}, {"sae": "other", "latent": 3},
                      {"sae": "tiny", "latent": 3}]}  # fmt: skip
    made = client.post(f"{API}/lists", json=edit)
    assert made.status_code == 201
    kept = made.json()
    assert [(x["sae"], x["latent"], x["label"]) for x in kept["items"]] == [
        ("tiny", 3, "helix of globins"), ("other", 3, "helix of globins"),
    ]  # fmt: skip
    path = f"lists/{kept['id']}"
    assert ask(client, path) == kept
    changed = client.put(f"{API}/{path}", json=edit | {"name": "renamed", "items": []}).json()
    assert (changed["name"], changed["items"]) == ("renamed", [])
    assert [x["id"] for x in ask(client, "lists")] == [kept["id"]]
    bad = edit | {"items": [{"sae": "tiny", "latent": D_SAE}]}
    assert client.post(f"{API}/lists", json=bad).status_code == 404
    assert client.delete(f"{API}/{path}").status_code == 204
    assert client.delete(f"{API}/{path}").status_code == 404
    assert client.get(f"{API}/{path}").status_code == 404


def test_a_list_keeps_latents_of_bundles_that_are_not_served_now(bundle_folder, tmp_path):
    notes = tmp_path / "notes.sqlite"
    with serving(bundle_folder, notes) as client:
        edit = {"name": "a", "items": [{"sae": "other", "latent": 2}]}
        name = client.post(f"{API}/lists", json=edit).json()["id"]
    with serving(bundle_folder / "a", notes) as client:
        assert ask(client, f"lists/{name}")["items"][0]["label"] == ""
        more = {"name": "b", "items": [{"sae": "other", "latent": 2}, {"sae": "tiny", "latent": 1}]}
        assert client.put(f"{API}/lists/{name}", json=more).status_code == 200


def test_a_server_that_only_reads_says_so(bundle_folder):
    with serving(bundle_folder) as client:
        for path in ("notes", "notes.jsonl", "lists", "rate/summary", "rate/next?sae=tiny&rater=a"):
            response = client.get(f"{API}/{path}")
            assert response.status_code == 403
            assert "--read-only" in response.json()["detail"]
        assert client.put(f"{API}/notes/tiny/1", json={"text": "a"}).status_code == 403


def test_a_kill_loses_nothing_that_was_answered(bundle_folder, tmp_path):
    """kill -9 while notes are written: every answered one is there, whole."""
    notes = tmp_path / "notes.sqlite"
    command = [sys.executable, "-m", "explorer", "serve", str(bundle_folder), "--port", "0",
               "--notes", str(notes)]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    url = next(word for word in line.split() if word.startswith("http://")).rstrip(";")
    answered = []
    with httpx.Client(base_url=url) as client:
        for i in range(40):
            j, text = i % D_SAE, f"note {i} " + "x" * 1_000
            assert client.put(f"api/v1/notes/tiny/{j}", json={"text": text}).status_code == 200
            answered.append((j, text))
        process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    process.stderr.close()
    with serving(bundle_folder, notes) as client:
        found = {n["latent"]: n["text"] for n in ask(client, "notes", sae="tiny")}
    assert found == dict(answered)


def test_files_that_are_no_notes_are_refused(tmp_path):
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    before = other.read_bytes()
    with pytest.raises(UserError, match="is not a file of notes"):
        Database(other)
    assert other.read_bytes() == before
    (tmp_path / "text.sqlite").write_text("hello " * 100)
    with pytest.raises(UserError, match=r"can't be used for notes"):
        Database(tmp_path / "text.sqlite")
    with pytest.raises(UserError, match="--read-only"):
        Database(tmp_path / "nowhere" / "notes.sqlite")
    database = Database(tmp_path / "notes.sqlite")
    with database.write() as connection:
        connection.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(UserError, match="version 99"):
        Database(tmp_path / "notes.sqlite")


def rate_all(client, rater: str, n: int, score) -> list[dict]:
    tasks = []
    for _ in range(n):
        task = ask(client, "rate/next", sae="tiny", rater=rater)
        edit = {"task": task["task"], "rater": rater, "score": score(task)}
        assert client.post(f"{API}/rate", json=edit).status_code == 204
        tasks.append(task)
    return tasks


def test_blind_rating(client, tiny_bundles, tmp_path):
    tiny = tiny_bundles[0]
    mine = rate_all(client, "ada", 12, lambda task: 1 + len(task["task"]) % 5)
    yours = rate_all(client, "bob", 12, lambda task: 3)
    # the second rater judges the same features, or there would be no agreement to measure
    assert [t["task"] for t in mine] == [t["task"] for t in yours]
    assert [t["examples"] for t in mine] == [t["examples"] for t in yours]
    assert all(set(t) == {"task", "sae", "examples"} for t in mine)
    lines = [json.loads(x) for x in client.get(f"{API}/ratings.jsonl").text.splitlines()]
    facts = {line["task"]: line for line in lines}
    assert Counter(line["rater"] for line in lines) == {"ada": 12, "bob": 12}
    for task in mine:
        fact = facts[task["task"]]
        assert fact["kind"] not in task["task"]
        highest = max(e["max"] for e in task["examples"])
        assert highest == pytest.approx(1)  # no scale tells a neuron
        if fact["kind"] == "neuron":
            continue
        for example in task["examples"]:
            row = tiny.activations[tiny.accessions.index(example["accession"])][:, fact["feature"]]
            values = np.asarray(example["track"]["values"])
            top = tiny.maxima()[:, fact["feature"]].max()
            np.testing.assert_allclose(np.sort(values), np.sort(row[row > 0]) / top, rtol=1e-3)
            moved = example["track"]["positions"] != (np.flatnonzero(row) + 1).tolist()
            if fact["kind"] == "latent":
                assert not moved
    summary = ask(client, "rate/summary", sae="tiny")
    assert (summary["raters"], summary["ratings"]) == (2, 24)
    assert sum(kind["n"] for kind in summary["kinds"]) == 24
    again = {"task": mine[0]["task"], "rater": "ada", "score": 5}
    assert client.post(f"{API}/rate", json=again).status_code == 204
    assert ask(client, "rate/summary")["ratings"] == 24
    for bad, status in (
        ({"task": "no", "rater": "a", "score": 1}, 404),
        (again | {"score": 6}, 422), (again | {"rater": ""}, 422), (again | {"rater": "  "}, 422),
    ):  # fmt: skip
        assert client.post(f"{API}/rate", json=bad).status_code == status


def test_shuffled_values_move_within_their_proteins_and_stay_moved(tiny_bundles):
    from explorer.bundle import Bundle
    from explorer.server.ratings import task_examples
    from explorer.server.source import Source

    source = Source(Bundle.open(tiny_bundles[0].folder), "tiny")
    latent = task_examples(source, "latent", 2, 7)
    shuffled = task_examples(source, "shuffled", 2, 7)
    assert [e.accession for e in shuffled] == [e.accession for e in latent]
    assert [sorted(e.track.values) for e in shuffled] == [sorted(e.track.values) for e in latent]
    assert all(a.track.positions != b.track.positions for a, b in zip(shuffled, latent))
    assert all(min(e.track.positions) >= 1 for e in shuffled)
    assert all(max(e.track.positions) <= len(e.sequence) for e in shuffled)
    assert task_examples(source, "shuffled", 2, 7) == shuffled
    assert task_examples(source, "shuffled", 2, 8) != shuffled
    source.bundle.close()


def test_all_kinds_are_given_and_the_supply_ends(tmp_path):
    write_tiny(tmp_path / "a", "tiny")
    with serving(tmp_path, tmp_path / "notes.sqlite") as client:
        n = 0
        while (
            client.get(f"{API}/rate/next", params={"sae": "tiny", "rater": "a"}).status_code == 200
        ):
            rate_all(client, "a", 1, lambda task: 2)
            n += 1
        kinds = Counter(
            json.loads(x)["kind"] for x in client.get(f"{API}/ratings.jsonl").text.splitlines()
        )
        # 11 latents that fire, 6 neurons, 11 shuffled: each feature once
        assert set(kinds) == {"latent", "neuron", "shuffled"}
        assert n == kinds.total() <= 28
        assert max(kinds.values()) <= 11


def test_agreement_of_published_example():
    """Krippendorff 2011, §C: four observers, twelve units, ordinal α = 0.815."""
    nan = np.nan
    ratings = np.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ])  # fmt: skip
    assert krippendorff_alpha(ratings) == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(ratings[:1]) is None
    assert krippendorff_alpha(np.full((2, 3), 4.0)) is None
    assert krippendorff_alpha(np.array([[1.0, 2, 3], [1, 2, 3]])) == pytest.approx(1)
