"""Logos by hand and against loops; the drawing has the letters of the counts."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from extract.alphabet import AMINO_ACIDS
from probes.kinds.logos import PSEUDOCOUNT, logo_counts
from probes.report.logo_svg import CELL, COLOUR, HEIGHT, LEFT, TOP, letter_shapes, logo_svg
from tests.helpers import random_proteins
from tests.probes.helpers import columns_of, make_rows

INDEX = {a: i for i, a in enumerate(AMINO_ACIDS)}


def test_counts_by_hand():
    rows = make_rows(a="ACDEF", b="GXACD")
    dense = np.zeros((10, 1))
    dense[[1, 8], 0] = [3.0, 1.0]  # C of a; C of b
    logos = logo_counts(columns_of(dense), rows, flank=2)
    counts = logos.counts[0]
    assert counts[2, INDEX["C"]] == 4  # both
    assert counts[1, INDEX["A"]] == 4
    assert counts[0].sum() == 0  # before a's start; X in b is no standard residue
    assert counts[4, INDEX["E"]] == 3  # b ends before
    assert logos.n_effective[0].tolist() == pytest.approx([0, 16 / 10, 16 / 10, 16 / 10, 1])
    assert logos.n_sites.tolist() == [2]
    assert logos.background[INDEX["A"]] == pytest.approx(2 / 9)


def test_counts_equal_loops():
    proteins = random_proteins(8, 15, 40, seed=1)
    rows = make_rows(**{p.id: p.sequence for p in proteins})
    rng = np.random.default_rng(0)
    dense = np.maximum(rng.normal(size=(rows.n_rows, 5)), 0)
    dense[:, 3] = 0
    logos = logo_counts(columns_of(dense), rows, flank=3, fraction=0.2, top_n=9, max_per_protein=2)
    dense = dense.astype(np.float32)
    for j in range(5):
        strong = [
            r for r in range(rows.n_rows) if dense[r, j] > np.float32(0.2) * dense[:, j].max()
        ]
        kept = []
        for r in sorted(strong, key=lambda r: -dense[r, j]):
            if sum(rows.protein_idx[k] == rows.protein_idx[r] for k in kept) < 2:
                kept.append(r)
        expected = np.zeros((7, 20))
        for r in kept[:9]:
            for offset in range(-3, 4):
                at = r + offset
                if 0 <= at < rows.n_rows and rows.protein_idx[at] == rows.protein_idx[r]:
                    expected[offset + 3, rows.residue_class[at]] += dense[r, j]
        assert logos.counts[j] == pytest.approx(expected, rel=1e-5)
        assert logos.n_sites[j] == min(9, len(kept))


def test_information_of_a_conserved_and_of_a_random_position():
    rng = np.random.default_rng(2)
    sequences = {f"p{i}": "".join(rng.choice(list(AMINO_ACIDS), 21)) for i in range(200)}
    sequences = {name: s[:10] + "W" + s[11:] for name, s in sequences.items()}
    rows = make_rows(**sequences)
    dense = np.zeros((rows.n_rows, 1))
    dense[rows.offsets[:-1] + 10, 0] = 1
    logos = logo_counts(columns_of(dense), rows)
    correction = 19 / (2 * np.log(2) * 200)
    expected = np.log2(1 / logos.background[INDEX["W"]]) - correction
    assert logos.bits[0, 10] == pytest.approx(expected, rel=1e-5)
    # uncorrected, 200 random residues would seem to hold 19 / (2 ln 2 · 200) = 0.07 bits
    assert np.delete(logos.bits[0], 10).mean() < 0.03
    assert logos.consensus() == ["." * 10 + "W" + "." * 10]
    enrichment = logos.enrichment[0, 10]
    b = logos.background[INDEX["W"]]
    shrunk = (200 + PSEUDOCOUNT * b) / (200 + PSEUDOCOUNT)
    assert enrichment[INDEX["W"]] == pytest.approx(np.log2(shrunk / b), rel=1e-5)
    assert np.isfinite(enrichment).all()
    assert enrichment[INDEX["A"]] < -5


def test_one_repetitive_protein_does_not_make_the_logo():
    rows = make_rows(repeat="PG" * 200, **{f"p{i}": "ACDWEFH" for i in range(30)})
    dense = np.zeros((rows.n_rows, 1))
    dense[1:400:2, 0] = 2
    dense[rows.offsets[1:-1] + 3, 0] = 1
    columns = columns_of(dense)
    capped, every = (
        logo_counts(columns, rows, flank=2, max_per_protein=m).frequencies[0, 2] for m in (1, None)
    )
    assert capped[INDEX["W"]] == pytest.approx(30 / 32)
    assert every[INDEX["G"]] == pytest.approx(400 / 430)


def test_a_dead_latent_has_an_empty_logo():
    rows = make_rows(a="ACD")
    logos = logo_counts(columns_of(np.zeros((3, 1))), rows, flank=1)
    assert logos.bits.tolist() == [[0, 0, 0]]
    assert np.isfinite(logos.enrichment).all()
    assert logos.consensus() == ["..."]


def test_enriched_letters_by_hand():
    sequences = {f"p{i}": "ACDWEFH" if i % 3 else "ACDKEFH" for i in range(30)}
    rows = make_rows(**sequences, other="Y" * 60)
    dense = np.zeros((rows.n_rows, 2))
    dense[rows.offsets[:30] + 3, 0] = 1
    dense[rows.offsets[:4] + 3, 1] = 1  # four sites are too few to say anything
    logos = logo_counts(columns_of(dense), rows, flank=2)
    n = 30 * 7 + 60

    def times(share, count):
        return (share * 30 + count / n) / 31 / (count / n)

    # C, D, E and F, which every window has, tell more than W (2 of 3) and K (1 of 3)
    expected = [f"{a} ×{times(1, 30):.1f}" for a in ("C-2", "D-1", "E+1", "F+2")]
    assert logos.enriched() == [", ".join(expected), ""]
    expected.insert(2, f"W0 ×{times(2 / 3, 20):.1f}")
    assert logos.enriched(n=5)[0] == ", ".join(expected)


def test_the_table_holds_what_the_logos_do():
    rows = make_rows(a="ACDEF", b="GXACD")
    dense = np.zeros((10, 2))
    dense[[1, 8], 1] = [3.0, 1.0]
    logos = logo_counts(columns_of(dense), rows, flank=2)
    table = logos.table()
    assert table["latent"].tolist() == [1] * 5  # latent 0 never fires
    assert table["position"].tolist() == [-2, -1, 0, 1, 2]
    np.testing.assert_array_equal(table[list(AMINO_ACIDS)], logos.frequencies[1])
    np.testing.assert_array_equal(table["bits"], logos.bits[1])


def test_drawing_stacks_letters_to_the_information_of_the_position():
    rows = make_rows(**{f"p{i}": "ACDWEFH" if i % 3 else "ACDKEFH" for i in range(30)})
    dense = np.zeros((rows.n_rows, 1))
    dense[rows.offsets[:-1] + 3, 0] = 1
    logos = logo_counts(columns_of(dense), rows, flank=2)
    svg = ElementTree.fromstring(logo_svg(logos.frequencies[0], logos.bits[0], "five positions"))
    assert svg[0].text == "five positions"
    boxes = []
    for use in svg.iter("use"):
        x, y, width, height = (float(v) for v in re.findall(r"[-\d.]+", use.attrib["transform"]))
        boxes.append((use.attrib["href"], x, y, width, height))
    middle = [b for b in boxes if b[1] == LEFT + 2 * CELL]
    # K (10 of 30) below W (20 of 30), touching, together as high as the bits
    assert [b[0] for b in middle] == ["#aa-K", "#aa-W"]
    (_, _, low, _, low_height), (_, _, high, _, high_height) = middle
    assert low + low_height == pytest.approx(TOP + HEIGHT)
    assert high + high_height == pytest.approx(low, abs=0.11)
    assert high_height == pytest.approx(2 * low_height, abs=0.11)
    top = logos.bits[0].max()
    assert high_height + low_height == pytest.approx(HEIGHT * logos.bits[0, 2] / top, abs=0.11)
    assert [t.text for t in svg.iter("text")] == [f"{top:.1f}", "0"]


def test_letters_fill_the_unit_square():
    shapes = ElementTree.fromstring(letter_shapes())
    paths = {p.attrib["id"]: p.attrib for p in shapes.iter("path")}
    assert sorted(paths) == sorted(f"aa-{a}" for a in AMINO_ACIDS)
    for name, path in paths.items():
        assert path["fill"] == COLOUR[name[-1]]
        numbers = np.array(re.findall(r"[-\d.]+", path["d"]), float).reshape(-1, 2)
        low, high = numbers.min(axis=0), numbers.max(axis=0)
        assert low[1] == pytest.approx(0, abs=0.06)  # control points of a curve lie outside
        assert high[1] == pytest.approx(1, abs=0.06)
        assert (high[0] - low[0] > 0.8) == (name != "aa-I")
