"""Every format from its definition, in NumPy and float64, and files with exactly its keys."""

import json
from typing import Any

import ml_dtypes
import numpy as np

from saejax.interop import Given
from tests.saejax.interop.writing import Case, write_pt, write_safetensors


def relu(h):
    return np.maximum(h, 0)


def top_k(h, k):
    """The k largest of each row, the others 0."""
    out = np.zeros_like(h)
    at = np.argsort(-h, axis=1, kind="stable")[:, :k]
    np.put_along_axis(out, at, np.take_along_axis(h, at, axis=1), axis=1)
    return out


def zscore(x):
    mu = x.mean(axis=1, keepdims=True)
    s = np.sqrt(((x - mu) ** 2).sum(axis=1, keepdims=True) / (x.shape[1] - 1))
    return mu, s


def normal(seed, *shape, size=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * size).astype(np.float32)


def weights(d, n, seed=0):
    """W_enc [d, n], b_enc, W_dec [n, d] with rows of other norms than 1, b_dec."""
    return (normal(seed, d, n, size=d**-0.5), normal(seed + 1, n, size=0.1),
            normal(seed + 2, n, d, size=n**-0.5 * 4), normal(seed + 3, d, size=0.3))  # fmt: skip


def rows(d, n=12, seed=9):
    return normal(seed, n, d, size=3.0) + 1.5


def wide(*arrays):
    return [np.asarray(a, np.float64) for a in arrays]


def interprot(folder):
    d, n, k = 1280, 4096, 64
    w_enc, b_enc, w_dec, b_pre = weights(d, n)
    path = folder / "esm2_plm1280_l24_sae4096.safetensors"
    write_safetensors(path, {"w_enc": w_enc, "w_dec": w_dec, "b_enc": b_enc, "b_pre": b_pre,
                             "stats_last_nonzero": np.zeros(n, np.int64)})  # fmt: skip
    x = rows(d)
    X, we, be, wd, bp = wide(x, w_enc, b_enc, w_dec, b_pre)
    mu, s = zscore(X)
    a = relu(top_k(((X - mu) / (s + 1e-5) - bp) @ we + be, k))
    return Case("interprot", path, x, a, (a @ wd + bp) * s + mu, Given(k=k),
                ("esm2_t33_650M_UR50D", "block24", False))  # fmt: skip


def interplm(folder, variant="normalized", layer=4):
    d, n = 320, 10240
    w_enc, b, w_dec, bias = weights(d, n, seed=len(variant))
    b -= 6  # one in thirty fires
    path = folder / f"layer_{layer}" / f"ae_{variant}.pt"
    write_pt(path, {"bias": bias, "encoder.weight": w_enc.T.copy(), "encoder.bias": b,
                    "decoder.weight": w_dec.T.copy()})  # fmt: skip
    x = rows(d)
    X, W, B, D, c = wide(x, w_enc.T, b, w_dec.T, bias)
    f = relu((X - c) @ W.T + B)
    site = "final" if layer == 6 else f"block{layer}"
    return Case("interplm", path, x, f, f @ D.T + c, facts=("esm2_t6_8M_UR50D", site, True))


def esmc(folder):
    d, n, k = 96, 512, 16
    w_enc, _, w_dec, b_dec = weights(d, n, seed=20)
    path = folder / "layer_30.safetensors"
    write_safetensors(path, {"W_enc": w_enc, "W_dec": w_dec, "b_dec": b_dec,
                             "idf": normal(5, n), "max": normal(6, n)},
                      {"d_model": d, "codebook_dim": n, "k": k})  # fmt: skip
    x = rows(d)
    X, we, wd, bd = wide(x, w_enc, w_dec, b_dec)
    mu, s = zscore(X)
    f = top_k(relu(((X - mu) / (s + 1e-5) - bd) @ we), k)
    return Case("esmc", path, x, f, (f @ wd + bd) * (s + 1e-5) + mu, facts=(None, "block30", False))


def plm_sae(folder):
    d, n = 320, 1280
    w_enc, b_enc, w_dec, b_dec = weights(d, n, seed=30)
    path = folder / "3.pt"
    write_pt(path, {"W_enc": w_enc, "W_dec": w_dec, "b_enc": b_enc, "b_dec": b_dec})
    x = rows(d)
    X, we, be, wd, bd = wide(x, w_enc, b_enc, w_dec, b_dec)
    a = relu((X - bd) @ we + be)
    return Case("plm-sae", path, x, a, a @ wd + bd, facts=("esm2_t6_8M_UR50D", "block4", True))


