"""The bundles that one server shows, and what names their content."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from explorer.bundle import Bundle
from explorer.layout import MANIFEST
from explorer.schema import Parts, SAEDetail, SAESummary
from explorer.server.errors import NotFound
from explorer.server.source import Source, safe_id
from extract.errors import UserError

log = logging.getLogger(__name__)

_PLAIN = frozenset(SAESummary.model_fields) - {"id", "has"}


class Library:
    """Bundles by the id that URLs have."""

    def __init__(self, bundles: Sequence[Bundle]) -> None:
        """Bundles of one id are told apart by the start of their hashes."""
        distinct = list({b.hash: b for b in bundles}.values())
        if len(distinct) < len(bundles):
            log.info("%d of the bundles were given twice", len(bundles) - len(distinct))
        count = Counter(safe_id(b.id) for b in distinct)
        self.sources: dict[str, Source] = {}
        for bundle in distinct:
            name = safe_id(bundle.id)
            name = name if count[name] == 1 else f"{name}-{bundle.hash[:8]}"
            self.sources[name] = Source(bundle, name)

    def __iter__(self):
        return iter(self.sources.values())

    def get(self, name: str) -> Source:
        """A bundle.

        Raises:
            NotFound: none of this id is served.
        """
        if name not in self.sources:
            raise NotFound(f"no SAE {name[:60]!r} is served here; the start page lists them")
        return self.sources[name]

    def some(self, name: str | None) -> list[Source]:
        """One bundle, or without a name all."""
        return list(self) if name is None else [self.get(name)]

    @cached_property
    def tag(self) -> str:
        """Names the answers: a digest of the bundles and of the code that answers."""
        digest = hashlib.sha256()
        for source in self:
            digest.update(f"{source.id} {source.bundle.hash}\n".encode())
        package = Path(__file__).parents[1]
        for path in (*sorted((package / "server").glob("*.py")), package / "schema.py"):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:20]


def open_bundles(folders: Sequence[Path], verify: bool = True) -> Library:
    """Open bundles, or folders of bundles.

    Raises:
        UserError: no bundle there, or one that is damaged or of another version.
    """
    found = [bundle for folder in folders for bundle in _bundles_of(folder)]
    if not found:
        raise UserError("no bundle was given; build one with `python -m explorer build`")
    return Library([Bundle.open(folder, verify=verify) for folder in found])


def _bundles_of(folder: Path) -> list[Path]:
    if (folder / MANIFEST).exists() or not folder.is_dir():
        return [folder]
    inside = sorted(p for p in folder.iterdir() if (p / MANIFEST).exists())
    # without any, opening the folder itself says what is wrong with it
    return inside or [folder]


def summary(source: Source) -> SAESummary:
    """The card of a dictionary."""
    return SAESummary(**_facts(source))


def detail(source: Source) -> SAEDetail:
    """The card and where the dictionary is from."""
    manifest = source.bundle.manifest
    provenance = dict(manifest.get("provenance", {}))
    for key in ("created", "versions", "hash"):
        if key in manifest:
            provenance.setdefault(key, manifest[key])
    return SAEDetail(**_facts(source), provenance=provenance)


def _facts(source: Source) -> dict:
    manifest = source.bundle.manifest
    facts = {key: manifest.get(key) for key in _PLAIN}
    return facts | {"id": source.id, "has": Parts(**manifest["has"])}
