"""A parent of the user's own, given as ``package.module:function``."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import UserError
from extract.plm import ProteinLM, WeightsInfo

log = logging.getLogger(__name__)

ATTRIBUTES = (
    "d_model", "n_blocks", "token_dropout", "max_residues", "mask_token", "amino_acid_tokens",
    "weights",
)  # fmt: skip
"""What a :class:`ProteinLM` must have besides its methods; ``name`` is set by the loading."""


def check_loader_name(name: str) -> str:
    """Return ``name`` if it reads ``package.module:function`` and its first part can be imported.

    Raises:
        UserError: another form, or no such package; nothing is imported.
    """
    identifier = r"[^\W\d]\w*"
    if not re.fullmatch(rf"{identifier}(\.{identifier})*:{identifier}", name):
        raise UserError(
            f"unknown model {name!r}: a loader of your own is written package.module:function"
        )
    package = re.split(r"[.:]", name)[0]
    try:
        found = importlib.util.find_spec(package) is not None
    except ValueError:  # a running script has no spec
        found = False
    if not found:
        raise UserError(
            f"unknown model {name!r}: there is no module {package!r} in this folder or among the "
            "installed packages; run where it lies, put its folder on PYTHONPATH, or install it"
        )
    return name


def load_custom(
    name: str, *, weights: str | Path | None, token_dropout: bool, device: str | None
) -> ProteinLM:
    """Import ``package.module``, call ``function`` with the keywords, check what it returns.

    The parent is renamed to ``name``, so that a run records how to load it again.

    Raises:
        UserError: whatever went wrong, in one line, with the file and line of the user's code.
    """
    check_loader_name(name)
    module_name, function_name = name.split(":")
    log.info("parent model: calling %s of %s", function_name, module_name)
    module = _in_one_line(name, "importing it", lambda: importlib.import_module(module_name))
    function = getattr(module, function_name, None)
    if not callable(function):
        what = "is not a function" if hasattr(module, function_name) else "is not there"
        raise UserError(f"{name}: {function_name!r} {what} in {module_name}; check --model")
    model = _in_one_line(
        name,
        "calling it",
        lambda: function(weights=weights, token_dropout=token_dropout, device=device),
    )
    return _checked(name, model)


def _in_one_line(name: str, doing: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = " ".join(str(error).split())
        raise UserError(
            f"{name}: {doing} raised {type(error).__name__}: {words} "
            f"({Path(place.filename).name}, line {place.lineno})"
        ) from error


def _checked(name: str, model: Any) -> ProteinLM:
    """The loaded parent under its new name, or a :class:`UserError` about the first thing wrong."""
    remedy = "see docs/parents.md"
    if not isinstance(model, ProteinLM):
        raise UserError(
            f"{name}: returned {type(model).__name__}, not a ProteinLM of extract.plm; {remedy}"
        )
    missing = [attribute for attribute in ATTRIBUTES if not hasattr(model, attribute)]
    if missing:
        raise UserError(f"{name}: the ProteinLM it returned lacks {', '.join(missing)}; {remedy}")
    columns = np.asarray(model.amino_acid_tokens)
    if columns.shape != (20,) or columns.dtype.kind not in "iu":
        raise UserError(
            f"{name}: amino_acid_tokens must be 20 integers, the logit columns of the amino acids; "
            f"found {columns.dtype} {list(columns.shape)}; {remedy}"
        )
    if not isinstance(model.weights, WeightsInfo) or not model.weights.encoder_sha256:
        raise UserError(
            f"{name}: weights must be a WeightsInfo with encoder_sha256, by which stores and SAEs "
            f"know their parent; {remedy}"
        )
    if not model.sites:
        raise UserError(f"{name}: the ProteinLM it returned has no sites; {remedy}")
    model.name = name
    _in_one_line(name, "recording it as JSON", lambda: json.dumps(model.describe()))
    return model
