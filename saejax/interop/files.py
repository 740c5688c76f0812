"""Weights files of strangers: read as arrays, checked before anything is believed.

A safetensors header is compared with the file before memory is asked for; a ``.pt`` file is loaded
with ``weights_only`` (``torch_files.py``), so no code in it runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from extract.errors import UserError

MOST_HEADER_BYTES = 100_000_000
"""Of a safetensors file, as in the library."""
MOST_LATENTS = 2**31 - 1
"""A number from a file that is larger counts nothing."""
DTYPES = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16), "I64": np.dtype(np.int64), "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(bool),
}  # fmt: skip
"""Number formats of safetensors."""

Arrays = dict[str, np.ndarray]


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of a ``.safetensors``, ``.pt`` or ``.pth`` file; of the latter also plain values.

    Raises:
        UserError: no such file, of another kind, truncated, damaged, or with code in it.
    """
    if not path.is_file():
        what = "is a folder; give the file in it" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; check the path")
    if path.suffix == ".safetensors":
        return dict(read_safetensors(path))
    if path.suffix in (".pt", ".pth", ".bin"):
        from saejax.interop.torch_files import read_pt  # the only place that needs torch

        return read_pt(path)
    raise UserError(f"{path}: is neither .safetensors nor .pt; give a weights file")


def read_safetensors(path: Path) -> Arrays:
    """Every array of a safetensors file.

    Raises:
        UserError: truncated, damaged, or a header that does not fit the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        n = int.from_bytes(file.read(8), "little")
        if size < 8 or n > min(MOST_HEADER_BYTES, size - 8):
            raise UserError(f"{path}: is truncated or no safetensors file; fetch it again")
        try:
            header = json.loads(file.read(n))
            entries = {k: v for k, v in header.items() if k != "__metadata__"}
            spans = {k: _span(v, size - 8 - n) for k, v in entries.items()}
            if sum(end - begin for _, _, begin, end in spans.values()) > size - 8 - n:
                raise ValueError("arrays overlap")
        except _Truncated as error:
            raise UserError(
                f"{path}: is truncated: its header tells of {error.args[0]:,} bytes of arrays, "
                f"{size - 8 - n:,} are there; fetch it again"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{path}: its safetensors header is damaged ({str(error)[:120]}); fetch it again"
            ) from error
        arrays = {}
        for name, (dtype, shape, begin, end) in spans.items():
            file.seek(8 + n + begin)
            arrays[name] = np.frombuffer(file.read(end - begin), dtype).reshape(shape)
    return arrays


class _Truncated(Exception):
    """With the number of bytes that should be there."""


def _span(entry: Mapping[str, Any], n_data: int) -> tuple[np.dtype, list[int], int, int]:
    """Type, shape and place of an array whose header entry holds together."""
    dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
    begin, end = entry["data_offsets"]
    if not all(type(v) is int and v >= 0 for v in (*shape, begin, end)):
        raise ValueError(f"shape {shape} or offsets {begin}, {end} are not numbers")
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f"shape {shape} of {dtype} does not fill {end - begin} bytes")
    if end > n_data:
        raise _Truncated(end)
    return dtype, shape, begin, end


def require_keys(
    path: Path, arrays: Mapping[str, Any], needed: Collection[str], dropped: Collection[str] = ()
) -> None:
    """Refuse a file that lacks an array, or has one that would be ignored.

    Raises:
        UserError: naming it.
    """
    missing = [key for key in needed if key not in arrays]
    if missing:
        found = ", ".join(sorted(map(str, arrays))[:12])
        raise UserError(
            f"{path}: has no {missing[0]!r} (it has {found}); it is of another format, give that "
            "one's name with --format"
        )
    unknown = sorted(set(map(str, arrays)) - {*needed, *dropped})
    if unknown:
        raise UserError(
            f"{path}: has {unknown[0]!r}, which this format does not know and which would be "
            "lost; it is of another format, or of a newer version of this one"
        )


def read_config(path: Path, what: str) -> dict[str, Any]:
    """A JSON object beside the weights.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; {what} needs it beside its weights") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({str(error)[:120]}); fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: damaged (not a JSON object); fetch it again")
    return found


def whole_number(value: Any, path: Path, name: str) -> int:
    """A positive whole number from a file.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{path}: {name} ({value!r:.40}) must be a whole number")
    if not 1 <= value <= MOST_LATENTS:
        raise UserError(f"{path}: {name} is not from 1 to {MOST_LATENTS:,}")
    return value


def real_number(value: Any, path: Path, name: str) -> float:
    """A finite number from a file: a plain one, or an array that holds one.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiuV":
        value = float(value.astype(np.float64).reshape(()))
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        shown = f"shape {list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)[:40]
        raise UserError(f"{path}: {name} ({shown}) must be a finite number")
    return float(value)


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def weights_file(path: Path, name: str) -> Path:
    """``path``, or the file ``name`` in it when it is a folder."""
    return path / name if path.is_dir() else path
