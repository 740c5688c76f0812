from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from extract.files import plain_settings


@dataclass
class Config:
    out: Path
    weights: Path | None
    probes: tuple[Path, ...]
    sites: tuple[tuple[str, int], ...]
    seed: int


def test_settings_are_json_values() -> None:
    config = Config(Path("a/b"), None, (Path("x"), Path("y")), (("block1", 2),), 3)
    found = plain_settings(config)
    assert found == {"out": "a/b", "weights": None, "probes": ["x", "y"],
                     "sites": [["block1", 2]], "seed": 3}  # fmt: skip
    assert json.loads(json.dumps(found)) == found
