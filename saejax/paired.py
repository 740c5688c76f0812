"""Two stores of the same residues side by side, for transcoders."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from extract.errors import UserError
from extract.store import ActivationStore, parent_of


class PairedStore:
    """Reads ``[rows, d_model + d_out]``: what goes in, and what a transcoder predicts from it."""

    def __init__(self, store: ActivationStore, target: ActivationStore) -> None:
        """Put two stores side by side.

        Args:
            store: what goes in.
            target: what is predicted.

        Raises:
            UserError: other proteins or another parent, or the same site.
        """
        what = f"stores {store.folder} and {target.folder}"
        ours, theirs = parent_of(store.manifest), parent_of(target.manifest)
        if ours["site"] == theirs["site"]:
            raise UserError(f"{what} are both of site {ours['site']}; a transcoder needs two sites")
        for key in ("model", "weights sha256", "token dropout"):
            if ours[key] != theirs[key]:
                raise UserError(
                    f"{what} do not fit: {key} is {ours[key]!r} in the first and {theirs[key]!r} "
                    "in the second; extract both sites in one run (--site a b)"
                )
        same = len(store.proteins) == len(target.proteins) and all(
            a.sequence == b.sequence for a, b in zip(store.proteins, target.proteins)
        )
        if not same:
            raise UserError(
                f"{what} do not hold the same proteins in the same order; extract both sites in "
                "one run (--site a b)"
            )
        self.store, self.target = store, target
        self.folder, self.n_rows = store.folder, store.n_rows
        self.proteins, self.offsets = store.proteins, store.offsets
        self.manifest = store.manifest

    def read(self, start: int, stop: int) -> Float[np.ndarray, "rows d"]:
        """Raw activations of rows ``[start, stop)`` of both."""
        return np.concatenate([s.read(start, stop) for s in (self.store, self.target)], axis=1)
