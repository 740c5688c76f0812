"""Does all of Swiss-Prot fit in 4 GB as annotations?

A file of as many entries as Swiss-Prot has (570,000) is made of the 100 bundled records, again and
again, each with an accession of its own, and with about as many different terms as Swiss-Prot has:
GO, InterPro and Pfam terms are drawn anew, every entry has a region named after one of 50,000
partners, and in one entry of fifty that region begins at ``<1``. Its proteins (212 million
residues, Swiss-Prot has 205) are laid out as the rows of a store. A process of its own then reads
the file into concepts; its peak memory counts everything, Python and its libraries included.

JSON and TSV are made from the same records, with the fields that are read and no others.

Command: ``python -m experiments.benchmarks.annotations`` (about 25 minutes on an idle core and 3 GB
of disk for all three formats; a tenth of the entries, ``--n-entries 57000``, takes 2 minutes).
Expected: under 4 GB; measured 1.53 GB for the flat file, 0.56 GB for a tenth in each format.
Writes ``annotations.json``.
"""

from __future__ import annotations

import gzip
import json
import logging
import multiprocessing
import platform
import random
import re
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import tyro

from extract.alphabet import residue_tokens
from extract.errors import UserError, run_cli
from extract.fasta import Protein
from extract.files import versions, write_json_atomically
from probes.annotations import Annotations
from probes.data.rows import ProteinRows
from probes.sources.feature_names import FEATURE_TYPES
from probes.sources.swissprot import read_flat_file
from probes.sources.uniprot import Entry, UniprotFormat

log = logging.getLogger(__name__)

N_GO, N_INTERPRO, N_PFAM, N_PARTNERS = 28_000, 20_000, 10_000, 50_000
"""Different terms, about as many as Swiss-Prot has."""
UNCERTAIN_EVERY = 50
"""Every so many entries, a feature at an uncertain position."""


@dataclass(frozen=True)
class Config:
    """How much to read."""

    n_entries: int = 570_000
    """Entries of the file."""
    formats: tuple[UniprotFormat, ...] = ("tsv", "json", "flat")
    """Ways to write them."""
    data: Path = Path("data")
    """Where the bundled records are."""
    out: Path = Path("runs/annotations")
    """Folder for the files made and the result."""
    limit_gb: float = 4.0
    """Peak memory that must not be exceeded, in 10^9 bytes."""


def accession_of(i: int) -> str:
    """An accession for entry ``i``."""
    return f"A{i:09d}"


def records(data: Path) -> list[str]:
    """The bundled flat-file records as text."""
    text = gzip.decompress((data / "swissprot.dat.gz").read_bytes()).decode()
    return [record + "//\n" for record in text.split("//\n") if record.strip()]


def varied(record: str, i: int) -> str:
    """A record with an accession and terms of its own."""
    rng = random.Random(i)
    record = re.sub(r"^AC   [^;]+;", f"AC   {accession_of(i)};", record, count=1, flags=re.M)
    record = re.sub(r"GO:\d{7}", lambda _: f"GO:{rng.randrange(N_GO):07d}", record)
    record = re.sub(r"IPR\d{6}", lambda _: f"IPR{rng.randrange(N_INTERPRO):06d}", record)
    record = re.sub(r"PF\d{5}", lambda _: f"PF{rng.randrange(N_PFAM):05d}", record)
    start = "<1" if i % UNCERTAIN_EVERY == 0 else "1"
    partner = f"G{rng.randrange(N_PARTNERS)}A"
    region = f"FT   REGION   {start:>6} {9:>6}       Interaction with {partner}."
    return record.replace("\nSQ   ", f"\n{region}\nSQ   ", 1)


def write_file(path: Path, file_format: UniprotFormat, config: Config) -> None:
    """Fill ``path``, gzipped, entry by entry."""
    base = records(config.data)
    with gzip.open(path, "wt", compresslevel=1) as f:
        if file_format == "flat":
            for i in range(config.n_entries):
                f.write(varied(base[i % len(base)], i))
            return
        write = {"json": _write_json, "tsv": _write_tsv}[file_format]
        write(f, _entries(base, config))


def _entries(base: list[str], config: Config) -> Iterator[Entry]:
    """A hundred records at a time, parsed."""
    part = config.out / "part.dat"
    wanted = {accession_of(i) for i in range(config.n_entries)}
    for start in range(0, config.n_entries, len(base)):
        indices = range(start, min(start + len(base), config.n_entries))
        part.write_text("".join(varied(base[i % len(base)], i) for i in indices))
        yield from (e for _, e in read_flat_file(part, wanted) if isinstance(e, Entry))
    part.unlink()


