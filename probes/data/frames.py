"""Two ways to read a data frame whose results have one type."""

from __future__ import annotations

from typing import Any

import pandas as pd


def where(table: pd.DataFrame, mask: Any) -> pd.DataFrame:
    """Rows of a table."""
    return pd.DataFrame(table.loc[mask])


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict(orient="records")]
