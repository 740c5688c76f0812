"""Which latents the page shows with their logos."""

import pandas as pd

from probes.report.page import LOGOS_OF_A_CONCEPT, SHOWN_LOGOS, _cards
from probes.report.reach import one_large_cluster, reach


def named_latents(concepts):
    """Confirmed latents, best first, and an unconfirmed one that is better than all."""
    confirmed = [True] * len(concepts)
    return pd.DataFrame({"latent": range(-1, len(concepts)), "concept": ["c0", *concepts],
                         "confirmed": [False, *confirmed]})  # fmt: skip


def test_every_concept_has_its_turn(tmp_path):
    """Rare concepts are not crowded out by one that most latents are of."""
    cards = _cards(named_latents(["helix"] * 40 + ["strand"] * 3 + ["TRANSMEM"]), tmp_path / "none")
    shown = {card["concept"]: [row["latent"] for row in card["latents"]] for card in cards}
    assert shown == {"helix": list(range(LOGOS_OF_A_CONCEPT)), "strand": [40, 41, 42],
                     "TRANSMEM": [43]}  # fmt: skip
    assert [card["n_confirmed"] for card in cards] == [40, 3, 1]


def test_the_page_stays_small(tmp_path):
    """With many concepts, the first of each comes before the second of any."""
    cards = _cards(named_latents([f"c{i // 3}" for i in range(3 * 40)]), tmp_path / "none")
    assert sum(len(card["latents"]) for card in cards) == SHOWN_LOGOS
    assert [len(card["latents"]) for card in cards] == [2] * 20 + [1] * 20


def test_no_confirmed_latent(tmp_path):
    assert _cards(named_latents([]), tmp_path / "none") == []
    assert _cards(pd.DataFrame({"latent": [], "enriched": []}), tmp_path / "none") == []


def test_one_cluster_that_outweighs_the_others_is_said():
    """29 of 38 proteins in one of nine clusters; two equal ones are no reason to warn."""
    split = pd.DataFrame({"cluster": ["a"] * 29 + list("bcdefghhh"), "part": "test"})
    [words] = one_large_cluster(split)
    assert "holds 29 of 38 test proteins" in words
    assert not one_large_cluster(pd.DataFrame({"cluster": list("aabb"), "part": "test"}))


def test_scores_that_rest_on_few_clusters_are_said():
    """By the effective number, of concepts within reach; tables of before have no such column."""
    probes = pd.DataFrame({
        "concept": ["a", "b", "c"], "q_least": [0.001, 0.001, 0.2],
        "n_clusters_test": [9, 40, 2], "n_effective_test": [1.58, 31.0, 1.9],
    })  # fmt: skip
    beyond, few = reach(probes)
    assert beyond.endswith("(clusters): c (2).")
    assert few.endswith("(effective number): a (1.6).")
    assert reach(probes.drop(columns="n_effective_test")) == [beyond]
