"""Planted latents of every kind are recovered; statistics equal loops and permutations."""

import numpy as np
import pandas as pd
import pytest

from extract.alphabet import AMINO_ACIDS
from extract.fasta import Protein
from probes.data.firing import firing_blocks
from probes.data.rows import ProteinRows
from probes.kinds.logos import logo_counts
from probes.kinds.patterns import coverage, periodicity, rhythm, runs, visits_of
from probes.kinds.rules import KINDS, MIN_PROTEINS, classify
from probes.kinds.statistics import flank_bits, latent_kinds
from saejax.latents import LatentColumns
from tests.helpers import random_proteins
from tests.probes.helpers import columns_of, make_rows

MOTIF = "GWCH-YGKS"
N_PROTEINS = 80


def world():
    """Random proteins, in 60 of which a motif stands somewhere in the middle."""
    rng = np.random.default_rng(0)
    proteins, at = [], []
    for i in range(N_PROTEINS):
        letters = rng.choice(list(AMINO_ACIDS), int(rng.integers(90, 200)))
        start = int(rng.integers(35, len(letters) - 45)) if i < 60 else -1
        for k, letter in enumerate(MOTIF if start >= 0 else ""):
            letters[start + k] = letters[start + k] if letter == "-" else letter
        proteins.append("".join(letters))
        at.append(start)
    rows = make_rows(**{f"p{i}": s for i, s in enumerate(proteins)})
    return rng, rows, np.array(at)


