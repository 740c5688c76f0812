"""Build `data/`: small real sets, whose training part has no homologue in the test parts.

    python experiments/select_data.py --uniprot DB.fasta.gz --swissprot seq.dat \\
        --pdb-dssp pdb_dssp.tsv.gz --structures structures/ --out data/

Needs the `mmseqs` program (Debian's `mmseqs2`; made with 14-7e284). Minutes on 2 cores. The order
is SHA-256 of the sequence, which nobody can tune; `data/README.md` has the numbers to expect.
"""

import csv
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import tyro
from Bio import SeqIO, SwissProt

STRUCTURE_CHAINS, OTHER_CHAINS, TRAIN_RESIDUES = 100, 1_100, 1_700_000
MAX_STRUCTURE_RESIDUES = 400  # keeps the backbone files small
MIN_RESIDUES, MAX_RESIDUES = 30, 1022  # of a training sequence; ESM2 takes 1022 + 2 special tokens


@dataclass(frozen=True)
class SelectConfig:
    """Where the sources are and what to write."""

    uniprot: Path
    """UniProtKB FASTA, plain or gzip: DB.fasta.gz of Debian's mmseqs2-examples."""
    swissprot: Path
    """Swiss-Prot flat file, plain or gzip: test/swiss/seq.dat of Debian's emboss-test."""
    pdb_dssp: Path
    """PDB chains (columns id, sequence, dssp) of Debian's promod3-data, plain or gzip."""
    structures: Path
    """Folder of backbones of some of those chains, named <id>.pdb.gz."""
    out: Path
    """Folder to write; files of the same names are replaced."""


class Protein(NamedTuple):
    """One sequence: `id` is unique within its file, `name` is the rest of a short header."""

    id: str
    sequence: str
    name: str = ""


def order(protein: Protein) -> tuple[str, str]:
    """Sort key: SHA-256 of the sequence, then the id."""
    return hashlib.sha256(protein.sequence.encode()).hexdigest(), protein.id


def read_bytes(path: Path) -> bytes:
    """Contents of a file, decompressed if gzip: sources work as Debian ships them."""
    if not path.is_file():
        raise ValueError(f"no such file: {path}; data/README.md says where it comes from")
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def write_gzip(path: Path, data: bytes) -> None:
    """Write gzip without time or file name, so that equal contents give equal files."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(data)


def to_fasta(proteins: list[Protein]) -> bytes:
    """FASTA, one line per sequence."""
    return "".join(f"{f'>{p.id} {p.name}'.rstrip()}\n{p.sequence}\n" for p in proteins).encode()


def read_uniprot(path: Path) -> list[Protein]:
    """Proteins of a UniProtKB FASTA, headed `>db|accession|name ...`; id is the accession."""
    records = list(SeqIO.parse(io.StringIO(read_bytes(path).decode()), "fasta"))
    if bad := [r.id for r in records if r.id.count("|") != 2]:
        raise ValueError(f"{path}: headers must be db|accession|name, got {bad[0]!r}")
    fields = [(*r.id.split("|"), str(r.seq).upper()) for r in records]
    return [Protein(accession, sequence, name) for _, accession, name, sequence in fields]


def select_chains(cfg: SelectConfig) -> tuple[dict[Protein, str], list[str]]:
    """{chain: DSSP} in SHA-256 order, and the ids of those whose backbone is carried."""
    if not cfg.structures.is_dir():
        raise ValueError(f"no such folder: {cfg.structures}; data/README.md says what it holds")
    rows = csv.DictReader(io.StringIO(read_bytes(cfg.pdb_dssp).decode()), delimiter="\t")
    if missing := {"id", "sequence", "dssp"} - set(rows.fieldnames or []):
        raise ValueError(f"{cfg.pdb_dssp}: columns missing: {', '.join(sorted(missing))}")
    dssp = {Protein(r["id"], r["sequence"]): r["dssp"] for r in rows}
    chains = sorted(dssp, key=order)
    short = [p.id for p in chains if len(p.sequence) <= MAX_STRUCTURE_RESIDUES]
    backbones = [name for name in short if (cfg.structures / f"{name}.pdb.gz").is_file()]
    backbones = backbones[:STRUCTURE_CHAINS]
    others = [p.id for p in chains if p.id not in backbones][:OTHER_CHAINS]
    if (len(backbones), len(others)) != (STRUCTURE_CHAINS, OTHER_CHAINS):
        raise ValueError(f"too few chains: {len(backbones)} with a backbone, {len(others)} others")
    kept = {*backbones, *others}
    return {p: dssp[p] for p in chains if p.id in kept}, backbones


def first_residues(proteins: list[Protein], residues: int) -> list[Protein]:
    """The first proteins, in order, until they hold so many residues."""
    before = accumulate((len(p.sequence) for p in proteins), initial=0)
    return [p for p, total in zip(proteins, before, strict=False) if total < residues]


def links(queries: list[Protein], targets: list[Protein]) -> list[tuple[str, str]]:
    """(query, target) hits: e <= 1e-3, identity >= 0.30, half of the shorter of the two aligned."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("queries.fasta", "targets.fasta", "hits", "tmp")]
        paths[0].write_bytes(to_fasta(queries))
        paths[1].write_bytes(to_fasta(targets))
        flags = f"-s 7.5 -e 0.001 --min-seq-id 0.3 --max-seqs {len(targets)} --format-output"
        columns = "query,target,qstart,qend,qlen,tstart,tend,tlen"
        words = ["mmseqs", "easy-search", *map(str, paths), *flags.split(), columns]
        try:
            run = subprocess.run(words, capture_output=True, text=True)
        except FileNotFoundError:
            raise ValueError("the mmseqs program is missing; install Debian's mmseqs2") from None
        if run.returncode:
            raise ValueError(f"mmseqs failed: {(run.stdout + run.stderr)[-200:]!r}")
        hits, found = paths[2].read_text().splitlines(), []
    for query, target, *numbers in (line.split("\t") for line in hits):
        q_start, q_end, q_len, t_start, t_end, t_len = map(int, numbers)
        aligned = q_end - q_start + 1 if q_len <= t_len else t_end - t_start + 1
        if aligned >= 0.5 * min(q_len, t_len):  # MMseqs2 has no coverage mode for the shorter
            found.append((query, target))
    return found


