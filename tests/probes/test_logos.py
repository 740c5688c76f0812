"""Logos by hand and against loops; the drawing has the letters of the counts."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from extract.alphabet import AMINO_ACIDS
from probes.logos import COLOUR, PSEUDOCOUNT, draw_logo, logo_counts
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


def test_drawing_stacks_letters_to_the_information_of_the_position():
    rows = make_rows(**{f"p{i}": "ACDWEFH" if i % 3 else "ACDKEFH" for i in range(30)})
    dense = np.zeros((rows.n_rows, 1))
    dense[rows.offsets[:-1] + 3, 0] = 1
    logos = logo_counts(columns_of(dense), rows, flank=2)
    figure, ax = plt.subplots()
    draw_logo(ax, logos, 0)
    boxes = [(p.get_path().get_extents(), p.get_facecolor()) for p in ax.patches]
    middle = sorted((b for b in boxes if abs(b[0].x0 + b[0].x1) < 0.1), key=lambda b: b[0].y0)
    assert len(middle) == 2
    (low, low_colour), (high, high_colour) = middle
    # K (10 of 30) below W (20 of 30), touching, together as high as the bits
    assert to_hex(low_colour) == COLOUR["K"].lower()
    assert to_hex(high_colour) == COLOUR["W"].lower()
    assert low.y1 == pytest.approx(high.y0)
    assert high.y1 == pytest.approx(logos.bits[0, 2], rel=1e-5)
    assert high.height == pytest.approx(2 * low.height, rel=1e-4)
    plt.close(figure)
