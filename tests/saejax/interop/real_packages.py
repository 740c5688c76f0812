"""SAELens, dictionary_learning and sparsify themselves, for ``test_real_packages.py``.

A Python that has them, and nothing of this project, runs this file::

    python -P real_packages.py write FOLDER    a folder per SAE: files as the package writes them,
                                               and what it makes of some rows (expected.npz)
    python -P real_packages.py read FOLDER     for each folder in it, whose name begins with a
                                               format: load it, reconstruct rows.npy into x_hat.npy

The SAEs are trained for a moment, so that biases and thresholds are not where they began.
"""

# pyright: reportMissingImports=false
# (they are in that other Python)

import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

PACKAGES = {"saelens": "sae-lens", "dictionary_learning": "dictionary-learning",
            "sparsify": "eai-sparsify"}  # fmt: skip
D, N, K, STEPS, BATCH = 12, 40, 4, 60, 64
MODEL = "facebook/esm2_t6_8M_UR50D"
Reconstruct = Callable[[torch.Tensor], torch.Tensor]


def rows(n: int, seed: int) -> torch.Tensor:
    """Activations of a kind: sparse sums of fixed directions, off centre."""
    rng = np.random.default_rng(0)
    directions, centre = rng.normal(size=(20, D)), rng.normal(size=D)
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(n, 20)) * (rng.random((n, 20)) < 0.2)
    return torch.tensor(weights @ directions + 0.5 * centre, dtype=torch.float32)


def batches() -> Iterator[torch.Tensor]:
    """Those of training."""
    for step in range(STEPS + 1):
        yield rows(BATCH, 10 + step)


def expected(folder: Path, encode: Reconstruct, reconstruct: Reconstruct) -> None:
    """Write what the package makes of some rows."""
    x = rows(16, 1)
    with torch.no_grad():
        latents, x_hat = encode(x), reconstruct(x)
    np.savez_compressed(
        folder / "expected.npz", x=x.numpy(), latents=latents.numpy(), x_hat=x_hat.numpy()
    )


def write_saelens(out: Path) -> None:
    """Every architecture as its trainer saves it, and checkpoints of training."""
    from sae_lens import SAE
    from sae_lens.config import SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

    top_k: dict[str, Any] = {"k": K, "rescale_acts_by_decoder_norm": False}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "topk": ("topk", top_k),
        "topk-layer_norm": ("topk", top_k | {"normalize_activations": "layer_norm",
                                             "aux_loss_coefficient": 0.0}),
        "topk-rescaled": ("topk", top_k | {"rescale_acts_by_decoder_norm": True}),
        "batchtopk": ("batchtopk", top_k),
        "batchtopk-rescaled": ("batchtopk", top_k | {"rescale_acts_by_decoder_norm": True}),
        "matryoshka": ("matryoshka_batchtopk", top_k | {"matryoshka_widths": [10, N]}),
        "jumprelu": ("jumprelu", {"l0_coefficient": 0.1}),
        "gated": ("gated", {"l1_coefficient": 0.1}),
        "standard": ("standard", {"l1_coefficient": 0.1}),
    }  # fmt: skip
    for name, (architecture, settings) in kinds.items():
        torch.manual_seed(0)
        sae_class, config_class = get_sae_training_class(architecture)
        sae: Any = sae_class(config_class(d_in=D, d_sae=N, **settings))
        config = SAETrainerConfig(
            total_training_samples=STEPS * BATCH, train_batch_size_samples=BATCH, lr=1e-2
        )
        config.lr_end = 1e-3
        SAETrainer(config, sae, batches()).fit()
        metadata = {"model_name": MODEL, "hook_name": "blocks.3.hook_resid_post",
                    "prepend_bos": True, "exclude_special_tokens": False}  # fmt: skip
        for key, value in metadata.items():
            setattr(sae.cfg.metadata, key, value)
        folder = out / f"saelens-{name}"
        sae.save_inference_model(folder)
        saved = SAE.load_from_disk(folder)
        expected(folder, saved.encode, saved)
        if "rescaled" in name or name == "matryoshka":
            checkpoint = out / f"saelens-{name}-checkpoint"
            sae.save_model(checkpoint)
            expected(checkpoint, saved.encode, saved)


