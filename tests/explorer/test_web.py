"""The pages: their own tests, their types against the server's, and that a wheel carries them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "explorer" / "web"


def run(*command: str, cwd: Path = WEB) -> str:
    """Output of a command that must succeed; Node is the system's or the virtual environment's."""
    if command[0] in ("npm", "npx") and not (WEB / "node_modules").is_dir():
        pytest.fail("explorer/web/node_modules is not there: run `make web` first")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which(command[0], path=os.environ["PATH"]) or shutil.which(command[0], path=path)
    assert found, f"{command[0]} not found: run `make web` first"
    environment = os.environ | {"PATH": path, "CI": "1", "NO_COLOR": "1"}
    done = subprocess.run([found, *command[1:]], cwd=cwd, capture_output=True, text=True,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def test_vitest():
    """What computes in the page: alignment, colours, motifs, the state in the URL."""
    assert "passed" in run("npm", "test", "--silent")


def test_typescript_is_sound():
    run("npm", "run", "check", "--silent")


def test_types_are_those_of_the_server(tmp_path):
    """``npm run types`` changes nothing: the page and the server speak of the same fields."""
    schema = tmp_path / "openapi.json"
    schema.write_text(run(sys.executable, "-m", "explorer", "openapi", cwd=ROOT))
    assert json.loads(schema.read_text())["paths"]
    fresh = tmp_path / "types.ts"
    run("npx", "openapi-typescript", str(schema), "-o", str(fresh))
    assert fresh.read_text() == (WEB / "src" / "api" / "types.ts").read_text()


def test_wheel_carries_the_pages(tmp_path):
    """Every file of ``explorer/web/dist`` is in a built wheel, and none of the sources' tools."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    built = {str(p.relative_to(ROOT)) for p in (WEB / "dist").rglob("*") if p.is_file()}
    assert "explorer/web/dist/index.html" in built
    assert built <= names
    assert not [n for n in names if "node_modules" in n or n.startswith("explorer/web/src")]
