"""What the live half takes and answers, as Pydantic models; see ``explorer/schema.py``.

Positions are 1-based. Matrices over amino acids have a row for each residue and a column for each
letter of ``letters``. Δlog p and KL are in nats, over the 20 amino acids.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from explorer.schema import ConceptScore, LatentName, Model, Score, Track

MAX_EDITS_CHARS = 4_000
MAX_LETTERS = 100_000
"""Of one sequence in a request, before the server's own limit; keeps nonsense from being parsed."""

Operation = Literal["set", "add", "scale"]


class LiveLimits(Model):
    """What this server takes; more is refused with a sentence."""

    max_residues: int
    """Of one sequence."""
    max_records: int
    """Of one upload."""
    max_total_residues: int
    """Of one upload."""
    max_upload_bytes: int
    max_waiting: int
    """Requests that wait, of all clients; then 429."""
    max_waiting_each: int
    """The same of one client."""
    max_variants: int


class LiveSAE(Model):
    """A dictionary whose parent model is loaded."""

    sae: str
    labels: bool
    """Whether a person's own labels can be probed: the probes' split and latents are here."""


class LiveInfo(Model):
    """The live half of this server."""

    live: bool
    ready: bool
    """Whether the parents are loaded; requests that come before wait."""
    saes: list[LiveSAE]
    limits: LiveLimits


class UploadIn(Model):
    """What a person pasted or dropped."""

    text: str = Field(max_length=12_000_000)
    name: str = Field(default="", max_length=300)
    """Of the file; tells nothing but what to call it in a message."""


class SequenceRecord(Model):
    """A sequence that can be encoded."""

    id: str
    description: str
    sequence: str
    chain: str | None = None
    """Of a structure."""
    numbers: list[str | None] | None = None
    """Of a structure: the file's own number of each residue; null where it has no coordinates."""
    structure: str | None = None
    """Of a structure: its backbone in PDB format, chain A, numbered by position in the sequence."""


class Uploaded(Model):
    """Sequences of an upload; nothing is kept on the server."""

    format: Literal["fasta", "sequence", "pdb", "mmcif"]
    records: list[SequenceRecord]


class SequenceIn(Model):
    """A sequence, typed or by the accession of a bundled protein."""

    sae: str = Field(max_length=500)
    sequence: str | None = Field(default=None, max_length=MAX_LETTERS)
    accession: str | None = Field(default=None, max_length=500)


class EncodeIn(SequenceIn):
    """Which latents fire on a sequence."""


class PlayLatent(Model):
    """A latent on a sequence."""

    latent: int
    label: str
    kind: str
    concept: str | None
    max: float
    argmax: int
    own_max: float
    """Its largest value in the bundle's proteins."""
    share_active: float
    """Of the sequence's residues."""
    score: float
    """max / own_max × log(proteins / proteins with it), as on a protein's page."""
    track: Track


class Encoded(Model):
    """Every latent that fires on a sequence, highest score first."""

    sae: str
    sequence: str
    latents: list[PlayLatent]
    seconds: float
    """That the worker took."""
    kept: bool
    """Whether it was remembered from a moment ago."""
    python: str
    """Code that gives the same numbers."""


class MutateIn(SequenceIn):
    """Wild type against mutant."""

    mutations: list[str] = Field(min_length=1, max_length=50)
    """Such as A42V: the residue that is there, its position, the new one."""
    least: float = Field(default=0.01, ge=0, le=1)
    """Smallest |change| / own_max that counts; of what changes less only the number is told."""


class ChangedLatent(Model):
    """A latent before and after."""

    latent: int
    label: str
    kind: str
    concept: str | None
    own_max: float
    outcome: Literal["appears", "vanishes", "changes"]
    max_before: float
    max_after: float
    change: float
    """The largest |z′ − z| over residues, with its sign."""
    at: int
    """The residue of that change."""
    score: float
    """|change| / own_max."""
    before: Track
    after: Track


class Mutated(Model):
    """What a mutation does to the latents: those that change, most first."""

    sae: str
    sequence: str
    mutant: str
    positions: list[int]
    latents: list[ChangedLatent]
    n_same: int
    """Latents that fire and change by less."""
    seconds: float
    python: str


