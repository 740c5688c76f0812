"""What the worker found, with the bundle's names: the models that the live half answers with."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from explorer.live import schema
from explorer.live.python_code import Code
from explorer.schema import ConceptScore, LatentName, Score, Track
from explorer.server.source import Source, significant
from extract.alphabet import AMINO_ACIDS

DIGITS = 6
"""Significant digits of a value: float32 has seven."""


def encoded(source: Source, sequence: str, found: Any, code: Code) -> schema.Encoded:
    """Every latent that fires, ranked as on a protein's page."""
    raw, seconds = found
    latents, starts = np.unique(raw["latent"], return_index=True)
    stops = np.append(starts[1:], len(raw["latent"]))
    values, places = significant(raw["value"], DIGITS).tolist(), (raw["position"] + 1).tolist()
    highest = np.maximum.reduceat(raw["value"], starts) if len(starts) else np.zeros(0)
    scores = significant(highest / _own_max(source, latents) * source.rarity[latents], DIGITS)
    rows = []
    for j, start, stop, score in zip(
        latents.tolist(), starts.tolist(), stops.tolist(), scores.tolist(), strict=True
    ):
        value, place = values[start:stop], places[start:stop]
        top = max(value)
        rows.append(schema.PlayLatent(
            **_named(source, j), max=top, argmax=place[value.index(top)],
            share_active=(stop - start) / len(sequence), score=score,
            track=Track(positions=place, values=value),
        ))  # fmt: skip
    rows.sort(key=lambda row: -row.score)
    return schema.Encoded(
        sae=source.id, sequence=sequence, latents=rows, seconds=seconds, kept=raw["kept"],
        python=code.encode(source.id, sequence),
    )  # fmt: skip


def _named(source: Source, latent: int) -> dict[str, Any]:
    """Fields that every list of latents has."""
    return {
        "latent": latent, "label": source.labels[latent], "kind": source.kinds[latent],
        "concept": source.best_concepts[latent],
        "own_max": source.shown_max[latent],
    }  # fmt: skip


def _own_max(source: Source, latents: np.ndarray) -> np.ndarray:
    return np.maximum(source.latent_max[latents], 1e-30)


def mutated(
    source: Source, sequence: str, asked: schema.MutateIn, found: Any, code: Code
) -> schema.Mutated:
    """Latents that change, most first."""
    raw, seconds = found
    share = np.abs(raw["change"]) / _own_max(source, raw["latents"])
    enough = np.flatnonzero(share >= asked.least)
    before, after = raw["before"], raw["after"]
    table = [significant(values, DIGITS) for values in (
        before.max(axis=0), after.max(axis=0), raw["change"], share)]  # fmt: skip
    tracks = [_tracks(values[:, enough].T) for values in (before, after)]
    rows = []
    for i, had, has in zip(enough.tolist(), *tracks, strict=True):
        was, is_now, change, score = (column[i].item() for column in table)
        outcome = "changes" if was > 0 and is_now > 0 else "appears" if is_now > 0 else "vanishes"
        rows.append(schema.ChangedLatent(
            **_named(source, int(raw["latents"][i])), outcome=outcome, max_before=was,
            max_after=is_now, change=change, at=int(raw["at"][i]) + 1, score=score,
            before=had, after=has,
        ))  # fmt: skip
    rows.sort(key=lambda row: -row.score)
    return schema.Mutated(
        sae=source.id, sequence=sequence, mutant=raw["mutant"],
        positions=[p + 1 for p in raw["positions"]], latents=rows,
        n_same=raw["n_same"] + len(share) - len(enough),
        seconds=seconds, python=code.mutate(source.id, sequence, asked.mutations),
    )  # fmt: skip


def _tracks(table: np.ndarray) -> list[Track]:
    """Where each row of ``[latents, residues]`` is not zero."""
    row, place = np.nonzero(table)
    cuts = np.searchsorted(row, np.arange(len(table) + 1)).tolist()
    places, values = (place + 1).tolist(), significant(table[row, place], DIGITS).tolist()
    return [Track(positions=places[i:j], values=values[i:j]) for i, j in itertools.pairwise(cuts)]


def _table(values: np.ndarray) -> list[list[float]]:
    return significant(values, DIGITS).tolist()


