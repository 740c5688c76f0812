"""Every array of a bundle against a plain computation from the dense latents."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from explorer import layout
from explorer.build import neurons
from explorer.build.by_latent import latent_part
from explorer.build.by_protein import protein_part
from explorer.build.command import build
from explorer.build.config import BuildConfig
from explorer.build.hashing import protein_keys
from explorer.build.neighbours import _shared, beyond_chance
from explorer.bundle import Bundle
from probes.annotations import Annotations
from probes.data.frames import where
from probes.data.rows import ProteinRows
from probes.kinds.statistics import latent_kinds
from saejax.checkpoint import load_sae
from saejax.latent_store import LatentStore
from tests.explorer.build_inputs import again, config, dense_of, known, run, run_of
from tests.helpers import make_store, random_proteins
from tests.probes.helpers import columns_of, yes

__all__ = ["config", "known", "run"]


class Plain:
    """What a bundle should hold, protein by protein in its own order."""

    def __init__(self, bundle, run, stores):
        self.bundle, self.stores, self.z = bundle, stores, dense_of(run, *stores)
        self.rows = ProteinRows.from_stores(stores)
        self.ids = [r["accession"] for r in bundle.rows("SELECT * FROM proteins ORDER BY protein")]
        stored = [self.rows.index_of_id[i] for i in self.ids]
        self.parts = [self.z[self.rows.slice_of(p)] for p in stored]
        self.stored = np.array(stored)
        self.maxima = np.stack([part.max(axis=0) for part in self.parts])

    def track(self, protein, latent):
        values = self.parts[protein][:, latent]
        at = np.flatnonzero(values > 0)
        return at, values[at]


@pytest.fixture(scope="module")
def built(config, run, tiny_store):
    return Plain(Bundle.open(build(config)), run, [tiny_store])


@pytest.fixture(scope="module")
def thresholded(tmp_path_factory, tiny_store):
    """JumpReLU, as many latents as fire; two stores; tracks of some proteins only."""
    folder = tmp_path_factory.mktemp("jump")
    other = [type(p)(f"q{p.id}", p.sequence) for p in random_proteins(7, 20, 40, seed=3)]
    stores = [tiny_store, make_store(folder / "acts", other)]
    run = run_of(folder / "sae", tiny_store, "jumprelu", d_sae=40)
    paths = tuple(store.folder for store in stores)
    out = build(BuildConfig(run, paths, folder / "bundle", umap=False, effects=False,
                            tracks_gb=1e-4, check=False))  # fmt: skip
    return Plain(Bundle.open(out), run, stores)


@pytest.fixture(params=["built", "thresholded"])
def plain(request) -> Plain:
    return request.getfixturevalue(request.param)


def test_proteins_and_their_order(plain):
    bundle, n = plain.bundle, plain.bundle.n_tracked
    tracked, others = plain.stored[:n], plain.stored[n:]
    assert np.array_equal(tracked, np.sort(tracked))
    assert np.array_equal(others, np.sort(others))
    sizes = [(part > 0).sum() for part in plain.parts]
    assert 0 < n < len(sizes) or n == len(sizes) == 60
    assert 4 * sum(sizes[:n]) + 8 * (plain.maxima[:n] > 0).sum() < 1.3e5 or n == 60
    for row in bundle.rows("SELECT * FROM proteins"):
        sequence = plain.rows.proteins[plain.stored[row["protein"]]].sequence
        assert bundle.sequence(row["start"], row["length"]) == sequence
        assert row["sha256"] == hashlib.sha256(sequence.encode()).hexdigest()


def test_by_latent_and_by_protein(plain):
    bundle = plain.bundle
    for j in range(bundle.d_sae):
        at = slice(*bundle["by_latent/indptr"][j : j + 2])
        proteins = np.flatnonzero(plain.maxima[:, j] > 0)
        order = np.lexsort((proteins, -plain.maxima[proteins, j]))
        assert np.array_equal(bundle["by_latent/protein"][at], proteins[order])
        assert np.array_equal(bundle["by_latent/max"][at], plain.maxima[proteins[order], j])
        argmax = [plain.parts[p][:, j].argmax() for p in proteins[order]]
        assert np.array_equal(bundle["by_latent/argmax"][at], argmax)
    for p, part in enumerate(plain.parts):
        at = slice(*bundle["by_protein/indptr"][p : p + 2])
        latents = np.flatnonzero(part.max(axis=0) > 0)
        assert np.array_equal(bundle["by_protein/latent"][at], latents)
        assert np.array_equal(bundle["by_protein/max"][at], part.max(axis=0)[latents])
        assert np.array_equal(bundle["by_protein/argmax"][at], part.argmax(axis=0)[latents])


def test_tracks(plain):
    bundle = plain.bundle
    for p in range(bundle.n_tracked):
        first, stop = bundle["by_protein/indptr"][p : p + 2]
        for pair in range(first, stop):
            at = slice(*bundle["tracks/indptr"][pair : pair + 2])
            positions, values = plain.track(p, bundle["by_protein/latent"][pair])
            assert np.array_equal(bundle["tracks/position"][at], positions)
            assert np.array_equal(bundle["tracks/value"][at], values.astype(np.float16))


def test_examples(plain):
    bundle, groups = plain.bundle, layout.GROUPS
    total = bundle["examples/total"]
    for j in range(bundle.d_sae):
        ranked = bundle["by_latent/protein"][slice(*bundle["by_latent/indptr"][j : j + 2])]
        n = len(ranked)
        tenths = np.array_split(np.arange(n)[::-1], 10)
        assert total[j, 0] == total[j, -1] == n
        assert total[j, 1:11].sum() == n
        assert total[j, 1:11].max() - total[j, 1:11].min() <= 1 or n == 0
        seen = []
        for g, group in enumerate(groups):
            at = slice(*bundle["examples/indptr"][j * 12 + g :][:2])
            proteins = bundle["examples/protein"][at]
            assert len(set(proteins.tolist())) == len(proteins)
            places = [int(np.flatnonzero(ranked == p)[0]) for p in proteins]
            if group == "top":
                assert np.array_equal(proteins, ranked[:64])
            elif group == "random":
                assert len(proteins) == min(16, n)
            else:
                assert len(proteins) == min(16, total[j, g])
                assert places == sorted(places)
                seen.append(places)
            for example, p in zip(range(at.start, at.stop), proteins, strict=True):
                entries = slice(*bundle["examples/entries"][example : example + 2])
                positions, values = plain.track(p, j)
                assert np.array_equal(bundle["examples/position"][entries], positions)
                assert np.array_equal(bundle["examples/value"][entries], values.astype(np.float16))
        # the tenths follow each other from the lowest maxima to the highest
        joined = [place for places in seen for place in sorted(places, reverse=True)]
        assert joined == sorted(joined, reverse=True)
        if n <= 160:
            assert len(joined) == n == sum(len(t) for t in tenths)
            sizes = {len(t) for t in tenths}
            assert {len(places) for places in seen} == sizes


def test_distributions(plain):
    bundle, z = plain.bundle, plain.z
    for j in range(bundle.d_sae):
        values = z[:, j][z[:, j] > 0]
        counts, edges = bundle["histogram/counts"][j], bundle["histogram/edges"][j]
        maxima = np.sort(plain.maxima[:, j][plain.maxima[:, j] > 0])
        if not len(values):
            assert not counts.any()
            assert not edges.any()
            assert not bundle["histogram/quantiles"][j].any()
            continue
        inside = np.clip(values, edges[0], None)
        assert np.array_equal(counts, np.histogram(inside, edges)[0])
        assert counts.sum() == len(values)
        assert edges[-1] == values.max()
        assert np.allclose(np.diff(np.log(edges)), np.log(edges[-1] / edges[0]) / 40, rtol=1e-3)
        ends = bundle["histogram/quantiles"][j]
        lowest = [maxima[min(i * len(maxima) // 10, len(maxima) - 1)] for i in range(11)]
        assert np.array_equal(ends, np.array(lowest))
        assert bundle.latents["p99"][j].as_py() == pytest.approx(np.quantile(values, 0.99))


def test_table_of_latents(plain):
    bundle, z = plain.bundle, plain.z
    table = {name: bundle.latents[name].to_pylist() for name in layout.LATENT_COLUMNS}
    assert table["latent"] == list(range(bundle.d_sae))
    assert table["n_active"] == (z > 0).sum(axis=0).tolist()
    assert table["n_proteins"] == (plain.maxima > 0).sum(axis=0).tolist()
    assert table["max"] == z.max(axis=0).tolist()
    assert table["frequency"] == pytest.approx((z > 0).mean(axis=0).tolist())
    assert table["protein_frequency"] == pytest.approx((plain.maxima > 0).mean(axis=0).tolist())
    found = latent_kinds(columns_of(z), plain.rows, None)
    if bundle.has["structures"]:
        assert set(table["kind"]) <= {*found.table["kind"], "contact-like"}
    else:
        assert table["kind"] == found.table["kind"].tolist()
    assert table["consensus"] == found.table["consensus"].tolist()
    spans = [np.nan if v is None else v for v in table["span"]]
    assert spans == pytest.approx(found.table["run_length"].tolist(), nan_ok=True)
    assert table["confirmed"] == [False] * bundle.d_sae
    assert table["concept"] == table["named"] == table["x"] == [None] * bundle.d_sae
    n_dead = int((z.max(axis=0) == 0).sum())
    assert table["kind"].count("dead") == table["label"].count("dead") == n_dead >= 3
    known = found.logos.n_effective >= 5
    frequencies = bundle["logos/frequencies"]
    assert np.array_equal(np.isnan(frequencies).any(axis=2), ~known)
    assert np.allclose(frequencies[known], found.logos.frequencies[known], atol=1e-3)
    assert np.allclose(bundle["logos/bits"][known], found.logos.bits[known], atol=1e-2)


def test_neighbours(plain, run):
    bundle, z = plain.bundle, plain.z
    alive = z.max(axis=0) > 0
    found = pd.DataFrame(
        [tuple(r) for r in bundle.rows("SELECT * FROM neighbours")],
        columns=["latent", "kind", "rank", "other", "value"],
    )
    decoder = load_sae(run).arrays()["W_dec"] if bundle.has["structures"] else None
    fires = z > 0.25 * z.max(axis=0)
    together = fires.T.astype(float) @ fires
    per_protein = [part > 0.25 * z.max(axis=0) for part in plain.parts]
    shared = sum((p.T.astype(float) @ p) > 0 for p in per_protein)
    lift = together * len(z) / np.maximum(np.outer(fires.sum(0), fires.sum(0)), 1)
    lift[(together < 10) | (shared < 3) | (lift <= 1)] = -np.inf
    np.fill_diagonal(lift, -np.inf)
    assert np.isfinite(lift).sum() > 100
    for j in range(bundle.d_sae):
        mine = where(found, (found["latent"] == j) & (found["kind"] == "coactivation"))
        best = np.argsort(-lift[j], kind="stable")[:16]
        best = best[np.isfinite(lift[j, best])]
        assert mine["value"].to_numpy() == pytest.approx(lift[j, best])
        assert mine["other"].tolist() == best.tolist()
        if decoder is not None:
            unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
            cosine = np.where(alive, unit @ unit[j], -np.inf)
            cosine[j] = -np.inf
            mine = where(found, (found["latent"] == j) & (found["kind"] == "cosine"))
            best = np.argsort(-cosine)[: 16 * alive[j]]
            assert mine["other"].tolist() == best.tolist()
            assert mine["value"].to_numpy() == pytest.approx(cosine[best], abs=1e-5)


def test_neurons(plain):
    """The highest proteins of each dimension, and how far it is above its own threshold there."""
    bundle = plain.bundle
    x = np.concatenate([store.read(0, store.n_rows) for store in plain.stores])
    active = (plain.z > 0).sum(axis=0)
    threshold = np.quantile(x, 1 - np.median(active[active > 0]) / len(x), axis=0)
    for d in range(bundle.d_model):
        examples = range(*bundle["neurons/indptr"][d : d + 2])
        maxima = np.array([x[plain.rows.slice_of(s), d].max() for s in plain.stored.tolist()])
        found = bundle["neurons/protein"][examples.start : examples.stop]
        assert np.array_equal(maxima[found], np.sort(maxima)[::-1][:16])
        for example in examples:
            track = x[plain.rows.slice_of(int(plain.stored[bundle["neurons/protein"][example]])), d]
            at = slice(*bundle["neurons/entries"][example : example + 2])
            above = np.flatnonzero(track > threshold[d])
            assert np.array_equal(bundle["neurons/position"][at], above)
            values = track[above] - threshold[d]
            assert bundle["neurons/value"][at] == pytest.approx(values, rel=1e-3, abs=1e-4)


def test_annotations(built, tiny_store, known):
    bundle, rows = built.bundle, built.rows
    annotations = Annotations.load(rows, dssp=known["dssp"], swissprot=known["swissprot"])
    listed = bundle.rows("SELECT * FROM concepts ORDER BY concept")
    assert [r["name"] for r in listed] == [c.name for c in annotations.concepts]
    accession = {i: n for n, i in enumerate(built.ids)}
    for row, concept in zip(listed, annotations.concepts, strict=True):
        labels = np.zeros(rows.n_rows, bool)
        for span in bundle.rows("SELECT * FROM spans WHERE concept = ?", row["concept"]):
            start = rows.offsets[built.stored[span["protein"]]]
            labels[start + span["start"] : start + span["stop"]] = True
        if row["letters"]:
            letters = set(row["letters"])
            labels = np.array([x in letters for p in tiny_store.proteins for x in p.sequence])
        assert np.array_equal(np.flatnonzero(labels), yes([concept], concept.name, rows))
        packed = np.unpackbits(bundle["defined"][row["concept"]])[: bundle.n_proteins]
        assert np.array_equal(packed.astype(bool), concept.defined[built.stored])
        assert row["n_positive"] is None
    [protein] = bundle.rows("SELECT * FROM proteins WHERE accession = 'p55'")
    assert protein["description"] == "Protein p55 <b> (Homo sapiens)"
    assert protein["cluster"] == "c27"
    assert protein["part"] is None
    hits = bundle.rows("SELECT rowid FROM protein_search WHERE protein_search MATCH 'sapiens'")
    assert {r[0] for r in hits} == {accession[f"p{i}"] for i in range(50, 60)}
    assert bundle.rows("SELECT * FROM associations") == []


def test_structures(built):
    bundle = built.bundle
    found = bundle.rows("SELECT * FROM proteins WHERE structure IS NOT NULL")
    assert {r["accession"] for r in found} == {"p7", "p30"}
    for row in found:
        xyz = bundle["structures"][row["structure"] : row["structure"] + row["length"]]
        assert np.isnan(xyz[1]).all()
        i = np.delete(np.arange(1, row["length"] + 1), 1)
        expected = [[[n, a, n + a / 4] for a in range(4)] for n in i]
        assert np.delete(xyz, 1, axis=0) == pytest.approx(np.array(expected, np.float32))


def test_manifest(built, config):
    bundle = built.bundle
    manifest = bundle.manifest
    assert (bundle.id, bundle.name) == ("A-tiny-SAE", "A tiny/SAE")
    assert manifest["has"] == {"probes": False, "structures": True, "effects": False,
                               "tracks": True, "neurons": True}  # fmt: skip
    assert (manifest["fvu"], manifest["k"], manifest["block"]) == (0.25, 5, 1)
    assert manifest["n_found"] is None
    text = json.dumps(manifest)
    assert str(config.out.parent) not in text
    assert "/home/someone" not in text
    files = {p.relative_to(bundle.folder) for p in bundle.folder.rglob("*") if p.is_file()}
    assert {str(f) for f in files} == {*manifest["files"], layout.MANIFEST}


def test_wide_dictionaries(tmp_path):
    """More latents than 16 bits count."""
    store = make_store(tmp_path / "acts", random_proteins(4, 10, 30))
    run = run_of(tmp_path / "sae", store, d_sae=66_000, dead=65_500)
    latents = LatentStore.build(load_sae(run), [store], tmp_path / "latents")
    z, rows = dense_of(run, store), ProteinRows.from_stores([store])
    maxima = np.stack([z[rows.slice_of(p)].max(axis=0) for p in range(4)])
    part = protein_part(latents, rows.offsets, np.arange(4), tracked=True)
    assert part["latent"].max() > 1 << 16
    assert np.array_equal(part["latent"], np.nonzero(maxima)[1])
    assert np.array_equal(part["max"], maxima[maxima > 0])
    keys = protein_keys(p.id for p in store.proteins)
    part = latent_part(latents.columns(65_500, 66_000), 65_500, rows.offsets, np.arange(4), keys)
    assert np.array_equal(part["pairs"], (maxima > 0).sum(axis=0)[65_500:])
    assert np.array_equal(part["total"][:, 0], part["pairs"])
    assert np.array_equal(part["p99"] > 0, maxima.max(axis=0)[65_500:] > 0)


def test_structured_and_annotated_proteins_have_tracks_first(config, tmp_path):
    """Room for a third: p7 and p30 have structures, p0 to p9 and p50 to p59 annotations."""
    out = build(again(config, tmp_path / "b", tracks_gb=4e-5, neurons=False))
    bundle = Bundle.open(out)
    tracked = {r[0] for r in bundle.rows("SELECT accession FROM proteins WHERE protein < ?",
                                         bundle.n_tracked)}  # fmt: skip
    assert {"p7", "p30"} < tracked
    assert 5 < bundle.n_tracked <= 21
    assert tracked - {"p30"} <= {f"p{i}" for i in (*range(10), *range(50, 60))}
    only = Bundle.open(build(again(config, tmp_path / "c", tracks_gb=5e-6, neurons=False)))
    named = {r[0] for r in only.rows("SELECT accession FROM proteins WHERE protein < 2")}
    assert (only.n_tracked, named) == (2, {"p7", "p30"})
    none = Bundle.open(build(again(config, tmp_path / "d", tracks_gb=0, neurons=False)))
    assert not none.has["tracks"]
    assert len(none["tracks/indptr"]) == 1


def test_a_pair_of_latents_in_one_protein_is_left_out():
    """Ten residues in three proteins are enough; a hundred in two are not."""
    n = 150
    fires = np.zeros((n, 3), np.int8)
    fires[:, 0] = 1
    fires[:100, 1] = 1
    fires[92:, 2] = 1
    protein = np.repeat([0, 1, 2, 3], [50, 50, 25, 25])
    shared = _shared(csr_matrix(fires), np.arange(n), protein)
    assert [column.tolist() for column in shared] == [[0, 1, 2], [150, 100, 58], [4, 2, 3]]
    others, lift = beyond_chance(shared, 0, np.array([150, 100, 58]), 600)
    assert others.tolist() == [2]
    assert lift.tolist() == [58 * 600 / (150 * 58)]
    assert not len(beyond_chance(shared, 0, np.array([150, 100, 58]), 150)[0])


def test_thresholds_of_neurons_from_evenly_spaced_residues(tiny_store, monkeypatch):
    """Rows 0, n, 2n … whatever the blocks."""
    monkeypatch.setattr(neurons, "SAMPLED_ROWS", 300)
    rows, x = ProteinRows.from_stores([tiny_store]), tiny_store.read(0, tiny_store.n_rows)
    wanted = np.quantile(x[:: len(x) // 300], 0.9, axis=0)
    for block_rows in (200, 1000, 10_000):
        monkeypatch.setattr(neurons, "BLOCK_ROWS", block_rows)
        top, of, threshold = neurons._strongest([tiny_store], rows, 0.1)
        assert np.array_equal(threshold, wanted)
        maxima = np.stack([x[rows.slice_of(p)].max(axis=0) for p in range(60)])
        assert np.array_equal(top, -np.sort(-maxima, axis=0)[:16])
        assert np.array_equal(np.take_along_axis(maxima, of, axis=0), top)
