"""The variable selection of the Temporal Fusion Transformer in NumPy float64, from the paper.

Source: Lim, Arık, Loeff & Pfister, arXiv 1912.09363v3; the numbers are its. Nothing of the project
is imported. Dense weights are ``[out, in]`` as they are stored; those of the variables' own
networks are stacked, ``[variable, in, out]``.
"""

import numpy as np

from tests.oracles.xtrend_equations import Weights, elu, linear, of, sigmoid, softmax


def layer_norm(x: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * gain + offset


def grn(w: Weights, a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Eq. 2–5: LayerNorm(a + GLU(η₁)), η₁ = W₁η₂ + b₁, η₂ = ELU(W₂a + b₂ + W₃c).

    GLU(γ) = σ(W₄γ + b₄) ⊙ (W₅γ + b₅), whose two maps are one stored matrix, W₅ above W₄. Where
    input and output differ in size, a linear map stands for a.
    """
    eta_2 = elu(linear(of(w, "fc1"), a) + linear(of(w, "side"), c))
    value, gate = np.split(linear(of(w, "gate"), linear(of(w, "fc2"), eta_2)), 2, axis=-1)
    skip = linear(of(w, "skip"), a) if "skip.weight" in w else a
    return layer_norm(skip + sigmoid(gate) * value, w["norm.weight"], w["norm.bias"])


def selection_weights(w: Weights, x: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Eq. 6: v = Softmax(GRN(Ξ, c)), Ξ the flattened embeddings of all variables of a row."""
    embedded = x[:, :, None] * w["embed_slope"][:, 0] + w["embed_shift"][:, 0]
    return softmax(grn(of(w, "weight_net"), embedded.reshape(len(x), -1), c))


def variable_selection(w: Weights, x: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Eq. 7 and 8: Σ_j v_j GRN_j(ξ_j), with a GRN of its own for every variable j."""
    v = selection_weights(w, x, c)
    total = 0.0
    for j in range(x.shape[1]):
        xi = x[:, j : j + 1] * w["embed_slope"][j] + w["embed_shift"][j]
        eta_2 = elu(xi @ w["fc1"][j] + w["fc1_bias"][j])
        eta_1 = eta_2 @ w["fc2"][j] + w["fc2_bias"][j]
        value, gate = np.split(eta_1 @ w["gate"][j] + w["gate_bias"][j], 2, axis=-1)
        summed = xi @ w["skip"][j] + w["skip_bias"][j] + sigmoid(gate) * value
        total = total + v[:, j : j + 1] * layer_norm(summed, w["gain"][j], w["offset"][j])
    return np.asarray(total)
