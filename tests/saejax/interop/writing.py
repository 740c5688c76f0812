"""Files of formats, for tests."""

import json
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import save_file

from saejax.interop import Given


class Case(NamedTuple):
    """A file of a format, and what the format's definition makes of activations."""

    format_name: str
    path: Any
    x: np.ndarray
    latents: np.ndarray
    """``[rows, d_sae]``, 0 where silent."""
    x_hat: np.ndarray
    given: Given = Given()
    facts: tuple = (None, None, None)
    """Model, site, token dropout that file and format tell."""


def write_pt(path, values):
    """A state dict, arrays as tensors."""

    def tensors(value):
        if isinstance(value, dict):
            return {k: tensors(v) for k, v in value.items()}
        return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(values), path)


def write_safetensors(path, arrays, config=None, config_name="config.json"):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)
    if config is not None:
        (path.parent / config_name).write_text(json.dumps(config))
