"""Attribution adds up, whatever the batch, and takes more nodes only where it must."""

import numpy as np
import pytest
import torch
from test_ensemble import ROWS, untrained

from tft_core.models.attribution import MAX_NODES, TOLERANCE, integrated_gradients
from tft_core.models.batching import RowTensors
from tft_core.sequences import window_index

AT = np.array([5, 80, 81, 150, 220])


def bent():
    """An ensemble whose position bends sharply along the path."""
    ensemble = untrained()
    with torch.no_grad():
        for member in ensemble.members:
            for parameter in member.head.parameters():
                parameter.mul_(4.0)
    return ensemble


@pytest.mark.parametrize("make", [untrained, bent])
def test_parts_and_start_make_the_position_up_to_the_residual_told(make):
    ensemble = make()
    made = ensemble.attribute(ROWS, AT)
    zeros = ROWS.with_features(np.zeros_like(ROWS.features), ROWS.feature_names)
    start = ensemble.predict(zeros, AT).z
    np.testing.assert_allclose(made.start, start, atol=1e-6)
    total = made.parts.sum(axis=1) + start - made.residual
    np.testing.assert_allclose(total, ensemble.predict(ROWS, AT).z, atol=1e-6)
    assert np.all((np.abs(made.residual) <= TOLERANCE) | (made.n_nodes == MAX_NODES))


def test_more_nodes_are_taken_where_the_middle_does_not_add_up():
    ensemble, rows = bent(), ROWS.with_features(3.0 * ROWS.features, ROWS.feature_names)
    made = ensemble.attribute(rows, AT)
    middle = ensemble.importance(rows, AT, n_steps=1)
    missed = np.abs(middle.sum(axis=1) - (ensemble.predict(rows, AT).z - made.start))
    is_coarse = missed > 1.01 * TOLERANCE
    assert is_coarse.any()
    assert (made.n_nodes[is_coarse] > 1).all()
    fine = ensemble.importance(rows, AT, n_steps=64)
    np.testing.assert_allclose(made.parts, fine, atol=2e-2)


def test_a_row_s_parts_do_not_depend_on_what_is_attributed_beside_it():
    ensemble = untrained()
    together = ensemble.attribute(ROWS, AT).parts
    alone = np.vstack([ensemble.attribute(ROWS, AT[i : i + 1]).parts for i in range(len(AT))])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_attributing_leaves_the_weights_trainable():
    ensemble = untrained()
    member, bank = ensemble.members[0], ensemble.banks[0]
    before = [p.requires_grad for p in member.parameters()]
    index = window_index(ROWS, AT, ensemble.config.seq_len)
    integrated_gradients(member, bank, RowTensors.of(ROWS, ensemble.config), index, 2)
    assert [p.requires_grad for p in member.parameters()] == before
