"""Damaged annotation files: parsed, or refused in one line; never a traceback."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import UserError
from probes.annotations import Annotations
from probes.data.concepts import Concept
from probes.splits import read_clusters
from tests.probes.helpers import make_rows, write
from tests.probes.uniprot_files import FEATURES, SEQUENCE, flat_entry, json_entry, tsv

DATA = Path(__file__).parents[2] / "data"
REAL = gzip.decompress((DATA / "swissprot.dat.gz").read_bytes()).decode().split("//\n")
REAL_FLAT = "//\n".join([*(REAL[i] for i in (5, 40, 77)), ""])
ACCESSIONS = {text.split("\nAC   ")[1].split(";")[0]: text for text in REAL if text}
RESIDUES = {
    a: "".join(t.split("\nSQ   ")[1].split("\n", 1)[1].split()) for a, t in ACCESSIONS.items()
}
ROWS = make_rows(**RESIDUES, P1=SEQUENCE, P2=SEQUENCE)

FILES = {
    "real.dat": REAL_FLAT,
    "new.dat": flat_entry("P1") + flat_entry("P2"),
    "a.json": json.dumps({"results": [json_entry("P1"), json_entry("P2", FEATURES[:3])]}),
    "lines.json": "\n".join(json.dumps(json_entry(a)) for a in ("P1", "P2")),
    "a.tsv": tsv(("P1", "P2")),
    "dssp.tsv": f"id\tsequence\tdssp\nP1\t{SEQUENCE}\t{'H' * len(SEQUENCE)}\n",
    "labels.tsv": f"id\tstart\tend\tlabel\tsequence\nP1\t2\t5\tx\t{SEQUENCE}\nP2\t3\t3\ty\t\n",
    "a.gff3": "##gff-version 3\n##sequence-region P2 1 30\nP1\tx\ty\t1\t5\t.\t.\t.\tName=z\n",
    "a.bed": "P1\t0\t5\tx\nP2\t3\t9\ty\n",
}
PIECES = (
    *("", "\t", "\n", "//\n", ";", "..", "<1", "?", '"', "/note=", "999999999", "-1", "0", "é"),
    *("\x00", "\r", "FT   ", "[", "]", "{", "}", ",", "null", "1e999", "NaN", "%zz", "\\u", " "),
)
LETTERS = [*map(chr, range(128)), "\xa0", "\u2028", "\U0001f600"]
CLUSTERS = ["id\tcluster\na\tx\nb\ty\n", "x\tx\nx\tb\n"]


def mutated(text, seed):
    """A few random edits: letters, pieces, lines, or the end."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice([0, 1, 1, 2, 5, 60, 500]))
        match rng.randrange(6):
            case 0:
                text = text[:at] + rng.choice(PIECES) + text[end:]
            case 1:
                text = text[:at] + text[end:]
            case 2:
                text = text[:at] + text[at:end] * 2 + text[end:]
            case 3:
                text = text[:at] + rng.choice(LETTERS) + text[end:]
            case 4:
                lines = text.split("\n")
                a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[a], lines[b] = lines[b], lines[a]
                text = "\n".join(lines)
            case 5:
                digits = [i for i, c in enumerate(text) if c.isdigit()]
                if digits:
                    i = rng.choice(digits)
                    text = text[:i] + rng.choice("0123456789?<>-.") + text[i + 1 :]
    return text


def read_or_refuse(read):
    """What it gives, or None when it is refused in one line that names the file."""
    try:
        return read()
    except UserError as error:
        message = str(error)
        assert "fuzzed" in message or "label" in message
        assert len(message) < 1500
        return None


def check(folder, name, seed):
    """Read one mutant, by its content and as what it was."""
    suffix = name.split(".")[-1]
    path = folder / f"fuzzed.{suffix}"
    path.write_text(mutated(FILES[name], seed), newline="")
    ways: list[dict[str, Any]] = [{"sources": [path]}]
    if suffix == "dat":
        ways.append({"swissprot": path})
    if name == "dssp.tsv":
        ways.append({"dssp": path})
    for way in ways:
        annotations = read_or_refuse(lambda way=way: Annotations.load(ROWS, **way))
        for concept in annotations.concepts[29:] if annotations else ():
            assert isinstance(concept, Concept)
            assert concept.labels(ROWS.n_rows).sum() == concept.n_positive
            assert concept.defined[ROWS.protein_of(concept.spans[:, 0])].all()


@pytest.mark.parametrize("name", FILES)
@given(seed=st.integers(0, 2**32))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_damage_gives_a_traceback(tmp_path, name, seed):
    check(tmp_path, name, seed)


def test_undamaged_files_are_read(tmp_path):
    for name, text in FILES.items():
        annotations = Annotations.load(ROWS, sources=[write(tmp_path / name, text)])
        assert len(annotations.concepts) > 29, name


@given(seed=st.integers(0, 2**32), which=st.sampled_from(CLUSTERS))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_clusters(tmp_path, seed, which):
    path = tmp_path / "fuzzed.tsv"
    path.write_text(mutated(which, seed), newline="")
    read_or_refuse(lambda: read_clusters(path))
