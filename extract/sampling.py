"""Draw sequences by a seeded hash, on disk: the same sample on every machine, in bounded memory.

Every sequence goes to one of 128 temporary files by the first bits of its hash, and those are
sorted one after another. The hash depends on (seed, sequence) alone, so a smaller sample is a
prefix of a larger one, equal sequences meet, and the order is already a shuffle.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from extract.fasta import Protein

_N_BUCKETS = 128  # open files: some systems allow a process 256
_MARGIN = 65536  # hashes beyond twice the sample before the bound is lowered
_HEAD = struct.Struct("<16sQHI")


def sequence_hash(sequence: str, seed: int) -> bytes:
    """First 16 bytes of the SHA-256 of "<seed>:<sequence>": the order of a sample."""
    return hashlib.sha256(f"{seed}:{sequence}".encode()).digest()[:16]


def by_hash(proteins: Iterable[Protein], n: int) -> list[Protein]:
    """The ``n`` proteins whose sequences have the smallest SHA-256, in its order; in memory."""
    return sorted(proteins, key=lambda p: hashlib.sha256(p.sequence.encode()).digest())[:n]


class _Entry(NamedTuple):
    key: bytes
    number: int
    protein: Protein


class HashSample:
    """The ``wanted`` distinct sequences with the smallest hashes; all distinct ones for None."""

    def __init__(self, folder: Path, seed: int, wanted: int | None) -> None:
        """Temporary files go to ``folder``, which the caller removes."""
        self._folder, self._seed, self._wanted = folder, seed, wanted
        self.n_duplicates = 0
        """Proteins left out because an earlier one that was drawn has the same sequence."""
        self.n_not_drawn = 0
        """Proteins left out because their hash is too large."""

    def draw(self, proteins: Iterable[Protein]) -> Iterator[Protein]:
        """The sample in the order of its hashes; of equal sequences the first."""
        with ExitStack() as stack:
            files = self._spill(proteins, stack)
            n_drawn = 0
            for bucket in sorted(files):
                previous = b""
                entries = _entries(files[bucket])
                for entry in sorted(entries, key=lambda e: (e.key, e.number)):
                    if entry.key == previous:
                        self.n_duplicates += 1
                    elif n_drawn == self._wanted:
                        self.n_not_drawn += 1
                    else:
                        n_drawn += 1
                        yield entry.protein
                        previous = entry.key

    def _spill(self, proteins: Iterable[Protein], stack: ExitStack) -> dict[int, IO[bytes]]:
        """Write every candidate to the file of its bucket."""
        limit, files = _Limit(self._wanted), {}
        for number, protein in enumerate(proteins):
            key = sequence_hash(protein.sequence, self._seed)
            if not limit.admits(key):
                self.n_not_drawn += 1
                continue
            bucket = key[0] * _N_BUCKETS // 256
            if bucket not in files:
                path = self._folder / f"{bucket:03d}"
                files[bucket] = stack.enter_context(path.open("w+b"))
            name, sequence = protein.id.encode(), protein.sequence.encode()
            head = _HEAD.pack(key, number, len(name), len(sequence))
            files[bucket].write(head + name + sequence)
        return files


def _entries(file: IO[bytes]) -> Iterator[_Entry]:
    file.seek(0)
    while head := file.read(_HEAD.size):
        key, number, n_name, n_sequence = _HEAD.unpack(head)
        name, sequence = file.read(n_name).decode(), file.read(n_sequence).decode()
        yield _Entry(key, number, Protein(name, sequence))


class _Limit:
    """Upper bound of the ``wanted`` smallest distinct hashes, lowered as more are seen.

    Keeps 8 bytes for at most 2·wanted + 65,536 candidates.
    """

    def __init__(self, wanted: int | None) -> None:
        self._wanted, self._bound = wanted, 2**64
        self._seen = array("Q")

    def admits(self, key: bytes) -> bool:
        """Whether a hash may still be among the smallest."""
        if self._wanted is None:
            return True
        prefix = int.from_bytes(key[:8], "big")
        if prefix > self._bound:
            return False
        self._seen.append(prefix)
        if len(self._seen) > 2 * self._wanted + _MARGIN:
            smallest = np.unique(np.frombuffer(self._seen, dtype=np.uint64))[: self._wanted]
            self._seen = array("Q", smallest.tobytes())
            if len(smallest) == self._wanted:
                self._bound = int(smallest[-1])
        return True


def id_hash(name: str) -> int:
    """64-bit hash of an id."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


class SeenIds:
    """Hashes of ids in a temporary file: 8 bytes each on disk, none in memory."""

    _BLOCK = 1 << 20

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ids"

    def __enter__(self) -> SeenIds:
        self._file = self._path.open("w+b")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str) -> None:
        """Note an id."""
        self._file.write(id_hash(name).to_bytes(8, "little"))

    def repeated(self) -> set[int]:
        """Hashes that occur twice; a range of hashes at a time, so that memory stays bounded."""
        self._file.flush()
        n = self._path.stat().st_size // 8
        ranges = 1 + n // (4 * self._BLOCK)
        found: set[int] = set()
        for r in range(ranges):
            self._file.seek(0)
            mine = []
            while block := self._file.read(8 * self._BLOCK):
                hashes = np.frombuffer(block, dtype="<u8")
                mine.append(hashes[hashes % np.uint64(ranges) == r])
            ordered = np.sort(np.concatenate(mine)) if mine else np.empty(0, np.uint64)
            found.update(int(h) for h in ordered[1:][ordered[1:] == ordered[:-1]])
        return found
