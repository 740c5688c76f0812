"""The same store on a disk and on an S3-compatible server."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from extract import location
from extract.errors import UserError
from extract.location import Location
from extract.store import ActivationStore
from tests.extract.test_store import files_of
from tests.helpers import make_store, random_proteins


@pytest.mark.parametrize("text", ["s3://bucket/acts", "s3://bucket/acts/", "gs://b/x/y"])
def test_addresses_survive_being_a_path(text):
    place = Location.of(text)
    assert str(place) == text.rstrip("/")
    assert Location.of(Path(text)) == place
    assert Location.of(place.path) == place
    assert not place.is_local
    assert str(place / "pos") == text.rstrip("/") + "/pos"


def test_specs_by_hand(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert Location.of("gs://b/x").spec() == {"driver": "gcs", "bucket": "b", "path": "x/"}
    assert Location.of("s3://b").spec() == {"driver": "s3", "bucket": "b"}
    assert Location.of("acts").spec() == {"driver": "file", "path": f"{os.getcwd()}/acts/"}


def test_unknown_kind_of_place():
    with pytest.raises(UserError, match="http://x/y: unknown kind of place"):
        Location.of("http://x/y")


def test_files(tmp_path):
    place = Location.of(tmp_path / "a")
    assert place.read("x/1.json") is None
    assert place.names("x") == []
    for name in ("x/1.json", "x/2.json", "xy/3.json"):
        place.write(name, name.encode())
    (tmp_path / "a" / "x" / "4.json.__lock").touch()
    assert place.names("x") == ["1.json", "2.json"]
    assert place.names() == ["x/1.json", "x/2.json", "xy/3.json"]
    assert place.read("x/2.json") == b"x/2.json"
    place.delete("x/1.json", "never there")
    assert place.names("x") == ["2.json"]


def test_what_the_driver_refuses_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/manifest.json: can't be reached"):
        Location.of(tmp_path / "file").write("manifest.json", b"")


@pytest.fixture
def s3_server(monkeypatch):
    """A server in this process that speaks S3, with one bucket."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    import urllib.request

    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + "/bucket", method="PUT")
    urllib.request.urlopen(request).close()
    yield
    server.stop()


def test_a_store_on_s3_has_the_bytes_of_one_on_disk(s3_server, tmp_path, capfd):
    proteins = random_proteins(40, 30, 120)
    on_disk = make_store(tmp_path / "acts", proteins)
    on_s3 = make_store(Path("s3://bucket/some/acts"), proteins)
    place = Location.of("s3://bucket/some/acts")
    files = files_of(tmp_path / "acts")
    assert place.names() == sorted(files)
    for name, data in files.items():
        assert place.read(name) == data, name
    again = ActivationStore.open("s3://bucket/some/acts")
    np.testing.assert_array_equal(again.read(10, 20), on_disk.read(10, 20))
    assert again.proteins == on_s3.proteins == proteins
    place.delete("shards/000001.json")
    with pytest.raises(UserError, match=r"s3://bucket/some/acts: the store is incomplete \(\d of"):
        ActivationStore.open("s3://bucket/some/acts")


def test_an_object_store_that_does_not_answer_is_one_line(monkeypatch):
    """A port where nobody answers: TensorStore would try again for many minutes."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
        monkeypatch.setattr(location, "REMOTE_TIMEOUT_S", 1.0)
        with pytest.raises(UserError, match="s3://bucket/x: no answer within 1 s; check addr"):
            Location.of("s3://bucket/x").read("manifest.json")
