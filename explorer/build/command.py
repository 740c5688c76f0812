"""The steps of a build, in order; each is skipped where its part is there already."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from explorer.build.arrays import write_array
from explorer.build.assemble import assemble_latents, assemble_neurons, assemble_proteins
from explorer.build.by_latent import write_latents
from explorer.build.by_protein import write_proteins
from explorer.build.config import BuildConfig
from explorer.build.hashing import protein_keys
from explorer.build.index import concepts_of, write_defined, write_index
from explorer.build.inputs import BuildInputs
from explorer.build.kinds import write_kinds
from explorer.build.latent_table import latent_table, write_latent_table
from explorer.build.manifest import manifest_of, plan_sha256
from explorer.build.neighbours import Neighbours, coactivation_neighbours, cosine_neighbours
from explorer.build.order import ProteinOrder, protein_order
from explorer.build.proteins import write_backbones, write_sequences
from explorer.build.workshop import Workshop, finished_with, open_workshop
from extract.errors import UserError, require_free_space
from saejax.latent_store import LatentStore

log = logging.getLogger(__name__)

EXAMPLE_BYTES = 64
"""Of an example and its entries, on average."""


def build(config: BuildConfig) -> Path:
    """Build a bundle, or finish one; with progress bars.

    Raises:
        UserError: inputs that do not fit each other, a folder that holds something else, no room
            on the disk.
    """
    inputs = BuildInputs.of(config)
    plan = inputs.plan()
    if finished_with(config.out, plan_sha256(plan)):
        log.info("%s: is done already", config.out)
        return config.out
    with open_workshop(config.out, plan) as shop:
        latents = inputs.latents(shop.building / "latents")
        order = protein_order(
            latents, inputs.rows, inputs.structured, inputs.annotated, config.tracks_gb * 1e9
        )
        _require_room(shop.folder, latents, order, config)
        make(shop, inputs, latents, order, plan)
    return config.out


def make(
    shop: Workshop,
    inputs: BuildInputs,
    latents: LatentStore,
    order: ProteinOrder,
    plan: Mapping[str, object],
) -> None:
    """Every step from the latents to the manifest."""
    keys = protein_keys(inputs.rows.proteins[i].id for i in order.stored.tolist())
    assemble_proteins(shop, write_proteins(shop, latents, inputs.rows, order))
    found = assemble_latents(shop, write_latents(shop, latents, inputs.rows, order, keys))
    write_sequences(shop.folder, inputs, order)
    write_backbones(shop.folder, inputs, order)
    kinds = write_kinds(shop, inputs, latents)
    decoder_FD = inputs.loaded.arrays()["W_dec"]
    n_active = latents.n_fires
    neighbours = {
        "cosine": _neighbours(shop, "cosine", lambda: cosine_neighbours(decoder_FD, n_active > 0)),
        "coactivation": _neighbours(
            shop, "coactivation", lambda: coactivation_neighbours(latents, inputs.rows)
        ),
    }
    found |= {
        "n_active": n_active, "max": latents.max_value,
        "decoder_norm": np.linalg.norm(decoder_FD, axis=1),
    }  # fmt: skip
    if inputs.config.umap:
        found["places"] = _places(shop, decoder_FD, n_active > 0, neighbours["cosine"])
    _effects(shop, inputs)
    _neurons(shop, inputs, order, n_active)
    table = latent_table(kinds, found, inputs.probes, inputs.rows.n_rows, inputs.rows.n_proteins)
    write_latent_table(shop.folder, table)
    concepts = concepts_of(inputs)
    write_defined(shop.folder, concepts, order)
    write_index(shop.folder, inputs, order, concepts, table, neighbours)
    shop.finish(manifest_of(shop.folder, inputs, order, plan, table))


def _neighbours(shop: Workshop, kind: str, find) -> Neighbours:
    name = f"{kind}.npz"
    if not shop.has(name):
        shop.save(name, find()._asdict())
    part = shop.load(name)
    return Neighbours(part["other"], part["value"])


def _places(shop: Workshop, decoder_FD: np.ndarray, alive: np.ndarray, cosine: Neighbours):
    if not shop.has("places.npz"):
        from explorer.build.atlas import places

        log.info("map of %s decoder rows", f"{len(decoder_FD):,}")
        shop.save("places.npz", {"xy": places(decoder_FD, alive, cosine)})
    return shop.load("places.npz")["xy"]


def _effects(shop: Workshop, inputs: BuildInputs) -> None:
    """``logit_effect.npy``, unless the parent can't be had; then the log says why."""
    config, loaded = inputs.config, inputs.loaded
    if config.effects and not shop.has("effects.npz"):
        shop.save("effects.npz", {} if loaded.config.d_out is not None else _found_effects(inputs))
    if config.effects and "effect" in (part := shop.load("effects.npz")):
        write_array(shop.folder, "logit_effect", part["effect"])


def _found_effects(inputs: BuildInputs) -> dict[str, np.ndarray]:
    from explorer.build.effects import logit_effects
    from extract.parents import load_parent_of

    config, loaded = inputs.config, inputs.loaded
    try:
        model = load_parent_of(loaded.store_manifest, weights=config.weights, device=config.device,
                               model=config.model)  # fmt: skip
        log.info("effects of decoder rows on the parent's logits")
        effect = logit_effects(loaded, model, inputs.rows.proteins, config.effect_residues)
    except UserError as error:
        if config.weights is not None or config.model is not None:
            raise
        log.warning("no amino-acid effects: %s", error)
        return {}
    return {"effect": effect}


def _neurons(
    shop: Workshop, inputs: BuildInputs, order: ProteinOrder, n_active: np.ndarray
) -> None:
    if not inputs.config.neurons:
        return
    if not shop.has("neurons.npz"):
        from explorer.build.neurons import neuron_examples

        alive = n_active[n_active > 0]
        frequency = float(np.median(alive)) / inputs.rows.n_rows if len(alive) else 0.0
        shop.save("neurons.npz", neuron_examples(inputs.stores, inputs.rows, order.rank, frequency))
    assemble_neurons(shop, "neurons.npz")


def _require_room(
    folder: Path, latents: LatentStore, order: ProteinOrder, config: BuildConfig
) -> None:
    """Refuse to begin without room for the parts and, beside them, the bundle."""
    pairs = order.pairs_per_entry * latents.n_entries
    tracks = min(config.tracks_gb * 1e9, 4 * latents.n_entries + 8 * pairs)
    per_latent = min(240, 3 * pairs / max(latents.d_sae, 1)) * EXAMPLE_BYTES + 1200
    require_free_space(folder, int(2 * (20 * pairs + tracks + latents.d_sae * per_latent)))
