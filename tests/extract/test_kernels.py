"""The fast products against plain PyTorch's in float64."""

import pytest
import torch
from torch import nn

from extract import kernels
from extract.weights import random_esm2

LENGTHS = (5, 1, 33, 16, 16, 70)
N_HEADS, D_HEAD = 3, 8
D = N_HEADS * D_HEAD


def random_qkv(scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(sum(LENGTHS), 3 * D, generator=generator)


def by_hand(qkv, positions=True):
    """Rotary softmax attention from its definition, float64, one sequence and head at a time."""
    out, start = torch.zeros(len(qkv), D, dtype=torch.float64), 0
    for n in LENGTHS:
        rows = qkv[start : start + n].double().view(n, 3, N_HEADS, D_HEAD)
        for h in range(N_HEADS):
            q, k, v = rows[:, :, h].unbind(1)
            if positions:
                frequency = 10000 ** (-torch.arange(0, D_HEAD, 2).double() / D_HEAD)
                angle = torch.arange(n).double()[:, None] * frequency
                q, k = (turn(t, angle) for t in (q, k))
            weights = (q @ k.T / D_HEAD**0.5).softmax(-1)
            out[start : start + n, h * D_HEAD : (h + 1) * D_HEAD] = weights @ v
        start += n
    return out


def turn(x, angle):
    even, odd = x[:, 0::2], x[:, 1::2]
    turned = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(turned, -1).flatten(1)


@pytest.fixture(params=["onednn", "plain"])
def path(request, monkeypatch):
    """Both ways; the fast one only where it is exact."""
    if request.param == "plain":
        monkeypatch.setattr(kernels, "_for_onednn", lambda *a: False)
    elif not kernels.exact_onednn_products():
        pytest.skip("oneDNN rounds here")
    return request.param


def rotation():
    return kernels.rotation_of(LENGTHS, N_HEADS, D_HEAD, torch.device("cpu"))


def test_attention_equals_the_definition(path):
    qkv = random_qkv()
    found = kernels.attention(qkv, LENGTHS, N_HEADS, rotation())
    torch.testing.assert_close(found.double(), by_hand(qkv), rtol=1e-5, atol=1e-5)
    found = kernels.attention(qkv, LENGTHS, N_HEADS, None)
    torch.testing.assert_close(found.double(), by_hand(qkv, False), rtol=1e-5, atol=1e-5)
    assert torch.equal(qkv, random_qkv())


def test_scores_beyond_floats_exponent(path):
    """2^s overflows without the maximum taken off; a neighbour's overflow changes nothing."""
    qkv = random_qkv()
    start = sum(LENGTHS[:2])
    qkv[start : start + 33, : 2 * D] *= 40
    found = kernels.attention(qkv, LENGTHS, N_HEADS, rotation())
    torch.testing.assert_close(found.double(), by_hand(qkv), rtol=1e-3, atol=1e-4)
    clean = kernels.attention(random_qkv(), LENGTHS, N_HEADS, rotation())
    assert torch.equal(found[:start], clean[:start])


def test_a_broken_sequence_spoils_no_other(path):
    clean, qkv = random_qkv(), random_qkv()
    start, stop = sum(LENGTHS[:2]), sum(LENGTHS[:3])
    qkv[start:stop] = torch.nan
    found, expected = (kernels.attention(x, LENGTHS, N_HEADS, rotation()) for x in (qkv, clean))
    assert found[start:stop].isnan().all()
    assert torch.equal(found[:start], expected[:start])
    assert torch.equal(found[stop:], expected[stop:])


def test_heads_in_several_portions(monkeypatch):
    qkv = random_qkv()
    monkeypatch.setattr(kernels, "SCORES_AT_ONCE", 2 * 80**2)
    found = kernels.attention(qkv, LENGTHS, N_HEADS, rotation())
    torch.testing.assert_close(found.double(), by_hand(qkv), rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_weights_and_equal_plain_ones():
    layer = nn.Linear(D, 3 * D)
    x = torch.randn(sum(LENGTHS), D, generator=torch.Generator().manual_seed(0))
    out = kernels.attention(kernels.linear(layer, x), LENGTHS, N_HEADS, rotation())
    out.square().sum().backward()
    assert layer.weight.grad is not None
    exact = by_hand_gradient(layer, x)
    torch.testing.assert_close(layer.weight.grad, exact, rtol=1e-4, atol=1e-4)


def by_hand_gradient(layer, x):
    double = nn.Linear(D, 3 * D).double()
    double.load_state_dict(layer.state_dict())
    by_hand(double(x.double())).square().sum().backward()
    assert double.weight.grad is not None
    return double.weight.grad.float()


@pytest.mark.parametrize("rows", [1, 31, 512, 513, 1100])
def test_layers_equal_plain_ones(rows):
    torch.manual_seed(0)
    fc1, fc2 = nn.Linear(24, 96).requires_grad_(False), nn.Linear(96, 24).requires_grad_(False)
    x = torch.randn(rows, 24)
    torch.testing.assert_close(kernels.linear(fc1, x), fc1(x), rtol=1e-5, atol=1e-5)
    expected = fc2(nn.functional.gelu(fc1(x)))
    torch.testing.assert_close(kernels.mlp(fc1, fc2, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bits_depend_neither_on_threads_nor_on_the_batch(dtype):
    model = random_esm2("esm2_t6_8M_UR50D", dtype=dtype)
    sequences = ["MKTAYIAKQRQISFVKSHFSRQ" * n for n in (1, 20, 3, 31)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(model.residual(model.tokenize(sequences), "block2"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, found[0]) for x in found)
    alone = torch.cat([model.residual(model.tokenize([s]), "block2") for s in sequences])
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    torch.testing.assert_close(alone, found[0], rtol=tolerance, atol=tolerance)


def test_precision_setting_is_put_back():
    if not kernels.exact_onednn_products():
        pytest.skip("oneDNN rounds here")
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    with kernels.onednn_products():
        assert matmul.fp32_precision == "bf16"
    assert matmul.fp32_precision == before
