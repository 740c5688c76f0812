"""The tables of ``python -m probes``, as a bundle needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from extract.errors import UserError
from extract.files import file_sha256, read_json
from extract.store import ActivationStore
from probes.data.frames import where
from probes.data.rows import ProteinRows
from saejax.checkpoint import LoadedSAE

_NEEDED = ("probes.parquet", "associations.parquet", "latents.parquet", "split.csv")
_ALSO = ("logos.parquet",)
REMEDY = "run `python -m probes` again"


@dataclass(frozen=True)
class ProbeTables:
    """A finished folder of probes."""

    folder: Path
    """Where."""
    summary: Mapping[str, Any]
    """``summary.json``."""

    @classmethod
    def open(cls, folder: Path) -> ProbeTables:
        """Open a folder of probes.

        Raises:
            UserError: none there, unfinished, or a table is missing.
        """
        summary = read_json(folder / "summary.json", "a folder of probes")
        for name in _NEEDED:
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: the probes lack this table; {REMEDY}")
        return cls(folder, summary)

    def require_fit(
        self, loaded: LoadedSAE, stores: Sequence[ActivationStore], rows: ProteinRows
    ) -> None:
        """Refuse probes of another SAE, or of other activations.

        Raises:
            UserError: the first difference, with both values.
        """
        if self.summary.get("sae") != json.loads(json.dumps(asdict(loaded.config))):
            raise UserError(f"{self.folder}: holds probes of another SAE than {loaded.folder}")
        theirs = [
            (s["source"]["sha256"], s["site"], s["n_rows"], s["parent"]["weights"])
            for s in self.summary["stores"]
        ]
        ours = [
            (m["source"]["sha256"], m["site"], m["n_rows"], m["parent"]["weights"])
            for m in (store.manifest for store in stores)
        ]
        if theirs != ours:
            names = ", ".join(s["folder"] for s in self.summary["stores"])
            raise UserError(
                f"{self.folder}: holds probes of the activations {names}, not of "
                f"{', '.join(str(store.folder) for store in stores)}; give those that the probes "
                "were made from, in their order"
            )
        if list(self.split["id"]) != [p.id for p in rows.proteins]:
            raise UserError(f"{self.folder}/split.csv: has other proteins than the activations")
        if len(self.latents) != loaded.config.d_sae:
            raise UserError(
                f"{self.folder}/latents.parquet: {len(self.latents):,} rows for "
                f"{loaded.config.d_sae:,} latents; {REMEDY}"
            )

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each table that is read."""
        names = [n for n in ("summary.json", *_NEEDED, *_ALSO) if (self.folder / n).is_file()]
        return {name: file_sha256(self.folder / name) for name in names}

    @cached_property
    def split(self) -> pd.DataFrame:
        """``id``, ``cluster``, ``part`` of every protein, as text."""
        return pd.read_csv(self.folder / "split.csv", dtype=str, keep_default_na=False)

    @property
    def clusters(self) -> dict[str, str]:
        """Homology cluster by protein id; empty for a random split."""
        if self.summary.get("split", {}).get("random"):
            return {}
        return dict(zip(self.split["id"], self.split["cluster"], strict=True))

    @property
    def parts(self) -> dict[str, str]:
        """Part of the split by protein id."""
        return dict(zip(self.split["id"], self.split["part"], strict=True))

    @cached_property
    def latents(self) -> pd.DataFrame:
        """One row for each latent."""
        return self._table("latents").sort_values("latent", ignore_index=True)

    @cached_property
    def concepts(self) -> pd.DataFrame:
        """One row for each concept: the chosen feature of every set of features."""
        return self._table("probes")

    @cached_property
    def associations(self) -> pd.DataFrame:
        """Pairs of a latent and a concept in which more of the latent means yes."""
        table = self._table("associations")
        return where(table, table["coef"] > 0).rename(columns={"feature": "latent"})

    @property
    def logos(self) -> pd.DataFrame | None:
        """Logos, a row for each position of each latent that fires; None of older probes."""
        path = self.folder / "logos.parquet"
        return self._table("logos") if path.is_file() else None

    def _table(self, name: str) -> pd.DataFrame:
        path = self.folder / f"{name}.parquet"
        try:
            return pd.read_parquet(path)
        except (ValueError, OSError) as error:
            raise UserError(f"{path}: can't be read ({str(error)[:120]}); {REMEDY}") from error