def _write_json(f: IO[str], entries: Iterator[Entry]) -> None:
    f.write('{"results": [')
    for n, entry in enumerate(entries):
        features = []
        for feature in entry.features:
            names = FEATURE_TYPES.get(feature.kind)
            exact = feature.start is not None and feature.end is not None
            modifier = "EXACT" if exact else "OUTSIDE"
            ends = [(feature.start or 0) + 1, feature.end or 1]
            start, end = ({"value": v, "modifier": modifier} for v in ends)
            features.append({
                "type": names.json if names else feature.kind,
                "location": {"start": start, "end": end},
                "description": feature.note,
            })  # fmt: skip
        references = [{"database": k, "id": t} for k in ("Pfam", "InterPro", "GO")
                      for t in sorted(entry.labels[k])]  # fmt: skip
        numbers = [{"value": number} for number in sorted(entry.labels["EC"])]
        similarity = "Belongs to the " + ". ".join(sorted(entry.labels["family"]))
        value = {
            "comments": [{"commentType": "SIMILARITY", "texts": [{"value": similarity}]}],
            "primaryAccession": entry.accession,
            "proteinDescription": {"recommendedName": {"ecNumbers": numbers}},
            "features": features,
            "uniProtKBCrossReferences": references,
            "sequence": {"value": entry.sequence},
        }
        f.write("," * (n > 0) + json.dumps(value))
    f.write("]}\n")


def _write_tsv(f: IO[str], entries: Iterator[Entry]) -> None:
    columns = [names.column for names in FEATURE_TYPES.values()]
    header = [*columns, "Pfam", "InterPro", "Gene Ontology IDs", "EC number", "Protein families"]
    f.write("\t".join(["Entry", "Sequence", *header]) + "\n")
    for entry in entries:
        cells: dict[str, list[str]] = {name: [] for name in header}
        for feature in entry.features:
            if feature.kind in FEATURE_TYPES:
                at = "?" if feature.start is None else f"{feature.start + 1}..{feature.end}"
                note = feature.note.replace('"', "'")
                words = f'{feature.kind} {at}; /note="{note}"'
                cells[FEATURE_TYPES[feature.kind].column].append(words)
        for column, kind in (("Pfam", "Pfam"), ("InterPro", "InterPro"),
                             ("Gene Ontology IDs", "GO"), ("EC number", "EC"),
                             ("Protein families", "family")):  # fmt: skip
            cells[column] = sorted(entry.labels[kind])
        row = [entry.accession, entry.sequence, *("; ".join(cells[name]) for name in header)]
        f.write("\t".join(row) + "\n")


def rows_of(config: Config) -> ProteinRows:
    """The rows that a store of these proteins has; each with a sequence of its own in memory."""
    ends = [record.split("\nSQ   ")[1].split("\n", 1)[1] for record in records(config.data)]
    base = ["".join(text.removesuffix("//\n").split()) for text in ends]
    proteins = [
        Protein(accession_of(i), base[i % len(base)].encode().decode())
        for i in range(config.n_entries)
    ]
    tokens = np.empty(sum(len(p.sequence) for p in proteins), dtype=np.uint8)
    at = 0
    for protein in proteins:
        end = at + len(protein.sequence)
        tokens[at:end] = residue_tokens(protein.sequence)
        at = end
    return ProteinRows(proteins, tokens)


def measure(path: Path, file_format: UniprotFormat, config: Config, results: Any) -> None:
    """Read one file into concepts; runs in a process of its own."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = rows_of(config)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    start = time.monotonic()
    annotations = Annotations.load(rows, uniprot=[path])
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    sparse = [c for c in annotations.concepts if c.kind in ("uniprot", "protein")]
    (report,) = annotations.reports
    results.put({
        "format": file_format,
        "file_gb": path.stat().st_size / 1e9,
        "n_entries": report.n_matched,
        "n_residues": rows.n_rows,
        "n_features": report.n_features,
        "n_uncertain": sum(report.uncertain.values()),
        "n_concepts": len(annotations.concepts),
        "n_spans": sum(len(c.spans) for c in sparse),
        "seconds": seconds,
        "rows_gb": before,
        "peak_gb": peak,
    })  # fmt: skip


def main() -> None:
    """Make each file, read it, and say what it took."""
    config = tyro.cli(Config, prog="python -m experiments.benchmarks.annotations")
    config.out.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    found = []
    for file_format in config.formats:
        suffix = {"flat": "dat", "json": "json", "tsv": "tsv"}[file_format]
        path = config.out / f"entries.{suffix}.gz"
        log.info("%s: writing %d entries", path, config.n_entries)
        write_file(path, file_format, config)
        results = spawn.SimpleQueue()
        process = spawn.Process(target=measure, args=(path, file_format, config, results))
        process.start()
        process.join()
        path.unlink()
        if process.exitcode:
            raise UserError(f"the process that read {path} ended with status {process.exitcode}")
        result = results.get()
        found.append(result)
        log.info(
            "%s: %d entries, %d residues, %d concepts, %d spans in %.0f s; peak %.2f GB, of which "
            "the rows %.2f GB", file_format, result["n_entries"], result["n_residues"],
            result["n_concepts"], result["n_spans"], result["seconds"], result["peak_gb"],
            result["rows_gb"],
        )  # fmt: skip
        write_json_atomically(config.out / "annotations.json", {
            "config": {k: str(v) for k, v in asdict(config).items()},
            "machine": {"python": platform.python_version(), **versions("numpy", "biopython")},
            "results": found,
        })  # fmt: skip
    over = [r["format"] for r in found if r["peak_gb"] > config.limit_gb]
    if over:
        raise UserError(f"{', '.join(over)}: over the limit of {config.limit_gb} GB")


if __name__ == "__main__":
    run_cli(main)
