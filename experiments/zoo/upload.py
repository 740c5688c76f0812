"""What is packed, to the Hugging Face Hub (huggingface_hub is not a dependency)."""

from __future__ import annotations

import importlib

from experiments.zoo.config import ZooConfig
from extract.errors import UserError


def upload(config: ZooConfig) -> None:
    """Send every packed SAE of the grid into a folder of the repository, or list them.

    Raises:
        UserError: nothing is packed, huggingface_hub is missing, or the Hub refuses.
    """
    folders = [config.packed(m) for m in config.members() if config.packed(m).exists()]
    if not folders:
        raise UserError(f"{config.out / 'packed'}: has no SAE of this grid; leave --upload away")
    for folder in folders:
        for path in sorted(folder.iterdir()):
            size = path.stat().st_size
            print(f"{folder.name}/{path.name} → {config.upload}, {size:,} bytes")
    if config.dry_run:
        return
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise UserError(
            "--upload: needs huggingface_hub (pip install huggingface_hub), or --dry-run"
        ) from None
    try:
        hub.create_repo(config.upload, exist_ok=True)
        for folder in folders:
            hub.upload_folder(
                repo_id=config.upload, folder_path=str(folder), path_in_repo=folder.name
            )
    except Exception as error:  # of the Hub's and its transports' many kinds
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(
            f"--upload {config.upload}: {reason}; check name, login, network"
        ) from error
