import numpy as np
import torch

from experiments.refit_lm_head import (
    MaskedBatch,
    RefitConfig,
    encode_batches,
    masked_batch,
    perplexity,
    split_by_hash,
    train_head,
)
from extract.alphabet import CLS, EOS, MASK, residue_tokens
from extract.esm import LMHead
from tests.helpers import random_proteins, tiny_esm2


def big_batch() -> MaskedBatch:
    sequences = [p.sequence for p in random_proteins(200, 250, 400)]
    return masked_batch(sequences, np.random.default_rng(0))


def test_masking_is_80_10_10_of_15_percent():
    batch = big_batch()
    n_residues = sum(batch.tokens.lengths) - 2 * len(batch.tokens.lengths)
    n = len(batch.rows)
    assert abs(n / n_residues - 0.15) < 0.005
    shown = batch.tokens.ids[batch.rows]
    masked = (shown == MASK).float().mean()
    kept = (shown == batch.targets).float().mean()
    assert abs(masked - 0.8) < 0.02
    assert abs(kept - (0.1 + 0.1 / 20)) < 0.02  # a random residue may be the true one


def test_only_residues_are_corrupted_and_windows_are_short():
    batch = big_batch()
    ids, targets = batch.tokens.ids.clone(), set(batch.targets.tolist())
    assert max(batch.tokens.lengths) == 258
    ids[batch.rows] = batch.targets
    starts = np.cumsum([0, *batch.tokens.lengths])
    assert (ids[starts[:-1]] == CLS).all()
    assert (ids[starts[1:] - 1] == EOS).all()
    assert targets <= set(residue_tokens("ACDEFGHIKLMNPQRSTVWY").tolist())


def test_held_out_sequences_are_the_largest_hashes_and_not_trained_on():
    proteins = random_proteins(300, 20, 40)
    train, held_out = split_by_hash(proteins)
    assert len(held_out) == 200
    assert not set(train) & set(held_out)
    again = split_by_hash(list(reversed(proteins)))
    assert (train, held_out) == again


def test_perplexity_of_a_head_that_knows_nothing_is_the_vocabulary():
    model = tiny_esm2()
    head = LMHead(16)
    torch.nn.init.zeros_(head.layer_norm.weight)  # every logit 0
    sequences = [p.sequence for p in random_proteins(30, 50, 80)]
    assert abs(perplexity(model, head, sequences) - 33) < 1e-3


def test_refitting_lowers_perplexity():
    """On sequences of two letters a trained head must come near 2."""
    model = tiny_esm2()
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("AG"), 100)) for _ in range(40)]
    config = RefitConfig(batches=4, tokens_per_batch=2000, epochs=120)
    embedding = model.embedding.tokens.weight
    head = train_head(embedding, encode_batches(model, sequences, config), config)
    assert 1.9 < perplexity(model, head, sequences) < 2.3
