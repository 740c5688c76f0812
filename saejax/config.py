"""How an SAE is trained: :class:`TrainConfig`, whose groups are in ``saejax.settings``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from extract.command_line import Optional, Several, titled
from extract.errors import UserError
from saejax.presets import preset_values
from saejax.recipes import RECIPES, ArchitectureRecipe
from saejax.sae_config import WITH_K, WITH_SPARSITY, SAEConfig
from saejax.settings import (
    DEAD_AFTER_TOKENS,
    GROUP_TYPES,
    Dictionary,
    Layout,
    Recipe,
    Reporting,
    StreamConfig,
    flag,
)

__all__ = ["SAEConfig", "StreamConfig", "TrainConfig"]

MATRYOSHKA_FRACTIONS = (16, 8, 4, 2, 1)
"""Parts of d_sae that the nested dictionaries have; Bussmann et al. 2025 use five, of which each is
two to three times the one before."""

GROUPS = ("dictionary", "recipe", "reporting", "layout", "stream")


_RULES: dict[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "at least 1": (lambda v: v >= 1, (
        "d_sae", "k", "k_aux", "epochs", "batch_size_tokens", "dead_after_tokens", "k_start",
        "accumulate_steps", "log_every_steps", "eval_every_steps", "checkpoint_every_steps",
        "keep_checkpoints", "latent_devices",
    )),
    "at least 0": (lambda v: v >= 0, ("warmup_steps", "seed", "data_seed")),
    "between 0 and 1": (lambda v: 0 < v < 1, ("holdout_fraction", "learning_rate", "ema_decay")),
    "from 0 to 1": (lambda v: 0 <= v <= 1, (
        "decay_fraction", "k_anneal_fraction", "sparsity_warmup_fraction",
    )),
    "a number from 0 on": (lambda v: 0 <= v < float("inf"), ("auxk_coefficient", "sparsity")),
    "a number above 0": (lambda v: 0 < v < float("inf"), ("clip_norm", "encoder_norm")),
}  # fmt: skip
"""What numbers must be, and which."""


@dataclass(frozen=True)
class TrainConfig:
    """Train a sparse autoencoder on activations, on every visible device.

    They come from a store, or with ``--source stream`` from the parent as it runs over a FASTA
    file, without a disk in between. An interrupted run goes on from its last checkpoint, to the
    identical result, when the same command is given again. To begin with:

      python -m saejax.train --preset laptop --activations acts/x --out runs/x
      python -m saejax.info runs/x

    docs/training.md explains every architecture, and the recipe for ESM2-650M.
    """

    activations: Optional[Path] = None
    """Activation store made by ``python -m extract``; required unless the source is a stream."""
    out: Path = tyro.MISSING
    """Folder of the run (made, or resumed)."""
    preset: Optional[str] = None
    """Defaults for a purpose, which are printed with their reasons: demo (ESM2-8M as in ``make
    demo``), laptop (ESM2-8M in minutes), esm2-650m (a GPU). Flags that are given win."""
    source: Literal["store", "stream"] = "store"
    """Where activations come from: a store (--activations), or a parent that runs over --fasta."""
    eval_activations: Optional[Path] = None
    """Store of other proteins for the held-out figures; by default proteins are held out of
    --activations or --fasta (see --holdout-fraction)."""
    target_activations: Optional[Path] = None
    """Train a transcoder: predict these activations, of the same proteins at another site. Proteins
    to evaluate on are then held out of both."""
    holdout_fraction: float = 0.02
    """Share of proteins kept from training when there is no --eval-activations, chosen by
    hash."""
    epochs: int = 4
    """Passes over the activations."""
    batch_size_tokens: int = 2048
    """Residues per step, over all devices."""
    seed: int = 0
    """Seed of the initial weights, and of the order of the data."""
    data_seed: Optional[int] = None
    """Seed of the order of the data; by default --seed."""
    sweep: Several[str] = ()
    """Train several SAEs in one pass over the data, such as ``seed=0,1,2 k=16,32``: every
    combination of seed, k, learning_rate and sparsity becomes a run of its own in a folder below
    --out."""
    pool_shards: Optional[int] = None
    """Neighbouring shards that are shuffled together in memory: 4 by default for a stream. For a
    store, whose chunks of 1,024 rows are permuted first unless this is given, it makes the order
    that a stream of the same proteins has."""
    dictionary: Annotated[Dictionary, *titled("dictionary")] = field(default_factory=Dictionary)
    """What is learnt: the architecture and its sizes."""
    recipe: Annotated[Recipe, *titled("training recipe")] = field(default_factory=Recipe)
    """How it is learnt; the defaults are those of the architecture's authors."""
    reporting: Annotated[Reporting, *titled("reporting")] = field(default_factory=Reporting)
    """What is written into the run's folder, and when; none of it changes the result."""
    layout: Annotated[Layout, *titled("devices and processes")] = field(default_factory=Layout)
    """Only for dictionaries larger than a device, and for several machines."""
    stream: Annotated[StreamConfig, *titled("stream")] = field(default_factory=StreamConfig)
    """Only with --source stream: the parent, and the proteins it runs over."""

    @classmethod
    def of(cls, activations: Path | None, out: Path, **settings: Any) -> TrainConfig:
        """A run with these settings, given by their names on the command line, without groups.

        Those of a preset hold where no other is given.
        """
        settings = preset_values(settings.get("preset"), settings.get("source", "store")) | settings
        return cls(**_grouped({name: {} for name in GROUPS}, activations, out, settings))

    def replace(self, **settings: Any) -> TrainConfig:
        """The same run with other settings, by their names without groups."""
        groups = {name: vars(getattr(self, name)) for name in GROUPS}
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in GROUPS}
        return type(self)(**own | _grouped(groups, self.activations, self.out, settings))

    def settings(self) -> dict[str, Any]:
        """Every setting by its name, without groups; those of the stream only if there is one."""
        found: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in GROUPS:
                found[f.name] = value
            elif f.name != "stream" or self.source == "stream":
                found |= {g.name: getattr(value, g.name) for g in fields(value)}
        return found

    def __post_init__(self) -> None:
        """Check the numbers, and that the flags belong to the source and the architecture."""
        preset_values(self.preset)
        self._check_source()
        self._check_numbers()
        self._check_architecture()
        self._check_layout()
        self.sae(d_model=1)  # sizes that do not fit together are told before a parent is loaded

    @property
    def data_order_seed(self) -> int:
        """Of the order of the data."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def own(self) -> ArchitectureRecipe:
        """The constants of this run's architecture."""
        return RECIPES[self.dictionary.architecture]

    def sae(self, d_model: int, d_out: int | None = None) -> SAEConfig:
        """The SAE to train on activations of ``d_model`` dimensions.

        Args:
            d_model: of the activations.
            d_out: of those that a transcoder predicts.
        """
        d, recipe = self.dictionary, self.recipe
        prefixes, weights = d.prefixes or (), d.prefix_weights or ()
        if d.architecture == "matryoshka" and not prefixes:
            parts = {max(1, d.d_sae // part) for part in MATRYOSHKA_FRACTIONS}
            prefixes = tuple(sorted(parts))
        return SAEConfig(
            d_model=d_model,
            d_sae=d.d_sae,
            k=d.k,
            k_aux=min(d.k_aux or max(1, d_model // 2), d.d_sae),
            architecture=d.architecture,
            d_out=d_out,
            multi_topk=d.multi_topk,
            prefixes=prefixes,
            prefix_weights=weights,
            target_l0=d.target_l0,
            k_max=None if recipe.k_start is None else max(d.k, recipe.k_start),
            encode_dtype=recipe.encode_dtype,
        )

    def scaled_learning_rate(self) -> float:
        """The architecture's own learning rate for this size of dictionary."""
        scale = (self.dictionary.d_sae / 2**14) ** 0.5 if self.own.learning_rate_scales else 1.0
        return self.own.learning_rate / scale

    def peak_learning_rate(self) -> float:
        """As given, else the architecture's own."""
        return self.recipe.learning_rate or self.scaled_learning_rate()

    def sparsity(self) -> float:
        """λ as given, else the architecture's own; 0 where there is none."""
        given = self.dictionary.sparsity
        return (self.own.sparsity or 0.0) if given is None else given

    def dead_threshold_tokens(self, n_steps: int) -> int:
        """Residues of silence that make a latent dead, in a run of ``n_steps``."""
        of_run = max(1, n_steps * self.batch_size_tokens // 8)
        return self.recipe.dead_after_tokens or min(DEAD_AFTER_TOKENS, of_run)

    def _check_source(self) -> None:
        if self.source == "stream":
            if self.stream.fasta is None:
                raise UserError("--source stream needs --fasta: give a FASTA file of proteins")
            for name in ("activations", "target_activations"):
                if getattr(self, name) is not None:
                    raise UserError(
                        f"{flag(name)} does not go with --source stream, which computes its own "
                        "activations at one site; remove one of the two"
                    )
            return
        if self.stream.given():
            raise UserError(
                f"{', '.join(self.stream.given())}: only with --source stream; add that, or "
                "remove the flag to train from a store"
            )
        if self.activations is None:
            raise UserError(
                "--activations is required: give a store made by python -m extract, or train "
                "without one by --source stream --fasta proteins.fasta"
            )
        if self.target_activations is not None and self.eval_activations is not None:
            raise UserError(
                "--eval-activations does not go with --target-activations: a transcoder is "
                "evaluated on proteins held out of its two stores; remove one of the two"
            )

    def _check_numbers(self) -> None:
        given = {name: value for name, value in self.settings().items() if value is not None}
        if self.pool_shards is not None and self.pool_shards < 1:
            raise UserError(f"--pool-shards ({self.pool_shards}) must be at least 1")
        for rule, (fits, names) in _RULES.items():
            for name in names:
                if name in given and not fits(given[name]):
                    raise UserError(f"{name} ({given[name]}) must be {rule}")
        if self.batch_size_tokens % self.recipe.accumulate_steps:
            raise UserError(
                f"batch_size_tokens ({self.batch_size_tokens}) must be divisible by "
                f"accumulate_steps ({self.recipe.accumulate_steps})"
            )

    def _check_architecture(self) -> None:
        """Refuse flags that the architecture would ignore."""
        d, recipe = self.dictionary, self.recipe
        if d.architecture not in WITH_SPARSITY:
            for name in ("sparsity", "sparsity_warmup_fraction"):
                if self.settings()[name] is not None:
                    raise UserError(
                        f"{flag(name)} goes with {', '.join(WITH_SPARSITY)}, not with "
                        f"{d.architecture}, whose sparsity is --k"
                    )
        if d.architecture not in WITH_K and recipe.k_start is not None:
            raise UserError(
                f"--k-start goes with {', '.join(WITH_K)}, not with {d.architecture}, whose "
                "sparsity comes from --sparsity"
            )
        if d.architecture not in WITH_K and recipe.encoder_norm != 1.0:
            raise UserError(
                f"--encoder-norm goes with {', '.join(WITH_K)}, not with {d.architecture}, which "
                "has a start of its own"
            )
        if d.target_l0 is not None and d.sparsity is not None:
            raise UserError("--target-l0 and --sparsity are two ways to the same end; remove one")
        if self.target_activations is not None and d.architecture != "topk":
            raise UserError(
                f"--target-activations makes a transcoder, which is topk, not {d.architecture}"
            )

    def _check_layout(self) -> None:
        layout = self.layout
        explicit = (layout.num_processes is not None, layout.process_id is not None)
        if layout.coordinator in (None, "auto") and any(explicit):
            raise UserError("--num-processes and --process-id need --coordinator host:port")
        if layout.coordinator is not None and self.source == "stream":
            raise UserError(
                "--coordinator does not go with --source stream, which one process computes; "
                "extract a store first"
            )
        if layout.coordinator not in (None, "auto") and not all(explicit):
            raise UserError(
                f"--coordinator {layout.coordinator} needs --num-processes and --process-id too"
            )
        if self.dictionary.d_sae % layout.latent_devices:
            raise UserError(
                f"d_sae ({self.dictionary.d_sae}) must be divisible by latent_devices "
                f"({layout.latent_devices})"
            )


def _grouped(
    groups: dict[str, dict], activations: Path | None, out: Path, settings: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of :class:`TrainConfig` for flat settings laid over the groups' present values."""
    found: dict[str, Any] = {"activations": activations, "out": out}
    rest = dict(settings)
    for name, kind in zip(GROUPS, GROUP_TYPES, strict=True):
        own = {f.name: rest.pop(f.name) for f in fields(kind) if f.name in rest}
        found[name] = kind(**groups[name] | own)
    known = {f.name for f in dataclasses.fields(TrainConfig)} - set(GROUPS)
    for name in rest:
        if name not in known:
            raise UserError(f"{name!r} is no setting of a training run")
    return found | rest