def bionemo(folder, relu_variant=False):
    d, n, k = 96, 512, 16
    w_enc, lb, w_dec, pb = weights(d, n, seed=40)
    path = folder / "checkpoint_final.pt"
    state = {
        "pre_bias": pb, "latent_bias": lb, "encoder.weight": w_enc.T.copy(),
        "decoder.weight": w_dec.T.copy(), "stats_last_nonzero": np.zeros(n, np.int64),
    }  # fmt: skip
    write_pt(path, {"model_state_dict": state, "epoch": 3, "loss": 0.5})
    x = rows(d)
    X, E, L, D, P = wide(x, w_enc.T, lb, w_dec.T, pb)
    if relu_variant:
        a = relu((X - P) @ E.T + L)
        return Case("bionemo", path, x, a, a @ D.T + P, Given(variant="relu", token_zscore=False))
    mu, s = zscore(X)
    a = relu(top_k(((X - mu) / (s + 1e-5) - P) @ E.T + L, k))
    given = Given(k=k, variant="topk", token_zscore=True)
    return Case("bionemo", path, x, a, (a @ D.T + P) * s + mu, given)


def openai(folder, activation="TopK", tied=False):
    d, n, k = 96, 512, 16
    w_enc, lb, w_dec, pb = weights(d, n, seed=50)
    path = folder / "autoencoder.pt"
    state: dict[str, Any] = {
        "pre_bias": pb, "latent_bias": lb, "encoder.weight": w_enc.T.copy(),
        "stats_last_nonzero": np.zeros(n, np.int64), "latents_mean_square": normal(1, n),
        "latents_activation_frequency": normal(2, n), "activation": activation,
    }  # fmt: skip
    state["decoder.linear.weight" if tied else "decoder.weight"] = (
        w_enc.T.copy() if tied else w_dec.T.copy()
    )
    if activation == "TopK":
        state["activation_state_dict"] = {"k": k, "postact_fn": "ReLU"}
    write_pt(path, state)
    x = rows(d)
    X, E, L, P = wide(x, w_enc.T, lb, pb)
    D = wide(w_enc if tied else w_dec.T)[0]
    if activation == "ReLU":
        a = relu((X - P) @ E.T + L)
        return Case("openai", path, x, a, a @ D.T + P)
    mu, s = zscore(X)
    a = relu(top_k(((X - mu) / (s + 1e-5) - P) @ E.T + L, k))
    return Case("openai", path, x, a, (a @ D.T + P) * s + mu)


def saelens(folder, kind, *, b_dec_in=True, layer_norm=False, rescale=False):
    d, n, k = 96, 512, 16
    w_enc, b_enc, w_dec, b_dec = weights(d, n, seed=60)
    x = rows(d)
    X, we, be, wd, bd = wide(x, w_enc, b_enc, w_dec, b_dec)
    mu, s = zscore(X)
    seen = ((X - mu) / (s + 1e-5) if layer_norm else X) - (bd if b_dec_in else 0)
    arrays = {"W_enc": w_enc, "W_dec": w_dec, "b_dec": b_dec}
    config = {
        "architecture": kind, "d_in": d, "d_sae": n, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": b_dec_in, "reshape_activations": "none",
        "normalize_activations": "layer_norm" if layer_norm else "none",
        "metadata": {"sae_lens_version": "6.54.12", "model_name": "facebook/esm2_t6_8M_UR50D",
                     "hook_name": "blocks.3.hook_resid_post"},
    }  # fmt: skip
    norms = np.linalg.norm(wd, axis=1)
    if kind == "gated":
        gate, r, mag = normal(1, n, size=0.3), normal(2, n, size=0.3), normal(3, n, size=0.3)
        arrays |= {"b_gate": gate, "r_mag": r, "b_mag": mag}
        u = seen @ we
        z = (u + gate > 0) * relu(np.exp(r.astype(np.float64)) * u + mag)
    else:
        arrays["b_enc"] = b_enc
        h = seen @ we + be
        if kind == "jumprelu":
            theta = np.abs(normal(4, n))
            arrays["threshold"] = theta
            z = relu(h) * (h > theta)
        elif kind == "standard":
            z = relu(h)
        else:
            config |= {"k": k, "rescale_acts_by_decoder_norm": rescale}
            z = relu(top_k(h * norms if rescale else h, k))
    x_hat = (z / norms if rescale else z) @ wd + bd
    x_hat = x_hat * s + mu if layer_norm else x_hat
    write_safetensors(folder / "sae_weights.safetensors", arrays, config, "cfg.json")
    return Case("saelens", folder, x, z, x_hat, facts=("esm2_t6_8M_UR50D", "block4", None))


