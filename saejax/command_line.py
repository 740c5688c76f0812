"""The words of ``python -m saejax.train``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import tyro

from extract.command_line import parse
from saejax.config import GROUPS, TrainConfig
from saejax.presets import explain, preset_values
from saejax.settings import GROUP_TYPES

log = logging.getLogger(__name__)


def train_config(args: Sequence[str]) -> TrainConfig:
    """The run that a command line describes; what its preset sets, and why, is logged.

    Raises:
        UserError: no such preset, or settings that do not fit together.
    """
    preset = last_value(args, "--preset")
    values = preset_values(preset, last_value(args, "--source") or "store")
    default = None if preset is None else _unchecked(values)
    config = parse(TrainConfig, prog="python -m saejax.train", args=args, default=default)
    for line in explain(config):
        log.info("%s", line)
    return config


def last_value(args: Sequence[str], flag: str) -> str | None:
    """What follows a flag, where it is given last; None where it is not."""
    found = None
    for word, after in zip(args, [*args[1:], None]):
        name, equals, value = word.partition("=")
        if name == flag:
            found = value if equals else after
    return found


def _unchecked(values: dict[str, Any]) -> TrainConfig:
    """The defaults with other values laid over them, for tyro to start from.

    No run yet, so it is not checked as one: what is required is still missing.
    """
    config: Any = object.__new__(TrainConfig)
    plain = TrainConfig.__dataclass_fields__
    for name, field in plain.items():
        if name not in GROUPS:
            object.__setattr__(config, name, values.get(name, field.default))
    for name, kind in zip(GROUPS, GROUP_TYPES, strict=True):
        own = {key: values[key] for key in kind.__dataclass_fields__ if key in values}
        object.__setattr__(config, name, kind(**own))
    assert config.out is tyro.MISSING, "the folder of a run has no default"
    return config
