"""Any structure predictor, as a program of the user's own; none comes with this project.

It is called as ``PROGRAM input.fasta output_folder`` and must write one ``<record id>.pdb`` per
record into the folder, which exists and is empty, with one chain of that record's residues.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from extract.errors import UserError
from extract.files import write_atomically

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""Ids that name a file on every system."""

LOG_NAME = "predictor.log"


def predict_structures(
    program: Path,
    sequences: Mapping[str, str],
    folder: Path,
    *,
    time_limit_s: float = 3600.0,
) -> dict[str, Path]:
    """Have a program predict the structure of each sequence.

    It works in ``<folder>.tmp``, which takes its name when every file is there and right: one model
    of one chain, whose residues are the record's. What the program prints goes to
    ``predictor.log`` there, and stays in ``<folder>.tmp`` if it fails.

    Args:
        program: what to run.
        sequences: residues by record id (see :data:`SAFE_ID`).
        folder: made; it must not exist, or be empty.
        time_limit_s: after so many seconds the program and its children are ended.

    Returns:
        The PDB file of every record.

    Raises:
        UserError: naming the program: it can't be run, takes too long, ends with another status
            than 0, or a record's file is missing, empty, unreadable or of another sequence.
    """
    found = shutil.which(program) if program.is_file() else None
    if found is None:
        raise UserError(f"{program}: is not a program that can be run; check its path and mode")
    for name in sequences:
        if not SAFE_ID.fullmatch(name):
            raise UserError(
                f"record {name!r} can't name a file; use letters, digits, '.', '_' and '-'"
            )
    if not sequences:
        raise UserError(f"{program}: no sequence to predict; give some")
    if not 0 < time_limit_s < float("inf"):
        raise UserError(f"time_limit_s ({time_limit_s}) must be above 0, and finite")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; give another folder for the structures")
    temporary = folder.with_name(folder.name + ".tmp")
    if temporary.exists() and not (temporary / "input.fasta").is_file():
        raise UserError(f"{temporary}: is not of an earlier run; move it away")
    shutil.rmtree(temporary, ignore_errors=True)
    output = temporary / "structures"
    output.mkdir(parents=True)
    fasta = "".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items())
    write_atomically(temporary / "input.fasta", lambda f: f.write(fasta.encode()))
    _run([str(Path(found).resolve()), str((temporary / "input.fasta").resolve()),
          str(output.resolve())], program, temporary / LOG_NAME, time_limit_s)  # fmt: skip
    for name, sequence in sequences.items():
        check_structure(output / f"{name}.pdb", sequence, f"{program}: record {name}")
    if folder.exists():
        folder.rmdir()
    temporary.replace(folder)
    return {name: folder / "structures" / f"{name}.pdb" for name in sequences}


def _run(command: list[str], program: Path, log: Path, time_limit_s: float) -> None:
    """Run a program in a session of its own, so that its children end with it."""
    with log.open("wb") as f:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{program}: can't be run ({error.strerror}); check it") from error
        try:
            status = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{program}: had not ended after {time_limit_s:g} seconds and was stopped; give "
                f"fewer sequences or a longer time limit (what it printed: {log})"
            ) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        lines = log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        raise UserError(f"{program}: ended with {how}; it printed: {last[:200]} (all of it: {log})")


def check_structure(path: Path, sequence: str, where: str) -> None:
    """Refuse a PDB file that is not one chain with a finite Cα of every residue of ``sequence``.

    Raises:
        UserError: naming ``where`` and the file.
    """
    from Bio.Data.IUPACData import protein_letters_3to1
    from Bio.PDB.PDBExceptions import PDBConstructionException
    from Bio.PDB.PDBParser import PDBParser

    if not path.is_file():
        raise UserError(f"{where}: it wrote no {path.name}; it must write one file for each record")
    if not path.stat().st_size:
        raise UserError(f"{where}: {path.name} is empty; look at what it printed ({LOG_NAME})")
    try:
        structure = PDBParser(QUIET=True).get_structure(path.stem, path)
        models = list(structure or ())
        if not models:
            raise ValueError("it holds no model")
        chains = list(models[0])
        residues = [residue for chain in chains for residue in chain if "CA" in residue]
    except (ValueError, PDBConstructionException) as error:
        raise UserError(f"{where}: {path.name} can't be read as PDB ({error})") from error
    names = [residue.resname.capitalize() for residue in residues]
    letters = "".join(protein_letters_3to1.get(name, "X") for name in names)
    known = "".join(a if a in protein_letters_3to1.values() else "X" for a in sequence)
    if len(chains) != 1 or letters != known:
        raise UserError(
            f"{where}: {path.name} has {len(letters)} residues with a CA in {len(chains)} chains, "
            f"which are not the record's {len(sequence)} residues in one chain"
        )
    if not all(np.isfinite(residue["CA"].coord).all() for residue in residues):
        raise UserError(f"{where}: {path.name} has a CA whose coordinates are not finite")
