"""The equations of X-Trend in NumPy float64, one function each, written from the paper.

Source: Wood, Kessler, Roberts & Zohren, arXiv 2310.10500v2; the numbers are its. Nothing of the
project is imported. Functions take one sequence ``[step, …]`` and a mapping of named arrays: the
names are those under which the weights are stored, matrices are ``[out, in]``.
"""

from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]
QUANTILE_LEVELS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


# -- data: eq. 1, 2, 5, 6 ---------------------------------------------------------------------


def simple_return(price: np.ndarray, horizon: int) -> np.ndarray:
    """Eq. 1: (p_t − p_{t−h})/p_{t−h}."""
    out = np.full(len(price), np.nan)
    out[horizon:] = price[horizon:] / price[:-horizon] - 1
    return out


def volatility(price: np.ndarray, t: int, span: int = 60, kept: int = 251) -> float:
    """σ_t: exponentially weighted, bias-corrected deviation of the daily returns up to t."""
    r = simple_return(price, 1)[max(t - kept + 1, 1) : t + 1]
    w = (1 - 2 / (span + 1)) ** np.arange(len(r))[::-1]
    w = w / w.sum()
    variance = (w * (r - (w * r).sum()) ** 2).sum()
    return float(np.sqrt(variance / (1 - (w**2).sum())))


def scaled_return(price: np.ndarray, t: int, horizon: int) -> float:
    """Eq. 5: r_{t−h,t}/(σ_t √h)."""
    return simple_return(price, horizon)[t] / (volatility(price, t) * np.sqrt(horizon))


def macd(price: np.ndarray, t: int, short: int, long: int, kept: int = 252) -> float:
    """Eq. 6: m_t/std(m_{t−252:t}), m = (EWMA(p, S) − EWMA(p, L))/std(p_{t−60:t}).

    Half-life log(½)/log(1 − 1/S), that is weights (1 − 1/S)^k; averages over ``kept`` prices.
    """

    def average(at: int, scale: int) -> float:
        w = (1 - 1 / scale) ** np.arange(kept)[::-1]
        return (w * price[at - kept + 1 : at + 1]).sum() / w.sum()

    def m(at: int) -> float:
        return (average(at, short) - average(at, long)) / price[at - 59 : at + 1].std()

    return float(m(t) / np.std([m(at) for at in range(t - 251, t + 1)]))


def portfolio_return(
    z: np.ndarray, before: np.ndarray, r_next: np.ndarray, sigma: np.ndarray,
    sigma_before: np.ndarray, cost: np.ndarray, target: float,
) -> float:  # fmt: skip
    """Eq. 2 of one day: mean over assets of z(σ_tgt/σ)r − Cσ_tgt|z/σ − z₋₁/σ₋₁|."""
    total = 0.0
    for i in range(len(z)):
        total += z[i] * target / sigma[i] * r_next[i]
        total -= cost[i] * target * abs(z[i] / sigma[i] - before[i] / sigma_before[i])
    return total / len(z)


# -- blocks: eq. 12–19 ------------------------------------------------------------------------


def of(weights: Weights, part: str) -> dict[str, np.ndarray]:
    """The weights of one part, its name taken off."""
    return {n[len(part) + 1 :]: w for n, w in weights.items() if n.startswith(part + ".")}