class ScanIn(SequenceIn):
    """Every substitution, and what one latent makes of it."""

    latent: int = Field(ge=0, le=2**31 - 1)
    start: int | None = Field(default=None, ge=1)
    """First and last residue to substitute; all by default."""
    end: int | None = Field(default=None, ge=1)
    at: int | None = Field(default=None, ge=1)
    """The residue at which the latent is read; by default that of its maximum."""


class Scanned(Model):
    """A latent under all substitutions."""

    sae: str
    sequence: str
    latent: int
    letters: str
    start: int
    at: int
    wild_max: float
    wild_at: float
    own_max: float
    max: list[list[float]]
    """Of each residue (row) and letter (column): its maximum over the mutant."""
    value_at: list[list[float]]
    """The same, its value at ``at``."""
    n_passes: int
    """Mutants that ran."""
    seconds: float
    python: str


class SteerIn(SequenceIn):
    """Edits of latents inside the parent."""

    edits: str = Field(default="", max_length=MAX_EDITS_CHARS)
    """LATENT:OPERATION[:STRENGTH][@WHERE], separated by ``;``."""
    mask: str | None = Field(default=None, max_length=1_000)
    """Residues hidden from the model: ``all``, or ranges counted from 1."""
    error_term: Literal["keep", "drop"] = "keep"


class EditDone(Model):
    """One edit, and how hard it was."""

    edit: str
    latent: int
    label: str
    strength: float
    """In latent units."""
    own_max: float
    """The latent's maximum on the run's held-out residues."""
    n_edited: int
    fired_on: float | None
    mean_before: float | None
    mean_norm: float | None
    relative_norm: float | None


class TopChange(Model):
    """One entry of Δlog p."""

    position: int
    wild_type: str
    amino_acid: str
    delta_log_p: float
    log_p_before: float
    log_p_after: float


class Steered(Model):
    """A sequence with and without the edits."""

    sae: str
    sequence: str
    letters: str
    edits: list[EditDone]
    edited: list[int]
    masked: list[int]
    base_log_p: list[list[float]]
    steered_log_p: list[list[float]]
    delta_log_p: list[list[float]]
    kl: list[float]
    argmax_before: str
    argmax_after: str
    summary: dict[str, float | int | None]
    top: list[TopChange]
    seconds: float
    python: str


