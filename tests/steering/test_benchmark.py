from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from extract.alphabet import AMINO_ACID_TOKENS, AMINO_ACIDS
from extract.errors import UserError
from extract.esm import ESM2
from steering.benchmark import (
    GRID,
    BenchmarkSettings,
    Target,
    equal_kl_norms,
    row_of,
    run_target,
)
from steering.benchmark_command import by_class, read_targets
from steering.concept_probe import ConceptProbe
from steering.edits import Edit
from steering.effects import amino_acid_log_p
from steering.sweep import DoseResponse
from steering.torch_sae import TorchSAE

SEQUENCES = ["MKTAYIAKQRQISFVKSHFS", "GAVLIWWPDEGAVLIWWPDEGAVLIWWPDE", "MSTNPKPQRKTKRNT"]
SETTINGS = BenchmarkSettings(mask_fraction=0.3, n_latents=3, n_directions=8, n_variants=2)


@pytest.fixture(scope="module")
def towards_tryptophan(tiny: ESM2) -> torch.Tensor:
    """From the mean of the final states to where tryptophan is nearly sure."""
    mean = tiny.residual(tiny.tokenize(SEQUENCES), "final").mean(0)
    x = mean.clone().requires_grad_(True)
    assert tiny.lm_head is not None
    optimizer = torch.optim.Adam([x], lr=0.2)
    for _ in range(100):
        optimizer.zero_grad()
        logits = tiny.lm_head(x[None], tiny.embedding.tokens.weight)
        loss = -amino_acid_log_p(logits, AMINO_ACID_TOKENS)[0, AMINO_ACIDS.index("W")]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7  # more than half
    return (x - mean).detach()


@pytest.fixture
def writer(tiny: ESM2, make_sae, towards_tryptophan: torch.Tensor) -> TorchSAE:
    """An SAE at the final norm whose latent 5 writes tryptophan at 1."""
    sae = make_sae(tiny, "final")
    sae.W_dec[5] = towards_tryptophan * sae.scale
    return sae


def loaded(sae: TorchSAE, maximum: float) -> Any:
    """What of a run the benchmark reads."""
    return SimpleNamespace(
        folder="runs/x", latent_frequency=np.full(sae.d_sae, 0.1),
        latent_max=np.full(sae.d_sae, maximum), check_latent=sae.check_latent,
    )  # fmt: skip


def tryptophan_probe(model: ESM2) -> ConceptProbe:
    """A probe of the embeddings that is sure of tryptophan and of nothing else."""
    table = model.embedding.tokens.weight[AMINO_ACID_TOKENS].double()
    wanted = torch.full((20, 1), -6.0, dtype=torch.float64)
    wanted[AMINO_ACIDS.index("W")] = 6.0
    rows = torch.cat([0.88 * table, torch.ones(20, 1, dtype=torch.float64)], dim=1)  # token dropout
    solution = torch.linalg.lstsq(rows, wanted).solution[:, 0]
    manifest = model.describe_site("block0")
    return ConceptProbe("tryptophan", solution[:-1].float().numpy(), float(solution[-1]), 0.5,
                        manifest, {})  # fmt: skip


def test_an_amino_acid_latent_that_writes_it_succeeds(tiny: ESM2, writer: TorchSAE) -> None:
    target = Target("W", "amino acid", 5)
    found = run_target(tiny, writer, loaded(writer, 1.0), SEQUENCES, target, SETTINGS, probes={})
    assert found.effect.low > 0.1
    assert found.success_equal_norm == 1.0
    assert found.facts["maximum"] == 1.0
    assert float(found.facts["kl"]) > 0
    row = row_of(found)
    assert row["n_proteins"] == 3
    assert row["success"] == found.success.mean
    assert row["steers"] == found.steers
    assert found.n_controls == 11
    # to lower it is no success
    writer.W_dec[5] *= -1
    found = run_target(tiny, writer, loaded(writer, 1.0), SEQUENCES, target, SETTINGS, probes={})
    assert found.effect.high < -0.1
    assert found.success.mean == 0


