"""Ancestors of GO terms, and ontologies that are damaged."""

import gzip

import numpy as np
import pytest

from extract.errors import UserError
from probes.annotations import Annotations
from probes.config import ProbeConfig
from probes.sources.gene_ontology import GeneOntology
from tests.probes.helpers import concept, make_rows, write
from tests.probes.uniprot_files import SEQUENCE, flat_entry

HEADER = "format-version: 1.2\nontology: go\n"


def term(number, *lines):
    return "\n".join(["", "[Term]", f"id: GO:{number:07d}", f"name: term {number}", *lines, ""])


# 5524 is_a 2 is_a 1; 5524 part_of 16020 (another branch) is_a 3; 4 regulates 1
OBO = HEADER + "".join([
    term(1), term(3),
    term(2, "is_a: GO:0000001 ! term 1"),
    term(4, "relationship: regulates GO:0000001 ! x", "is_a: GO:0000003 {source=\"x\"} ! x"),
    term(16020, "alt_id: GO:0000099", "is_a: GO:0000003"),
    term(5524, "def: \"is_a: GO:0000004\" [x]", "is_a: GO:0000002 ! term 2",
         "intersection_of: GO:0000004 ! term 4", "relationship: part_of GO:0000099 ! an old id"),
    term(6, "is_obsolete: true", "consider: GO:0000004"),
    "\n[Term]\nid: CHEBI:1\nis_a: CHEBI:2\nis_a: GO:0000001\n",
    "\n[Typedef]\nid: part_of\nis_a: GO:0000001\n",
])  # fmt: skip


def go(*numbers):
    return {f"GO:{n:07d}" for n in numbers}


def test_ancestors_by_is_a_and_part_of(tmp_path):
    ontology = GeneOntology.read(write(tmp_path / "go.obo.gz", OBO))
    assert ontology.with_ancestors(go(5524)) == go(5524, 2, 1, 16020, 3)
    assert ontology.with_ancestors(go(4)) == go(4, 3)
    assert ontology.with_ancestors(go(99, 6)) == go(16020, 3, 6)
    assert ontology.with_ancestors(go(777)) == go(777)
    assert ontology.unknown(sorted(go(99, 777, 5524))) == ["GO:0000777"]


def test_obsolete_terms_are_what_replaced_them(tmp_path):
    """Or, if nothing did, no terms any more: not silently terms without ancestors. Their old ids go
    where they go."""
    retired = OBO + "".join([
        term(10, "is_obsolete: true", "replaced_by: GO:0000002"),
        term(11, "alt_id: GO:0000098", "is_obsolete: true", "replaced_by: GO:0000010"),
        term(12, "is_obsolete: true", "replaced_by: GO:0000006"),
        term(13, "is_obsolete: true", "replaced_by: GO:0000014"),
        term(14, "is_obsolete: true", "replaced_by: GO:0000013"),
        term(15, "is_a: GO:0000002", "is_obsolete: false"),
    ])  # fmt: skip
    ontology = GeneOntology.read(write(tmp_path / "go.obo", retired))
    for old in (10, 11, 98):
        assert ontology.with_ancestors(go(old)) == go(2, 1)
    assert ontology.with_ancestors(go(15)) == go(15, 2, 1)
    lost = sorted(go(6, 12, 13, 14))
    assert ontology.unknown([*lost, *go(10)]) == lost
    assert ontology.with_ancestors(lost) == set(lost)


def test_random_ontologies_against_powers_of_their_matrix(tmp_path):
    rng = np.random.default_rng(0)
    n = 40
    above = np.triu(rng.random((n, n)) < 0.08, 1)
    how = ("is_a:", "relationship: part_of")
    text = "".join(
        term(i, *(f"{how[(i + j) % 2]} GO:{j:07d} ! x" for j in np.flatnonzero(above[i])))
        for i in rng.permutation(n)
    )
    ontology = GeneOntology.read(write(tmp_path / "go.obo", HEADER + text))
    reached = np.linalg.matrix_power(np.eye(n) + above, n) > 0
    for i in range(n):
        assert ontology.with_ancestors(go(i)) == go(*np.flatnonzero(reached[i]))


