"""Rules of the tree that imports must keep."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def loaded_after(statement):
    code = f"{statement}; import sys; print(' '.join(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["saejax.train", "saejax.latents", "saejax.evaluate_store", "saejax.convert", "extract.store"],
)
def test_training_never_loads_torch(module):
    assert "torch" not in loaded_after(f"import {module}")


@pytest.mark.parametrize(
    ("module", "upstream"),
    [
        ("extract.pipeline", {"saejax", "probes", "steering", "explorer", "experiments"}),
        ("saejax.train", {"probes", "steering", "explorer", "experiments"}),
        ("probes", {"steering", "explorer", "experiments"}),
        ("steering", {"probes", "explorer", "experiments"}),
    ],
)
def test_imports_point_one_way(module, upstream):
    assert not upstream & loaded_after(f"import {module}")


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("data", ()),
        ("sources", ("data", "splits")),
        ("fit", ("data",)),
        ("kinds", ("data", "sources")),
    ],
)
def test_imports_inside_probes_point_one_way(package, allowed):
    for path in (Path(__file__).parents[1] / "probes" / package).glob("*.py"):
        found = set(re.findall(r"(?:from|import) probes\.(\w+)", path.read_text()))
        assert found <= {package, *allowed}, path.name


def test_only_streams_and_pt_files_mention_torch_in_saejax():
    root = Path(__file__).parents[1] / "saejax"
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"^\s*(from|import) torch\b", path.read_text(), re.MULTILINE)
    }
    assert found == {"streamed.py", "interop/torch_files.py"}