class SweepIn(SequenceIn):
    """Dose-response of one latent on one sequence, beside matched controls."""

    latent: int = Field(ge=0, le=2**31 - 1)
    operation: Operation = "set"
    where: Literal["masked", "all", "active"] = "masked"
    """Residues that are edited and read: the masked ones, or with unmasked input all of them or
    those on which the latent fires (read are then all)."""
    multiples: list[float] = Field(
        default=[0.0, 0.25, 0.5, 1.0, 2.0, 4.0], min_length=2, max_length=20
    )
    """× the latent's own maximum; of ``scale`` factors."""
    random_latents: int = Field(default=10, ge=0, le=50)
    random_directions: int = Field(default=10, ge=0, le=50)
    mask_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the standard residues that is masked at once."""
    amino_acid: str | None = Field(default=None, min_length=1, max_length=1)
    error_term: Literal["keep", "drop"] = "keep"
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class SweepArm(Model):
    """The latent, or a control."""

    kind: Literal["latent", "random latent", "random direction"]
    number: int
    kl: list[float | None]
    """At each strength, then at each extra norm (null for the latent itself)."""
    delta_log_p: list[list[float | None]]
    """The same of every letter."""


class Swept(Model):
    """A dose-response; means over the residues that are read."""

    sae: str
    sequence: str
    letters: str
    latent: int
    label: str
    multiples: list[float]
    strengths: list[float]
    extra_norms: list[float]
    amino_acid: str
    """Whose log p is followed: as given, or what the latent raises most at the strength nearest 1
    (on this sequence: chosen and shown on the same residues)."""
    chosen_here: bool
    n_read: int
    read: list[int]
    arms: list[SweepArm]
    excess: list[float | None]
    """Δlog p of the amino acid less the mean of the controls at the same norm."""
    above_equal_norm: list[bool | None]
    """Whether it exceeds the 95th percentile of the controls at the same norm …"""
    above_equal_kl: list[bool | None]
    """… and of controls that disturb the prediction as much."""
    relative_norm: list[float]
    verdict: str
    seconds: float
    python: str


class VariantsIn(SequenceIn):
    """Sequences that the edited model writes."""

    edits: str = Field(default="", max_length=MAX_EDITS_CHARS)
    error_term: Literal["keep", "drop"] = "keep"
    n: int = Field(default=20, ge=1, le=1_000)
    method: Literal["single", "gibbs"] = "single"
    positions: str | None = Field(default=None, max_length=1_000)
    mask_fraction: float | None = Field(default=None, gt=0, le=1)
    max_changes: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=100)
    controls: int = Field(default=10, ge=0, le=200)
    """Variants of every control."""
    random_latents: int = Field(default=2, ge=0, le=10)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class VariantOut(Model):
    """A variant, and what the unedited model says of it."""

    index: int
    sequence: str
    changed: list[int]
    identity: float
    rise: dict[int, float]
    """Of each edited latent: its mean over residues, less that of the input."""
    maximum: dict[int, float]
    pseudo_perplexity: float | None
    log_p: float | None
    """Mean log p of the choices by the edited model."""


class VariantArm(Model):
    """Variants made in one way."""

    name: str
    """``steered``, ``no edit``, or ``latent 12`` for a random one of the same norm."""
    variants: list[VariantOut]


class Varied(Model):
    """Variants and their controls."""

    sae: str
    sequence: str
    input_pseudo_perplexity: float | None
    arms: list[VariantArm]
    seconds: float
    python: str


class LabelsIn(Model):
    """A person's own labels: a table, or a motif."""

    sae: str = Field(max_length=500)
    name: str = Field(default="my label", min_length=1, max_length=100)
    """Of the motif."""
    motif: str | None = Field(default=None, max_length=400)
    tsv: str | None = Field(default=None, max_length=4_000_000)
    """Columns id, label and start, end or position; see the probes' documentation."""
    min_positives: int = Field(default=20, ge=1, le=1_000_000)
    """Positive (and negative) residues that each part of the split needs."""


class LabelLatent(LatentName):
    """A latent that tells a label."""

    f1_validation: float
    score: Score
    """On the test clusters."""
    threshold: float
    is_best: bool


class LabelScores(Model):
    """One label, by the frozen split."""

    label: str
    n_positive: dict[str, int]
    """Residues of each part."""
    n_clusters: int
    base_rate: float
    best: ConceptScore | None
    """The latent that validation chose, scored once on test; null where a part has too little."""
    best_latent: LatentName | None
    latents: list[LabelLatent]
    """The best on validation."""
    left_out: str | None
    """Why nothing is said."""


class Labelled(Model):
    """What the latents know of a person's labels."""

    sae: str
    labels: list[LabelScores]
    notes: list[str]
    """Of the reader: records that matched nothing, and such."""
    seconds: float
    python: str


class Matches(Model):
    """Of every latent of one dictionary the nearest of the other; item j is latent j."""

    other: list[int]
    value: list[float | None]
    """Null for a latent that never fires (correlation)."""


class Compared(Model):
    """Two dictionaries of one parent."""

    a: str
    b: str
    by: Literal["cosine", "correlation"]
    """Of decoder rows (same site), or of activations over the same residues."""
    why: str
    n_residues: int | None
    """Over which correlations were taken."""
    forth: Matches
    """From each latent of a."""
    back: Matches
    """From each latent of b."""
    n_mutual: int
    """Pairs that are each other's nearest."""
    shared: float
    """Share at or above ``same``, mean of the two directions."""
    mean: float
    same: float
    """Cosine from which two latents count as the same (Paulo & Belrose 2025)."""
    seconds: float
    python: str


class Progress(Model):
    """A line of a streamed answer (``Accept: application/x-ndjson``); the last one is ``done`` with
    the result, or ``failed``."""

    state: Literal["waiting", "running", "done", "failed"]
    ahead: int | None = None
    """Requests that come first."""
    done: float | None = None
    """Share of the work."""
    doing: str | None = None
    status: int | None = None
    detail: str | None = None
    result: Any = None
