"""A published SAE becomes a run like any other: checked on activations, with its provenance."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from extract.errors import UserError, require_free_space
from extract.files import file_sha256, versions, write_json_atomically
from extract.store import ActivationStore
from saejax.architectures import ARCHITECTURES
from saejax.calibrate import BLOCK_ROWS
from saejax.checkpoint import RUN_FORMAT_VERSION, load_sae, save_published
from saejax.evaluate import evaluate
from saejax.gate import better_fit, check_fvu, sample_rows
from saejax.interop.find_k import SCAN_RESIDUES, Scan, scan_k
from saejax.interop.formats import read_published
from saejax.interop.hub import local_path
from saejax.interop.published import Facts, Given, Published
from saejax.loaded_sae import LoadedSAE
from saejax.model import SAE, Constants
from saejax.results import write_latent_stats
from saejax.sae_config import SAEConfig

log = logging.getLogger(__name__)

K_DISAGREES = 1.5
"""A k that is this many times the one found, or its inverse, is warned of."""


@dataclass(frozen=True)
class Request:
    """What to import, and what the user says about it."""

    source: str
    """File, folder or ``hf://`` address."""
    format_name: str
    """One of ``IMPORT_FORMATS``."""
    out: Path
    """Run folder (made)."""
    given: Given = field(default_factory=Given)
    """What the format leaves open."""
    claims: Facts = field(default_factory=Facts)
    """Model, site or token dropout, where the file is silent or wrong."""
    find_k: bool = False
    """Look for k on the activations."""
    expected_fvu: float | None = None
    """As published."""
    residues: int = 16384
    """On which the run's figures are measured."""


