"""Whether the parts of a bundle fit each other and its manifest."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from explorer import layout
from extract.errors import UserError

if TYPE_CHECKING:
    from explorer.bundle import Bundle

REMEDY = "build it again, or fetch it again"


def check_arrays(bundle: Bundle) -> None:
    """Every array has the shape that the manifest and the pointers give it.

    Raises:
        UserError: naming the file and both shapes.
    """
    for name, shape in _shapes(bundle).items():
        array = bundle.get(name)
        if array is None:
            continue
        fits = len(array.shape) == len(shape) and all(
            want is None or have == want for have, want in zip(array.shape, shape)
        )
        if not fits:
            want = " × ".join("any" if n is None else f"{n:,}" for n in shape)
            have = " × ".join(f"{n:,}" for n in array.shape)
            path = layout.array_path(bundle.folder, name)
            raise UserError(f"{path}: its shape is {have}, {want} was expected; {REMEDY}")


def _shapes(bundle: Bundle) -> dict[str, tuple[int | None, ...]]:
    """Shape of every array; None where any number will do."""
    b, groups = bundle, len(layout.GROUPS)
    pairs, entries = _end(b, "by_latent/indptr"), _end(b, "tracks/indptr")
    by_protein = b["by_protein/indptr"]
    whole = len(by_protein) == b.n_proteins + 1
    tracked = int(by_protein[b.n_tracked]) + 1 if whole else None
    width, bins = layout.LOGO_WIDTH, layout.HISTOGRAM_BINS
    shapes: dict[str, tuple[int | None, ...]] = {
        "sequences": (b.n_residues,),
        "by_latent/indptr": (b.d_sae + 1,),
        "by_protein/indptr": (b.n_proteins + 1,),
        **{f"by_latent/{name}": (pairs,) for name in ("protein", "max", "argmax")},
        **{f"by_protein/{name}": (pairs,) for name in ("latent", "max", "argmax")},
        "tracks/indptr": (tracked,),
        **{f"tracks/{name}": (entries,) for name in ("position", "value")},
        "examples/total": (b.d_sae, groups),
        **_example_shapes(b, "examples", b.d_sae * groups),
        "histogram/counts": (b.d_sae, bins),
        "histogram/edges": (b.d_sae, bins + 1),
        "histogram/quantiles": (b.d_sae, 11),
        "logos/frequencies": (b.d_sae, width, 20),
        "logos/bits": (b.d_sae, width),
        "logit_effect": (b.d_sae, 20),
        "structures": (None, 4, 3),
        "defined": (None, -(-b.n_proteins // 8)),
    }
    if "neurons/indptr" in b:
        shapes |= _example_shapes(b, "neurons", b.d_model)
    return shapes


def _example_shapes(bundle: Bundle, folder: str, lists: int) -> dict[str, tuple[int | None, ...]]:
    examples, entries = _end(bundle, f"{folder}/indptr"), _end(bundle, f"{folder}/entries")
    return {
        f"{folder}/indptr": (lists + 1,),
        f"{folder}/protein": (examples,),
        f"{folder}/entries": (None if examples is None else examples + 1,),
        f"{folder}/position": (entries,),
        f"{folder}/value": (entries,),
    }


def _end(bundle: Bundle, name: str) -> int | None:
    """The last pointer of an array, which says how long the others are."""
    array = bundle.get(name)
    return int(array[-1]) if array is not None and array.ndim == 1 and len(array) else None


def check_tables(bundle: Bundle) -> None:
    """The table of latents has the columns and rows, the index the tables, that they should."""
    path = bundle.folder / "latents.parquet"
    try:
        parquet = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: can't be read ({str(error)[:200]}); {REMEDY}") from error
    with parquet:
        n_rows = parquet.metadata.num_rows
        columns = {field.name: field.type for field in parquet.schema_arrow}
    wanted = {name: _ARROW[kind] for name, kind in layout.LATENT_COLUMNS.items()}
    wrong = [name for name, kind in wanted.items() if columns.get(name) != kind]
    if wrong:
        raise UserError(
            f"{path}: column {wrong[0]!r} is {columns.get(wrong[0], 'missing')}, "
            f"{wanted[wrong[0]]} was expected; {REMEDY}"
        )
    if n_rows != bundle.d_sae:
        raise UserError(f"{path}: {n_rows:,} rows for {bundle.d_sae:,} latents; {REMEDY}")
    _check_index(bundle)


def _check_index(bundle: Bundle) -> None:
    path = bundle.folder / "index.sqlite"
    try:
        proteins, concepts = (
            bundle.rows(f"SELECT COUNT(*) FROM {table}")[0][0] for table in ("proteins", "concepts")
        )
        for table in ("spans", "scores", "associations", "neighbours", "latent_search",
                      "concept_search", "protein_search"):  # fmt: skip
            bundle.rows(f"SELECT * FROM {table} LIMIT 1")
    except sqlite3.Error as error:
        raise UserError(f"{path}: can't be read ({error}); {REMEDY}") from error
    defined = bundle.get("defined")
    for what, found, wanted in (
        ("proteins", proteins, bundle.n_proteins),
        ("concepts", concepts, 0 if defined is None else len(defined)),
    ):
        if found != wanted:
            raise UserError(f"{path}: {found:,} {what}, {wanted:,} were expected; {REMEDY}")


_ARROW = {
    "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(), "float64": pa.float64(),
    "string": pa.string(), "bool": pa.bool_(),
}  # fmt: skip
