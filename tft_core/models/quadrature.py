"""Nested quadrature rules on [0, 1]: 1, 3, 7, 15 and 31 nodes, each holding the one before.

So an integral that turns out too coarse is refined without losing an evaluation.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy.polynomial import legendre


class Rule(NamedTuple):
    """∫₀¹ f(α) dα ≈ Σ weights · f(nodes)."""

    nodes: Float64[np.ndarray, " node"]
    """The nodes of the rule before come first, in its order; the others follow."""
    weights: Float64[np.ndarray, " node"]


@cache
def nested_rules() -> tuple[Rule, ...]:
    """The midpoint, Gauss's 3 nodes, and Patterson's extensions to 7, 15 and 31.

    Exact for polynomials up to degree 1, 5, 11, 23 and 47.

    Source:
        Patterson 1968, The optimum addition of points to quadrature formulae, Math. Comp. 22.
    """
    gauss = legendre.leggauss(3)[0]
    found = [np.zeros(1), np.array([0.0, gauss[0], gauss[2]])]
    for _ in range(3):
        found.append(np.concatenate([found[-1], _extension(found[-1])]))
    return tuple(Rule((nodes + 1.0) / 2.0, _weights(nodes) / 2.0) for nodes in found)


def _extension(nodes: Float64[np.ndarray, " node"]) -> Float64[np.ndarray, " more"]:
    """The n + 1 nodes to add to n: roots of the E with ∫ G·E·P_k = 0 for k ≤ n, G = ∏ (x − x_i)."""
    n = len(nodes)
    at, weight = legendre.leggauss(2 * n + 2)  # exact for all the products below
    g = np.prod(at[:, None] - nodes, axis=1)
    basis = legendre.legvander(at, n + 1)
    gram = (basis * (weight * g)[:, None]).T @ basis
    coefficients = np.append(np.linalg.solve(gram[:-1, :-1], -gram[:-1, -1]), 1.0)
    return np.sort(legendre.legroots(coefficients).real)


def _weights(nodes: Float64[np.ndarray, " node"]) -> Float64[np.ndarray, " node"]:
    """Of the rule that integrates every polynomial below degree n exactly on [−1, 1]."""
    moments = np.zeros(len(nodes))
    moments[0] = 2.0
    return np.linalg.solve(legendre.legvander(nodes, len(nodes) - 1).T, moments)
