"""What a bundle is made from: the run, its latents, the proteins and what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer import layout
from explorer.build.config import BuildConfig
from explorer.build.probe_tables import ProbeTables
from extract.errors import UserError
from extract.fasta import MAX_POSITION
from extract.files import file_sha256, read_json
from extract.store import ActivationStore
from probes.annotations import Annotations
from probes.data.concepts import IDENTITY
from probes.data.rows import ProteinRows
from probes.kinds.structures import read_backbone, read_cb, read_structures
from probes.splits import read_clusters
from saejax.checkpoint import LoadedSAE, load_sae
from saejax.gate import check_stores
from saejax.latent_identity import run_identity, store_identity
from saejax.latent_store import MANIFEST as LATENTS_MANIFEST
from saejax.latent_store import LatentStore

_PATHS = ("run", "probes", "activations", "dssp", "swissprot", "uniprot", "go_obo", "labels",
          "structures", "clusters", "fasta", "fidelity")  # fmt: skip
_WHERE = ("out", "latents", "memory_gb", "weights", "device", "check")
"""Flags that do not."""
_FILES = ("dssp", "swissprot", "uniprot", "go_obo", "labels", "structures", "clusters", "fasta",
          "fidelity")  # fmt: skip
"""Flags whose files decide what the bundle holds, by their content."""
_SETTINGS = ("name", "tracks_gb", "effects", "effect_residues", "umap", "neurons")


@dataclass(frozen=True)
class BuildInputs:
    """Everything but the latents, which may have to be made first."""

    config: BuildConfig
    """As asked for."""
    loaded: LoadedSAE
    """The run."""
    stores: Sequence[ActivationStore]
    """Activations, laid end to end."""
    rows: ProteinRows
    """Their residues."""
    annotations: Annotations
    """Concepts; the amino acids and their classes are always there."""
    probes: ProbeTables | None
    """What the probes found."""
    backbones: Mapping[int, np.ndarray]
    """N, CA, C, O of proteins with a structure, by number in the stores: float32 [length, 4, 3]."""
    clusters: Mapping[str, str]
    """Homology cluster by protein id; may be empty."""
    fidelity: Mapping[str, Any] | None
    """What the parent's predictions lose."""

    @classmethod
    def of(cls, config: BuildConfig) -> BuildInputs:
        """Read and check everything.

        Raises:
            UserError: something is missing, damaged, or does not fit the run and its activations,
                by name or by how well the run's SAE reconstructs them.
        """
        loaded = load_sae(config.run)
        stores = [ActivationStore.open(path) for path in config.activations]
        for store in stores:
            loaded.require_store(store)
        if config.check:
            check_stores(loaded, stores)
        rows = ProteinRows.from_stores(stores)
        _require_short(rows)
        probes = None
        if config.probes is not None:
            probes = ProbeTables.open(config.probes)
            probes.require_fit(loaded, stores, rows)
        if config.latents is not None:
            LatentStore.open(config.latents)
        annotations = Annotations.load(
            rows, dssp=config.dssp, swissprot=config.swissprot, uniprot=config.uniprot,
            labels=config.labels, go_obo=config.go_obo,
        )  # fmt: skip
        backbones: Mapping[int, np.ndarray] = {}
        if config.structures is not None:
            backbones = read_structures(config.structures, rows, read_backbone)
        clusters: Mapping[str, str] = {} if probes is None else probes.clusters
        if config.clusters is not None:
            clusters = read_clusters(config.clusters)
        fidelity = None if config.fidelity is None else read_fidelity(config.fidelity, loaded)
        return cls(config, loaded, stores, rows, annotations, probes, backbones, clusters, fidelity)

    def plan(self) -> dict[str, Any]:
        """What the bundle depends on, without where it lies: two equal plans give equal bytes."""
        config = self.config
        probes = None if self.probes is None else self.probes.hashes
        return {
            "format_version": layout.FORMAT_VERSION,
            "run": run_identity(self.loaded),
            "run_record": file_sha256(self.loaded.folder / "run.json"),
            "stores": [store_identity(store)["manifest_sha256"] for store in self.stores],
            "probes": probes,
            "files": {name: _hashes(getattr(config, name)) for name in _FILES},
            "settings": {name: getattr(config, name) for name in _SETTINGS},
        }

    def latents(self, folder: Path) -> LatentStore:
        """The latents of all residues: those given, the probes' or, in ``folder``, new ones.

        Raises:
            UserError: latents of another run or other activations.
        """
        given = self.config.latents
        if given is None and self.config.probes is not None:
            kept = self.config.probes / "latents"
            given = kept if (kept / LATENTS_MANIFEST).exists() else None
        if given is None:
            memory_gb = self.config.memory_gb
            return LatentStore.build(self.loaded, self.stores, folder, memory_gb=memory_gb)
        store = LatentStore.open(given)
        store.require_run(self.loaded)
        store.require_stores(self.stores)
        return store

    def cb_coordinates(self) -> Mapping[int, np.ndarray] | None:
        """Cβ of proteins with a structure, for what kind of latent each is."""
        if self.config.structures is None:
            return None
        return read_structures(self.config.structures, self.rows, read_cb)

    @property
    def structured(self) -> np.ndarray:
        """Whether each of the stores' proteins has a structure."""
        return np.isin(np.arange(self.rows.n_proteins), list(self.backbones))

    @property
    def annotated(self) -> np.ndarray:
        """Whether something but its letters is known of each of the stores' proteins."""
        found = np.zeros(self.rows.n_proteins, bool)
        for concept in self.annotations.concepts:
            if concept.kind not in IDENTITY:
                found[self.rows.protein_of(concept.spans[:, 0])] = True
        return found

    def settings(self) -> dict[str, Any]:
        """The flags that decide what is in the bundle, with names for paths.

        A bundle says nothing of the machine it was made on.
        """
        plain = {k: v for k, v in asdict(self.config).items() if k not in _WHERE}
        for name in _PATHS:
            value = plain[name]
            if isinstance(value, Path):
                plain[name] = value.resolve().name
            elif value is not None:
                plain[name] = [path.resolve().name for path in value]
        return plain