def write_dictionary_learning(out: Path) -> None:
    """Every class as ``trainSAE`` saves it."""
    from dictionary_learning.training import trainSAE
    from dictionary_learning.utils import load_dictionary

    common = {"steps": STEPS, "activation_dim": D, "dict_size": N, "layer": 3, "lm_name": MODEL,
              "device": "cpu", "warmup_steps": 5, "lr": 1e-2, "seed": 0}  # fmt: skip
    named = common | {"submodule_name": "resid_post_layer_3"}
    threshold = {"k": K, "threshold_start_step": 10, "threshold_beta": 0.9}
    brief = {"sparsity_warmup_steps": 5}
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainers: dict[str, dict[str, Any]] = {
        "TopK": {"trainer": TopKTrainer} | threshold,
        "BatchTopK": {"trainer": BatchTopKTrainer} | threshold,
        "Matryoshka": {"trainer": MatryoshkaBatchTopKTrainer, "group_fractions": [0.25, 0.75]}
        | threshold,
        "JumpRelu": {"trainer": JumpReluTrainer, "bandwidth": 0.1, "target_l0": 6.0} | brief,
        "Gated": {"trainer": GatedSAETrainer} | brief,
        "Standard": {"trainer": StandardTrainer} | brief,
        "April": {"trainer": StandardTrainerAprilUpdate} | brief,
    }
    for name, settings in trainers.items():
        trainSAE(list(batches()), [named | settings], STEPS, save_dir=str(out / "made"),
                 device="cpu", normalize_activations=True)  # fmt: skip
        folder = out / f"dictionary_learning-{name}"
        (out / "made" / "trainer_0").rename(folder)
        saved, _ = load_dictionary(str(folder), "cpu")
        saved = saved if name != "April" else type(saved).from_pretrained(
            folder / "ae.pt", normalize_decoder=False)  # fmt: skip
        expected(folder, saved.encode, saved)
    (out / "made").rmdir()


def write_sparsify(out: Path) -> None:
    """One SAE, in both number formats; its trainer takes text, so these are trained plainly."""
    from sparsify import SparseCoder, SparseCoderConfig

    torch.manual_seed(0)
    sae = SparseCoder(D, SparseCoderConfig(num_latents=N, k=K))
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for batch in batches():
        loss = sae(batch).fvu
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        folder = out / f"sparsify-{name}" / "encoder.layer.3"
        sae.to(dtype).save_to_disk(folder)
        saved = SparseCoder.load_from_disk(folder).float()

        def encode(x: torch.Tensor, saved: Any = saved) -> torch.Tensor:
            found = saved.encode(x)
            return torch.zeros(len(x), N).scatter_(1, found.top_indices, found.top_acts)

        expected(folder, encode, lambda x, saved=saved: saved(x).sae_out)


def read_saelens(folder: Path) -> Reconstruct:
    """``SAE.load_from_disk``."""
    from sae_lens import SAE

    return SAE.load_from_disk(folder)


def read_dictionary_learning(folder: Path) -> Reconstruct:
    """``load_dictionary``, which goes by config.json."""
    from dictionary_learning.utils import load_dictionary

    return load_dictionary(str(folder), "cpu")[0]


def read_sparsify(folder: Path) -> Reconstruct:
    """``SparseCoder.load_from_disk``."""
    from sparsify import SparseCoder

    sae = SparseCoder.load_from_disk(folder)
    return lambda x: sae(x).sae_out


READERS = {"saelens": read_saelens, "dictionary_learning": read_dictionary_learning,
           "sparsify": read_sparsify}  # fmt: skip


def main() -> None:
    """Write or read."""
    command, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if command == "write":
        write_saelens(out)
        write_dictionary_learning(out)
        write_sparsify(out)
        found = {name: importlib.metadata.version(name) for name in (*PACKAGES.values(), "torch")}
        (out / "versions.json").write_text(json.dumps(found, indent=1) + "\n")
        return
    x = torch.from_numpy(np.load(out / "rows.npy"))
    for folder in sorted(p for p in out.iterdir() if p.is_dir()):
        with torch.no_grad():
            x_hat = READERS[folder.name.split("-")[0]](folder)(x)
        np.save(folder / "x_hat.npy", x_hat.numpy())


if __name__ == "__main__":
    main()
