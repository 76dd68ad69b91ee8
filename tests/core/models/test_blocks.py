"""Equations 12–19 of X-Trend against NumPy float64, written out again without the modules."""

import numpy as np
import pytest
import torch

from tft_core.models.attention import ContextMixer, CrossAttention, MultiHeadAttention
from tft_core.models.blocks import FFN, Decoder, EntityLSTM, SequenceBlock

D, HEADS = 6, 2
RNG = np.random.default_rng(0)


def array(t: torch.Tensor) -> np.ndarray:
    return t.detach().numpy()


def linear(layer, x: np.ndarray) -> np.ndarray:
    y = x @ array(layer.weight).T
    return y if layer.bias is None else y + array(layer.bias)


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def ffn(module: FFN, h: np.ndarray, s: np.ndarray | None = None) -> np.ndarray:
    a = linear(module.linear1, h)
    if module.linear2 is not None and s is not None:
        a = a + linear(module.linear2, s)
    return linear(module.linear3, elu(a))


def layer_norm(module, x: np.ndarray) -> np.ndarray:
    spread = np.sqrt(x.var(axis=-1, keepdims=True) + module.eps)
    normed = (x - x.mean(axis=-1, keepdims=True)) / spread
    return normed * array(module.weight) + array(module.bias)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(module: EntityLSTM, x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """One layer; gates in PyTorch's order i, f, g, o."""
    w = {n: array(p) for n, p in module.lstm.named_parameters()}
    h, c = ffn(module.initial_h, s), ffn(module.initial_c, s)
    out = []
    for t in range(x.shape[1]):
        gates = (
            x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"]
            + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        )  # fmt: skip
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out, axis=1)


def sequence(module: SequenceBlock, x: np.ndarray, s: np.ndarray) -> np.ndarray:
    a = layer_norm(module.norm_lstm, lstm(module.lstm, x, s) + x)
    return layer_norm(module.norm_ffn, ffn(module.ffn, a, s[:, None]) + a)


def attention(module: MultiHeadAttention, q, k, v, may) -> np.ndarray:
    out = np.zeros_like(q)
    q, k, v = linear(module.query, q), linear(module.key, k), linear(module.value, v)
    mixed = np.zeros_like(q)
    width = D // HEADS
    for b in range(len(q)):
        for head in range(HEADS):
            cols = slice(head * width, (head + 1) * width)
            for t in range(q.shape[1]):
                allowed = np.flatnonzero(may[b])
                if not len(allowed):
                    continue
                score = k[b][allowed][:, cols] @ q[b, t, cols] / np.sqrt(width)
                weight = np.exp(score - score.max())
                mixed[b, t, cols] = weight / weight.sum() @ v[b][allowed][:, cols]
    out = linear(module.out, mixed)
    return out


@pytest.fixture(autouse=True)
def in_double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(before)


def close(module_output: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(array(module_output), expected, atol=1e-12, rtol=1e-10)


def draw(*shape: int) -> tuple[torch.Tensor, np.ndarray]:
    x = RNG.standard_normal(shape)
    return torch.from_numpy(x), x


def test_ffn_is_equation_12() -> None:
    module = FFN(5, 7, 3, d_side=4).eval()
    (h, h_np), (s, s_np) = draw(2, 9, 5), draw(2, 1, 4)
    close(module(h, s), ffn(module, h_np, s_np))


def test_the_encoder_is_equation_14_with_an_entity_made_initial_state() -> None:
    module = SequenceBlock(D, 1, 0.3).eval()
    (x, x_np), (s, s_np) = draw(3, 8, D), draw(3, D)
    expected = sequence(module, x_np, s_np)
    close(module(x, s), expected)
    close(module(x, s, last_only=True), expected[:, -1:])


def test_values_mix_by_equation_17() -> None:
    module = ContextMixer(D, HEADS, 0.2).eval()
    v, v_np = draw(2, 5, D)
    may = np.array([[True] * 5, [True, False, True, False, False]])
    expected = ffn(module.ffn, attention(module.attention, v_np, v_np, v_np, may))
    close(module(v, torch.from_numpy(may)), expected)


def test_targets_attend_by_equation_18_and_no_context_gives_zero() -> None:
    module = CrossAttention(D, HEADS, 0.2).eval()
    (q, q_np), (k, k_np), (v, v_np) = draw(3, 4, D), draw(3, 5, D), draw(3, 5, D)
    may = np.array([[True] * 5, [False, True, False, True, True], [False] * 5])
    y, weights = module(q, k, v, torch.from_numpy(may))
    mixed = attention(module.attention, q_np, k_np, v_np, may)
    expected = layer_norm(module.norm, ffn(module.ffn, mixed))
    expected[2] = 0.0
    close(y, expected)
    sums = array(weights).sum(axis=-1)
    np.testing.assert_allclose(sums[:2], 1.0, atol=1e-12)
    assert (sums[2] == 0).all()
    assert (array(weights)[1][..., [0, 2]] == 0).all()


@pytest.mark.parametrize("has_context", [True, False])
def test_the_decoder_is_equation_19(has_context: bool) -> None:
    module = Decoder(D, 1, 0.2, has_context=has_context).eval()
    (x, x_np), (y, y_np), (s, s_np) = draw(2, 7, D), draw(2, 7, D), draw(2, D)
    joined = np.concatenate([x_np, y_np], axis=-1) if has_context else x_np
    expected = sequence(module.body, layer_norm(module.norm_merge, ffn(module.merge, joined)), s_np)
    close(module(x, y if has_context else None, s), expected)
