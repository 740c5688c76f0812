"""Homology clusters by MMseqs2, when the program is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from extract.errors import UserError
from extract.fasta import Protein
from probes.splits import read_clusters

FLAGS = ("--min-seq-id", "0.3", "-c", "0.8", "--cov-mode", "0")
"""Cluster at 30 % identity over at least 80 % of both sequences.

30 % is where homology can still be told from sequence alone, and what InterProt splits at (Adams et
al. 2025). Coverage of both (``--cov-mode 0``) keeps a short fragment from joining two unrelated
proteins that share one domain; the price is that relatives of very different length stay apart, as
may pairs that MMseqs2's greedy cover leaves across clusters."""


def mmseqs_clusters(
    proteins: Sequence[Protein], *, program: str = "mmseqs", threads: int | None = None
) -> tuple[dict[str, str], str]:
    """Cluster by protein id, and what was run, in words.

    A cluster has the id of its representative.

    Args:
        proteins: to cluster; all at once.
        program: name or path of MMseqs2.
        threads: by default all cores.

    Raises:
        UserError: the program is missing or fails, or a protein is not in what it wrote.
    """
    if shutil.which(program) is None:
        raise UserError(
            f"the program {program} is not on PATH: install MMseqs2 (Debian: apt-get install "
            "mmseqs2), or give a cluster file with --clusters FILE"
        )
    version = _run([program, "version"]).strip()
    with tempfile.TemporaryDirectory(prefix="mmseqs-") as folder:
        fasta, out = Path(folder) / "in.fasta", Path(folder) / "out"
        # by number: MMseqs2 takes parts of ids such as sp|P12345|NAME for the whole
        fasta.write_text("".join(f">s{i}\n{p.sequence}\n" for i, p in enumerate(proteins)))
        n_threads = threads or os.cpu_count() or 1
        _run([program, "easy-cluster", str(fasta), str(out), str(Path(folder) / "tmp"), *FLAGS,
              "--threads", str(n_threads), "-v", "1"])  # fmt: skip
        table = Path(f"{out}_cluster.tsv")
        if not table.exists():
            raise UserError(
                f"{program} easy-cluster ended well but wrote no {table.name}; run it by hand and "
                "give its table with --clusters FILE"
            )
        found = read_clusters(table)
    ids = {f"s{i}": p.id for i, p in enumerate(proteins)}
    if missing := [ids[s] for s in ids if s not in found]:
        raise UserError(
            f"{program} easy-cluster left out {len(missing)} of {len(proteins)} proteins (the "
            f"first is {missing[0]}); run it by hand and give its table with --clusters FILE"
        )
    clusters = {ids[member]: ids[representative] for member, representative in found.items()}
    return clusters, f"MMseqs2 {version} easy-cluster {' '.join(FLAGS)}"


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror}); check it") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace").splitlines()
        raise UserError(
            f"{' '.join(command[:2])} ended with status {done.returncode} "
            f"({said[-1].strip()[:200] if said else 'it said nothing'}); run it by hand and give "
            "its table with --clusters FILE"
        )
    return done.stdout.decode(errors="replace")
