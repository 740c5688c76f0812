"""Pfam, GO, EC and family: where they are known, and how they are written."""

from probes.sources.protein_labels import (
    ProteinLabels,
    ec_numbers,
    ec_numbers_in,
    families,
    families_in,
    terms_in,
)
from tests.probes.helpers import concept, make_rows

ROWS = make_rows(a="AA", b="A", c="AAA", d="A")


def build(*labels):
    table = ProteinLabels(ROWS)
    for protein, found in enumerate(labels):
        table.add(protein, found)
    return table.concepts()


def test_absence_is_an_answer_only_where_someone_answered():
    concepts = build(
        {"Pfam": {"PF00001"}, "GO": {"GO:0000001"}, "family": {"X family"}},
        {"Pfam": set(), "GO": set(), "family": set()},
        {"Pfam": {"PF00002"}, "GO": {"GO:0000002"}, "family": {"Y family"}},
    )
    assert concept(concepts, "Pfam PF00001").defined.tolist() == [True, True, True, False]
    assert concept(concepts, "GO:0000001").defined.tolist() == [True, False, True, False]
    assert concept(concepts, "family X family").defined.tolist() == [True, False, True, False]
    assert concept(concepts, "GO:0000002").spans.tolist() == [[3, 6]]


def test_ec_levels_and_what_an_incomplete_number_leaves_open():
    concepts = build({"EC": {"3.4.21.4"}}, {"EC": {"3.4.-.-"}}, {"EC": {"1.1.1.1"}},
                     {"EC": {"3.4.-.-", "3.4.21.4"}})  # fmt: skip
    assert [c.name for c in concepts if c.name.startswith("EC 3")] == [
        "EC 3.-.-.-", "EC 3.4.-.-", "EC 3.4.21.-", "EC 3.4.21.4",
    ]  # fmt: skip
    assert concept(concepts, "EC 3.4.-.-").spans.tolist() == [[0, 2], [2, 3], [6, 7]]
    assert concept(concepts, "EC 3.4.-.-").defined.all()
    assert concept(concepts, "EC 3.4.21.4").spans.tolist() == [[0, 2], [6, 7]]
    assert concept(concepts, "EC 3.4.21.4").defined.tolist() == [True, False, True, True]
    assert concept(concepts, "EC 1.1.1.1").defined.all()


def test_words_of_three_formats():
    assert ec_numbers("RecName: Full=A; EC=1.1.1.n2 {ECO:1}; AltName: EC=3.4.-.-;") == {
        "1.1.1.n2", "3.4.-.-",
    }  # fmt: skip
    assert ec_numbers("Alcohol dehydrogenase (EC 1.1.1.1)") == {"1.1.1.1"}
    assert ec_numbers_in("1.1.1.1; 3.4.21.B1; 2.7.-.-") == {"1.1.1.1", "2.7.-.-"}
    assert terms_in("GO", "nucleus [GO:0005634]; GO:12") == {"GO:0005634"}
    text = " Belongs to the peptidase S1 family. CLIP\n subfamily. {ECO:0000255|RuleBase:RU1}."
    assert families([text]) == families_in("Peptidase S1 family, CLIP subfamily")
    parts = ["In the N-terminal section; belongs to the PMEI family.",
             "In the C-terminal section; belongs to the pectinesterase family."]  # fmt: skip
    assert families(parts) == families_in("PMEI family; Pectinesterase family")
    assert families(["Contains 1 EGF-like domain."]) == set()
