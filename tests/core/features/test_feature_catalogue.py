"""The registry: 292 names, groups, declarations, user plug-ins."""

import sys
import types

import numpy as np
import pytest

from tft_core.errors import ConfigError, FeatureError
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import Feature, FeatureConfig, FeatureGroup, FeatureRegistry

GROUP_SIZES = {
    "ret": 28, "paper": 8, "vol": 28, "ta": 38, "dist": 28, "liq": 20, "oi": 12, "range": 22,
    "cpd": 15, "frac": 6, "cyc": 10, "cal": 11, "exo": 24, "xs": 26, "rmt": 16,
}  # fmt: skip


def plug_in(monkeypatch: pytest.MonkeyPatch, module: str, group: object) -> FeatureConfig:
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    sys.modules[module].GROUP = group  # type: ignore[attr-defined]
    return FeatureConfig(plugins=(module,))


def user_group(name: str = "mine", feature: str = "mine_close", compute=None) -> FeatureGroup:
    return FeatureGroup(
        name=name,
        title="A user's group",
        axis="own_sessions",
        features=(
            Feature(
                name=feature, group=name, inputs=("close",), lookback=1, unit="", description="x"
            ),
        ),
        compute=compute or (lambda bars: {feature: bars.close}),
    )


def test_there_are_292_features_with_unique_names():
    names = MegaFeatureBuilder().feature_names
    assert len(names) == 292 and len(set(names)) == 292


def test_groups_hold_what_the_catalogue_says():
    groups = MegaFeatureBuilder().groups
    assert {name: len(features) for name, features in groups.items()} == GROUP_SIZES
    for name, features in groups.items():
        assert {feature.split("_", 1)[0] for feature in features} == {name}


def test_every_feature_is_declared_in_full():
    catalogue = MegaFeatureBuilder().catalogue()
    assert catalogue["name"].tolist() == list(MegaFeatureBuilder().feature_names)
    assert (catalogue[["inputs", "unit", "description"]].map(len) > 0).all().all()
    assert catalogue["lookback"].between(1, 510).all()


def test_required_lookback_is_derived_and_bounded():
    builder = MegaFeatureBuilder()
    assert builder.catalogue()["lookback"].max() <= builder.required_lookback() <= 600
    assert MegaFeatureBuilder(FeatureConfig(groups=("cal",))).required_lookback() == 2


def test_chosen_groups_only():
    builder = MegaFeatureBuilder(FeatureConfig(groups=("paper", "cal")))
    assert list(builder.groups) == ["paper", "cal"] and len(builder.feature_names) == 19


def test_catalogue_hash_follows_definitions_and_series():
    plain = MegaFeatureBuilder().catalogue_hash()
    assert plain == MegaFeatureBuilder().catalogue_hash()
    assert plain != MegaFeatureBuilder(FeatureConfig(series=("vix",))).catalogue_hash()
    assert plain != MegaFeatureBuilder(FeatureConfig(groups=("ret",))).catalogue_hash()


def test_a_users_group_stands_beside_the_built_in_ones(monkeypatch, market):
    config = plug_in(monkeypatch, "user_features_ok", user_group())
    builder = MegaFeatureBuilder(config)
    assert len(builder.feature_names) == 293
    one = MegaFeatureBuilder(FeatureConfig(plugins=config.plugins, groups=("mine",)))
    built = one.build_panel(market)
    expected = market.close.astype(np.float32)
    np.testing.assert_array_equal(built.values[:, :, 0], expected)


def test_a_plug_in_may_not_take_a_built_in_name(monkeypatch):
    config = plug_in(monkeypatch, "user_features_clash", user_group("ret", "ret_1"))
    with pytest.raises(FeatureError, match="group names must be unique, found 'ret' twice"):
        MegaFeatureBuilder(config)


def test_feature_names_may_not_repeat_across_groups():
    one, two = user_group(), user_group()
    object.__setattr__(two, "name", "other")
    with pytest.raises(FeatureError, match="found mine_close twice"):
        FeatureRegistry((one, two))


def test_a_plug_in_that_cannot_be_imported_is_named():
    with pytest.raises(FeatureError, match="found 'no_such_module'"):
        MegaFeatureBuilder(FeatureConfig(plugins=("no_such_module",)))


def test_a_plug_in_without_a_group_is_refused(monkeypatch):
    config = plug_in(monkeypatch, "user_features_none", None)
    with pytest.raises(FeatureError, match="must expose GROUP, a FeatureGroup, found None"):
        MegaFeatureBuilder(config)


def test_a_group_that_returns_something_else_is_refused(monkeypatch, market):
    for result, message in (
        (lambda bars: {"mine_other": bars.close}, "difference at mine_close"),
        (lambda bars: {"mine_close": bars.close[:, 1:]}, "feature mine_close must have the shape"),
    ):
        config = plug_in(monkeypatch, "user_features_odd", user_group(compute=result))
        builder = MegaFeatureBuilder(FeatureConfig(plugins=config.plugins, groups=("mine",)))
        with pytest.raises(FeatureError, match=message):
            builder.build_panel(market)


def test_a_feature_must_carry_its_groups_prefix():
    with pytest.raises(FeatureError, match="found 'close' in group 'mine'; call it mine_close"):
        user_group(feature="close")


def test_an_unknown_group_is_refused():
    with pytest.raises(FeatureError, match="found 'options'"):
        MegaFeatureBuilder(FeatureConfig(groups=("options",)))


def test_five_series_do_not_fit_into_four_slots():
    with pytest.raises(ConfigError, match="at most 4 series, found 5"):
        FeatureConfig(series=("a", "b", "c", "d", "e"))
