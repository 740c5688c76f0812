"""Amino-acid letters, and ESM2's vocabulary (fair-esm's ``Alphabet`` "ESM-1b", token for token)."""

from __future__ import annotations

import numpy as np

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
"""The 20 standard residues, in alphabetical order of their one-letter codes."""

LEGAL_RESIDUES = frozenset(AMINO_ACIDS + "BZUOX")
"""What a sequence may hold: the 20, plus Asx, Glx, selenocysteine, pyrrolysine and unknown."""

SPECIAL_TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>")

ESM_TOKENS = [*SPECIAL_TOKENS, *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
"""The 33 tokens of ESM-1b and ESM2 in order; Facebook's ``esm/data.py`` (MIT)."""

CLS, PAD, EOS, UNK, MASK = (
    ESM_TOKENS.index(t) for t in ("<cls>", "<pad>", "<eos>", "<unk>", "<mask>")
)

AMINO_ACID_TOKENS = np.array([ESM_TOKENS.index(a) for a in AMINO_ACIDS])
"""Token ids of :data:`AMINO_ACIDS`, in that order: int64 ``[20]``."""

_TOKEN_OF_BYTE = np.full(256, UNK, dtype=np.int64)
for _token_id, _token in enumerate(ESM_TOKENS):
    if len(_token) == 1:
        _TOKEN_OF_BYTE[ord(_token)] = _token_id


def residue_tokens(sequence: str) -> np.ndarray:
    """Token ids of a sequence's residues, without special tokens: int64 ``[L]``."""
    return _TOKEN_OF_BYTE[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]


RESIDUE_TYPES = (*AMINO_ACIDS, "other")
"""What :func:`residue_types` gives the places of: the 20 amino acids, and B, Z, U, O, X."""

_TYPE_OF_TOKEN = np.full(256, len(AMINO_ACIDS), dtype=np.uint8)
_TYPE_OF_TOKEN[AMINO_ACID_TOKENS] = np.arange(len(AMINO_ACIDS))


def residue_types(tokens: np.ndarray) -> np.ndarray:
    """Places in :data:`RESIDUE_TYPES` of residues given as ESM tokens: uint8 ``[L]``."""
    return _TYPE_OF_TOKEN[tokens]
