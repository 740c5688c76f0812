from pathlib import Path

import pytest

from tests.explorer.tiny_bundle import Tiny, write_tiny


@pytest.fixture(scope="session")
def tiny_bundles(tmp_path_factory) -> tuple[Tiny, Tiny]:
    """Two dictionaries of the same proteins, in one folder."""
    folder = tmp_path_factory.mktemp("bundles")
    return write_tiny(folder / "a", "tiny"), write_tiny(folder / "b", "other", seed=1)


@pytest.fixture(scope="session")
def bundle_folder(tiny_bundles) -> Path:
    return tiny_bundles[0].folder.parent