def cluster(proteins: list[Protein]) -> dict[str, str]:
    """{id: first member of its component of `links`}; easy-cluster left links across clusters."""
    place = {p.id: i for i, p in enumerate(proteins)}
    head = {p.id: p.id for p in proteins}
    for pair in links(proteins, proteins):
        first, second = sorted((head[name] for name in pair), key=place.__getitem__)
        head.update({name: first for name in head if head[name] == second})
    return head


def select_training(cfg: SelectConfig, tests: list[Protein]) -> tuple[list[Protein], dict]:
    """Training proteins in SHA-256 order, and how many are left after each rule."""
    left = {"source": sorted(read_uniprot(cfg.uniprot), key=order)}
    left["length"] = [p for p in left["source"] if MIN_RESIDUES <= len(p.sequence) <= MAX_RESIDUES]
    left["sequence_once"] = list({p.sequence: p for p in left["length"][::-1]}.values())[::-1]
    ids = {p.id for p in tests}
    left["id_once"] = [p for p in left["sequence_once"] if not (p.id in ids or ids.add(p.id))]
    left["searched"] = first_residues(left["id_once"], round(1.25 * TRAIN_RESIDUES))
    linked = {name for name, _ in links(left["searched"], tests)}
    linked |= {name for _, name in links(tests, left["searched"])}  # scores are not symmetric
    left["no_homologue"] = [p for p in left["searched"] if p.id not in linked]
    left["no_containment"] = [
        p
        for p in left["no_homologue"]
        if not any(p.sequence in test.sequence or test.sequence in p.sequence for test in tests)
    ]
    left["chosen"] = first_residues(left["no_containment"], TRAIN_RESIDUES)
    return left["chosen"], {rule: len(proteins) for rule, proteins in left.items()}


def write_all(cfg: SelectConfig) -> dict:
    """Choose and write every file; return the counts."""
    dssp, backbones = select_chains(cfg)
    records = SwissProt.parse(io.StringIO(read_bytes(cfg.swissprot).decode()))
    swissprot = [Protein(r.accessions[0], r.sequence, str(r.entry_name)) for r in records]
    tests, folder = [*dssp, *swissprot], cfg.out / "structures"
    if stale := {f.name for f in folder.glob("*")} - {f"{name}.pdb.gz" for name in backbones}:
        raise ValueError(f"{folder} holds files of another selection ({min(stale)}); empty it")
    training, left_after = select_training(cfg, tests)
    clusters = cluster(tests)
    folder.mkdir(parents=True, exist_ok=True)
    for name in backbones:
        write_gzip(folder / f"{name}.pdb.gz", read_bytes(cfg.structures / f"{name}.pdb.gz"))
    rows = "".join(f"{p.id}\t{p.sequence}\t{dssp[p]}\n" for p in dssp)
    write_gzip(cfg.out / "pdb_dssp.tsv.gz", f"id\tsequence\tdssp\n{rows}".encode())
    write_gzip(cfg.out / "swissprot.dat.gz", read_bytes(cfg.swissprot))
    rows = "".join(f"{name}\t{head}\n" for name, head in clusters.items())
    (cfg.out / "clusters.tsv").write_bytes(f"id\tcluster\n{rows}".encode())
    counts = {"left_after": left_after, "clusters": len({*clusters.values()})}
    for name, proteins in {"pdb": [*dssp], "swissprot": swissprot, "uniprot": training}.items():
        write_gzip(cfg.out / f"{name}.fasta.gz", to_fasta(proteins))
        counts[name] = [len(proteins), sum(len(p.sequence) for p in proteins)]
    return counts


if __name__ == "__main__":
    cfg = tyro.cli(SelectConfig, description=__doc__)
    try:
        print(json.dumps(write_all(cfg)))
    except (ValueError, OSError) as error:
        print(f"select_data: {error}", file=sys.stderr)
        sys.exit(2)
