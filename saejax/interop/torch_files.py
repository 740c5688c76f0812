"""``.pt`` files: the one module of saejax, but for streams, that loads torch, and only when used.

Read with ``weights_only``: tensors and plain values alone. Nothing else is unpickled.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch

from extract.errors import UserError
from extract.files import write_atomically

MOST_DEPTH = 8
"""Of dictionaries in dictionaries."""


def read_pt(path: Path) -> dict[str, Any]:
    """What a ``.pt`` file holds: tensors become arrays, plain values stay.

    Raises:
        UserError: damaged, truncated, with code in it, or no dictionary.
    """
    _refuse_packed(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old forms of files
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds pickled code or damaged data, and nothing of it was run "
            f"({_reason(error)}); ask its authors for a state dict or safetensors"
        ) from error
    except MemoryError as error:
        raise UserError(f"{path}: asks for more memory than there is; it is damaged or hostile, or "
                        "this machine is too small for it") from error  # fmt: skip
    except Exception as error:  # a damaged file can end in any of a dozen kinds
        raise UserError(
            f"{path}: is truncated or damaged ({type(error).__name__}: {_reason(error)}); fetch it "
            "again"
        ) from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: holds a {type(loaded).__name__}, not named tensors")
    return _plain(loaded, path, "", 0)


def _refuse_packed(path: Path) -> None:
    """Refuse a compressed file, which torch never writes and which could unpack to any size."""
    try:
        with zipfile.ZipFile(path) as file:
            packed = [e.filename for e in file.infolist() if e.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # an older form without zip, or damaged: torch.load tells
    if packed:
        raise UserError(f"{path}: {packed[0]} in it is compressed, as torch never does; it was not "
                        "read")  # fmt: skip


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "rror" in line]
    return " ".join((lines or str(error).splitlines() or [type(error).__name__])[0].split())[:160]


def _plain(value: Any, path: Path, name: str, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise UserError(f"{path}: {name} is nested too deeply; it is no weights file")
    if isinstance(value, Mapping):
        return {str(k): _plain(v, path, f"{name}.{k}".strip("."), depth + 1)
                for k, v in value.items()}  # fmt: skip
    if isinstance(value, list | tuple):
        return [_plain(v, path, name, depth + 1) for v in value]
    return _array(value.detach(), path, name) if isinstance(value, torch.Tensor) else value


def _array(tensor: torch.Tensor, path: Path, name: str) -> np.ndarray:
    """A tensor as an array; one that is larger than what is stored of it is refused."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UserError(f"{path}: {name} is {tensor.layout}, not a dense tensor")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(
            f"{path}: {name} claims the shape {tuple(tensor.shape)}, more than the file has of it; "
            "it is damaged or hostile"
        )
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    try:
        return tensor.contiguous().numpy()
    except (TypeError, RuntimeError) as error:
        raise UserError(f"{path}: {name} holds {tensor.dtype}, which can't be read") from error


def write_pt(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a state dict, whole or not at all."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    write_atomically(path, lambda file: torch.save(tensors, file))
