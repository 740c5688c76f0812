"""Arrays of a bundle: written whole or not at all, in pieces that need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from explorer import layout
from extract.files import write_atomically

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def half(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Values above 0 as float16: none becomes 0, none infinite."""
    return np.clip(values, _SMALLEST, _LARGEST).astype(np.float16)


def pointers(counts: np.ndarray) -> np.ndarray:
    """Where each of some runs of entries starts, and the end: int64."""
    return np.append(0, np.cumsum(counts, dtype=np.int64))


def within(counts: np.ndarray) -> np.ndarray:
    """0, 1, 2 … within each of some runs, one after another."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def write_array(folder: Path, name: str, array: np.ndarray) -> None:
    """An array of :data:`explorer.layout.ARRAYS`, in its type."""
    write_pieces(folder, name, array.shape, [array])


def write_pieces(
    folder: Path, name: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray]
) -> None:
    """The same, its rows in pieces."""
    path, dtype = layout.array_path(folder, name), layout.ARRAYS[name]
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(f) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
                  "shape": shape}  # fmt: skip
        np.lib.format.write_array_header_1_0(f, header)
        written = 0
        for piece in pieces:
            assert piece.dtype == dtype, f"{name}: {piece.dtype} is not {dtype}"
            f.write(np.ascontiguousarray(piece).tobytes())
            written += piece.size
        assert written == np.prod(shape, dtype=np.int64), f"{name}: {written} for {shape}"

    write_atomically(path, write)
