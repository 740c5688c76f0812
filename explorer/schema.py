"""What the server answers, as Pydantic models: the only schema.

The front end's TypeScript types are generated from the OpenAPI of these. Positions are 1-based, as
UniProt and the PDB number them (files of a bundle count from 0). Activations are of the SAE as it
was trained, unscaled. ``null`` means not known: a bundle made without probes has no concepts.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Mode = Literal["live", "read-only", "static"]
Group = Literal["top", "random", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q10"]
"""Which examples: the proteins with the highest maxima, any active ones, or of a tenth of the
active proteins by their maxima (q10 the highest)."""
Outcome = Literal["true_positive", "false_positive", "near_miss"]
"""Fires inside the concept; fires outside it; the concept is there and the latent silent on it."""
NeighbourKind = Literal["cosine", "coactivation"]


class Model(BaseModel):
    """Settings of all models."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Model):
    """Body of every 4xx: one sentence that says the rule and the remedy."""

    detail: str


class Capabilities(Model):
    """What this server can do; the page hides the rest."""

    mode: Mode
    notes: bool
    """Whether notes, lists and ratings can be written."""
    version: str
    max_query_chars: int
    max_page: int


class Parts(Model):
    """What a bundle holds."""

    probes: bool
    """Concept associations."""
    structures: bool
    effects: bool
    """Amino-acid effects of decoder rows."""
    tracks: bool
    """Every latent's activation along (at least some) proteins."""
    neurons: bool
    """Examples of the parent's own dimensions, for blind rating."""


class SAESummary(Model):
    """One dictionary: a card of the registry."""

    id: str
    name: str
    model: str
    """Name of the parent model."""
    weights: str
    """Where the parent's weights are from."""
    site: str
    block: int | None
    """Of the site: 0 is the embedding; null for ``final``."""
    architecture: str
    d_model: int
    d_sae: int
    k: int | None
    fvu: float | None
    """On held-out residues."""
    l0: float | None
    dead: float | None
    """Share of latents that never fire on held-out residues."""
    loss_recovered: float | None
    n_proteins: int
    n_residues: int
    """Of the proteins in this bundle."""
    n_found: int | None
    """Concepts that a latent finds on unseen homology clusters."""
    n_confirmed: int | None
    """Latents whose concept is confirmed on unseen homology clusters."""
    n_f1_half: int | None
    """Concepts for which a latent has F1 above 0.5 on the test clusters."""
    has: Parts


class SAEDetail(SAESummary):
    """A dictionary and where it is from."""

    provenance: dict[str, Any]
    """Config of the run, the stores, the probes' settings and software versions, as recorded."""


class LatentColumns(Model):
    """Every latent of a dictionary, column by column: item j is latent j."""

    label: list[str]
    label_source: list[str]
    kind: list[str]
    """Such as domain-like, motif-like, amino-acid identity, dead; see the probes' documentation."""
    frequency: list[float]
    """Share of residues on which it is active (z > 0)."""
    protein_frequency: list[float]
    max: list[float]
    p99: list[float]
    """99th percentile of its values where it is active."""
    span: list[float | None]
    """Residues of a run of firing, seen from an average firing residue."""
    x: list[float] | None
    y: list[float] | None
    """UMAP of decoder rows, scaled to −1 … 1."""
    concept: list[str | None]
    """Concept with the best F1 on validation."""
    f1: list[float | None]
    """Its F1 on the test clusters."""
    precision: list[float | None]
    """Of the annotation chosen for the latent's label, on the test clusters."""
    confirmed: list[bool]


class LatentName(Model):
    """A latent as a link."""

    sae: str
    latent: int
    label: str
    kind: str


class Histogram(Model):
    """Values of a latent where it is active."""

    edges: list[float]
    """One more than ``counts``; a log scale."""
    counts: list[int]
    quantiles: list[float]
    """Ends of the ten groups of proteins by maximum: 11 values of protein maxima."""


class Logo(Model):
    """Letters around the residue where a latent is at its maximum, weighted by activation."""

    first: int
    """Offset of the first column, −10 for a window of 10 on either side."""
    letters: str
    """Order of the amino acids."""
    frequencies: list[list[float]]
    bits: list[float]
    """Height of each column: information against the proteins' own composition."""


