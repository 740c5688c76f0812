"""``python -m probes report``: what a probing run found, as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from extract.files import read_json, write_atomically
from extract.pages import page_templates
from probes.data.frames import records, where
from probes.protocols.found import FAMILIES, family_of
from probes.report.logo_svg import letter_shapes, logo_svg
from probes.report.plots import (
    calibration_curves,
    coverage_bars,
    f1_scatter,
    found_bars,
    kind_bars,
    precision_scatter,
)
from probes.report.reach import FEW_CLUSTERS, one_large_cluster, reach
from probes.report.tables import FAMILY_WORDS, SUMMARY

PAGE = "report.html"
SHOWN_LATENTS, SHOWN_SKIPPED = 100, 30
SHOWN_LOGOS, LOGOS_OF_A_CONCEPT = 60, 6
"""Confirmed latents with a logo: 5 kB of the page for each."""
LOGOS = "logos.parquet"
TABLES = ("found", "probes", "latents", "coverage", "calibration", "precise_latents",
          "sparse_probes", "split")  # fmt: skip

KIND_WORDS = {
    "dead": "never active",
    "rare": "fires in fewer than 10 proteins",
    "n-terminal": "mostly in the first 30 residues",
    "c-terminal": "mostly in the last 30 residues",
    "whole-protein": "on 80 % or more of a protein where it fires",
    "domain-like": "in stretches of 20 residues or more",
    "periodic": "again and again at a fixed distance of 2 to 8 residues",
    "motif-like": "where the residues beside it are conserved",
    "amino-acid identity": "on one amino acid",
    "contact-like": "on residues that touch in the structure",
    "amino-acid class": "on one class of amino acids",
    "dense": "active on more than a tenth of all residues",
    "other": "none of these",
}
"""What each kind of latent does, in a line; the first that holds is its kind."""
SOURCES = {"amino acid": "amino acid", "amino-acid class": "class of amino acids",
           "dssp": "secondary structure (DSSP)", "uniprot": "UniProtKB feature",
           "own": "your label", "protein": "of the whole protein"}  # fmt: skip
"""What kinds of concepts are called on the page."""


@dataclass(frozen=True)
class PageConfig:
    """Make the page of a folder of probes again."""

    folder: Annotated[Path, tyro.conf.Positional]
    """What ``python -m probes`` wrote."""


def write_page(folder: Path) -> Path:
    """Write ``report.html`` from the tables of a folder.

    Raises:
        UserError: the folder holds no finished probes, or a table is missing.
    """
    summary = read_json(folder / SUMMARY, "a folder of probes")
    tables = {name: _read(folder / f"{name}.csv") for name in TABLES}
    environment = page_templates(Path(__file__).parent)
    environment.filters["number"] = _number
    environment.filters["q"] = _q
    environment.filters["sentence"] = lambda words: words[:1].upper() + words[1:]
    html = environment.get_template("page.html").render(_content(summary, tables, folder / LOGOS))
    write_atomically(folder / PAGE, lambda f: f.write(html.encode()))
    return folder / PAGE


def _content(
    summary: dict[str, Any], tables: dict[str, pd.DataFrame], logos: Path
) -> dict[str, Any]:
    probes, latents, coverage = tables["probes"], tables["latents"], tables["coverage"]
    named = latents.dropna(subset="concept") if "concept" in latents else latents.iloc[:0]
    named = named.assign(enriched=named["enriched"].fillna("") if "enriched" in named else "")
    plots = [("found", found_bars(tables["found"])), ("kinds", kind_bars(latents))]
    if "neuron_f1" in probes:
        plots.append(("f1", f1_scatter(probes)))
    if len(named):
        plots.append(("precision", precision_scatter(latents)))
        order = named.assign(confirmed=named["confirmed"].astype(bool))
        named = order.sort_values(["confirmed", "precision_low"], ascending=False)
    if len(coverage):
        plots.append(("coverage", coverage_bars(coverage)))
    plots.append(("calibration", calibration_curves(tables["calibration"])))
    family = probes["kind"].map(family_of)
    letters = family == "letters"
    probes = probes.iloc[np.argsort(family.map(FAMILIES.index).to_numpy(), kind="stable")]
    letters = letters.loc[probes.index]
    found = tables["found"]
    confirmed = [row for row in records(named) if row["confirmed"]]
    sparse = tables["sparse_probes"]
    return {
        "summary": summary,
        "plots": dict(plots),
        "letters": records(where(probes, letters)),
        "concepts": records(where(probes, ~letters)),
        "named": records(named.head(SHOWN_LATENTS)),
        "n_named": len(named),
        "pooling": next(iter(_pooling(probes)), None),
        "cards": _cards(named, logos),
        "letter_shapes": letter_shapes(),
        "n_confirmed": len(confirmed),
        "n_often": sum(row["precision"] > 0.5 for row in confirmed),
        "found": records(where(found, found["protocol"].str.startswith("frozen"))),
        "families": FAMILY_WORDS,
        "kinds": {k: KIND_WORDS[k] for k in KIND_WORDS if k in set(latents["kind"])},
        "sources": SOURCES,
        "reach": [*one_large_cluster(tables["split"]), *reach(probes)],
        "few_clusters": FEW_CLUSTERS,
        "n_latents": len(latents),
        "coverage": records(coverage),
        "sparse": records(sparse),
        "skipped": summary["skipped_concepts"][:SHOWN_SKIPPED],
    }


def _pooling(probes: pd.DataFrame) -> list[str]:
    """How latents were pooled for concepts of proteins, if there are any."""
    column = probes.get("latent_pooling")
    return [] if column is None else [how for how in column.dropna().unique() if how]


def _cards(named: pd.DataFrame, logos: Path) -> list[dict[str, Any]]:
    """Confirmed latents by concept, with their logos: of every concept the first few in turn.

    Args:
        named: latents with an annotation, best first.
        logos: their table; cards of a folder that has none say so.
    """
    confirmed = where(named, named["confirmed"].astype(bool)) if len(named) else named
    if confirmed.empty:
        return []
    turn = confirmed.groupby("concept").cumcount()
    order = np.argsort(turn.to_numpy(), kind="stable")
    order = order[turn.to_numpy()[order] < LOGOS_OF_A_CONCEPT][:SHOWN_LOGOS]
    drawn = _logos(logos, confirmed["latent"].iloc[order].tolist())
    cards: dict[str, dict[str, Any]] = {}
    for row in records(confirmed.iloc[order]):
        card = cards.setdefault(row["concept"], {
            "concept": row["concept"], "latents": [],
            "n_confirmed": int((confirmed["concept"] == row["concept"]).sum()),
        })  # fmt: skip
        card["latents"].append(row | {"logo": drawn.get(row["latent"])})
    return list(cards.values())


def _logos(path: Path, latents: list[int]) -> dict[int, str]:
    """SVG of some latents; none where there is no table."""
    if not path.is_file():
        return {}
    table = pd.read_parquet(path, filters=[("latent", "in", latents)])
    return {
        latent: logo_svg(
            rows[list(AMINO_ACIDS)].to_numpy(), rows["bits"].to_numpy(),
            f"Residues around the firing of latent {latent}",
        )
        for latent, rows in ((int(str(key)), rows) for key, rows in table.groupby("latent"))
    }  # fmt: skip


def _read(path: Path) -> pd.DataFrame:
    """A table, which may be empty."""
    if not path.is_file():
        raise UserError(f"{path}: is missing; run python -m probes again")
    return pd.read_csv(path) if path.stat().st_size > 2 else pd.DataFrame()


def _number(value: Any, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def _q(value: Any) -> str:
    """A false discovery rate: three digits, or that it is below."""
    if value is None or pd.isna(value):
        return "–"
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"