def _require_short(rows: ProteinRows) -> None:
    longest = max(rows.proteins, key=lambda p: len(p.sequence))
    if len(longest.sequence) > MAX_POSITION:
        raise UserError(
            f"protein {longest.id[:60]!r} has {len(longest.sequence):,} residues, a bundle holds "
            f"proteins of at most {MAX_POSITION:,}; extract with --max-residues"
        )


def read_fidelity(path: Path, loaded: LoadedSAE) -> Mapping[str, Any]:
    """A record of ``python -m steering.fidelity``.

    Raises:
        UserError: it is none, or of another SAE.
    """
    record = read_json(path, "a fidelity record")
    if record.get("kind") != "fidelity" or not record.get("inputs"):
        raise UserError(f"{path}: is not a record of `python -m steering.fidelity`; check the path")
    if record.get("sae") != loaded.run["sae"] or record.get("site") != loaded.site:
        raise UserError(f"{path}: is of another SAE than {loaded.folder}; give this one's record")
    if record.get("run_results", {}).get("fvu") != loaded.run["results"].get("fvu"):
        raise UserError(f"{path}: is of another run than {loaded.folder}; give this one's record")
    return record


def _hashes(given: Path | tuple[Path, ...] | None) -> Any:
    """SHA-256 of a file, of each of several, or of all in a folder."""
    if given is None:
        return None
    if isinstance(given, tuple):
        return [_hashes(path) for path in given]
    if not given.is_dir():
        return file_sha256(given)
    digest = hashlib.sha256()
    for path in sorted(p for p in given.iterdir() if p.is_file()):
        digest.update(f"{path.name}\t{file_sha256(path)}\n".encode())
    return digest.hexdigest()