class Score(Model):
    """One set of features' best at one concept."""

    f1: float | None
    f1_low: float | None
    f1_high: float | None
    """95 % interval over homology clusters; null where too few carry it."""
    precision: float | None
    recall: float | None
    auroc: float | None


class ConceptScore(Model):
    """How well one latent predicts one concept, frozen on train and measured on test clusters."""

    concept: str
    kind: str
    """Where the labels are from."""
    threshold: float
    """The latent's value above which it says yes."""
    score: Score
    n_called: int
    """Test residues above the threshold."""
    n_positive: int
    """Test residues in the concept."""
    n_clusters: int
    """Homology clusters of the test part that have one."""
    base_rate: float
    q: float | None
    """False discovery rate of the pair among all latents and concepts."""
    is_best: bool
    """This latent is the one that training chose for the concept."""
    neuron: Score | None
    """The best of the parent's own dimensions."""
    shuffled_labels: Score | None
    """The best latent for labels that were shuffled."""


class Precise(Model):
    """The annotation that names a latent: where it is active, how often that is in the concept."""

    concept: str
    precision: float
    precision_low: float | None
    precision_high: float | None
    expected: float
    """Precision that the residue and its two neighbours alone predict."""
    recall: float
    base_rate: float
    n_residues: int
    n_clusters: int
    q: float | None
    confirmed: bool


class Neighbour(Model):
    """A latent beside another."""

    latent: int
    label: str
    kind: str
    value: float
    """Cosine of the decoder rows, or lift: how many times more often than chance both fire on one
    residue."""


class LatentDetail(Model):
    """Everything about one latent but its examples."""

    sae: str
    latent: int
    label: str
    label_source: str
    kind: str
    flags: list[str]
    """Further kinds whose rule holds, such as dense or periodic."""
    n_active: int
    n_proteins: int
    frequency: float
    protein_frequency: float
    max: float
    p99: float
    span: float | None
    decoder_norm: float
    consensus: str | None
    enriched: str | None
    histogram: Histogram
    logo: Logo | None
    effects: list[float] | None
    """Change of each amino acid's logit per unit of activation, in the order ``logo.letters`` or
    ACDEFGHIKLMNPQRSTVWY: decoder row through the LM head, linearised, less the mean."""
    precise: Precise | None
    concepts: list[ConceptScore] | None
    elsewhere: list[LatentName]
    """Latents of the other dictionaries that training chose for this one's best concept."""
    previous: int | None
    next: int | None
    """The nearest latents that are not dead."""


class Feature(Model):
    """An annotated stretch of a protein."""

    concept: str
    kind: str
    start: int
    end: int
    """Both included."""


class Track(Model):
    """A latent along a protein: where it is active."""

    positions: list[int]
    values: list[float]


class Example(Model):
    """A protein on which a latent is (or should be) active."""

    accession: str
    description: str
    sequence: str
    structure: bool
    max: float
    argmax: int | None
    focus: int | None
    """The residue to look at: of the maximum; of a concept's examples, that of the hit or of the
    wrong call, or where the concept that was missed begins."""
    track: Track
    features: list[Feature]
    part: str | None
    """Of the probes' split: train, validation or test."""


class Examples(Model):
    """Rows of one tab."""

    sae: str
    latent: int
    group: str
    total: int
    """Proteins that belong to the group, shown or not; of a concept's examples, those among the
    512 proteins that were looked at."""
    examples: list[Example]


class ProteinHit(Model):
    """A protein in which a latent is active."""

    accession: str
    description: str
    length: int
    max: float
    argmax: int


class ProteinHits(Model):
    """Proteins of a latent, highest maximum first."""

    total: int
    next: str | None
    """Cursor of the next page."""
    proteins: list[ProteinHit]


class ProteinDetail(Model):
    """A protein and its annotations."""

    accession: str
    description: str
    sequence: str
    features: list[Feature]
    structure: bool
    saes: list[str]
    """Dictionaries whose bundle has it."""
    url: str | None
    """Where UniProt or the PDB describes it; shown as text to copy, never requested."""


class ProteinLatent(Model):
    """A latent on one protein."""

    latent: int
    label: str
    kind: str
    max: float
    argmax: int
    score: float
    """Share of the latent's own maximum × log(proteins / proteins with it): what the rows are
    ordered by."""
    track: Track | None


