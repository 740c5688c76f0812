"""Make the stores of an extraction, or check that they are already this very one."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, NamedTuple

from extract.claims import MARKER, Claims
from extract.config import ExtractConfig
from extract.errors import UserError, require_free_space
from extract.files import versions
from extract.location import Location
from extract.plm import ProteinLM
from extract.selection import FastaSource, GivenProteins
from extract.store import DTYPES, FORMAT_VERSION, read_manifest
from extract.writer import SPOOL, clear_creation, create_stores, discard_creation

log = logging.getLogger(__name__)

_SIDE_BYTES = 7  # protein_idx, pos and token_id of a row


class Worker(NamedTuple):
    """Which of several processes that fill one store this is."""

    rank: int = 0
    """0 ... world - 1."""
    world: int = 1
    """How many there are."""
    local_rank: int = 0
    """Rank on its machine: which GPU it takes."""


ALONE = Worker()


def prepare(
    config: ExtractConfig,
    model: ProteinLM,
    source: FastaSource | GivenProteins,
    *,
    worker: Worker = ALONE,
) -> None:
    """Make the stores of ``config``, or check that they are this very extraction.

    One process does it while others wait: on a disk whoever comes first, elsewhere rank 0.

    Raises:
        UserError: the disk lacks room, a bad record, or a folder that holds something else (the
            first difference is named, with both values).
    """
    if config.max_residues is not None and config.max_residues > model.max_residues:
        log.warning("--max-residues %d: %s was trained on up to %d residues", config.max_residues,
                    model.name, model.max_residues)  # fmt: skip
    manifests = {p: _manifest(config, model, s) for p, s in zip(config.places(), config.site)}
    for place in manifests:
        refuse_foreign_folder(place)
    missing = [p for p in manifests if not _has_manifest(p)]
    if missing and worker.rank and not missing[0].is_local:
        _wait_for_rank_0(missing)
    with ExitStack() as stack:
        for place in missing:
            if place.is_local:
                place.path.mkdir(parents=True, exist_ok=True)
            claims = Claims(place)
            stack.callback(claims.close)
            stack.enter_context(claims.whole())
        missing = [p for p in missing if not _has_manifest(p)]
        for place, manifest in manifests.items():
            if place not in missing:
                _check_same(place, manifest, source, worker)
        if missing:
            _create({p: manifests[p] for p in missing}, source)


def _manifest(config: ExtractConfig, model: ProteinLM, site: str) -> dict[str, Any]:
    """What is known before the proteins are read."""
    parent = model.describe()
    del parent["lm_head"]  # activations do not depend on it, so it may change before a resumption
    return {
        "format_version": FORMAT_VERSION,
        "parent": parent,
        "site": model.check_site(site),
        "d_model": model.d_model,
        "special_tokens_dropped": True,
        "dtype": config.dtype,
        "shard_rows": config.shard_rows,
        "batch_residues": config.batch_residues,
        "versions": versions("torch", "numpy", "tensorstore"),
    }


def _has_manifest(place: Location) -> bool:
    return place.read("manifest.json") is not None


def refuse_foreign_folder(place: Location) -> None:
    """Raise a :class:`UserError` for a place that holds something that is no store."""
    if place.is_local and place.path.exists() and not place.path.is_dir():
        raise UserError(f"{place}: is a file; give a folder with --out")
    if place.is_local and not place.path.exists():
        return
    if not _has_manifest(place) and place.read(MARKER) is None:
        inside = any(place.path.iterdir()) if place.is_local else place.names()
        if inside:
            raise UserError(f"{place}: is not empty and not a store; give a new --out folder")


def _wait_for_rank_0(places: list[Location]) -> None:
    log.info("%s: waiting for rank 0 to prepare it", places[0])
    while not all(_has_manifest(place) for place in places):
        time.sleep(2)


def _check_same(
    place: Location, manifest: Mapping, source: FastaSource | GivenProteins, worker: Worker
) -> None:
    old = read_manifest(place)
    expected = {k: v for k, v in manifest.items() if k != "versions"}
    for key, value in json.loads(json.dumps(expected)).items():
        _require_equal(place, key, _comparable(key, old.get(key)), _comparable(key, value))
    identity = source.identity(with_hash=worker.rank == 0)
    for key, value in json.loads(json.dumps(identity)).items():
        _require_equal(place, f"source ({key})", old["source"].get(key), value)


def _comparable(key: str, value: Any) -> Any:
    """Without how the weights were come by: a download the first time, the cache the next."""
    if key == "parent" and isinstance(value, dict):
        return value | {"weights": value.get("weights", {}).get("encoder_sha256")}
    return value


def _require_equal(place: Location, what: str, old: Any, new: Any) -> None:
    if old != new:
        raise UserError(
            f"{place}: holds a store with another {what} ({_short(old)}, now {_short(new)}); give "
            "a new --out folder, or remove this one"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."


def _create(manifests: Mapping[Location, dict], source: FastaSource | GivenProteins) -> None:
    places = list(manifests)

    def describe_source() -> dict[str, Any]:
        return asdict(source.report) | source.identity(with_hash=False)

    def check_room(n_rows: int) -> None:
        if places[0].is_local:
            widths = [DTYPES[m["dtype"]].itemsize * m["d_model"] for m in manifests.values()]
            require_free_space(places[0].path, n_rows * sum(w + _SIDE_BYTES for w in widths))

    for place in places:
        place.write(MARKER, b"") if not place.is_local else None
        clear_creation(place)
    if isinstance(source, FastaSource) and places[0].is_local:
        source.spool = places[0].path / SPOOL
    try:
        create_stores(places, list(manifests.values()), source, describe_source, check_room)
    except UserError:
        for place in places:
            discard_creation(place)
        raise
