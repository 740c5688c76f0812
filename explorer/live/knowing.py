"""Tasks of the worker on whole dictionaries: a person's labels, and two dictionaries compared."""

from __future__ import annotations

from typing import Any

from explorer.live.context import Context
from explorer.live.labels import LabelData, score_labels
from extract.errors import UserError
from extract.store import require_same_parent
from saejax.checkpoint import LoadedSAE
from saejax.compare import Comparison, compare_activations, compare_decoders, mutual
from saejax.sweep import SAME_LATENT


def labels(
    context: Context, sae: str, motif: str | None, tsv: str | None, name: str, min_positives: int
) -> dict[str, Any]:
    """The latents that tell a person's labels."""
    data = _data(context, sae)
    context.report(0.0, "reading labels")
    notes: list[str] = []
    if motif is not None:
        concepts = data.motif(motif, name)
        notes.append(f"{len(concepts[0].spans):,} matches")
    else:
        concepts, notes = data.table(tsv or "")
    found = score_labels(data, concepts, min_positives=min_positives, report=context.report)
    return {"labels": found, "notes": notes}


def _data(context: Context, sae: str) -> LabelData:
    source = context.sources[sae]
    if source.probes is None:
        raise UserError(
            f"{sae}: no probes of its run are here, so there is no split to be honest by; run "
            "`python -m probes` and serve with --probes"
        )
    return LabelData.open(context.get(sae).run, source.probes, source.sequences)


def compare(context: Context, sae: str, other: str, by: str | None) -> dict[str, Any]:
    """Two dictionaries of one parent."""
    a, b = context.get(sae).run, context.get(other).run
    _require_one_parent(a, b)
    same_site = a.site == b.site
    by = by or ("cosine" if same_site else "correlation")
    context.report(0.0, "decoder rows" if by == "cosine" else "activations")
    if by == "cosine":
        if not same_site:
            raise UserError(
                f"{sae} is of {a.site}, {other} of {b.site}: decoder rows of two sites have "
                "different bases; compare by correlation"
            )
        found = compare_decoders(a.arrays()["W_dec"], b.arrays()["W_dec"])
        why = f"both are of {a.site}, so that decoder rows have one basis"
    else:
        found, why = _correlated(context, sae, other)
        why = why if same_site else f"they are of {a.site} and {b.site}; {why}"
    n_mutual = len(mutual(found.forth, found.back))
    return {
        "by": by, "why": why, "forth": found.forth._asdict(), "back": found.back._asdict(),
        "n_residues": found.n_residues, "n_mutual": n_mutual, "same": SAME_LATENT,
    }  # fmt: skip


def _require_one_parent(a: LoadedSAE, b: LoadedSAE) -> None:
    what = f"{a.folder.name} and {b.folder.name}"
    # of one site in words: only the parents have to be the same
    there = dict(b.store_manifest) | {"site": a.site, "d_model": a.config.d_model}
    require_same_parent(a.store_manifest, there, what=what)


def _correlated(context: Context, sae: str, other: str) -> tuple[Comparison, str]:
    first = _data(context, sae)
    context.report(0.2, "activations")
    second = _data(context, other)
    ids = [[(p.id, p.sequence) for p in data.rows.proteins] for data in (first, second)]
    if ids[0] != ids[1]:
        raise UserError(
            f"{sae} and {other} were probed on different proteins; give both the same activations"
        )
    context.report(0.4, "activations")
    found = compare_activations(first.latents.columns(), second.latents.columns())
    return found, f"correlation over {found.n_residues:,} residues of {len(ids[0]):,} proteins"
