"""Choose proteins from a FASTA file of any size: filters, seeded sample, duplicates."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from extract.errors import UserError
from extract.fasta import MAX_POSITION, Protein, check_sequence, read_records
from extract.files import file_sha256
from extract.sampling import HashSample, SeenIds, id_hash

log = logging.getLogger(__name__)

TooLong = Literal["skip", "crop"]


@dataclass(frozen=True)
class Selection:
    """Which sequences of a FASTA file to use."""

    min_residues: int = 1
    """Shortest sequence, in residues; shorter ones are left out and counted."""
    max_residues: int = 1022
    """Longest sequence, in residues (ESM2 was trained on up to 1022)."""
    too_long: TooLong = "skip"
    """What happens to longer ones: leave out (skip) or cut at this length (crop)."""
    illegal: Literal["error", "skip"] = "error"
    """What happens to a record with an illegal letter or none: stop with its name, or leave out."""
    sample: int | Literal["all"] | None = None
    """Distinct sequences to take, by seeded hash; "all" of them; None: every record as it comes."""
    seed: int = 0
    """Seed of the hash."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.max_residues <= MAX_POSITION:
            raise UserError(
                f"--max-residues ({self.max_residues}) must be from 1 to {MAX_POSITION}"
            )
        if not 1 <= self.min_residues <= self.max_residues:
            raise UserError(
                f"--min-residues ({self.min_residues}) must be from 1 to --max-residues "
                f"({self.max_residues})"
            )
        if isinstance(self.sample, int) and self.sample < 1:
            raise UserError(f"--sample ({self.sample}) must be at least 1, or all")


@dataclass
class FastaReport:
    """What reading a FASTA file found: counts for the manifest."""

    file: str
    """File name, without its folder."""
    sha256: str = ""
    """Hash of the file's bytes as stored (compressed if it is)."""
    n_records: int = 0
    """Records in the file."""
    n_kept: int = 0
    """Records used."""
    n_residues: int = 0
    """Residues used."""
    n_illegal_skipped: int = 0
    """Records left out because of an illegal letter, or without any."""
    n_too_short_skipped: int = 0
    """Records left out because they are shorter than the limit."""
    n_too_long_skipped: int = 0
    """Records left out because they exceed the limit."""
    n_too_long_cropped: int = 0
    """Records cut to the limit, from their N-terminus."""
    n_stop_stripped: int = 0
    """Records whose final ``*`` was removed."""
    n_duplicates: int = 0
    """Records left out because an earlier one that was drawn has the same sequence."""
    n_not_sampled: int = 0
    """Records that were not drawn."""

    def notes(self) -> list[str]:
        """One line for everything that was changed or left out."""
        words = {
            "n_stop_stripped": "final '*' stripped from {} records",
            "n_illegal_skipped": "{} records with illegal letters, or none, skipped",
            "n_too_short_skipped": "{} records that are too short skipped",
            "n_too_long_skipped": "{} records that are too long skipped",
            "n_too_long_cropped": "{} records cropped to the longest length",
            "n_duplicates": "{} duplicates of drawn sequences left out",
            "n_not_sampled": "{} records not drawn",
        }
        counts = {name: getattr(self, name) for name in words}
        return [words[name].format(f"{n:,}") for name, n in counts.items() if n]


class GivenProteins:
    """Proteins that a caller has in memory, as a source of an extraction."""

    def __init__(self, proteins: Sequence[Protein], name: str = "given proteins") -> None:
        """Use the proteins as they are, in their order."""
        self._proteins = proteins
        self.report = FastaReport(name, n_records=len(proteins), n_kept=len(proteins))
        self.report.n_residues = sum(len(p.sequence) for p in proteins)
        digest = hashlib.sha256()
        for protein in proteins:
            digest.update(f">{protein.id}\n{protein.sequence}\n".encode())
        self.report.sha256 = digest.hexdigest()

    def __iter__(self) -> Iterator[Protein]:
        """The proteins."""
        return iter(self._proteins)

    def identity(self, *, with_hash: bool = True) -> dict[str, Any]:
        """What makes two sources the same."""
        return {"sha256": self.report.sha256}