def scanned(
    source: Source, sequence: str, latent: int, start: int, found: Any, code: Code
) -> schema.Scanned:
    """One latent under all substitutions."""
    raw, seconds = found
    end = start + len(raw["max"])
    return schema.Scanned(
        sae=source.id, sequence=sequence, latent=latent, letters=AMINO_ACIDS, start=start + 1,
        at=raw["at"] + 1, wild_max=raw["wild_max"], wild_at=raw["wild_at"],
        own_max=float(source.latent_max[latent]), max=_table(raw["max"]),
        value_at=_table(raw["value_at"]), n_passes=raw["n_passes"], seconds=seconds,
        python=code.scan(source.id, sequence, latent, start + 1, end, raw["at"] + 1),
    )  # fmt: skip


def steered(source: Source, asked: schema.SteerIn, sequence: str, found: Any, code: Code
            ) -> schema.Steered:  # fmt: skip
    """Δlog p, KL and the likeliest residues."""
    raw, seconds = found
    masked = raw["masked"].tolist()
    names = set(schema.EditDone.model_fields)
    edits = [
        schema.EditDone(
            label=source.labels[e["latent"]], **{k: _finite(v) for k, v in e.items() if k in names}
        )
        for e in raw["edits"]
    ]
    before, after = raw["argmax"]
    return schema.Steered(
        sae=source.id, sequence=sequence, letters=AMINO_ACIDS, edits=edits,
        edited=(raw["edited"] + 1).tolist(), masked=(raw["masked"] + 1).tolist(),
        base_log_p=_table(raw["base_log_p"]), steered_log_p=_table(raw["steered_log_p"]),
        delta_log_p=_table(raw["delta_log_p"]), kl=significant(raw["kl"], DIGITS).tolist(),
        argmax_before=before, argmax_after=after,
        summary={k: _finite(v) for k, v in raw["summary"].items()},
        top=[schema.TopChange(**change) for change in raw["top"]], seconds=seconds,
        python=code.steer(source.id, sequence, asked.edits, masked, asked.error_term),
    )  # fmt: skip


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def swept(
    source: Source, sequence: str, config: dict[str, Any], found: Any, code: Code
) -> schema.Swept:
    """A dose-response."""
    raw, seconds = found
    arms = [
        schema.SweepArm(
            kind=kind, number=number, kl=_nulls(kl), delta_log_p=[_nulls(row) for row in delta]
        )
        for (kind, number), kl, delta in zip(raw["arms"], raw["kl"], raw["delta_log_p"])
    ]
    has = len(arms) > 1
    return schema.Swept(
        sae=source.id, sequence=sequence, letters=AMINO_ACIDS, latent=config["latent"],
        label=source.labels[config["latent"]], multiples=raw["multiples"],
        strengths=raw["strengths"], extra_norms=list(raw["extra_norms"]),
        amino_acid=raw["amino_acid"], chosen_here=config["amino_acid"] is None,
        n_read=raw["n_read"], read=(raw["read"] + 1).tolist(), arms=arms,
        excess=_nulls(raw["excess"]),
        above_equal_norm=[bool(v) if has else None for v in raw["equal_norm"]],
        above_equal_kl=[bool(v) if has else None for v in raw["equal_kl"]],
        relative_norm=_nulls(raw["relative_norm"]), verdict=_verdict(raw, config, len(arms) - 1),
        seconds=seconds, python=code.sweep(source.id, sequence, config),
    )  # fmt: skip


def _nulls(values: Any) -> list[Any]:
    return [_finite(float(v)) for v in values]


def _verdict(raw: dict[str, Any], config: dict[str, Any], n_controls: int) -> str:
    i, letter = raw["shown"], raw["amino_acid"]
    column = AMINO_ACIDS.index(letter)
    unit = "×" if config["operation"] == "scale" else "× its maximum"
    effect = (
        f"At {raw['multiples'][i]:g} {unit} latent {config['latent']} changes log p of {letter} "
        f"by {raw['delta_log_p'][0][i][column]:+.2f} nats on the {raw['n_read']} residues read"
    )
    if not n_controls:
        return f"{effect}. No controls were run, so this is no evidence."
    beyond = "more" if raw["equal_kl"][i] else "no more"
    norm = "more" if raw["equal_norm"][i] else "no more"
    return (
        f"{effect}: {norm} than the 95th percentile of {n_controls} controls of the same norm, and "
        f"{beyond} than that of controls that disturb the prediction as much (equal KL). One "
        "protein is no verdict; `python -m steering sweep` gives it over many."
    )


