"""mmCIF written by gemmi from a bundled backbone gives the coordinates of its PDB file."""

import gzip
import sys
from pathlib import Path

import gemmi
import numpy as np
import pytest

from extract.errors import UserError
from extract.selection import read_fasta
from probes.kinds.structures import read_cb, read_structures
from tests.probes.helpers import make_rows

DATA = Path(__file__).parents[3] / "data"
NAME = "1BTN_A"
SEQUENCE = next(p.sequence for p in read_fasta(DATA / "pdb.fasta.gz")[0] if p.id == NAME)
BACKBONE = DATA / "structures" / f"{NAME}.pdb.gz"
THREE = dict(zip("ACDEFGHIKLMNPQRSTVWY", gemmi.expand_one_letter_sequence(
    "ACDEFGHIKLMNPQRSTVWY", gemmi.ResidueKind.AA), strict=True))  # fmt: skip


def model_of(first=0, last=None, tag="", missing=(), author=1):
    """The backbone as deposited: SEQRES of a tag and residues first to last, some without atoms."""
    structure = gemmi.read_pdb_string(gzip.decompress(BACKBONE.read_bytes()).decode())
    chain = structure[0][0]
    structure.setup_entities()
    (entity,) = structure.entities
    kept = SEQUENCE[first:last]
    entity.full_sequence = [THREE[a] for a in tag + kept]
    for i in reversed(range(len(chain))):
        chain[i].label_seq = i - first + len(tag) + 1
        chain[i].seqid = gemmi.SeqId(author + i, " ")
        if i in missing or not 0 <= i - first < len(kept):
            del chain[i]
    return structure


def write_cif(path, structure):
    text = structure.make_mmcif_document().as_string()
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def same_as_pdb(found, missing=(), length=None):
    expected = read_cb(BACKBONE, SEQUENCE)[:length]
    expected[list(missing)] = np.nan
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("author", [1, 40, -3])
@pytest.mark.parametrize("name", ["p.cif", "p.cif.gz"])
def test_missing_residues_shift_nothing(tmp_path, name, author):
    missing = (0, 1, 20, 21, 22, len(SEQUENCE) - 1)
    path = write_cif(tmp_path / name, model_of(missing=missing, author=author))
    same_as_pdb(read_cb(path, SEQUENCE), missing)


def test_insertion_codes_shift_nothing(tmp_path):
    structure = model_of()
    for k, residue in enumerate(structure[0][0]):
        residue.seqid = gemmi.SeqId(f"{k // 3 + 1}{['', 'A', 'B'][k % 3]}")
    same_as_pdb(read_cb(write_cif(tmp_path / "p.cif", structure), SEQUENCE))


def test_a_tag_and_a_part_of_the_protein(tmp_path):
    tagged = write_cif(tmp_path / "t.cif", model_of(tag="MGHHHHHHAS", missing=(3,)))
    same_as_pdb(read_cb(tagged, SEQUENCE), (3,))
    part = write_cif(tmp_path / "p.cif", model_of(first=30, last=80))
    outside = [*range(30), *range(80, len(SEQUENCE))]
    same_as_pdb(read_cb(part, SEQUENCE), outside)
    same_as_pdb(read_cb(tagged, SEQUENCE[:50]), (3,), length=50)  # a cropped protein


def test_modified_residues_keep_their_place(tmp_path):
    structure = model_of()
    (entity,) = structure.entities
    whole = list(entity.full_sequence)
    for at, name in ((0, "MSE"), (5, "SEP")):
        whole[at] = name
        structure[0][0][at].name = name
        structure[0][0][at].het_flag = "H"
    whole[9] += ",TRP"
    entity.full_sequence = whole
    assert SEQUENCE[0] == "M"
    same_as_pdb(read_cb(write_cif(tmp_path / "p.cif", structure), SEQUENCE))


def test_of_alternatives_the_likeliest(tmp_path):
    structure = model_of()
    residue = structure[0][0][4]
    (atom,) = [a for a in residue if a.name == "CB"]
    other = atom.clone()
    atom.altloc, atom.occ, other.altloc, other.occ = "A", 0.3, "B", 0.7
    other.pos = gemmi.Position(1, 2, 3)
    residue.add_atom(other)
    found = read_cb(write_cif(tmp_path / "p.cif", structure), SEQUENCE)
    assert found[4].tolist() == [1, 2, 3]


