"""Programs that do one training step of the same TopK SAE on the same batch: ours and Torch's.

All hold a row per latent in both matrices and start from the same numbers. The recipe is Gao et
al. 2024's: mean squared error plus AuxK over 32, decoder gradients orthogonal to their rows,
gradients clipped to norm 1, Adam, unit-norm decoder rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from saejax.sae_config import EncodeDtype

Step = Callable[[np.ndarray], float]
"""Batch ``[batch, d_model]`` → its loss, with the parameters changed."""

LEARNING_RATE = 3e-4
AUXK_COEFFICIENT = 1 / 32
DEAD_AFTER_TOKENS = 10_000_000
N_BATCHES = 4
ADAM = {"betas": (0.9, 0.999), "eps": 6.25e-10}


@dataclass(frozen=True)
class Setting:
    """Sizes of one comparison."""

    d_model: int
    """Dimensions of the activations."""
    d_sae: int
    """Latents."""
    k: int
    """Latents active per residue."""
    batch: int = 2048
    """Residues in a step."""
    n_dead: int = 0
    """Latents that are dead, and too weak to come back within the run."""

    @property
    def k_aux(self) -> int:
        """Dead latents that AuxK uses for a residue (Gao et al.: half of d_model)."""
        return min(self.d_model // 2, self.d_sae)


def initial(setting: Setting) -> tuple[dict[str, np.ndarray], np.ndarray, list[np.ndarray]]:
    """Parameters, residues since each latent fired, and batches with E‖x‖² = d_model."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((setting.d_sae, setting.d_model), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    encoder = rows.copy()
    encoder[: setting.n_dead] *= 0.01
    silent = np.zeros(setting.d_sae, np.int32)
    silent[: setting.n_dead] = 2 * DEAD_AFTER_TOKENS
    params = {
        "W_enc": encoder, "W_dec": rows,
        "b_enc": np.zeros(setting.d_sae, np.float32),
        "b_dec": np.zeros(setting.d_model, np.float32),
    }  # fmt: skip
    spectrum = np.arange(1, setting.d_model + 1, dtype=np.float32) ** -0.25
    spectrum *= (setting.d_model / (spectrum**2).sum()) ** 0.5
    shape = (setting.batch, setting.d_model)
    return (
        params,
        silent,
        [rng.standard_normal(shape, dtype=np.float32) * spectrum for _ in range(N_BATCHES)],
    )


def ours(setting: Setting, encode_dtype: EncodeDtype) -> Step:
    """``saejax.step`` on one device."""
    from saejax.memory import keep_freed_memory

    keep_freed_memory()  # as the command line does
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from saejax.step import DATA

    _, state, step = saejax_step(setting, encode_dtype)
    mesh = Mesh(np.array(jax.local_devices()[:1]), (DATA,))  # as the training loop places them
    batches: dict[int, Any] = {}
    held = [jax.device_put(state, NamedSharding(mesh, PartitionSpec()))]

    def run(batch: np.ndarray) -> float:
        if id(batch) not in batches:
            placed = jax.device_put(batch[None], NamedSharding(mesh, PartitionSpec(DATA)))
            batches[id(batch)] = jax.block_until_ready(placed)
        held[0], metrics = step(held[0], batches[id(batch)])
        return float(jax.block_until_ready((held[0], metrics))[1].loss)

    return run


def saejax_step(setting: Setting, encode_dtype: EncodeDtype) -> tuple[Any, Any, Callable]:
    """The one place that knows how saejax is built: fixed half, state and step."""
    import jax
    import jax.numpy as jnp

    from saejax.config import SAEConfig, TrainConfig
    from saejax.model import Constants
    from saejax.state import init_state
    from saejax.step import make_train_step

    params, silent, _ = initial(setting)
    nowhere = Path(os.devnull)
    config = TrainConfig.of(
        nowhere, nowhere, d_sae=setting.d_sae, k=setting.k,
        batch_size_tokens=setting.batch, learning_rate=LEARNING_RATE, warmup_steps=0,
        decay_fraction=0.0, auxk_coefficient=AUXK_COEFFICIENT, dead_after_tokens=DEAD_AFTER_TOKENS,
    )  # fmt: skip
    sae = SAEConfig(
        setting.d_model, setting.d_sae, setting.k, setting.k_aux, encode_dtype=encode_dtype
    )
    constants = Constants(np.zeros(setting.d_model, np.float32), 1.0)
    training, state = init_state(config, sae, constants, n_steps=10**6)
    params["W_enc_T"] = params.pop("W_enc")
    assert params.keys() == state.params.keys(), state.params.keys()
    state = state._replace(
        params={name: jnp.array(x) for name, x in params.items()},
        tokens_since_fired=jnp.array(silent),
    )
    return training, state, make_train_step(training, jax.local_devices()[:1])


