"""What kind each latent is and its logo: from the probes, or found now by the same rules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from tqdm import tqdm

from explorer import layout
from explorer.build.arrays import write_array
from explorer.build.inputs import BuildInputs
from explorer.build.workshop import Workshop
from extract.alphabet import AMINO_ACIDS
from probes.data.firing import block_bounds
from probes.data.frames import where
from probes.kinds.logos import MIN_SITES, Logos
from probes.kinds.rules import KINDS
from probes.kinds.statistics import latent_kinds
from saejax.latent_store import LatentStore

PART_ENTRIES = 20_000_000
"""Entries whose latents are looked at together, some 300 MB beside them."""
PART_LATENTS = 4096


def write_kinds(shop: Workshop, inputs: BuildInputs, latents: LatentStore) -> pd.DataFrame:
    """The table of kinds, a row for each latent; logos go to the bundle.

    Columns are those of :func:`probes.kinds.statistics.latent_kinds`, and with probes those of
    ``latents.csv``, too.
    """
    if inputs.probes is None:
        return _found_now(shop, inputs, latents)
    table = inputs.probes.logos
    if table is not None:
        frequencies, bits = logo_arrays(table, latents.d_sae)
        write_array(shop.folder, "logos/frequencies", frequencies)
        write_array(shop.folder, "logos/bits", bits)
    return inputs.probes.latents


def _found_now(shop: Workshop, inputs: BuildInputs, latents: LatentStore) -> pd.DataFrame:
    structures = inputs.cb_coordinates()
    bounds = list(block_bounds(latents.indptr, max_entries=PART_ENTRIES, max_latents=PART_LATENTS))
    tables, frequencies, bits = [], [], []
    with tqdm(total=latents.d_sae, desc="kinds", unit="latent", disable=None) as bar:
        for first, stop in bounds:
            name = f"kinds/{first:09d}"
            if not shop.has(f"{name}.parquet"):
                found = latent_kinds(latents.columns(first, stop), inputs.rows, structures)
                shop.save(f"{name}.npz", _arrays_of(found.logos))
                shop.save_table(f"{name}.parquet", found.table)
            tables.append(shop.load_table(f"{name}.parquet"))
            logos = shop.load(f"{name}.npz")
            frequencies.append(logos["frequencies"])
            bits.append(logos["bits"])
            bar.update(stop - first)
    write_array(shop.folder, "logos/frequencies", np.concatenate(frequencies))
    write_array(shop.folder, "logos/bits", np.concatenate(bits))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(latent=np.arange(len(table)))


def _arrays_of(logos: Logos) -> Mapping[str, np.ndarray]:
    known = logos.n_effective >= MIN_SITES
    frequencies = np.where(known[..., None], logos.frequencies, np.nan).astype(np.float16)
    bits = np.where(known, logos.bits, 0).astype(np.float16)
    return {"frequencies": frequencies, "bits": bits}


def logo_arrays(table: pd.DataFrame, d_sae: int) -> tuple[np.ndarray, np.ndarray]:
    """(``logos/frequencies``, ``logos/bits``) of a table of logos; NaN and 0 of too few sites."""
    inside = table["position"].abs() <= layout.LOGO_FLANK
    known = where(table, inside & (table["n_effective"] >= MIN_SITES))
    at = known["latent"].to_numpy(), known["position"].to_numpy() + layout.LOGO_FLANK
    frequencies = np.full((d_sae, layout.LOGO_WIDTH, 20), np.nan, np.float16)
    bits = np.zeros((d_sae, layout.LOGO_WIDTH), np.float16)
    frequencies[at] = known[list(AMINO_ACIDS)].to_numpy(np.float16)
    bits[at] = known["bits"].to_numpy(np.float16)
    return frequencies, bits


def flags_of(table: pd.DataFrame) -> list[str]:
    """Kinds other than a latent's own whose rule holds, separated by ", "."""
    names = {kind: "is_" + kind.replace("-", "_").replace(" ", "_") for kind in KINDS[:-1]}
    holds = {kind: table[column].to_numpy(bool) for kind, column in names.items()}
    own = table["kind"].tolist()
    return [
        ", ".join(kind for kind in holds if holds[kind][j] and kind != own[j])
        for j in range(len(table))
    ]
