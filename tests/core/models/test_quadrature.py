"""The nested rules: exact up to their degree, inside the interval, each holding the one before."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.polynomial import legendre

from tft_core.models.quadrature import nested_rules

DEGREES = {1: 1, 3: 5, 7: 11, 15: 23, 31: 47}


@pytest.mark.parametrize("rule", nested_rules(), ids=lambda rule: str(len(rule.nodes)))
def test_a_rule_is_exact_up_to_its_degree_and_no_further(rule):
    degree = DEGREES[len(rule.nodes)]
    # shifted Legendre polynomials integrate to 0 but for the first, without cancellation
    values = legendre.legvander(2.0 * rule.nodes - 1.0, 60)
    integrals = rule.weights @ values
    np.testing.assert_allclose(integrals[0], 1.0, atol=1e-14)
    np.testing.assert_allclose(integrals[1 : degree + 1], 0.0, atol=1e-13)
    beyond = integrals[degree + 1 :: 2] if (degree + 1) % 2 == 0 else integrals[degree + 2 :: 2]
    assert np.abs(beyond).max() > 1e-6
    assert (rule.weights > 0.0).all()
    assert ((rule.nodes > 0.0) & (rule.nodes < 1.0)).all()


def test_each_rule_begins_with_the_nodes_of_the_one_before():
    rules = nested_rules()
    for before, after in pairwise(rules):
        np.testing.assert_array_equal(after.nodes[: len(before.nodes)], before.nodes)


def test_the_seven_nodes_are_kronrod_s():
    nodes = np.sort(2.0 * nested_rules()[2].nodes - 1.0)
    known = [0.4342437493468026, 0.7745966692414834, 0.9604912687080203]
    np.testing.assert_allclose(nodes[4:], known, atol=1e-14)
