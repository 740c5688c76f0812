from __future__ import annotations

import gzip
import os
import sys
import time
from pathlib import Path

import pytest
from Bio.PDB.PDBParser import PDBParser

from extract.errors import UserError
from extract.fasta import read_records
from steering.predictor import check_structure, predict_structures

DATA = Path(__file__).parents[2] / "data"
CHAINS = ("1ECA_A", "1BTN_A")

SCRIPT = """#!{python}
import gzip, pathlib, sys, time, os
fasta, folder = map(pathlib.Path, sys.argv[1:])
records = [part.split("\\n", 1)[0].split()[0] for part in fasta.read_text().split(">")[1:]]
for name in records:
    chain = name.split("_", 1)[1] if name.startswith("v") else name
    text = gzip.open("{structures}/" + chain + ".pdb.gz", "rt").read()
    (folder / (name + ".pdb")).write_text(text)
print("predicted", len(records))
{then}
"""


def program(folder: Path, then: str = "") -> Path:
    """A real program that writes the known backbones of two chains, and then something else."""
    path = folder / "predict.py"
    path.write_text(SCRIPT.format(python=sys.executable, structures=DATA / "structures", then=then))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def sequences() -> dict[str, str]:
    known = {r.id: r.sequence for r in read_records(DATA / "pdb.fasta.gz")}
    return {f"v{n}_{chain}": known[chain] for n, chain in enumerate(CHAINS)}


def test_every_record_gets_its_structure(tmp_path: Path, sequences: dict[str, str]) -> None:
    out = tmp_path / "predicted"
    out.mkdir()  # an empty folder may be there
    found = predict_structures(program(tmp_path), sequences, out)
    assert list(found) == list(sequences)
    for (name, sequence), chain in zip(sequences.items(), CHAINS, strict=True):
        structure = PDBParser(QUIET=True).get_structure(name, found[name])
        assert structure is not None
        assert len(list(structure.get_residues())) == len(sequence)
        with gzip.open(DATA / "structures" / f"{chain}.pdb.gz", "rt") as text:
            assert found[name].read_text() == text.read()
    assert (out / "predictor.log").read_text() == "predicted 2\n"
    assert {r.id: r.sequence for r in read_records(out / "input.fasta")} == sequences
    assert not (tmp_path / "predicted.tmp").exists()


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("sys.exit('no weights found')", "ended with status 1; it printed: no weights found"),
        ("os.kill(os.getpid(), 9)", "ended with signal 9"),
        ("(folder / 'v1_1BTN_A.pdb').unlink()", "record v1_1BTN_A: it wrote no v1_1BTN_A.pdb"),
        ("(folder / 'v1_1BTN_A.pdb').write_text('')", "record v1_1BTN_A: .* is empty"),
        ("(folder / 'v1_1BTN_A.pdb').write_text('garbage')", "v1_1BTN_A: .* can't be read as PDB"),
        (
            "(folder / 'v1_1BTN_A.pdb').write_bytes(b'\\xff\\xfe\\x00' * 99)",
            "v1_1BTN_A: .* can't be read as PDB",
        ),
        (
            "(folder / 'v1_1BTN_A.pdb').write_text((folder / 'v0_1ECA_A.pdb').read_text())",
            "record v1_1BTN_A: .* has 136 residues .* which are not the record's 106 residues",
        ),
        (
            "p = folder / 'v1_1BTN_A.pdb'; lines = p.read_text().split('\\n'); "
            "p.write_text('\\n'.join(lines[:300]))",
            "record v1_1BTN_A: .* which are not the record's 106",
        ),
        (
            "p = folder / 'v1_1BTN_A.pdb'; t = p.read_text(); x = t[30:38]; "
            "p.write_text('\\n'.join(l[:30] + '     nan' + l[38:] for l in t.split('\\n')))",
            "record v1_1BTN_A: .* has a CA whose coordinates are not finite",
        ),
    ],
)
def test_refuses_what_a_program_does_wrong(
    tmp_path: Path, sequences: dict[str, str], then: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        predict_structures(program(tmp_path, then), sequences, tmp_path / "out")
    assert str(tmp_path / "predict.py") in str(caught.value)
    assert not (tmp_path / "out").exists()
    # its leftovers stand in no one's way
    predict_structures(program(tmp_path), sequences, tmp_path / "out")


def test_a_slow_program_ends_with_its_children(tmp_path: Path, sequences: dict[str, str]) -> None:
    then = (
        "import subprocess; child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )
    start = time.monotonic()
    with pytest.raises(UserError, match="had not ended after 2 seconds and was stopped"):
        predict_structures(program(tmp_path, then), sequences, tmp_path / "out", time_limit_s=2.0)
    assert time.monotonic() - start < 20
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("the child was left running")


def test_refuses_before_it_runs(tmp_path: Path, sequences: dict[str, str]) -> None:
    run = program(tmp_path)
    for name in ("../escape", "a/b", "", "-rf", "a b"):
        with pytest.raises(UserError, match="can't name a file"):
            predict_structures(run, {name: "MK"}, tmp_path / "out")
    with pytest.raises(UserError, match="no sequence to predict"):
        predict_structures(run, {}, tmp_path / "out")
    with pytest.raises(UserError, match="time_limit_s"):
        predict_structures(run, sequences, tmp_path / "out", time_limit_s=float("nan"))
    with pytest.raises(UserError, match=r"nothing.py: is not a program"):
        predict_structures(tmp_path / "nothing.py", sequences, tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        predict_structures(run, sequences, tmp_path)
    (tmp_path / "out.tmp").mkdir()
    (tmp_path / "out.tmp" / "mine").write_text("precious")
    with pytest.raises(UserError, match="is not of an earlier run"):
        predict_structures(run, sequences, tmp_path / "out")
    assert (tmp_path / "out.tmp" / "mine").exists()
    run.write_text("no shebang")
    with pytest.raises(UserError, match=r"predict.py: can't be run"):
        predict_structures(run, sequences, tmp_path / "elsewhere")
    run.chmod(0o644)
    with pytest.raises(UserError, match=r"predict.py: is not a program"):
        predict_structures(run, sequences, tmp_path / "elsewhere")


def test_unknown_residues_may_have_any_other_name(tmp_path: Path) -> None:
    path = tmp_path / "x.pdb"
    line = "ATOM      {n}  CA  {name} A   {n}       1.000   2.000   3.000  1.00  0.00           C\n"
    path.write_text(line.format(n=1, name="MET") + line.format(n=2, name="UNK"))
    check_structure(path, "MX", "record x")
    with pytest.raises(UserError, match="record x: x.pdb has 2 residues"):
        check_structure(path, "XM", "record x")
