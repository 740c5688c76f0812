"""The static site equals the server's answers, file by file."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from explorer.layout import GROUPS
from explorer.server import pages
from explorer.server.export import ExportConfig, export, file_name
from extract.errors import UserError
from tests.explorer.serving import API, serving
from tests.explorer.tiny_bundle import HOSTILE
from tests.explorer.tiny_tables import D_SAE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(bundle_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("export") / "site"
    export(ExportConfig((bundle_folder,), out, base="/sub/path/"))
    return out


def test_every_file_is_what_a_get_answers(site, bundle_folder):
    files = sorted(p for p in (site / "api" / "v1").rglob("*") if p.is_file())
    special = {"capabilities.json", "search-index.json"}
    n = 0
    with serving(bundle_folder) as client:
        for path in files:
            name = path.relative_to(site / "api" / "v1").as_posix()
            if name in special:
                continue
            address, _, query = name.removesuffix(".json").partition("~")
            answer = client.get(f"{API}/{address}{'?' + query if query else ''}")
            assert answer.status_code == 200, name
            if address.endswith("/proteins"):
                first = answer.json() | {"next": None}
                assert json.loads(path.read_bytes()) == first
            else:
                assert path.read_bytes() == answer.content, name
            n += 1
        capabilities = client.get(f"{API}/capabilities").json()
    static = json.loads((site / "api/v1/capabilities.json").read_text())
    assert static == capabilities | {"mode": "static", "notes": False}
    # two dictionaries: each latent itself, neighbours, groups and proteins
    assert n > 2 * D_SAE * (1 + 2 + len(GROUPS) + 1)


def test_names_are_those_of_the_contract(site):
    concept = "ZN_FING%2FC4%20%3Cscript%3Ealert(1)%3C%2Fscript%3E%20100%25"
    assert unquote(concept) == HOSTILE
    for name in (
        "saes.json", "saes/tiny.json", "saes/tiny/columns.json", "saes/tiny/latents.csv",
        "saes/tiny/latents/3.json", "saes/tiny/latents/3/examples~group=top.json",
        f"saes/tiny/latents/3/concepts/{concept}/examples~outcome=near_miss.json",
        "saes/tiny/latents/3/neighbours~kind=cosine.json", "saes/tiny/latents/3/proteins.json",
        "proteins/1ECA_A.json", "proteins/1ECA_A/latents~sae=tiny.json", "structures/1ECA_A",
        "concepts.json", f"concepts/{concept}.json",
    ):  # fmt: skip
        assert (site / "api/v1" / name).is_file(), name
    assert file_name("a/b", {"z": "1 2", "k": "é/"}) == "api/v1/a/b~k=%C3%A9%2F&z=1%202.json"


def test_pages_lie_under_their_base(site):
    for name in ("index.html", "404.html"):
        html = (site / name).read_text()
        assert html.count("<base ") == 1
        assert '<base href="/sub/path/">' in html


def test_search_index(site, tiny_bundles):
    index = json.loads((site / "api/v1/search-index.json").read_text())
    helix = next(row for row in index["latents"] if row[:2] == ["tiny", 3])
    assert helix[2] == "helix of globins"
    assert "helix" in helix[3].split("; ")
    # confirmed: above 1 by how far the interval of its precision is from what is expected
    assert helix[4] == pytest.approx(1 + 0.4 - 0.2, abs=1e-3)
    assert next(row for row in index["latents"] if row[:2] == ["tiny", 0])[4] == 0.5
    assert index["features"]["ZN_FING"] == "zinc finger"
    assert len(index["latents"]) == 2 * D_SAE
    assert HOSTILE in index["concepts"]
    assert {a for a, _ in index["proteins"]} <= set(tiny_bundles[0].accessions)


def test_caps(bundle_folder, tmp_path):
    out = tmp_path / "site"
    export(ExportConfig((bundle_folder / "a",), out, latents=3, proteins=2))
    latents = [p for p in (out / "api/v1/saes/tiny/latents").glob("*.json")]
    # the confirmed one, the other that knows a concept, and the first that fires
    assert sorted(p.name for p in latents) == ["0.json", "1.json", "3.json"]
    assert len(list((out / "api/v1/proteins").glob("*.json"))) == 2
    export(ExportConfig((bundle_folder / "a",), out, latents=1, proteins=1))
    assert len(list((out / "api/v1/saes/tiny/latents").glob("*.json"))) == 1


def test_a_folder_with_something_else_is_left_alone(bundle_folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    command = [
        sys.executable,
        "-m",
        "explorer",
        "export",
        str(bundle_folder),
        "--out",
        str(tmp_path),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "holds something else" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="--base"):
        ExportConfig((bundle_folder,), base="sub")
    with pytest.raises(UserError, match="--base"):
        ExportConfig((bundle_folder,), base='/a"b/')
    with pytest.raises(UserError, match="at least 1"):
        ExportConfig((bundle_folder,), latents=0)


def test_pages_of_a_built_front_end(tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text(
        '<head><base href="/" /><script src="./a.js"></script></head>'
    )
    (tmp_path / "assets" / "index-abcdef12.js").write_text("1")
    html = pages.index_html(tmp_path, "/x/")
    assert html == '<head><base href="/x/"><script src="./a.js"></script></head>'
    assert list(pages.page_files(tmp_path)) == ["assets/index-abcdef12.js"]
    empty = tmp_path / "none"
    assert pages.REMEDY in pages.index_html(empty)