def varied(
    source: Source, asked: schema.VariantsIn, sequence: str, config: dict[str, Any], found: Any,
    code: Code,
) -> schema.Varied:  # fmt: skip
    """Variants and their controls."""
    raw, seconds = found
    names = set(schema.VariantOut.model_fields)
    arms = [
        schema.VariantArm(name=name, variants=[
            schema.VariantOut(**{k: _finite(v) for k, v in one.items() if k in names})
            for one in members
        ])
        for name, members in raw["arms"]
    ]  # fmt: skip
    first = raw["arms"][0][1]
    perplexity = _finite(first[0]["input_pseudo_perplexity"]) if first else None
    return schema.Varied(
        sae=source.id, sequence=sequence, input_pseudo_perplexity=perplexity, arms=arms,
        seconds=seconds, python=code.variants(source.id, sequence, asked.edits, config),
    )  # fmt: skip


def labelled(source: Source, asked: schema.LabelsIn, found: Any, code: Code) -> schema.Labelled:
    """The latents that tell a person's labels."""
    raw, seconds = found
    return schema.Labelled(
        sae=source.id, labels=[_label(source, one) for one in raw["labels"]], notes=raw["notes"],
        seconds=seconds,
        python=code.labels(source.id, asked.motif, asked.name, asked.min_positives),
    )  # fmt: skip


def _label(source: Source, one: dict[str, Any]) -> schema.LabelScores:
    positives = {part: one["counts"][f"n_positive_{part}"]
                 for part in ("train", "validation", "test")}  # fmt: skip
    best = one.get("best")
    return schema.LabelScores(
        label=one["label"], n_positive=positives, left_out=one["left_out"],
        n_clusters=int(best["n_clusters_test"]) if best else 0,
        base_rate=float(best["base_rate"]) if best else 0.0,
        best=None if best is None else _own_score(one["label"], best),
        best_latent=None if best is None else LatentName(**_name(source, int(best["feature"]))),
        latents=[_label_latent(source, row, best) for row in one.get("pairs", [])],
    )  # fmt: skip


def _name(source: Source, latent: int) -> dict[str, Any]:
    return source.name_of(latent).model_dump()


def _own_score(label: str, best: dict[str, Any]) -> ConceptScore:
    score = Score(
        f1=_finite(best["f1_test"]), f1_low=_finite(best["f1_test_low"]),
        f1_high=_finite(best["f1_test_high"]), precision=_finite(best["precision_test"]),
        recall=_finite(best["recall_occurrences"]), auroc=_finite(best["auroc_test"]),
    )  # fmt: skip
    return ConceptScore(
        concept=label, kind="own", threshold=best["threshold"], score=score,
        n_called=int(best["n_called_test"]), n_positive=int(best["n_positive_test"]),
        n_clusters=int(best["n_clusters_test"]), base_rate=best["base_rate"],
        q=_finite(best["q_all_pairs"]), is_best=True, neuron=None, shuffled_labels=None,
    )  # fmt: skip


def _label_latent(source: Source, row: dict[str, Any], best: Any) -> schema.LabelLatent:
    score = Score(
        f1=_finite(row["f1_test"]), f1_low=None, f1_high=None,
        precision=_finite(row["precision_test"]), recall=_finite(row["recall_test"]),
        auroc=_finite(row["auroc_test"]),
    )  # fmt: skip
    latent = int(row["feature"])
    return schema.LabelLatent(
        **_name(source, latent), f1_validation=row["f1_validation"], score=score,
        threshold=row["threshold"], is_best=best is not None and latent == int(best["feature"]),
    )  # fmt: skip


def compared(a: Source, b: Source, found: Any, code: Code) -> schema.Compared:
    """Matches of two dictionaries."""
    raw, seconds = found
    same, both = raw["same"], (raw["forth"]["value"], raw["back"]["value"])
    return schema.Compared(
        a=a.id, b=b.id, by=raw["by"], why=raw["why"], n_residues=raw["n_residues"],
        forth=_matches(raw["forth"]), back=_matches(raw["back"]), n_mutual=raw["n_mutual"],
        shared=float(np.mean([np.mean(np.nan_to_num(v) >= same) for v in both])),
        mean=float(np.mean([np.nanmean(v) for v in both])), same=same, seconds=seconds,
        python=code.compare(a.id, b.id, raw["by"]),
    )  # fmt: skip


def _matches(found: Any) -> schema.Matches:
    values = [None if not math.isfinite(v) else v for v in significant(found["value"], 5).tolist()]
    return schema.Matches(other=found["other"].tolist(), value=values)
