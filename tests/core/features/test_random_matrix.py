"""Correlation structure where assets outnumber sessions, where n/5 is whole, where λ₁ ≈ λ₂."""

import numpy as np
import pytest

from tft_core.features.groups.random_matrix import _spectrum, _structure, _top, _Units


def _plain(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(np.corrcoef(window))
    return values, vectors[:, -1] * np.sign(vectors[:, -1].sum())


@pytest.mark.parametrize("n_assets", [10, 50, 62, 63, 64, 200])
def test_statistics_are_those_of_the_correlation_matrix(n_assets):
    rng = np.random.default_rng(n_assets)
    windows = rng.standard_normal((4, n_assets, 63)) + rng.standard_normal((4, 1, 63))
    units = _Units.of(windows, np.ones((4, n_assets), dtype=bool))
    told = _structure(units, 63) | _spectrum(units, 63)
    for i, window in enumerate(windows):
        values, vector = _plain(window)
        matrix = np.corrcoef(window)
        of_others = (matrix.sum(axis=1) - 1.0) / (n_assets - 1)
        edge = (1.0 + np.sqrt(n_assets / 63)) ** 2
        expected = {
            "top": values[-1] / n_assets,
            "absorption": values[-int(np.ceil(n_assets / 5)) :].sum() / n_assets,
            "mp_excess": (values[values > edge] - edge).sum() / n_assets,
            "bets": n_assets / (values**2).sum(),
            "corr": of_others.mean(),
            "peer": of_others,
            "loading": vector * np.sqrt(n_assets),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(told[name][i], value, rtol=1e-9, atol=1e-11, err_msg=name)


def test_the_largest_eigenvalue_is_found_where_another_is_close_and_the_vector_sums_to_zero():
    """Two blocks that move against each other: row sums say nothing of the leading vector."""
    matrix = np.zeros((1, 20, 20))
    sign = np.repeat([1.0, -1.0], 5)
    matrix[0, :10, :10] = 0.50 * np.outer(sign, sign)
    matrix[0, 10:, 10:] = 0.49
    matrix[0, np.arange(20), np.arange(20)] = 1.0
    value, vector = _top(matrix)
    np.testing.assert_allclose(value, 5.5, rtol=1e-6)
    np.testing.assert_allclose(np.abs(vector[0, :10]), 10**-0.5, atol=1e-4)


def test_assets_that_take_no_part_or_never_moved_count_for_nothing():
    rng = np.random.default_rng(0)
    windows = rng.standard_normal((1, 8, 63))
    windows[0, 1] = 0.3
    takes_part = np.ones((1, 8), dtype=bool)
    takes_part[0, 2] = False
    units = _Units.of(windows, takes_part)
    few = _Units.of(np.delete(windows, [1, 2], axis=1), np.ones((1, 6), dtype=bool))
    assert units.n.tolist() == [6]
    for name, value in _spectrum(few, 63).items():
        told = _spectrum(units, 63)[name]
        told = np.delete(told, [1, 2], axis=1) if told.ndim == 2 else told
        np.testing.assert_allclose(told, value, atol=1e-12, err_msg=name)