def torch_dense(setting: Setting, matmul_precision: str) -> Step:
    """Dense codes and autograd, as SAELens and dictionary_learning train."""
    import torch

    torch.set_float32_matmul_precision(matmul_precision)
    arrays, silent_array, _ = initial(setting)
    params = {n: torch.nn.Parameter(torch.tensor(x)) for n, x in arrays.items()}
    W_enc, W_dec, b_enc, b_dec = (params[n] for n in ("W_enc", "W_dec", "b_enc", "b_dec"))
    silent = torch.tensor(silent_array)
    adam = torch.optim.Adam(params.values(), lr=LEARNING_RATE, **ADAM)

    def run(batch: np.ndarray) -> float:
        x = torch.from_numpy(batch)
        pre_acts = torch.nn.functional.linear(x - b_dec, W_enc, b_enc)
        values, indices = pre_acts.topk(setting.k)
        z = torch.zeros_like(pre_acts).scatter(1, indices, values.relu())
        x_hat = z @ W_dec + b_dec
        loss = (x_hat - x).pow(2).mean()
        dead = silent > DEAD_AFTER_TOKENS
        if dead.any():
            error = (x - x_hat).detach()
            hidden = pre_acts.masked_fill(~dead, -torch.inf)
            values, chosen = hidden.topk(min(setting.k_aux, int(dead.sum())))
            z_aux = torch.zeros_like(pre_acts).scatter(1, chosen, values.relu())
            variance = (error - error.mean(0)).pow(2).mean()
            loss = loss + AUXK_COEFFICIENT * (z_aux @ W_dec - error).pow(2).mean() / variance
        adam.zero_grad()
        loss.backward()
        with torch.no_grad():
            assert W_dec.grad is not None
            W_dec.grad -= (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
            torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
            adam.step()
            W_dec.div_(W_dec.norm(dim=1, keepdim=True))
            fired = (z > 1e-3).any(0)
            silent.add_(len(x)).masked_fill_(fired, 0)
        return loss.item()

    return run


def torch_sparse(setting: Setting, encode_dtype: str, rows: int = 32) -> Step:
    """A loop tuned by hand: gathers and scatters of ``rows`` examples at a time, no autograd."""
    import torch

    torch.set_float32_matmul_precision("medium")
    torch.set_grad_enabled(False)
    arrays, silent_array, _ = initial(setting)
    params = {n: torch.nn.Parameter(torch.tensor(x)) for n, x in arrays.items()}
    W_enc, W_dec, b_enc, b_dec = (params[n] for n in ("W_enc", "W_dec", "b_enc", "b_dec"))
    for p in params.values():
        p.grad = torch.zeros_like(p)
    silent = torch.tensor(silent_array)
    adam = torch.optim.Adam(params.values(), lr=LEARNING_RATE, fused=True, **ADAM)
    dtype = getattr(torch, encode_dtype)

    def auxk(x: Any, x_hat: Any) -> float:
        """Adds AuxK's gradients."""
        found = (silent > DEAD_AFTER_TOKENS).nonzero()[:, 0]
        if not len(found):
            return 0.0
        error, shifted, encoder, decoder = x - x_hat, x - b_dec, W_enc[found], W_dec[found]
        pre_acts = torch.addmm(b_enc[found], shifted, encoder.T)
        values, chosen = pre_acts.topk(min(setting.k_aux, len(found)), sorted=False)
        z = torch.zeros_like(pre_acts).scatter_(1, chosen, values.relu_())
        difference = z @ decoder - error
        variance = (error - error.mean(0)).pow(2).mean()
        grad = difference * (2 * AUXK_COEFFICIENT / variance / x.numel())
        grad_z = (grad @ decoder.T).mul_(z > 0)
        grad_b = grad_z.sum(0)
        W_dec.grad.index_add_(0, found, z.T @ grad)  # type: ignore[union-attr]
        W_enc.grad.index_add_(0, found, grad_z.T @ shifted)  # type: ignore[union-attr]
        b_enc.grad.index_add_(0, found, grad_b)  # type: ignore[union-attr]
        b_dec.grad.sub_(grad_b @ encoder)  # type: ignore[union-attr]
        return float(AUXK_COEFFICIENT * difference.pow(2).mean() / variance)

    def run(batch: np.ndarray) -> float:
        x = torch.from_numpy(batch)
        shifted = x - b_dec
        if dtype == torch.float32:
            pre_acts = torch.addmm(b_enc, shifted, W_enc.T)
        else:
            pre_acts = (shifted.to(dtype) @ W_enc.to(dtype).T).float().add_(b_enc)
        values, indices = pre_acts.topk(setting.k, sorted=False)
        values.relu_()
        bag = torch.nn.functional.embedding_bag
        x_hat = bag(indices, W_dec, per_sample_weights=values, mode="sum") + b_dec
        grad = (x_hat - x).mul_(2 / x.numel())
        loss = float((x_hat - x).pow_(2).mean())
        for p in params.values():
            p.grad.zero_()  # type: ignore[union-attr]
        for s in range(0, len(x), rows):
            i, v, g = indices[s : s + rows], values[s : s + rows], grad[s : s + rows]
            flat = i.reshape(-1)
            grad_v = torch.bmm(W_dec[flat].view(*i.shape, -1), g[:, :, None])[..., 0].mul_(v > 0)
            for p, weight, row in ((W_dec, v, g), (W_enc, grad_v, shifted[s : s + rows])):
                update = (weight[:, :, None] * row[:, None]).view(len(flat), -1)
                p.grad.index_add_(0, flat, update)  # type: ignore[union-attr]
            b_enc.grad.index_add_(0, flat, grad_v.reshape(-1))  # type: ignore[union-attr]
        b_dec.grad.copy_(grad.sum(0) - b_enc.grad @ W_enc)  # type: ignore[union-attr,operator]
        loss += auxk(x, x_hat)
        W_dec.grad.sub_((W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec)  # type: ignore[union-attr,operator]
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        adam.step()
        W_dec.div_(W_dec.norm(dim=1, keepdim=True))
        fired = torch.zeros(len(silent), dtype=torch.bool)
        fired[indices[values > 1e-3]] = True
        silent.add_(len(x)).masked_fill_(fired, 0)
        return loss

    return run


CONTESTANTS: dict[str, Callable[[Setting], Step]] = {
    "torch dense": lambda setting: torch_dense(setting, "highest"),
    "torch dense, medium": lambda setting: torch_dense(setting, "medium"),
    "torch sparse by hand": lambda setting: torch_sparse(setting, "float32"),
    "torch sparse by hand, bfloat16 encode": lambda setting: torch_sparse(setting, "bfloat16"),
    "ours": lambda setting: ours(setting, "float32"),
    "ours, bfloat16 encode": lambda setting: ours(setting, "bfloat16"),
}


def milliseconds(f: Callable, *args: Any, repeats: int = 3) -> float:
    """Median time of a jitted function after a first call."""
    import jax

    jax.block_until_ready(f(*args))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(f(*args))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def parts(setting: Setting) -> dict[str, float]:
    """Milliseconds of the step's parts, each compiled alone, and of the floor's ingredients."""
    import jax
    import jax.numpy as jnp
    import optax

    from saejax import kernels
    from saejax.rows import orthogonal_to_rows, unit_rows

    training, state, _ = saejax_step(setting, "float32")
    params = state.params
    x = jnp.asarray(initial(setting)[2][0])
    W_enc, W_dec = params["W_enc_T"], params["W_dec"]
    jit = jax.jit
    encode = jit(kernels.encoder_matmul)
    encode_bfloat16 = jit(partial(kernels.encoder_matmul, dtype="bfloat16"))
    pre_acts = encode(x, W_enc)
    top_k = jit(kernels.top_k, static_argnums=1)
    values, indices = top_k(pre_acts, setting.k)
    adam = training.optimizer

    def update(params: Any, grads: Any, opt_state: Any) -> tuple[Any, Any]:
        grads = grads | {"W_dec": orthogonal_to_rows(grads["W_dec"], params["W_dec"])}
        norm = optax.tree.norm(grads)
        grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1 / norm), grads)
        updates, opt_state = adam.update(grads, opt_state, params)
        params = jax.tree.map(lambda p, u: p - LEARNING_RATE * u, params, updates)
        return params | {"W_dec": unit_rows(params["W_dec"])}, opt_state

    add = jit(kernels.add_rows, static_argnums=3)
    result = {
        "encode": milliseconds(encode, x, W_enc),
        "encode in bfloat16": milliseconds(encode_bfloat16, x, W_enc),
        "top-k": milliseconds(top_k, pre_acts, setting.k),
        "decode": milliseconds(jit(kernels.weighted_row_sum), values, indices, W_dec),
        "gradient of values": milliseconds(jit(kernels.row_products), indices, W_dec, x),
        "gradient of one matrix": milliseconds(add, values, indices, x, setting.d_sae),
    }  # fmt: skip
    del pre_acts
    copy = jit(lambda a: a + 1, donate_argnums=0)
    block = [jnp.ones(2**25)]

    def copy_block() -> Any:
        block[0] = copy(block[0])
        return block[0]

    result["bytes per ms"] = 2 * 4 * 2**25 / milliseconds(copy_block)
    held = [jax.tree.map(jnp.copy, params), state.opt_state]
    grads = jax.tree.map(lambda p: p * 1e-6, params)
    optimise = jit(update, donate_argnums=(0, 2))

    def run_update() -> Any:
        held[:] = optimise(held[0], grads, held[1])
        return held

    result["optimiser, projection and unit rows"] = milliseconds(run_update)
    return result
