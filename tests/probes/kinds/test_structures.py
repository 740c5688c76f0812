"""Coordinates from files, with one-line errors; contacts against loops."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from extract.errors import UserError
from probes.data.rows import OTHER_RESIDUE
from probes.kinds.structures import cb_of, contact_pairs, read_cb, read_structures
from probes.sources.structure_files import residues
from tests.probes.helpers import make_rows

ATOM = (
    "ATOM  {n:5d}  {name:<3} {res} {chain}{num:4d}{ins}   "
    "{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {e}"
)
THREE = {"A": "ALA", "C": "CYS", "G": "GLY", "W": "TRP"}
BACKBONES = Path(__file__).parents[3] / "data" / "structures"


def pdb_text(letters, *, chain="A", first=1, insertion=" ", names=("N", "CA", "C", "CB")):
    lines = []
    for i, letter in enumerate(letters):
        for k, name in enumerate(names):
            if name == "CB" and letter == "G":
                continue
            lines.append(ATOM.format(n=len(lines) + 1, name=name, res=THREE[letter], chain=chain,
                                     num=first + i, ins=insertion, x=3.0 * i + k, y=1.0 * (k == 3),
                                     z=0.5 * k, e=name[0]))  # fmt: skip
    return "\n".join([*lines, "END", ""])


def test_reads_plain_gzipped_and_alphafold_names(tmp_path):
    rows = make_rows(one="ACG", P12345="WW", three="A")
    (tmp_path / "one.pdb").write_text(pdb_text("ACG"))
    (tmp_path / "AF-P12345-F1-model_v6.pdb.gz").write_bytes(gzip.compress(pdb_text("WW").encode()))
    (tmp_path / "stranger.pdb").write_text("nonsense")
    (tmp_path / "README.md").write_text("notes")
    found = read_structures(tmp_path, rows)
    assert sorted(found) == [0, 1]
    assert found[0][:2].tolist() == [[3, 1, 1.5], [6, 1, 1.5]]  # CB
    assert np.isfinite(found[0][2]).all()  # glycine's ideal CB
    assert found[1].shape == (2, 3)


def test_missing_residues_are_unknown_and_cropped_ones_dropped(tmp_path):
    path = tmp_path / "p.pdb"
    path.write_text(pdb_text("CGA", first=2))
    found = read_cb(path, "ACG")  # the fourth residue is behind the stored end
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pdb_text("CA"), "residue CYS 1 is C, but position 1 of p is A"),
        (pdb_text("AC", insertion="B"), "residue ALA 1B has no position"),
        (pdb_text("AC", first=0), "residue ALA 0 has no position"),
        (pdb_text("AC")[:-4] + pdb_text("AC", chain="B"), "must hold one chain"),
        ("", "can't be read as a PDB file"),
        (pdb_text("AC", first=7), "holds no residue of the protein"),
    ],
)
def test_files_that_do_not_fit(tmp_path, text, message):
    path = tmp_path / "p.pdb"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_cb(path, "AC")
    assert str(path) in str(error.value)


def test_folders_that_do_not_fit(tmp_path):
    rows = make_rows(p="AC")
    with pytest.raises(UserError, match="is not a folder"):
        read_structures(tmp_path / "none", rows)
    (tmp_path / "q.pdb").write_text(pdb_text("AC"))
    with pytest.raises(UserError, match="none of its 1 structures"):
        read_structures(tmp_path, rows)
    (tmp_path / "p.pdb").write_text(pdb_text("AC"))
    (tmp_path / "p.pdb.gz").write_bytes(gzip.compress(pdb_text("AC").encode())[:-9])
    with pytest.raises(UserError, match="truncated or damaged|another file"):
        read_structures(tmp_path, rows)


def test_ideal_cb_is_where_real_ones_are():
    off = []
    for residue in residues(min(BACKBONES.glob("*.pdb.gz")), ""):
        if "CB" in residue.atoms:
            real = residue.atoms.pop("CB")
            off.append(np.linalg.norm(cb_of(residue.atoms) - real))
    assert len(off) > 50
    assert np.median(off) < 0.1
    assert np.max(off) < 0.5


def test_contacts_equal_loops():
    rng = np.random.default_rng(0)
    rows = make_rows(a="ACDEFGHIKLMNPQRSTVWY", b="ACACACACACAC", c="AAAAAAA")
    structures = {
        p: (rng.normal(size=(n, 3)) * 6).astype(np.float32) for p, n in ((0, 20), (1, 12))
    }
    structures[0][5] = np.nan
    fires = rng.random((rows.n_rows, 4)) < 0.5
    row, latent = np.nonzero(fires)
    shuffled = rng.permutation(len(row))
    found = contact_pairs(latent[shuffled], row[shuffled], rows, structures, 4)
    pairs = []  # protein, i, j, contact
    for p, x in structures.items():
        for i in range(len(x)):
            for j in range(i + 6, len(x)):
                distance = np.linalg.norm(x[i] - x[j])
                if np.isfinite(distance):
                    pairs.append((p, i, j, distance < 8))
    share = {}
    for p, i, j, contact in pairs:
        share.setdefault((p, j - i), []).append(contact)
    residue = rows.residue_class
    observed = np.ones((OTHER_RESIDUE + 1,) * 2)
    expected = observed.copy()
    for p, i, j, contact in pairs:
        a, b = (residue[rows.offsets[p] + k] for k in (i, j))
        for x, y in ((a, b), (b, a)):
            observed[x, y] += contact / 2
            expected[x, y] += np.mean(share[p, j - i]) / 2
    for k in range(4):
        mine = [(p, i, j, c) for p, i, j, c in pairs
                if fires[rows.offsets[p] + i, k] and fires[rows.offsets[p] + j, k]]  # fmt: skip
        assert found.n_pairs[k] == len(mine)
        assert found.observed[k] == pytest.approx(sum(c for *_, c in mine))
        by_separation = [np.mean(share[p, j - i]) for p, i, j, _ in mine]
        assert found.expected[k] == pytest.approx(sum(by_separation), rel=1e-5)
        ratio = [
            (observed / expected)[residue[rows.offsets[p] + i], residue[rows.offsets[p] + j]]
            for p, i, j, _ in mine
        ]
        of_residues = np.dot(by_separation, ratio)
        assert found.expected_of_residues[k] == pytest.approx(of_residues, rel=1e-5)
