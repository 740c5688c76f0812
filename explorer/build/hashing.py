"""Choices that look random, and depend on names alone: not on order, memory or a stopped run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Integer, UInt64

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)


def protein_keys(ids: Iterable[str]) -> UInt64[np.ndarray, " proteins"]:
    """64 bits of each id's SHA-256."""
    digests = (hashlib.sha256(i.encode()).digest()[:8] for i in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def mixed(
    keys: UInt64[np.ndarray, " n"], numbers: Integer[np.ndarray, " n"]
) -> UInt64[np.ndarray, " n"]:
    """Another 64 bits for each pair of a key and a number.

    The finaliser of splitmix64 (Steele, Lea & Flood 2014, OOPSLA), once for the number and once
    for both.
    """
    return _finalise(keys ^ _finalise(numbers.astype(np.uint64) + np.uint64(1)))


def _finalise(x: np.ndarray) -> np.ndarray:
    x = x * _STEP
    x = (x ^ (x >> np.uint64(30))) * _MIX[0]
    x = (x ^ (x >> np.uint64(27))) * _MIX[1]
    return x ^ (x >> np.uint64(31))
