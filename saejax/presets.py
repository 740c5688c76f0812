"""``--preset``: settings that go together, each with the reason for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from extract.errors import UserError

if TYPE_CHECKING:
    from saejax.config import TrainConfig

log = logging.getLogger(__name__)


class Setting(NamedTuple):
    """What a preset sets, and why."""

    value: Any
    """In place of the default."""
    why: str
    """For the person who trains."""


class Preset(NamedTuple):
    """Defaults for a purpose."""

    purpose: str
    """In a few words."""
    d_model: int
    """Dimensions of the parent it is meant for."""
    settings: Mapping[str, Setting]
    """By their names, without groups."""
    stream: Mapping[str, Setting] = {}
    """More of them, for ``--source stream``."""


PRESETS: dict[str, Preset] = {
    "demo": Preset(
        "what `make demo` trains: ESM2-8M block 4, the bundled UniProt proteins",
        320,
        {
            "d_sae": Setting(2048, "6.4 latents per dimension"),
            "k": Setting(40, "held-out FVU 0.168 with these four; the best of k = 32 was 0.177"),
            "epochs": Setting(3, "more passes only overfit 1.7 M residues"),
            "learning_rate": Setting(1.5e-3, "2.7 times the scaling rule's, for so short a run"),
        },
    ),
    "laptop": Preset(
        "ESM2-8M on 2 to 8 cores, a few minutes for each million residues",
        320,
        {
            "d_sae": Setting(2048, "6.4 latents per dimension; the time grows with it"),
            "k": Setting(32, "a tenth of the dimensions"),
            "batch_size_tokens": Setting(
                1024, "twice the default's steps from the same few residues"
            ),
            "epochs": Setting(3, "more only overfit one or two million residues"),
            "learning_rate": Setting(1e-3, "1.8 times the scaling rule's, for so short a run"),
            "log_every_steps": Setting(20, "something to look at within a minute"),
            "checkpoint_every_steps": Setting(500, "an interruption costs a minute at most"),
        },
    ),
    "esm2-650m": Preset(
        "ESM2-650M on one GPU or more, tens of millions of residues",
        1280,
        {
            "d_sae": Setting(
                16384, "12.8 latents per dimension, as ESMC's SAEs; InterProt's have 4,096"
            ),
            "k": Setting(64, "as InterProt's and ESMC's SAEs"),
            "batch_size_tokens": Setting(4096, "larger products suit a GPU"),
            "epochs": Setting(1, "at tens of millions of residues fresh ones beat repeated ones"),
            "encode_dtype": Setting(
                "bfloat16", "the largest product on a GPU's fast units, summed in float32"
            ),
            "eval_every_steps": Setting(2000, "the held-out curve of a run of hours"),
        },
        {
            "model": Setting("esm2_t33_650M_UR50D", "the preset's parent"),
            "site": Setting("block24", "the layer of which InterProt publishes two SAEs"),
            "compute": Setting("bfloat16", "faster, and less exact: docs/benchmarks.md"),
            "batch_residues": Setting(16384, "a GPU wants more than a CPU's cache does"),
        },
    ),
}


def preset_settings(name: str | None, source: str = "store") -> dict[str, Setting]:
    """What a preset sets; nothing without one.

    Args:
        name: of the preset.
        source: ``"store"`` or ``"stream"``.

    Raises:
        UserError: no such preset.
    """
    if name is None:
        return {}
    if name not in PRESETS:
        raise UserError(f"--preset {name}: there is none; there are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    return {**preset.settings, **(preset.stream if source == "stream" else {})}


def preset_values(name: str | None, source: str = "store") -> dict[str, Any]:
    """:func:`preset_settings` without the reasons."""
    return {key: setting.value for key, setting in preset_settings(name, source).items()}


def explain(config: TrainConfig) -> list[str]:
    """One line for the preset, and one for each of its settings: the value and why, or yours."""
    if config.preset is None:
        return []
    now = config.settings()
    lines = [f"preset {config.preset}: {PRESETS[config.preset].purpose}"]
    for name, (value, why) in preset_settings(config.preset, config.source).items():
        words = f"{now[name]}: yours, instead of {value}" if now[name] != value else (
            f"{value}: {why}"
        )  # fmt: skip
        lines.append(f"  --{name.replace('_', '-')} {words}")
    return lines
