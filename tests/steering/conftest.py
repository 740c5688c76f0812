from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from extract.errors import run_cli
from extract.esm import ESM2, ESM2_SHAPES, ESM2Shape
from extract.pipeline import ExtractConfig, extract
from extract.selection import read_fasta
from extract.weights import load_esm2
from saejax.config import TrainConfig
from saejax.train import train
from steering.__main__ import main
from steering.torch_sae import TorchSAE
from tests.helpers import fair_esm_names

PARENT = "esm2_t6_8M_UR50D"
SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"
"""What the command line is given."""
SITES = ["block0", "block1", "block3", "final"]


@pytest.fixture(scope="session")
def tiny() -> ESM2:
    """Three blocks of random weights."""
    torch.manual_seed(0)
    return ESM2("tiny", ESM2Shape(3, 16, 2)).eval().requires_grad_(False)


def random_sae(model: ESM2, site: str, *, d_sae: int = 24, k: int = 4, seed: int = 1) -> TorchSAE:
    """An untrained SAE at a site: decoder rows of norms other than 1, biases other than 0."""
    rng = np.random.default_rng(seed)
    d = model.d_model
    arrays = {
        "W_enc": rng.normal(size=(d, d_sae)) / np.sqrt(d),
        "b_enc": rng.normal(size=d_sae) * 0.1,
        "W_dec": rng.normal(size=(d_sae, d)) / np.sqrt(d),
        "b_dec": rng.normal(size=d) * 0.1,
        "mean": rng.normal(size=d),
        "scale": np.float64(1.7),
    }
    manifest = model.describe_site(site)
    return TorchSAE(arrays, k, manifest, name="run tiny")


@pytest.fixture(params=SITES)
def sae(request: pytest.FixtureRequest, tiny: ESM2) -> TorchSAE:
    """An SAE at the embeddings, a middle block, the last block and the final norm in turn."""
    return random_sae(tiny, request.param)


@pytest.fixture(scope="session")
def make_sae():
    return random_sae


class Workspace:
    """Files of a whole small path: random weights of ESM2-8M's shape, a store, a run."""

    def __init__(self, folder: Path) -> None:
        self.weights, self.headless = folder / "random.safetensors", folder / "no_head.safetensors"
        self.other_weights = folder / "other.safetensors"
        self.fasta, self.run = folder / "a.fasta", folder / "run"
        torch.manual_seed(3)
        tensors = fair_esm_names(ESM2(PARENT, ESM2_SHAPES[PARENT]))
        save_file(tensors, self.weights)
        save_file({k: v for k, v in tensors.items() if "lm_head" not in k}, self.headless)
        save_file(tensors | {"emb_layer_norm_after.bias": torch.ones(320)}, self.other_weights)
        rng = np.random.default_rng(0)
        letters = list("ACDEFGHIKLMNPQRSTVWY")
        self.sequences = ["".join(rng.choice(letters, size=40 + i)) for i in range(24)]
        self.fasta.write_text("".join(f">p{i}\n{s}\n" for i, s in enumerate(self.sequences)))
        model = load_esm2(PARENT, weights=self.weights, device="cpu")
        proteins, _ = read_fasta(self.fasta)
        config = ExtractConfig(self.fasta, folder / "acts", site=("block3",), shard_rows=1024)
        extract(config, model, proteins)
        train(
            TrainConfig.of(
                folder / "acts", self.run, holdout_fraction=0.2, d_sae=48, k=4, epochs=2,
                batch_size_tokens=128, learning_rate=1e-3,
            )
        )  # fmt: skip


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("steering"))


@pytest.fixture
def steer(workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command line in this process; flags given as None are left out."""

    def run(*extra: str, command: str = "edit", **flags: object) -> Path:
        out = tmp_path / "out"
        given = {"run": workspace.run, "weights": workspace.weights, "out": out,
                 "sequence": SEQUENCE} | flags  # fmt: skip
        words = [w for k, v in given.items() if v is not None for w in (f"--{k}", str(v))]
        monkeypatch.setattr(sys, "argv", ["steering", command, *words, *extra])
        run_cli(main)
        return out

    return run


@pytest.fixture
def refused(steer, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Run, expecting exit status 2, one line on standard error, and nothing written."""

    def run(words: str, *extra: str, **flags: object) -> None:
        with pytest.raises(SystemExit) as caught:
            steer(*extra, **flags)
        assert caught.value.code == 2
        *log, error = capsys.readouterr().err.strip().splitlines()
        assert error.startswith("error: ")
        assert not [line for line in log if line.startswith(("error", "Traceback"))]
        assert words in error
        assert not (tmp_path / "out").exists()

    return run
