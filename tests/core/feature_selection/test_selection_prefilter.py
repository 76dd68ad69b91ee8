"""Tier 1: coverage, constants, correlation, and the promise that order does not matter."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tft_core.errors import ConfigError, SelectionError
from tft_core.feature_selection import FeatureSelectionConfig, PrefilterResult, prefilter
from tft_core.feature_selection.correlation import pairwise_correlation


def noise(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return rng.standard_normal((rows, columns)).astype(np.float32)


def names_of(count: int) -> list[str]:
    return [f"f{i:02d}" for i in range(count)]


def test_a_feature_known_on_30_percent_stays_and_on_29_percent_goes() -> None:
    values = noise(np.random.default_rng(0), 1000, 2)
    values[300:, 0] = np.nan
    values[290:, 1] = np.nan
    result = prefilter(values, ["enough", "sparse"])
    assert result.kept == ("enough",)
    drop = result.dropped["sparse"]
    assert (drop.reason, drop.stand_in) == ("low_coverage", None)
    assert drop.value == pytest.approx(0.29)


def test_infinities_count_as_missing() -> None:
    values = noise(np.random.default_rng(0), 100, 2)
    values[20:, 0] = np.inf
    assert prefilter(values, ["inf", "fine"]).coverage == {"inf": 0.2, "fine": 1.0}


def test_constant_and_round_off_only_features_go() -> None:
    values = noise(np.random.default_rng(0), 500, 3)
    values[:, 0] = 7.0
    values[:, 1] = np.float32(1.0) + np.float32(1.2e-7) * (np.arange(500) % 2)
    result = prefilter(values, names_of(3))
    assert result.kept == ("f02",)
    assert result.dropped["f00"].reason == result.dropped["f01"].reason == "constant"
    assert result.dropped["f00"].value == 7.0


def test_a_tiny_scale_is_not_a_constant() -> None:
    values = noise(np.random.default_rng(0), 500, 2) * np.float32(1e-12)
    assert prefilter(values, names_of(2)).kept == ("f00", "f01")


def test_the_medoid_of_a_cluster_is_kept_whatever_the_scale() -> None:
    rng = np.random.default_rng(1)
    centre = rng.standard_normal(5000)
    values = np.column_stack(
        [
            centre,
            1e6 * (centre + 0.2 * rng.standard_normal(5000)),
            -(centre + 0.2 * rng.standard_normal(5000)),
            rng.standard_normal(5000),
        ]
    ).astype(np.float32)
    result = prefilter(values, ["centre", "loud", "mirrored", "other"])
    assert result.kept == ("centre", "other")
    assert result.dropped["loud"].stand_in == "centre"
    expected = 1 / np.sqrt(1.04)  # of x and x + 0.2 e
    assert result.dropped["loud"].value == pytest.approx(expected, abs=0.01)
    assert result.dropped["mirrored"].value == pytest.approx(-expected, abs=0.01)


def test_a_sparse_feature_does_not_stand_for_a_full_one() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal(3000)
    values = np.column_stack([x, x + 0.1 * rng.standard_normal(3000)]).astype(np.float32)
    values[1000:, 0] = np.nan
    result = prefilter(values, ["a_sparse", "full"])
    assert result.kept == ("full",)
    assert result.dropped["a_sparse"].stand_in == "full"


def test_of_a_chain_no_feature_is_dropped_for_a_stranger() -> None:
    rng = np.random.default_rng(3)
    steps = rng.standard_normal((20_000, 8)) * np.r_[1.0, np.full(7, 0.3)]
    chain = np.cumsum(steps, axis=1)  # neighbours alike, ends not
    result = prefilter(chain.astype(np.float32), names_of(8))
    r = pd.DataFrame(chain, columns=names_of(8)).corr()
    assert 1 < len(result.kept) < 8
    for name, drop in result.dropped.items():
        assert drop.stand_in in result.kept
        assert abs(r.loc[name, drop.stand_in]) > 0.95
    kept = r.loc[list(result.kept), list(result.kept)].to_numpy()
    assert np.abs(kept - np.eye(len(kept))).max() <= 0.951


def test_pairwise_correlation_equals_pandas_on_common_rows() -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((20_000, 12)) @ rng.standard_normal((12, 12))
    values[rng.random(values.shape) < 0.3] = np.nan
    r, common = pairwise_correlation(values.astype(np.float32), clip=1e9)
    oracle = pd.DataFrame(values).corr().to_numpy()
    np.testing.assert_allclose(r, oracle, atol=2e-4)
    known = np.isfinite(values)
    np.testing.assert_array_equal(common, known.T.astype(float) @ known)


def test_one_wild_row_does_not_make_two_features_the_same() -> None:
    values = noise(np.random.default_rng(5), 2000, 2)
    values[7] = 300.0
    assert np.corrcoef(values.T)[0, 1] > 0.95
    assert prefilter(values, names_of(2)).kept == ("f00", "f01")


def test_features_never_known_together_are_not_called_alike() -> None:
    values = noise(np.random.default_rng(6), 1000, 1).repeat(2, axis=1)
    values[:500, 0] = np.nan
    values[500:, 1] = np.nan
    assert prefilter(values, names_of(2)).kept == ("f00", "f01")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_columns_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((400, 4))
    mixed = factors[:, rng.integers(0, 4, 14)] * rng.choice([-1.0, 1.0], 14)
    values = (mixed + rng.uniform(0, 0.5, 14) * rng.standard_normal((400, 14))).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:, 3] = values[:, 5]  # an exact tie
    values[:, 9] = 2.0
    order = rng.permutation(14)
    one = prefilter(values, names_of(14))
    other = prefilter(values[:, order], [names_of(14)[i] for i in order])
    assert set(one.kept) == set(other.kept)
    assert one.dropped == {name: other.dropped[name] for name in one.dropped}
    assert one.clusters == other.clusters


def test_later_rows_do_not_change_what_is_made_of_earlier_ones() -> None:
    values = noise(np.random.default_rng(7), 600, 6)
    values[:, 5] = values[:, 4] + np.float32(0.1) * values[:, 3]
    past = prefilter(values[:400], names_of(6))
    values[400:] = values[400:] * -7.0 + 1e6
    assert prefilter(values[:400], names_of(6)).to_dict() == past.to_dict()


def test_coverage_is_told_by_asset_class() -> None:
    values = noise(np.random.default_rng(8), 200, 2)
    values[:100, 1] = np.nan
    result = prefilter(
        values, ["price", "volume"], asset_class=["currency"] * 100 + ["equity"] * 100
    )
    assert result.coverage_by_class["currency"] == {"price": 1.0, "volume": 0.0}
    assert result.coverage_by_class["equity"] == {"price": 1.0, "volume": 1.0}
    assert result.table().loc["volume", "coverage_equity"] == 1.0


def test_counts_add_up_and_the_result_survives_json() -> None:
    values = noise(np.random.default_rng(9), 800, 5)
    values[:, 1] = values[:, 0]
    values[:, 2] = np.nan
    values[:, 3] = 1.0
    result = prefilter(values, names_of(5))
    assert result.counts == {
        "features": 5,
        "low_coverage": 1,
        "constant": 1,
        "correlated": 1,
        "kept": 2,
    }
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert PrefilterResult.from_dict(stored) == result
    assert list(result.table().index) == names_of(5)


def test_loose_clusters_are_named_by_their_medoid() -> None:
    rng = np.random.default_rng(10)
    x = rng.standard_normal(4000)
    near = np.column_stack([x, *(x + 0.45 * rng.standard_normal(4000) for _ in range(3))])
    values = np.column_stack([near, rng.standard_normal(4000)]).astype(np.float32)
    result = prefilter(values, ["medoid", "a", "b", "c", "alone"])
    assert len(result.kept) == 5
    assert result.clusters == (("medoid", "a", "b", "c"),)


def test_evenly_spaced_rows_stand_for_very_many() -> None:
    values = noise(np.random.default_rng(11), 3000, 2)
    values[:, 1] += 4 * values[:, 0]
    config = FeatureSelectionConfig(correlation_max_rows=500)
    assert len(prefilter(values, names_of(2), config).kept) == 1


def test_unusable_input_is_refused() -> None:
    values = noise(np.random.default_rng(0), 50, 2)
    with pytest.raises(SelectionError, match="found 'a' twice"):
        prefilter(values, ["a", "a"])
    with pytest.raises(SelectionError, match="at least one training row, found none"):
        prefilter(values[:0], ["a", "b"])
    with pytest.raises(SelectionError, match=r"found 2 below 30% coverage and 0 constant"):
        prefilter(np.full_like(values, np.nan), ["a", "b"])
    with pytest.raises(SelectionError, match=r"found shape \(50, 2\)"):
        prefilter(values, ["a"])
    with pytest.raises(ConfigError, match=r"min_coverage must lie in \[0, 1\], found 1.5"):
        FeatureSelectionConfig(min_coverage=1.5)
    with pytest.raises(ConfigError, match=r"must not exceed final_max_features \(10\), found 60"):
        FeatureSelectionConfig(final_max_features=10)
