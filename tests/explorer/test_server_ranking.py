"""What the search box shows first, and what people call a concept."""

import json
import shutil
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.bundle import manifest_hash
from explorer.server.library import open_bundles
from explorer.server.motif import MotifSearch
from explorer.server.query import concept_expression
from explorer.server.search import Search


def test_latents_that_are_confirmed_and_precise_come_first(bundle_folder, tmp_path):
    """Then those that training chose, then by F1; precision counts beyond what is expected."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder / "a", folder)
    table = pq.read_table(folder / "latents.parquet").to_pandas()
    precise = ["named", "precision", "precision_low", "expected", "confirmed"]
    table.loc[6, precise] = ["helix", 0.95, 0.94, 0.90, True]  # its composition explains it
    table.loc[7, precise] = ["helix", 0.90, 0.85, 0.40, True]
    table.loc[8, precise] = ["helix", 0.40, 0.39, 0.01, True]  # most of its residues are no helix
    table.loc[9, precise] = ["helix", 0.99, 0.90, 0.10, False]
    table.loc[[8, 9], "f1"] = [0.3, 0.9]
    for j in (8, 9):
        table.loc[j, "label"] = "helix somewhere"
    schema = pq.read_schema(folder / "latents.parquet")
    pq.write_table(pa.Table.from_pandas(table, schema=schema), folder / "latents.parquet")
    index = sqlite3.connect(folder / "index.sqlite")
    index.execute("UPDATE latent_search SET label = 'helix somewhere' WHERE rowid IN (8, 9)")
    index.commit()
    index.close()
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("latents.parquet", "index.sqlite"):
        manifest["files"][name]["bytes"] = (folder / name).stat().st_size
    manifest["hash"] = manifest_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    library = open_bundles([folder], verify=False)
    hits = Search(library, MotifSearch(library)).answer("alpha helix", None, 30).hits
    latents = [hit for hit in hits if hit.type == "latent"]
    assert [hit.latent for hit in latents[:5]] == [7, 3, 6, 9, 8]
    assert "helix on 90% of its residues, 40% by composition" in latents[0].subtitle


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("alpha helix", "helix"), ("α-helix", "helix"), ("beta strand", "strand"),
        ("β-sheet", "STRAND (UniProt)"), ("transmembrane", "TRANSMEM Helical"),
        ("signal peptide", "SIGNAL"), ("zinc", "BINDING Zn(2+)"), ("zinc finger", "ZN_FING C4"),
        ("zinc binding", "BINDING Zn(2+)"), ("zinc", "DOMAIN LIM zinc-binding"),
        ("disulfide", "DISULFID"), ("disulphide bond", "DISULFID"), ("active site", "ACT_SITE"),
        ("calcium", "BINDING Ca(2+)"), ("haem", "BINDING heme"),
    ],
)  # fmt: skip
def test_what_people_call_a_concept(words, name):
    names = ["helix", "strand", "STRAND (UniProt)", "TRANSMEM Helical", "SIGNAL", "BINDING Zn(2+)",
             "DOMAIN LIM zinc-binding", "DISULFID", "ACT_SITE", "BINDING Ca(2+)", "BINDING heme",
             "ZN_FING C4", "TOPO_DOM", "TRANSIT", "C", "MOD_RES"]  # fmt: skip
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5 (name)")
    connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in names])
    found = connection.execute("SELECT name FROM t WHERE t MATCH ?", (concept_expression(words),))
    found = {n for (n,) in found}
    connection.close()
    assert name in found
    assert not found & {"TOPO_DOM", "TRANSIT", "C", "MOD_RES"}