def plant(rng, rows, motif_at, structures):
    """{kind and what: value of one latent on every row}."""
    z = {}
    first, length = rows.offsets[:-1], np.diff(rows.offsets)
    middle = first + length // 2

    def latent(name, where):
        z[name] = np.zeros(rows.n_rows)
        z[name][np.asarray(where, dtype=int)] = rng.uniform(0.5, 1, len(where))

    def windows(start, offsets, proteins):
        return np.concatenate([start[p] + np.asarray(offsets) for p in proteins])

    some = range(30)
    latent("dead", [])
    latent("rare", windows(middle, [0, 1], range(MIN_PROTEINS - 1)))
    latent("n-terminal", windows(first, range(12), some))
    latent("c-terminal", windows(first + length, range(-9, 0), some))
    whole = np.concatenate([np.arange(first[p], first[p + 1]) for p in some])
    latent("whole-protein", rng.permutation(whole)[: int(0.9 * len(whole))])
    latent("domain-like", windows(middle, [i for i in range(-20, 22) if i % 9], range(15)))
    latent("periodic 2", windows(middle, range(-8, 8, 2), some))
    latent("periodic 4", windows(middle, [0, 3, 4, 7, 11, 14, 15, 18, 22], some))
    latent("periodic 7", windows(middle, range(-21, 22, 7), some))
    latent("motif-like", first[motif_at >= 0] + motif_at[motif_at >= 0])
    of = {a: np.flatnonzero(rows.residue_class == i) for i, a in enumerate(AMINO_ACIDS)}
    latent("amino-acid identity", of["F"])
    latent("amino-acid class", np.concatenate([of["W"], of["F"], of["Y"]]))
    latent("contact-like", touching(rng, rows, structures))
    latent("dense", rng.permutation(rows.n_rows)[: rows.n_rows // 5])
    latent("other", rng.permutation(rows.n_rows)[: rows.n_rows // 50])
    return z


def random_structures(rng, rows, proteins):
    """Uncorrelated positions in a ball: about one pair in thirty touches, at any separation."""
    out = {}
    for p in proteins:
        n = int(np.diff(rows.offsets)[p])
        x = rng.normal(size=(n, 3))
        radius = 21 * rng.random((n, 1)) ** (1 / 3)
        out[p] = (x / np.linalg.norm(x, axis=1, keepdims=True) * radius).astype(np.float32)
    return out


def touching(rng, rows, structures):
    """Three pairs of residues in contact and far apart in sequence, of every structure."""
    where = []
    for p, x in structures.items():
        close = np.linalg.norm(x[:, None] - x, axis=2) < 7.9
        i, j = np.nonzero(np.triu(close, 12))
        for pick in rng.permutation(len(i))[:3]:
            where += [rows.offsets[p] + i[pick], rows.offsets[p] + j[pick]]
    return np.unique(where)


@pytest.fixture(scope="module")
def planted():
    rng, rows, motif_at = world()
    structures = random_structures(rng, rows, range(40))
    z = plant(rng, rows, motif_at, structures)
    dense = np.stack(list(z.values()), axis=1)
    alive = dense.any(axis=0)
    weak = (rng.random(dense.shape) < 0.01) * rng.uniform(0.01, 0.2, dense.shape)
    dense = np.where((dense == 0) & alive, weak, dense)  # TopK keeps such values everywhere
    return rows, list(z), dense, structures


def test_planted_latents_of_every_kind_are_recovered(planted):
    rows, names, dense, structures = planted
    table = latent_kinds(columns_of(dense), rows, structures).table
    found = dict(zip(names, table["kind"], strict=True))
    assert found == {name: name.rstrip(" 247") for name in names}
    assert set(found.values()) == set(KINDS)
    period = dict(zip(names, table["period"].tolist(), strict=True))
    assert (period["periodic 2"], period["periodic 7"]) == (2, 7)
    assert period["periodic 4"] in (3, 4)
    motif = table.iloc[names.index("motif-like")]
    assert motif["consensus"] == "." * 10 + MOTIF.replace("-", ".") + ".."
    identity = table.iloc[names.index("amino-acid identity")]
    assert identity["top_amino_acid"] == "F"
    assert identity["top_amino_acid_recall"] == 1
    assert identity["is_amino_acid_identity"]
    assert identity["identity_bits"] == pytest.approx(np.log2(20), abs=0.2)
    assert table.iloc[names.index("amino-acid class")]["top_class"] == "aromatic, not H"


def test_thresholds_and_precedence(planted):
    rows, names, dense, structures = planted
    table = latent_kinds(columns_of(dense), rows, structures).table
    domain = table.iloc[[names.index("domain-like")] * 8].reset_index(drop=True)
    domain = domain[[c for c in domain if c != "kind" and not str(c).startswith("is_")]]
    domain["stretch_length"] = 20.0
    domain.loc[1, "stretch_length"] = 19.9
    domain.loc[2, "stretch_density"] = 0.69
    domain.loc[3, "coverage"] = 0.8
    domain.loc[4, ["n_terminal_share", "terminal_expected"]] = [0.9, 0.31]  # short proteins
    domain.loc[5, ["n_terminal_share", "terminal_expected"]] = [0.9, 0.29]
    domain.loc[6, ["top_amino_acid_share", "stretch_length"]] = [0.9, 5.0]
    domain.loc[7, "n_proteins"] = MIN_PROTEINS - 1
    assert classify(domain)["kind"].tolist() == [
        "domain-like", "other", "other", "whole-protein", "domain-like", "n-terminal",
        "amino-acid identity", "rare",
    ]  # fmt: skip


def test_a_latent_silent_in_the_structures_has_no_contacts(planted):
    rows, _, dense, structures = planted
    outside = dense * (rows.protein_idx >= 40)[:, None]
    table = latent_kinds(columns_of(outside), rows, structures).table
    assert not table["contact_pairs"].to_numpy().any()
    assert np.isnan(table["contact_enrichment"].to_numpy()).all()


def test_blocks_and_order_of_entries_change_nothing(planted, monkeypatch):
    rows, _, dense, structures = planted
    columns = columns_of(dense)
    whole = latent_kinds(columns, rows, structures)
    latent = np.repeat(np.arange(dense.shape[1]), np.diff(columns.indptr))
    order = np.lexsort((-columns.values, latent))  # as probes.fit.scores.restrict leaves them
    by_value = columns._replace(rows=columns.rows[order], values=columns.values[order])
    blocks = list(firing_blocks(by_value, max_entries=500))
    assert len(blocks) > 5
    assert all(len(b.columns.rows) <= 500 or len(b.n_active) == 1 for b in blocks)
    monkeypatch.setattr(
        "probes.kinds.statistics.firing_blocks",
        lambda c, *, fraction: firing_blocks(c, fraction=fraction, max_entries=500),
    )
    again = latent_kinds(by_value, rows, structures)
    pd.testing.assert_frame_equal(again.table, whole.table)
    pd.testing.assert_frame_equal(again.logos.table(), whole.logos.table())


def fires_of(dense: np.ndarray) -> LatentColumns:
    (block,) = firing_blocks(columns_of(dense), fraction=0.0)
    return block.columns


def test_firing_is_above_a_share_of_the_maximum():
    dense = np.array([[4.0, 0], [1.1, 0], [1.0, 0], [0.5, 0]])
    (block,) = firing_blocks(columns_of(dense), fraction=0.25)
    assert block.columns.rows.tolist() == [0, 1]
    assert block.n_active.tolist() == [4, 0]
    assert block.maximum.tolist() == [4, 0]


def test_runs_and_coverage_by_hand():
    rows = make_rows(a="ACDEFGHIKLMNPQ", b="RSTVWYACDE")
    dense = np.zeros((24, 1))
    dense[[1, 2, 3, 5, 8, 12, 13, 14, 15], 0] = 1  # b's first residue goes on no run of a
    columns = fires_of(dense)
    visits = visits_of(columns, rows)
    found = runs(columns, visits)
    assert found["run_mean"] == pytest.approx([9 / 5])  # 3, 1, 1, 2 and 2
    assert found["run_length"] == pytest.approx([(9 + 1 + 1 + 4 + 4) / 9])
    # up to two silent residues are bridged: 1 to 8 is a stretch with five firings, 12 starts anew
    assert found["stretch_length"] == pytest.approx([(8 * 5 + 2 * 2 + 2 * 2) / 9])
    assert found["stretch_density"] == pytest.approx([(5 / 8 * 5 + 2 + 2) / 9])
    covered = coverage(visits, 1)
    assert covered["n_proteins"].tolist() == [2]
    assert covered["coverage"] == pytest.approx([(0.5 * 7 + 0.2 * 2) / 9])
    assert covered["coverage_mean"] == pytest.approx([0.35])
    assert covered["top_protein_share"] == pytest.approx([7 / 9])


def test_rhythm_equals_loops_and_permutations():
    rng = np.random.default_rng(1)
    proteins = random_proteins(6, 20, 60, seed=2)
    rows = make_rows(**{p.id: p.sequence for p in proteins})
    dense = (rng.random((rows.n_rows, 3)) < [0.1, 0.5, 0.9]).astype(float)
    columns = fires_of(dense)
    found = rhythm(columns, visits_of(columns, rows))

    def pairs(x, lag):
        same = rows.protein_idx[lag:] == rows.protein_idx[:-lag]
        return (x[lag:] * x[:-lag] * same[:, None]).sum(axis=0)

    for lag in (1, 2, 7, 24):
        assert found.observed[:, lag] == pytest.approx(pairs(dense, lag))
    total = np.zeros((3, 3))
    for _ in range(400):
        parts = [rng.permutation(dense[rows.slice_of(p)]) for p in range(rows.n_proteins)]
        shuffled = np.concatenate(parts)
        total += np.stack([pairs(shuffled, lag) for lag in (1, 4, 12)], axis=1)
    assert found.expected[:, [1, 4, 12]] == pytest.approx(total / 400, rel=0.06, abs=0.4)


@pytest.mark.parametrize("where", [range(60), [0, 3, 30, 33, 60, 63, 90, 93]])
def test_a_run_and_a_repeated_pair_are_no_rhythm(where):
    proteins = [Protein(f"p{i}", "ACDEFGHIKLMNPQRSTVWY" * 10) for i in range(20)]
    rows = make_rows(**{p.id: p.sequence for p in proteins})
    dense = np.zeros((rows.n_rows, 1))
    for p in range(20):
        dense[rows.offsets[p] + np.asarray(where), 0] = 1
    columns = fires_of(dense)
    found = periodicity(rhythm(columns, visits_of(columns, rows)), np.diff(columns.indptr))
    assert found["period_strength"][0] < 1 or found["period_echo"][0] <= 0


def test_a_region_rich_in_one_residue_is_no_conserved_neighbourhood():
    rng = np.random.default_rng(4)
    plain = [rng.choice(list(AMINO_ACIDS), 60) for _ in range(300)]
    rich, motif = np.array(plain), np.array(plain)
    rich[:, 15:46] = np.where(rng.random((300, 31)) < 0.7, "L", rich[:, 15:46])
    motif[:, [25, 27, 33]] = list("GKS")
    rows = make_rows(
        **{f"{k}{i}": "".join(s) for k, x in (("r", rich), ("m", motif)) for i, s in enumerate(x)}
    )
    dense = np.zeros((rows.n_rows, 2))
    dense[rows.offsets[:300] + 30, 0] = 1
    dense[rows.offsets[300:600] + 30, 1] = 1
    logos = logo_counts(columns_of(dense), rows)
    of_rich, of_motif = flank_bits(logos)
    assert of_rich < 0.5
    assert np.delete(logos.bits[0], 10).sum() > 10  # though it is unlike the store
    # at three positions log2(1 / f̄), elsewhere what uniform residues hold against f̄
    mean = np.full(20, (17 / 20) / 20)
    mean[:3] += 1 / 20
    uniform = (np.log2(1 / 20 / mean) / 20).sum()
    assert of_motif == pytest.approx(3 * np.log2(1 / mean[0]) + 17 * uniform, rel=0.05)


def test_columns_without_any_firing():
    rows = ProteinRows([Protein("a", "ACD")], make_rows(a="ACD").token_id)
    table = latent_kinds(columns_of(np.zeros((3, 2))), rows).table
    assert table["kind"].tolist() == ["dead", "dead"]