class ProteinLatents(Model):
    """Active latents of a protein."""

    sae: str
    accession: str
    total: int
    latents: list[ProteinLatent]


class ConceptSummary(Model):
    """A concept and how well each dictionary knows it."""

    concept: str
    kind: str
    level: Literal["residue", "protein"]
    n_positive: int
    n_clusters: int
    base_rate: float
    best: dict[str, LatentScore]
    """By dictionary."""


class LatentScore(LatentName):
    """A latent and its score at a concept."""

    score: Score
    is_best: bool
    found: bool | None


class ConceptDetail(Model):
    """A concept, dictionary by dictionary."""

    concept: str
    kind: str
    level: Literal["residue", "protein"]
    saes: list[ConceptInSAE]


class ConceptInSAE(Model):
    """What one dictionary has for a concept."""

    sae: str
    n_positive: int
    n_clusters: int
    base_rate: float
    latents: list[LatentScore]
    """Best F1 on validation first."""
    baselines: dict[str, Score]
    """neuron, component, random, shuffled_labels, shuffled_parent, all_positive."""


class SearchHit(Model):
    """One answer of the search box."""

    type: Literal["latent", "concept", "protein", "sae"]
    title: str
    subtitle: str
    sae: str | None = None
    latent: int | None = None
    concept: str | None = None
    accession: str | None = None
    position: int | None = None


class SearchResults(Model):
    """Answers, and what the query was taken for."""

    query: str
    read_as: Literal["text", "latent", "accession", "motif", "sequence", "nothing"]
    hits: list[SearchHit]
    total: int
    """All that match, of which ``hits`` are the best."""


class MotifHit(Model):
    """A protein with matches of a motif."""

    accession: str
    description: str
    length: int
    matches: list[tuple[int, int]]
    """First and last residue of each, of the first 100."""


class MotifLatent(LatentName):
    """A latent on the residues that a motif matches."""

    precision: float
    """Share of its active residues that lie in a match."""
    recall: float
    """Share of matches with an active residue."""
    f1: float


class MotifResults(Model):
    """Where a motif occurs and which latents fire there."""

    pattern: str
    regex: str
    n_matches: int
    n_proteins: int
    hits: list[MotifHit]
    latents: list[MotifLatent]


class Note(Model):
    """What a person says of a latent."""

    sae: str
    latent: int
    text: str = Field(max_length=20_000)
    rating: int | None = Field(default=None, ge=1, le=5)
    tags: list[str] = Field(default_factory=list, max_length=32)
    changed: str
    """UTC time, ISO 8601."""


class NoteEdit(Model):
    """A note to keep; an empty one is removed."""

    text: str = Field(default="", max_length=20_000)
    rating: int | None = Field(default=None, ge=1, le=5)
    tags: list[str] = Field(default_factory=list, max_length=32)


class ListItem(Model):
    """A latent in a list."""

    sae: str = Field(max_length=200)
    latent: int = Field(ge=0)


class LatentList(Model):
    """A named collection of latents."""

    id: str
    name: str
    description: str
    items: list[LatentName]
    changed: str


class ListEdit(Model):
    """A collection to keep."""

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=5_000)
    items: list[ListItem] = Field(default_factory=list, max_length=10_000)


class RatingTask(Model):
    """A feature to judge, without saying whether it is a latent, a neuron or a shuffled one."""

    task: str
    """Opaque; give it back with the rating."""
    sae: str
    examples: list[Example]


class RatingEdit(Model):
    """A judgement."""

    task: str = Field(max_length=200)
    rater: str = Field(min_length=1, max_length=100)
    score: int = Field(ge=1, le=5)
    """1 no pattern, 5 one clear meaning."""
    description: str = Field(default="", max_length=2_000)


class RatingKind(Model):
    """Ratings of one kind of feature."""

    kind: Literal["latent", "neuron", "shuffled"]
    n: int
    mean: float | None
    low: float | None
    high: float | None


class RatingSummary(Model):
    """What the raters said, and how far they agree."""

    raters: int
    ratings: int
    kinds: list[RatingKind]
    agreement: float | None
    """Krippendorff's α for ordinal scores; null below two raters of one feature."""


ConceptSummary.model_rebuild()
ConceptDetail.model_rebuild()
