"""The bundle's arrays, put together from the parts of the two passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from explorer import layout
from explorer.build.arrays import pointers, write_array, write_pieces
from explorer.build.workshop import Workshop


def assemble_proteins(shop: Workshop, names: Sequence[str]) -> None:
    """``by_protein/`` and ``tracks/``."""
    counts = np.concatenate([part["pairs"] for part in _parts(shop, names)])
    write_array(shop.folder, "by_protein/indptr", pointers(counts))
    for name in ("latent", "max", "argmax"):
        _join(shop, names, f"by_protein/{name}", name)
    _join_pointers(shop, names, "tracks/indptr", "entries")
    for name in ("position", "value"):
        _join(shop, names, f"tracks/{name}", name)


def assemble_latents(shop: Workshop, names: Sequence[str]) -> dict[str, np.ndarray]:
    """``by_latent/``, ``examples/``, ``histogram/``; gives latents' ``n_proteins`` and ``p99``."""
    parts = [
        {key: part[key] for key in ("pairs", "p99", "examples")} for part in _parts(shop, names)
    ]
    pairs, p99, examples = (np.concatenate([p[k] for p in parts]) for k in parts[0])
    write_array(shop.folder, "by_latent/indptr", pointers(pairs))
    write_array(shop.folder, "examples/indptr", pointers(examples.ravel()))
    for name in ("protein", "max", "argmax"):
        _join(shop, names, f"by_latent/{name}", name)
    for name in ("protein", "position", "value"):
        _join(shop, names, f"examples/{name}", f"example_{name}")
    _join_pointers(shop, names, "examples/entries", "example_entries")
    _join(shop, names, "examples/total", "total")
    for name in ("counts", "edges", "quantiles"):
        _join(shop, names, f"histogram/{name}", name)
    return {"n_proteins": pairs, "p99": p99}


def assemble_neurons(shop: Workshop, name: str) -> None:
    """``neurons/``."""
    part = shop.load(name)
    write_array(shop.folder, "neurons/indptr", pointers(part["counts"]))
    write_array(shop.folder, "neurons/entries", pointers(part["entries"]))
    for key in ("protein", "position", "value"):
        write_array(shop.folder, f"neurons/{key}", part[key])


def _parts(shop: Workshop, names: Sequence[str]) -> Iterator[Mapping[str, np.ndarray]]:
    for name in names:
        yield shop.load(name)


def _join(shop: Workshop, names: Sequence[str], array: str, key: str) -> None:
    """One array from a piece of each part."""
    first = shop.load(names[0])[key].shape[1:]
    n = sum(len(part[key]) for part in _parts(shop, names))
    dtype = layout.ARRAYS[array]
    bar = tqdm(_parts(shop, names), total=len(names), desc=array, unit="part", disable=None)
    pieces = (part[key].astype(dtype, copy=False) for part in bar)
    write_pieces(shop.folder, array, (n, *first), pieces)


def _join_pointers(shop: Workshop, names: Sequence[str], array: str, key: str) -> None:
    """Pointers from the counts in each part."""

    def pieces() -> Iterator[np.ndarray]:
        end = 0
        yield np.zeros(1, np.int64)
        for part in _parts(shop, names):
            ends = end + np.cumsum(part[key], dtype=np.int64)
            end = int(ends[-1]) if len(ends) else end
            yield ends

    n = sum(len(part[key]) for part in _parts(shop, names))
    write_pieces(shop.folder, array, (n + 1,), pieces())
