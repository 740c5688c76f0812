from __future__ import annotations

import numpy as np
import torch

from extract.alphabet import MASK
from extract.esm import ESM2
from steering.masked import batches_of_jobs, disjoint_parts, scored_batches, standard_residues

SEQUENCES = ["MKTAYIAKQRQISFVKSHFS", "XXX", "GAVLIWWPDEGAVLIWWPDEGAVLIWWPDE"]


def test_copies_cover_every_standard_residue_once(tiny: ESM2) -> None:
    jobs = [(i, part) for i, s in enumerate(SEQUENCES)
            for part in disjoint_parts(standard_residues(s), 7)]  # fmt: skip
    batches = list(batches_of_jobs(tiny, SEQUENCES, jobs, mask=MASK, batch_residues=64))
    assert len(batches) > 3
    seen = [np.zeros(len(s), int) for s in SEQUENCES]
    for batch in batches:
        masks = (batch.tokens.ids == MASK).nonzero().flatten().numpy()
        assert masks.tolist() == batch.rows.tolist()
        assert np.isin(masks, batch.tokens.residue_rows().numpy()).all()
        first = np.cumsum([0, *batch.tokens.lengths[:-1]]) + 1
        sequence = np.searchsorted(first, masks, side="right") - 1
        for row, which, protein in zip(masks, sequence, batch.proteins, strict=True):
            assert batch.tokens.lengths[which] == len(SEQUENCES[protein]) + 2
            seen[protein][row - first[which]] += 1
    assert [s.tolist() for s in seen] == [[1] * 20, [0] * 3, [1] * 30]


def test_masks_depend_on_the_seed_alone(tiny: ESM2) -> None:
    def masks(seed: int, batch_residues: int) -> torch.Tensor:
        batches = scored_batches(
            tiny, SEQUENCES, mask_fraction=0.1, seed=seed, batch_residues=batch_residues
        )
        return torch.cat([b.tokens.ids for b in batches])

    assert torch.equal(masks(0, 10), masks(0, 1000))
    assert not torch.equal(masks(0, 10), masks(1, 10))