def test_concepts_of_proteins_with_and_without_the_ontology(tmp_path):
    """A protein with the child is a positive of the parent, and no longer its negative."""
    rows = make_rows(P1=SEQUENCE, P2=SEQUENCE, P3=SEQUENCE)
    other = flat_entry("P2").replace("GO:0005524", "GO:0000002").replace("GO:0016020", "GO:0000777")
    none = "\n".join(s for s in flat_entry("P3").split("\n") if "DR   GO" not in s)
    file = write(tmp_path / "sp.dat", flat_entry("P1") + other + none)
    plain = Annotations.load(rows, swissprot=file)
    full = Annotations.load(rows, swissprot=file, go_obo=write(tmp_path / "go.obo", OBO))
    names = {c.name for c in plain.concepts if c.name.startswith("GO")}
    assert names == go(5524, 16020, 2, 777)
    assert {c.name for c in full.concepts if c.name.startswith("GO")} == names | go(1, 3)

    def proteins(annotations, number):
        found = concept(annotations.concepts, *go(number))
        assert found.defined.tolist() == [True, True, False]
        return rows.protein_of(found.spans[:, 0]).tolist()

    assert proteins(plain, 2) == [1]
    assert proteins(full, 2) == proteins(full, 1) == [0, 1]
    assert proteins(full, 3) == [0]
    assert [r.unknown_go for r in (*plain.reports, *full.reports)] == [{}, {"GO:0000777": 1}]


def test_unknown_terms_are_said_once(tmp_path, caplog):
    rows = make_rows(P1=SEQUENCE)
    text = flat_entry("P1").replace("GO:0016020", "GO:0000777")
    Annotations.load(rows, swissprot=write(tmp_path / "sp.dat", text),
                     go_obo=write(tmp_path / "go.obo", OBO))  # fmt: skip
    (line,) = [r.getMessage() for r in caplog.records if "ontology" in r.getMessage()]
    assert "used without ancestors: 1 (GO:0000777)" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>302 Found</html>\n", "holds no GO term; give the Gene Ontology's go-basic.obo"),
        (HEADER + term(1) + term(1), "line 9: GO:0000001 occurs twice"),
        (HEADER + term(1, "is_a: GO:0000009"), "line 7: GO:0000001 lies below GO:0000009, which"),
        (HEADER + "[Term]\nis_a: GO:0000009\n", "line 4: a [Term] begins without its id"),
        (HEADER + term(1, "is_a: GO:0000001"), "in a circle (GO:0000001 → GO:0000001)"),
        (HEADER + term(1, "is_a: GO:0000002") + term(2, "relationship: part_of GO:0000001"),
         "terms imply each other in a circle (GO:000000"),
    ],
)  # fmt: skip
def test_damaged_ontologies(tmp_path, text, message):
    path = write(tmp_path / "go.obo", text)
    with pytest.raises(UserError) as stop:
        GeneOntology.read(path)
    assert str(stop.value).startswith(f"{path}: ")
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)


def test_a_long_circle_fits_a_line(tmp_path):
    n = 3000  # deeper than Python recurses
    text = "".join(term(i, f"is_a: GO:{(i + 1) % n:07d}") for i in range(n))
    with pytest.raises(UserError, match="…"):
        GeneOntology.read(write(tmp_path / "go.obo", HEADER + text))
    text = text.replace("is_a: GO:0000000\n", "\n")
    ontology = GeneOntology.read(write(tmp_path / "deep.obo", HEADER + text))
    assert len(ontology.with_ancestors(go(0))) == n


def test_a_truncated_download(tmp_path):
    path = tmp_path / "go.obo.gz"
    path.write_bytes(gzip.compress(OBO.encode())[:-20])
    with pytest.raises(UserError, match="truncated or damaged"):
        GeneOntology.read(path)


def test_an_ontology_without_entries(tmp_path):
    with pytest.raises(UserError, match="give them with --swissprot or --uniprot"):
        ProbeConfig(tmp_path, (tmp_path,), allow_random_split=True, go_obo=tmp_path / "go.obo")