def dictionary_learning(folder, kind):
    d, n, k = 96, 512, 16
    w_enc, b, w_dec, bd = weights(d, n, seed=70)
    x = rows(d)
    X, we, be, wd, c = wide(x, w_enc, b, w_dec, bd)
    linear = {"encoder.weight": w_enc.T.copy(), "encoder.bias": b, "decoder.weight": w_dec.T.copy()}
    plain = {"W_enc": w_enc, "b_enc": b, "W_dec": w_dec, "b_dec": bd}
    own = np.array(k, np.int32)
    h, theta = (X - c) @ we + be, np.array(0.8, np.float32)
    if kind == "AutoEncoder":
        arrays, z = linear | {"bias": bd}, relu(h)
    elif kind == "AutoEncoderNew":
        arrays, z = linear | {"decoder.bias": bd}, relu(X @ we + be)
    elif kind == "GatedAutoEncoder":
        gate, r, mag = normal(1, n, size=0.3), normal(2, n, size=0.3), normal(3, n, size=0.3)
        arrays = {
            "encoder.weight": linear["encoder.weight"], "decoder.weight": linear["decoder.weight"],
            "decoder_bias": bd, "r_mag": r, "gate_bias": gate, "mag_bias": mag,
        }  # fmt: skip
        u = (X - c) @ we
        z = (u + gate > 0) * relu(np.exp(r.astype(np.float64)) * u + mag)
    elif kind == "JumpReluAutoEncoder":
        each = np.abs(normal(4, n))
        arrays, h = plain | {"threshold": each}, X @ we + be
        z = relu(h * (h > each))
    elif kind == "AutoEncoderTopK":
        arrays = linear | {"b_dec": bd, "k": own, "threshold": np.array(-1, np.float32)}
        z = top_k(relu(h), k)
    else:
        z = relu(h) * (relu(h) > theta)
        arrays = linear | {"b_dec": bd}
        if kind == "MatryoshkaBatchTopKSAE":
            arrays = plain | {"group_sizes": np.array([128, 384])}
        arrays |= {"k": own, "threshold": theta}
    write_pt(folder / "ae.pt", arrays)
    trainer = {
        "trainer_class": "?", "dict_class": kind, "activation_dim": d, "dict_size": n, "k": k,
        "layer": 3, "lm_name": "facebook/esm2_t6_8M_UR50D", "submodule_name": "resid_post_layer_3",
    }  # fmt: skip
    config = {"trainer": trainer, "buffer": {"ctx_len": 128}}
    (folder / "config.json").write_text(json.dumps(config))
    return Case("dictionary_learning", folder, x, z, z @ wd + c,
                facts=("esm2_t6_8M_UR50D", "block4", None))  # fmt: skip


def sparsify(folder, dtype: Any = np.float32):
    d, n, k = 96, 512, 16
    w_enc, b, w_dec, bd = (a.astype(dtype) for a in weights(d, n, seed=80))
    folder = folder / "encoder.layer.3"
    config = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True,
              "num_latents": n, "k": k, "multi_topk": False, "skip_connection": False,
              "transcode": False, "d_in": d}  # fmt: skip
    write_safetensors(
        folder / "sae.safetensors",
        {"encoder.weight": w_enc.T, "encoder.bias": b, "W_dec": w_dec, "b_dec": bd},
        config, "cfg.json",
    )  # fmt: skip
    x = rows(d)
    X, we, be, wd, c = wide(x, w_enc, b, w_dec, bd)
    z = top_k(relu((X - c) @ we + be), k)
    return Case("sparsify", folder, x, z, z @ wd + c, facts=(None, "block4", None))


CASES = {
    "interprot": interprot,
    "interplm normalized": interplm,
    "interplm unnormalized": lambda f: interplm(f, "unnormalized"),
    "interplm final": lambda f: interplm(f, layer=6),
    "esmc": esmc,
    "plm-sae": plm_sae,
    "bionemo topk": bionemo,
    "bionemo relu": lambda f: bionemo(f, True),
    "openai topk": openai,
    "openai topk tied": lambda f: openai(f, tied=True),
    "openai relu": lambda f: openai(f, "ReLU"),
    "saelens topk": lambda f: saelens(f, "topk"),
    "saelens topk rescaled": lambda f: saelens(f, "topk", rescale=True),
    "saelens topk layer_norm": lambda f: saelens(f, "topk", layer_norm=True, b_dec_in=False),
    "saelens jumprelu": lambda f: saelens(f, "jumprelu", b_dec_in=False),
    "saelens standard": lambda f: saelens(f, "standard"),
    "saelens gated": lambda f: saelens(f, "gated"),
    "saelens gated, b_dec kept": lambda f: saelens(f, "gated", b_dec_in=False),
    "sparsify": sparsify,
    "sparsify bfloat16": lambda f: sparsify(f, ml_dtypes.bfloat16),
} | {
    f"dictionary_learning {kind}": (lambda f, kind=kind: dictionary_learning(f, kind))
    for kind in (
        "AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder",
        "AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE",
    )
}  # fmt: skip
