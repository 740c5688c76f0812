"""Where an SAE's files are: on this machine, or on the Hugging Face Hub (``hf://``)."""

from __future__ import annotations

import re
from pathlib import Path

from extract.errors import UserError

PREFIX = "hf://"
WITH_CONFIG = ("config.json", "cfg.json")
"""Beside the weights of some formats."""


def local_path(source: str) -> Path:
    """The local file or folder of a source, downloaded if it is on the Hub.

    Args:
        source: a path, or ``hf://owner/name[@revision][/path/in/it]``.

    Raises:
        UserError: not such an address, ``huggingface_hub`` is missing, or nothing is there.
    """
    if not source.startswith(PREFIX):
        return Path(source)
    parts = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/(.+))?", source[len(PREFIX) :])
    if parts is None:
        raise UserError(f"{source}: give hf://owner/name, then @revision and /path if need be")
    try:
        from huggingface_hub import snapshot_download  # type: ignore[import-not-found]
        from huggingface_hub.errors import HfHubHTTPError  # type: ignore[import-not-found]
    except ImportError:
        raise UserError(
            f"{source}: reading from the Hub needs huggingface_hub (pip install huggingface_hub); "
            "or download it by other means and give the path"
        ) from None
    repository, revision, inner = parts[1], parts[2], (parts[3] or "").strip("/")
    patterns = None
    if inner:
        beside = [str(Path(inner).parent / name).removeprefix("./") for name in WITH_CONFIG]
        patterns = [inner, f"{inner}/*", *beside]
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(f"{source}: can't be downloaded ({reason}); check the name, or the "
                        "network") from error  # fmt: skip
    if not (folder / inner).exists():
        raise UserError(f"{source}: {repository} has no {inner}; check the path in it")
    return folder / inner
