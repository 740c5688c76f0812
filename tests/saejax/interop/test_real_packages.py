"""Files that SAELens, dictionary_learning and sparsify wrote; and the packages read ours.

The files are committed (``real_files/``). What needs the packages runs where PEER_PYTHON names a
Python that has them (docs/interop.md).
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from saejax.interop import read_published, write_published
from saejax.interop.importing import sae_of
from tests.saejax.interop.exports import KINDS, REFUSED, run_of
from tests.saejax.interop.references import rows

pytestmark = pytest.mark.usefixtures("quick_compilation")
HERE = Path(__file__).parent
FILES = HERE / "real_files"
TOLERANCE = 1e-5


def folders(root):
    """Each SAE by name: what it is read from."""
    return {p.relative_to(root).parts[0]: p.parent for p in root.rglob("expected.npz")}


def differences(name, folder):
    """Largest difference of latents and reconstructions; the sets of latents must be equal."""
    sae = sae_of(read_published(name.split("-")[0], folder))
    expected = np.load(folder / "expected.npz")
    latents = np.asarray(sae.encode_dense(expected["x"]))
    active = expected["latents"] > 0
    assert 0 < active.mean() < 1
    np.testing.assert_array_equal(latents > 0, active)
    x_hat = np.asarray(sae(expected["x"]))
    return abs(latents - expected["latents"]).max(), abs(x_hat - expected["x_hat"]).max()


def test_the_committed_files_are_of_every_kind():
    assert len(folders(FILES)) == 21
    assert {"sae-lens", "dictionary-learning", "eai-sparsify"} < set(
        json.loads((FILES / "versions.json").read_text())
    )


@pytest.mark.parametrize("name", sorted(folders(FILES)))
def test_reads_what_the_package_wrote(name):
    folder = folders(FILES)[name]
    assert max(differences(name, folder)) < TOLERANCE
    facts = read_published(name.split("-")[0], folder).facts
    assert facts.site == "block4"
    if not name.startswith("sparsify"):
        assert facts.model == "esm2_t6_8M_UR50D"
    if name.startswith("saelens"):
        assert facts.special_tokens == "were among the training tokens"


def call(*words):
    """Run the packages' Python; skipped where there is none."""
    python = os.environ.get("PEER_PYTHON")
    if not python:
        pytest.skip("PEER_PYTHON names no Python with sae-lens, dictionary-learning, eai-sparsify")
    environment = os.environ | {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([python, "-P", HERE / "real_packages.py", *words], check=False,
                          env=environment, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_reads_what_the_packages_write_now(tmp_path):
    call("write", tmp_path)
    found = {name: differences(name, folder) for name, folder in folders(tmp_path).items()}
    assert set(found) == set(folders(FILES))
    print((tmp_path / "versions.json").read_text())
    for name, (latents, x_hat) in sorted(found.items()):
        print(f"{name:40} latents {latents:.1e}, reconstructions {x_hat:.1e}")
    assert max(max(pair) for pair in found.values()) < TOLERANCE


def test_the_packages_read_what_is_exported(tiny_store, tmp_path):
    x = rows(16)
    np.save(tmp_path / "rows.npy", x)
    runs = {}
    for format_name in ("saelens", "dictionary_learning", "sparsify"):
        for kind in KINDS:
            if (kind, format_name) not in REFUSED:
                name = f"{format_name}-{kind}"
                runs[name] = run_of(tiny_store, kind)
                write_published(format_name, runs[name], tmp_path / name)
    call("read", tmp_path)
    for name, loaded in runs.items():
        theirs, ours = np.load(tmp_path / name / "x_hat.npy"), np.asarray(loaded.sae(x))
        print(f"{name:40} {abs(theirs - ours).max():.1e}")
        np.testing.assert_allclose(theirs, ours, atol=TOLERANCE, err_msg=name)