def test_a_concept_is_read_from_what_was_written(tiny: ESM2, writer: TorchSAE) -> None:
    probe = tryptophan_probe(tiny)
    target, silent = Target("tryptophan", "own", 5), Target("tryptophan", "own", 8)
    given: dict[str, Any] = {"probes": {"tryptophan": probe}}
    found = run_target(tiny, writer, loaded(writer, 1.0), SEQUENCES, target, SETTINGS, **given)
    assert found.effect.low > 0.05  # of 0.3 masked residues many become tryptophan
    assert found.effect.mean > found.control
    writer.W_dec[8] = -writer.W_dec[5]
    found = run_target(tiny, writer, loaded(writer, 1.0), SEQUENCES, silent, SETTINGS, **given)
    assert found.effect.high <= 0
    assert found.success.mean == 0


def test_refuses(tiny: ESM2, writer: TorchSAE) -> None:
    with pytest.raises(UserError, match="'helix': no probe of this concept"):
        run_target(tiny, writer, loaded(writer, 1.0), SEQUENCES, Target("helix", "dssp", 5),
                   SETTINGS, probes={})  # fmt: skip
    with pytest.raises(UserError, match="latent 5 never fired"):
        run_target(tiny, writer, loaded(writer, 0.0), SEQUENCES, Target("W", "amino acid", 5),
                   SETTINGS, probes={})  # fmt: skip


def test_norms_of_equal_kl_by_hand() -> None:
    # A control's KL grows with the square of its norm: at norm 1 a quarter, a sixteenth of the
    # latent's, so that twice and four times the norm are wanted; the last never gets there.
    norms = np.array([*GRID, 2.0, 4.0])
    curves = np.stack([np.full(6, np.nan), norms**2 / 4, norms**2 / 16, norms**2 / 1000])
    curves[0, : len(GRID)] = np.square(GRID)
    kl = np.repeat(curves[:, :, None], 2, axis=2)
    kl[:, :, 1] = np.nan  # a protein without residues to read
    response = DoseResponse(
        [Edit(0, "set", g) for g in GRID], np.array([1, 2, 3]), 0, (2.0, 4.0),
        np.zeros((4, 6, 2, 20)), kl, np.ones((4, 2)), np.array([5, 0]),
    )  # fmt: skip
    found, reached = equal_kl_norms(response)
    np.testing.assert_allclose(found, [2.0, 4.0, 4.0], rtol=1e-6)
    assert reached == pytest.approx(2 / 3)


def test_classes_and_steering(tiny: ESM2, writer: TorchSAE) -> None:
    target = Target("W", "amino acid", 5)
    one = run_target(tiny, writer, loaded(writer, 1.0), SEQUENCES, target, SETTINGS, probes={})
    from steering.controls import Interval

    sure, unsure, rare = (
        one._replace(success=Interval(*values))
        for values in ((0.8, 0.6, 0.9), (0.6, 0.05, 0.9), (0.3, 0.2, 0.4))
    )
    assert [r.steers for r in (sure, unsure, rare)] == [True, False, False]
    (group,) = by_class([sure, unsure, rare])
    assert (group["kind"], group["n_targets"], group["n_steer"]) == ("amino acid", 3, 1)
    assert group["success"] == pytest.approx((0.8 + 0.6 + 0.3) / 3)


def test_targets_are_read_from_csv(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("target,kind,latent,why\nW,amino acid,5,x\nhelix,dssp,7,y\n")
    assert read_targets(path) == [Target("W", "amino acid", 5), Target("helix", "dssp", 7)]
    for text, words in (
        ("target,latent\nW,5\n", "has no column 'kind'"),
        ("target,kind,latent\nW,amino acid,five\n", "line 2: latent 'five' is not a number"),
        ("target,kind,latent\nhelix,amino acid,5\n", "none of the amino acids"),
        ("target,kind,latent\n", "no targets"),
        ("", "has no column 'target'"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_targets(path)