@dataclass
class FastaSource:
    """Proteins of a FASTA file under a selection; iterate it, then read its ``report``."""

    path: Path
    selection: Selection = field(default_factory=Selection)
    spool: Path | None = None
    """Folder for temporary files; the system's by default."""
    report: FastaReport = field(init=False)

    def __post_init__(self) -> None:
        """Start an empty report."""
        self.report = FastaReport(self.path.name)

    def __iter__(self) -> Iterator[Protein]:
        """The proteins, in the order of the file or of their hashes.

        Raises:
            UserError: a bad record, two records of one id, or nothing left to use.
        """
        self.report, digest = FastaReport(self.path.name), hashlib.sha256()
        rules, sample = self.selection, None
        with (
            _temporary_folder(self.spool) as folder,
            SeenIds(Path(folder)) as seen,
        ):
            proteins = self._checked(digest)
            if rules.sample is not None:
                wanted = rules.sample if isinstance(rules.sample, int) else None
                sample = HashSample(Path(folder), rules.seed, wanted)
                proteins = sample.draw(proteins)
            for protein in proteins:
                self.report.n_kept += 1
                self.report.n_residues += len(protein.sequence)
                seen.add(protein.id)
                yield protein
            self.report.sha256 = digest.hexdigest()
            if sample is not None:
                self.report.n_duplicates = sample.n_duplicates
                self.report.n_not_sampled = sample.n_not_drawn
            self._check_report()
            self._check_ids(seen.repeated())
        log.info("%s: %d proteins, %d residues", self.path, self.report.n_kept,
                 self.report.n_residues)  # fmt: skip
        for note in self.report.notes():
            log.warning("%s: %s", self.path, note)

    def identity(self, *, with_hash: bool = True) -> dict[str, Any]:
        """What makes two sources the same: the file's size and hash, and the selection.

        Args:
            with_hash: read the whole file once for its hash.
        """
        try:
            facts = {"n_bytes": self.path.stat().st_size, "selection": asdict(self.selection)}
        except FileNotFoundError:
            raise UserError(f"{self.path}: no such file; check the path") from None
        return facts | ({"sha256": file_sha256(self.path)} if with_hash else {})

    def _checked(self, digest: object) -> Iterator[Protein]:
        """Every record that passes the filters."""
        report, rules = self.report, self.selection
        for record in read_records(self.path, digest=digest):
            report.n_records += 1
            try:
                sequence = check_sequence(record.sequence, record.where(self.path))
            except UserError:
                if rules.illegal == "error":
                    raise
                report.n_illegal_skipped += 1
                continue
            report.n_stop_stripped += record.had_stop
            if len(sequence) < rules.min_residues:
                report.n_too_short_skipped += 1
                continue
            if len(sequence) > rules.max_residues:
                if rules.too_long == "skip":
                    report.n_too_long_skipped += 1
                    continue
                report.n_too_long_cropped += 1
                sequence = sequence[: rules.max_residues]
            yield Protein(record.id, sequence)

    def _check_report(self) -> None:
        report = self.report
        if not report.n_records:
            raise UserError(f"{self.path}: no sequence in the file; a FASTA record starts with '>'")
        if not report.n_kept and report.n_too_long_skipped == report.n_records:
            raise UserError(
                f"{self.path}: all {report.n_records} sequences are longer than "
                f"{self.selection.max_residues} residues; use --too-long crop or raise "
                "--max-residues"
            )
        if not report.n_kept:
            raise UserError(
                f"{self.path}: none of {report.n_records} records is left ("
                f"{', '.join(report.notes())}); change --min-residues or --max-residues"
            )

    def _check_ids(self, repeated: set[int]) -> None:
        """Name two records of one id; reads the file again, for the message alone."""
        first: dict[str, int] = {}
        for record in read_records(self.path) if repeated else ():
            if record.id in first:
                raise UserError(
                    f"{self.path}: records {first[record.id]} and {record.number} have the same "
                    f"id {record.id!r}; ids must be unique, rename or remove one"
                )
            if id_hash(record.id) in repeated:
                first[record.id] = record.number


def read_fasta(
    path: str | Path, *, max_residues: int = 1022, too_long: TooLong = "skip"
) -> tuple[list[Protein], FastaReport]:
    """Read and check a whole FASTA file, in its order.

    Letters are upper-cased; a final ``*`` is stripped with a warning. The id is the header's first
    word, or the accession of a UniProt header (``sp|P12345|NAME``).

    Args:
        path: FASTA, or FASTA.gz (told by its content, not its name).
        max_residues: longest sequence to use, in residues (ESM2 was trained on up to 1022).
        too_long: whether a longer record is left out or cut.

    Raises:
        UserError: naming the file, the record, the rule and the remedy.
    """
    source = FastaSource(Path(path), Selection(max_residues=max_residues, too_long=too_long))
    return list(source), source.report


@contextmanager
def _temporary_folder(folder: Path | None) -> Iterator[str]:
    """``folder``, made and removed again; one of the system's when it is None."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="select-") as name:
            yield name
        return
    folder.mkdir(parents=True)
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