def import_sae(request: Request, store: ActivationStore) -> LoadedSAE:
    """Make a run of a published SAE.

    Args:
        request: what, from where, to where.
        store: activations of the SAE's parent and site, as it was trained on.

    Raises:
        UserError: the files are not of the format, or not whole; they don't fit the store; k is
            unknown; or the SAE does not reconstruct the store's activations.
    """
    if request.out.exists():
        raise UserError(f"{request.out}: is there already; give a new --out folder")
    published = read_published(request.format_name, local_path(request.source), request.given)
    published = _with_scale(published, request.given)
    facts, sources = _facts(published, request.claims, store)
    require_fit(published, facts, store)
    x = sample_rows(store, request.residues)
    k, how = _k_of(published, request, x)
    sae = sae_of(replace(published, k=k))
    record = _record(request, published, facts, sources, how, sae.config, store)
    loaded = LoadedSAE(request.out, sae, sae.config, record)
    found = check_fvu(loaded, store, expected=request.expected_fvu)
    better = better_fit(loaded, x, found.fvu)
    if better is not None:
        log.warning("%s: FVU is %.3f, and %s", request.out, found.fvu, better)
    blocks = (x[i : i + BLOCK_ROWS] for i in range(0, len(x), BLOCK_ROWS))
    result = evaluate(sae, blocks)
    record["results"] = result.summary()
    log.info("%s: FVU %.4f, L0 %.1f on %d residues of %s", request.out, result.fvu, result.l0,
             result.n_tokens, store.folder)  # fmt: skip
    building = request.out.with_name(request.out.name + ".tmp")
    shutil.rmtree(building, ignore_errors=True)
    arrays = _variables(sae)
    require_free_space(building, 2 * sum(a.nbytes for a in arrays.values()))
    building.mkdir(parents=True)
    try:
        save_published(building, arrays)
        write_latent_stats(building / "latent_stats.parquet", result)
        write_json_atomically(building / "run.json", record)
        building.rename(request.out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return load_sae(request.out)


def require_fit(published: Published, facts: Facts, store: ActivationStore) -> None:
    """Refuse activations of another parent, site, token dropout or size than the SAE's.

    Raises:
        UserError: the first difference, with both values.
    """
    parent = store.manifest["parent"]
    found = {
        "the parent": (facts.model, parent["name"], "--model"),
        "the parent's weights": (facts.weights_sha256, parent["weights"]["encoder_sha256"], None),
        "the site": (facts.site, store.site, "--site"),
        "token dropout": (facts.token_dropout, parent["token_dropout"], "--token-dropout"),
    }
    for what, (ours, theirs, flag) in found.items():
        if ours is not None and ours != theirs:
            remedy = "extract those that it needs" + (
                f", or say with {flag} what its file has wrong" if flag else ""
            )
            raise UserError(
                f"{published.path}: {what} is {ours!r} for this SAE and {theirs!r} in "
                f"{store.folder}; {remedy}"
            )
    if published.sizes[0] != store.d_model:
        raise UserError(
            f"{published.path}: takes activations of {published.sizes[0]} dimensions, "
            f"{store.folder} has {store.d_model}: another parent, or the encoder is transposed"
        )


def _facts(
    published: Published, claims: Facts, store: ActivationStore
) -> tuple[Facts, dict[str, str]]:
    """What holds, and who says so: the user, the file (or its format), or else the store."""
    sources, values = {}, {}
    for name in (f.name for f in dataclasses.fields(Facts)):
        said, own = getattr(claims, name), getattr(published.facts, name)
        values[name] = said if said is not None else own
        sources[name] = "given" if said is not None else "file" if own is not None else "store"
    for name in ("model", "site", "token_dropout"):
        if values[name] is None:
            log.warning("%s: does not say its %s; taken from %s", published.path,
                        name.replace("_", " "), store.folder)  # fmt: skip
    return Facts(**values), sources


def _with_scale(published: Published, given: Given) -> Published:
    if given.input_scale is None:
        return published
    return replace(published, scale=published.scale * given.input_scale)


def _k_of(published: Published, request: Request, x: np.ndarray) -> tuple[int | None, str]:
    """k of a top-k SAE, and where it is from.

    Raises:
        UserError: nobody says it.
    """
    if published.threshold is not None:
        return None, "none: latents fire above a threshold"
    path, given = published.path, request.given.k
    in_file = published.k if published.k != given else None
    if given is not None and in_file is not None:
        raise UserError(f"{path}: its k is {in_file}, --k is {given}; leave --k away")
    known = published.k
    if known is None and not request.find_k:
        usual = published.notes.get("k_published")
        raise UserError(
            f"{path}: its file does not say k; give --k if you know it"
            + (f" (its authors' has {usual})" if usual else "")
            + ", or --find-k to find it on the activations"
        )
    scan = _scan(published, x)
    if known is None:
        for k, value, factor in zip(scan.k, scan.fvu, scan.factor, strict=True):
            log.info("  k %4d: FVU %.4f, best factor of latents %.3f", k, value, factor)
        k = scan.found(str(path))
        log.info("%s: k is %d, where the best factor is 1 (it is at %.0f)", path, k, scan.crossing)
        return k, f"found by a scan: the best factor of latents is 1 at k = {scan.crossing:.1f}"
    cross = scan.crossing
    if cross is not None and not 1 / K_DISAGREES < known / cross < K_DISAGREES:
        log.warning("%s: k is %d, but on these activations it looks like one that was trained with "
                    "%.0f", path, known, cross)  # fmt: skip
    return known, "given" if known == given else "file"


def _scan(published: Published, x: np.ndarray) -> Scan:
    sae = sae_of(replace(published, k=1))
    rows = np.asarray(sae.normalize(x[:: max(1, len(x) // SCAN_RESIDUES)][:SCAN_RESIDUES]))
    p = published
    return scan_k(rows, p.W_enc, p.b_enc, p.W_dec, p.b_dec)


def sae_of(published: Published) -> SAE:
    """The SAE, in the form it is used in."""
    p, (d_model, d_sae) = published, published.sizes
    top_k = p.threshold is None
    config = SAEConfig(
        d_model, d_sae, k=p.k or 1, k_aux=1, architecture="topk" if top_k else "threshold",
        token_zscore=p.token_zscore,
    )  # fmt: skip
    mean = np.zeros(d_model, np.float32) if p.mean is None else p.mean
    constants = Constants(mean, p.scale)
    graph, state = nnx.split(
        nnx.eval_shape(lambda: ARCHITECTURES[config.architecture](config, constants,
                                                                  rngs=nnx.Rngs(0)))
    )  # fmt: skip
    values = {"W_enc_T": p.W_enc.T, "b_enc": p.b_enc, "W_dec": p.W_dec, "b_dec": p.b_dec,
              "mean": mean, "scale": np.float32(p.scale), "threshold": p.threshold}  # fmt: skip
    for name, variable in state.items():
        state[name] = variable.replace(jnp.asarray(values[name]))
    return nnx.merge(graph, state)


def _variables(sae: SAE) -> dict[str, np.ndarray]:
    return {name: np.asarray(v[...]) for name, v in nnx.split(sae)[1].items()}


def _record(
    request: Request,
    published: Published,
    facts: Facts,
    sources: Mapping[str, str],
    how_k: str,
    config: SAEConfig,
    store: ActivationStore,
) -> dict[str, Any]:
    """``run.json``, but for the results."""
    kept = ("parent", "site", "d_model", "special_tokens_dropped", "mean", "scale", "gamma")
    imported = {
        "format": request.format_name,
        "source": request.source,
        "file": published.path.name,
        "sha256": file_sha256(published.path),
        "said_by": {k: v for k, v in sources.items() if k != "special_tokens"},
        "k_from": how_k,
        "input_scale": published.scale,
        "token_zscore": published.token_zscore,
        "special_tokens": facts.special_tokens or "unknown",
        "expected_fvu": request.expected_fvu,
        "notes": dict(published.notes),
    }
    return {
        "format_version": RUN_FORMAT_VERSION,
        "state": "complete",
        "config": {},
        "sae": asdict(config),
        "imported": imported,
        "store": {k: store.manifest[k] for k in kept if k in store.manifest} | {"source": None},
        "target_store": None,
        "eval_store": store.manifest,
        "results": {},
        "versions": versions("jax", "flax", "numpy", "orbax-checkpoint"),
    }