def linear(weights: Weights, x: np.ndarray) -> np.ndarray:
    y = x @ weights["weight"].T
    return y + weights["bias"] if "bias" in weights else y


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(weights: Weights, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / spread * weights["weight"] + weights["bias"]


def ffn(weights: Weights, h: np.ndarray, s: np.ndarray | None = None) -> np.ndarray:
    """Eq. 12: Linear₃ ∘ ELU(Linear₁(h) + Linear₂(Embedding(s)))."""
    a = linear(of(weights, "linear1"), h)
    if s is not None:
        a = a + linear(of(weights, "linear2"), s)
    return linear(of(weights, "linear3"), elu(a))


def vsn_weights(weights: Weights, x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Eq. 13, first half: w_t = Softmax(FFN(x_t, s))."""
    return softmax(ffn(of(weights, "weight_net"), x, s))


def vsn(weights: Weights, x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Eq. 13: Σ_j w_{t,j} FFN_j(x_{t,j}), FFN_j from R to R^d without side information."""
    w = vsn_weights(weights, x, s)
    total = 0.0
    for j in range(x.shape[1]):
        hidden = elu(x[:, j : j + 1] * weights["slope"][j] + weights["shift"][j])
        total = total + w[:, j : j + 1] * (hidden @ weights["mix"][j] + weights["bias"][j])
    return np.asarray(total)


def lstm(weights: Weights, x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Hidden states from (h₀, c₀) = (FFN₃ ∘ Embedding(s), FFN₄ ∘ Embedding(s)); one layer."""
    h, c = ffn(of(weights, "initial_h"), s), ffn(of(weights, "initial_c"), s)
    w = of(weights, "lstm")
    states = []
    for step in x:
        gates = w["weight_ih_l0"] @ step + w["bias_ih_l0"] + w["weight_hh_l0"] @ h
        i, f, g, o = np.split(gates + w["bias_hh_l0"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states)


def encoder(weights: Weights, x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Eq. 14 from x' = VSN(x, s) on: a = LN(h + x'), Ξ = LN(FFN₂(a, s) + a)."""
    a = layer_norm(of(weights, "norm_lstm"), lstm(of(weights, "lstm"), x, s) + x)
    return layer_norm(of(weights, "norm_ffn"), ffn(of(weights, "ffn"), a, s) + a)


def attention(
    weights: Weights, q: np.ndarray, k: np.ndarray, v: np.ndarray, n_heads: int
) -> np.ndarray:
    """Att(q, K, V): softmax(qKᵀ/√d_head)V in each head, heads joined by a last Linear."""
    q, k, v = (linear(of(weights, n), a) for n, a in (("query", q), ("key", k), ("value", v)))
    width = q.shape[1] // n_heads
    heads = []
    for head in range(n_heads):
        c = slice(head * width, (head + 1) * width)
        heads.append(softmax(q[:, c] @ k[:, c].T / np.sqrt(width)) @ v[:, c])
    return linear(of(weights, "out"), np.concatenate(heads, axis=1))


def context_values(weights: Weights, v: np.ndarray, n_heads: int) -> np.ndarray:
    """Eq. 17: V' = FFN₁ ∘ Att₁(V, V, V)."""
    return ffn(of(weights, "ffn"), attention(of(weights, "attention"), v, v, v, n_heads))


def cross_attention(
    weights: Weights, q: np.ndarray, k: np.ndarray, v: np.ndarray, n_heads: int
) -> np.ndarray:
    """Eq. 18: y = LN ∘ FFN₂ ∘ Att₂(q, K, V')."""
    mixed = attention(of(weights, "attention"), q, k, v, n_heads)
    return layer_norm(of(weights, "norm"), ffn(of(weights, "ffn"), mixed))


def decoder(weights: Weights, x: np.ndarray, y: np.ndarray | None, s: np.ndarray) -> np.ndarray:
    """Eq. 19: x' = LN ∘ FFN₁ ∘ Concat(VSN(x, s), y), then as eq. 14.

    The baseline forecaster has no y.
    """
    joined = x if y is None else np.concatenate([x, y], axis=1)
    merged = layer_norm(of(weights, "norm_merge"), ffn(of(weights, "merge"), joined))
    return encoder(of(weights, "body"), merged, s)


# -- heads and losses: §3.4 -------------------------------------------------------------------


def position(weights: Weights, h: np.ndarray) -> np.ndarray:
    """z = tanh(FFN(Ξ_Dec))."""
    return np.tanh(ffn(of(weights, "ffn"), h))[:, 0]


def gaussian(weights: Weights, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(μ, σ) and z = PTP_G(μ, σ) = tanh(FFN(μ, σ)); σ by softplus, at least 10⁻³."""
    raw = ffn(of(weights, "ffn"), h)
    mu, sigma = raw[:, 0], np.log1p(np.exp(raw[:, 1])) + 1e-3
    z = np.tanh(ffn(of(weights, "ptp"), np.stack([mu, sigma], axis=1)))[:, 0]
    return mu, sigma, z


def quantile(weights: Weights, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thirteen quantiles and z = PTP_Q(quantiles) = tanh(FFN(quantiles))."""
    q = ffn(of(weights, "ffn"), h)
    return q, np.tanh(ffn(of(weights, "ptp"), q))[:, 0]


def sharpe_loss(z: np.ndarray, scaled: np.ndarray) -> float:
    """Eq. 8 over pooled (asset, time) pairs: −√252 mean(z r̃)/std(z r̃)."""
    r = z * scaled
    return -np.sqrt(252) * r.mean() / r.std()


def gaussian_loss(mu: np.ndarray, sigma: np.ndarray, y: np.ndarray) -> float:
    """Mean negative log density of N(μ, σ²) at y."""
    return -np.log(np.exp(-((y - mu) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)).mean()


def quantile_loss(q: np.ndarray, y: np.ndarray) -> float:
    """Σ_η max(η(y − q_η), (η − 1)(y − q_η)), mean over pairs."""
    total = 0.0
    for pair, outcome in zip(q, y, strict=True):
        for level, value in zip(QUANTILE_LEVELS, pair, strict=True):
            miss = outcome - value
            total += level * miss if miss >= 0 else (level - 1) * miss
    return total / len(y)


# -- the whole network ------------------------------------------------------------------------


def x_trend(
    weights: Weights,
    x: np.ndarray,
    s: np.ndarray,
    contexts: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    n_heads: int,
    *,
    by_step: bool,
) -> np.ndarray:
    """Ξ_Dec at every step of a target.

    Args:
        x: Features, [step, feature]; ``s`` is the embedded ticker.
        contexts: Features, next scaled returns and embedded ticker of each; empty for the
            baseline forecaster.
        by_step: Time-equivalent contexts: step k attends to step k of each.
    """
    selected = vsn(of(weights, "selection.decoder"), x, s)
    if not contexts:
        return decoder(of(weights, "decoder"), selected, None, s)
    keys, values = [], []
    for xc, label, sc in contexts:
        xi = np.concatenate([xc, label[:, None]], axis=1)
        seen = vsn(of(weights, "selection.key"), xc, sc)
        told = vsn(of(weights, "selection.value"), xi, sc)
        keys.append(encoder(of(weights, "key_encoder"), seen, sc))  # eq. 15
        values.append(encoder(of(weights, "value_encoder"), told, sc))  # eq. 16
    q = encoder(of(weights, "query_encoder"), vsn(of(weights, "selection.query"), x, s), s)
    y = []
    for t in range(len(x)):
        at = t if by_step else -1
        k, v = (np.stack([one[at] for one in many]) for many in (keys, values))
        mixed = context_values(of(weights, "mixer"), v, n_heads)
        y.append(cross_attention(of(weights, "cross"), q[t : t + 1], k, mixed, n_heads)[0])
    return decoder(of(weights, "decoder"), selected, np.stack(y), s)