def test_the_chain_of_the_name_and_no_water(tmp_path):
    structure = model_of()
    wrong = gemmi.Chain("B")
    for residue in structure[0][0]:
        wrong.add_residue(residue)
    for residue in wrong:
        for atom in residue:
            atom.pos += gemmi.Position(100, 0, 0)
    water = gemmi.Chain("W")
    water.add_residue(gemmi.Residue())
    water[0].name, water[0].seqid = "HOH", gemmi.SeqId("1")
    water[0].add_atom(gemmi.Atom())
    structure[0].add_chain(water)
    alone = structure.clone()
    structure[0].add_chain(wrong)
    for s in (structure, alone):
        s.setup_entities()
        s.assign_label_seq_id()
    same_as_pdb(read_cb(write_cif(tmp_path / "p.cif", alone), SEQUENCE))
    same_as_pdb(read_cb(write_cif(tmp_path / "1XYZ_A.cif", structure), SEQUENCE))
    with pytest.raises(UserError, match=r"must hold one chain of amino acids \(found: 'A', 'B'\)"):
        read_cb(write_cif(tmp_path / "p.cif", structure), SEQUENCE)


def test_without_the_whole_sequence_numbers_count(tmp_path):
    structure = model_of(missing=(2, 3))
    for entity in structure.entities:
        entity.full_sequence = []
    for residue in structure[0][0]:
        residue.label_seq = None
    same_as_pdb(read_cb(write_cif(tmp_path / "p.cif", structure), SEQUENCE), (2, 3))
    for k, residue in enumerate(structure[0][0]):
        residue.seqid = gemmi.SeqId(k, " ")
    with pytest.raises(UserError, match="MET 0 has no position in the protein; the file lacks"):
        read_cb(write_cif(tmp_path / "p.cif", structure), SEQUENCE)


def test_numbered_from_the_first_residue_that_is_there(tmp_path):
    """As programs for drawing and refinement write: 1, 2, … whatever came before, no sequence."""
    structure = model_of(missing=range(12), author=-2)
    for entity in structure.entities:
        entity.full_sequence = []
    for k, residue in enumerate(structure[0][0], start=1):
        residue.label_seq = k
    path = write_cif(tmp_path / "p.cif", structure)
    same_as_pdb(read_cb(path, SEQUENCE), range(12))
    del structure[0][0][20:23]
    for k, residue in enumerate(structure[0][0], start=1):
        residue.label_seq = k
    with pytest.raises(UserError, match="neither holds nor lies in that of p"):
        read_cb(write_cif(path, structure), SEQUENCE)


def test_a_folder_of_both(tmp_path):
    rows = make_rows(**{NAME: SEQUENCE, "P12345": SEQUENCE, "other": "ACD"})
    write_cif(tmp_path / "AF-P12345-F1-model_v6.cif.gz", model_of())
    (tmp_path / f"{NAME}.pdb.gz").write_bytes(BACKBONE.read_bytes())
    found = read_structures(tmp_path, rows)
    assert sorted(found) == [0, 1]
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)
    write_cif(tmp_path / f"{NAME}.cif", model_of())
    with pytest.raises(UserError, match=f"another file for {NAME}"):
        read_structures(tmp_path, rows)


def test_files_that_do_not_fit(tmp_path):
    def line(path, sequence=SEQUENCE):
        with pytest.raises(UserError) as stop:
            read_cb(path, sequence)
        assert str(stop.value).startswith(f"{path}: ")
        assert "\n" not in str(stop.value)
        return str(stop.value)

    path = write_cif(tmp_path / "p.cif", model_of())
    changed = SEQUENCE[:7] + ("A" if SEQUENCE[7] != "A" else "G") + SEQUENCE[8:]
    words = f"sequence ({len(SEQUENCE)} residues) neither holds nor lies in that of p"
    assert words in line(path, changed)
    assert "lies at several places in that of p" in line(path, "AC" + SEQUENCE * 2)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    assert "can't be read as an mmCIF file" in line(path)
    path.write_text("<html>404</html>")
    assert "can't be read as an mmCIF file" in line(path)
    path.write_text("data_empty\n_x.y 1\n")
    assert "must hold one chain of amino acids (found: none)" in line(path)


def test_without_gemmi(tmp_path, monkeypatch):
    path = write_cif(tmp_path / "p.cif", model_of())
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(UserError, match="reading mmCIF needs gemmi; pip install gemmi"):
        read_cb(path, SEQUENCE)
