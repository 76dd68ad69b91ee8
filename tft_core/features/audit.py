"""Do features look ahead, and does history length matter? Measured feature by feature.

Pure functions over a builder and a market panel; the Dagster checks and ``tft audit`` render
their tables. A user's group is audited like a built-in one.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd

from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.data.universe import Universe
from tft_core.errors import FeatureError
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.exogenous import known_days
from tft_core.features.panel import stamp_at
from tft_core.features.registry import FeatureRegistry

PARITY_TOLERANCE = 1e-6
"""Largest difference allowed between short and full history, in deviations of the feature."""


def causality_audit(
    builder: MegaFeatureBuilder,
    market: MarketPanel,
    cuts: Sequence[int],
    *,
    universe: Universe | None = None,
    series: pd.DataFrame | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Rebuild with the future removed and with it poisoned; the past must not move by a bit.

    Args:
        builder: The builder whose features are audited.
        market: Bars long enough that features are defined before the cuts.
        cuts: Row numbers; rows at or after a cut are its future.
        universe: As in ``build_panel``.
        series: Exogenous observations, cut and poisoned by ``available_at``.
        tables: User tables by group name; a row is of the future if its ``date`` or its
            ``available_at`` is.
        seed: Of the poison.

    Returns:
        Per feature: group, cells compared, cells that moved when the future was cut or
        poisoned, the first date on which one did, and ``is_causal``.

    Raises:
        FeatureError: There is no cut, or one leaves no past or no future.
    """
    if not len(cuts) or min(cuts) < 1 or max(cuts) >= len(market.dates):
        raise FeatureError(
            f"causality cuts must be rows in [1, {len(market.dates) - 1}], found {list(cuts)}"
        )
    universe = universe or Universe.resolve(builder.universe, market.symbols)
    full = builder.build_panel(market, universe=universe, series=series, tables=tables).values
    moved = np.zeros((2, len(builder.feature_names)), dtype=np.int64)
    first_move = np.full(len(builder.feature_names), len(market.dates), dtype=np.int64)
    compared = np.zeros(len(builder.feature_names), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for cut in cuts:
        known = np.isfinite(full[:cut])
        compared += known.sum(axis=(0, 1))
        day = stamp_at(market.dates, cut)
        futures = (
            (market.part(slice(cut)), _past_series(series, day), _past_tables(tables, day)),
            (
                _poisoned(market, cut, rng),
                _poisoned_series(series, day, rng),
                _poisoned_tables(tables, day, rng),
            ),
        )
        for kind, (bars, observations, rows) in enumerate(futures):
            other = builder.build_panel(bars, universe=universe, series=observations, tables=rows)
            past = other.values[:cut]
            same = (past == full[:cut]) | (np.isnan(past) & ~known)
            moved[kind] += (~same).sum(axis=(0, 1))
            by_row = (~same).any(axis=1)
            row = np.where(by_row.any(axis=0), by_row.argmax(axis=0), len(market.dates))
            first_move = np.minimum(first_move, row)
    return pd.DataFrame(
        {
            "feature": builder.feature_names,
            "group": [f.group for f in builder.registry.features],
            "cells": compared,
            "moved_by_cut": moved[0],
            "moved_by_poison": moved[1],
            "first_date": [market.dates[r] if r < len(market.dates) else pd.NaT
                           for r in first_move.tolist()],
            "is_causal": moved.sum(axis=0) == 0,
        }
    )  # fmt: skip


def finite_history_audit(
    builder: MegaFeatureBuilder,
    market: MarketPanel,
    rows: Sequence[int],
    *,
    universe: Universe | None = None,
    series: pd.DataFrame | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Build single rows from only as much history as declared, against the full build.

    Each feature is tried with its own ``lookback`` (own-session groups) and with the
    builder's ``required_lookback()`` (all), each asset cut to that many of its sessions.

    Args:
        rows: Row numbers to rebuild.

    Returns:
        Per feature: group, lookback, cells compared, largest difference in deviations of the
        feature, cells known on one side only, and ``is_finite_memory``.

    Raises:
        FeatureError: There is no row, or one lies outside the panel.
    """
    if not len(rows) or min(rows) < 0 or max(rows) >= len(market.dates):
        raise FeatureError(
            f"audited rows must lie in [0, {len(market.dates) - 1}], found {list(rows)}"
        )
    universe = universe or Universe.resolve(builder.universe, market.symbols)
    full = builder.build_panel(market, universe=universe, series=series, tables=tables)
    scale = _deviations(full.values)
    features = builder.registry.features
    lookback = np.array([f.lookback for f in features])
    is_own = np.repeat(
        [g.axis == "own_sessions" for g in builder.registry.groups],
        [len(g.features) for g in builder.registry.groups],
    )
    worst = np.zeros(len(features))
    one_sided, compared = (np.zeros(len(features), dtype=np.int64) for _ in range(2))
    trials = [(builder.required_lookback(), np.ones(len(features), dtype=bool))]
    trials += [(int(n), is_own & (lookback == n)) for n in np.unique(lookback[is_own])]
    for sessions, chosen in trials:
        names = [f.name for f, is_chosen in zip(features, chosen, strict=True) if is_chosen]
        part = _restricted(builder, {features[i].group for i in np.flatnonzero(chosen)})
        for row in rows:
            short = _newest_sessions(market, row, sessions)
            built = part.build_panel(
                short,
                universe=universe,
                series=series,
                tables=tables,
                first_row=len(short.dates) - 1,
            )
            left, right = full.values[row][:, chosen], built.select(names).values[0]
            one_sided[chosen] += (np.isnan(left) != np.isnan(right)).sum(axis=0)
            compared[chosen] += np.isfinite(left).sum(axis=0)
            gap = np.abs(left - right) / scale[chosen]
            gap = np.where(left == right, 0.0, gap)
            worst[chosen] = np.fmax(worst[chosen], np.nan_to_num(gap, nan=0.0).max(axis=0))
    return pd.DataFrame(
        {
            "feature": builder.feature_names,
            "group": [f.group for f in features],
            "lookback": lookback,
            "cells": compared,
            "max_difference": worst,
            "one_sided": one_sided,
            "is_finite_memory": (worst <= PARITY_TOLERANCE) & (one_sided == 0),
        }
    )


def _restricted(builder: MegaFeatureBuilder, groups: set[str]) -> MegaFeatureBuilder:
    """The same builder with some of its groups only."""
    part = copy(builder)
    part.registry = FeatureRegistry(
        tuple(group for group in builder.registry.groups if group.name in groups)
    )
    return part


def _poisoned(market: MarketPanel, cut: int, rng: np.random.Generator) -> MarketPanel:
    """Every later number replaced by a wild one, and a tenth of the later sessions gone."""
    shape = market.close[cut:].shape
    gone = rng.random(shape) < 0.1
    arrays = {}
    for name in FIELDS:
        values = getattr(market, name).copy()
        wild = np.exp(rng.normal(0.0, 3.0, shape)) * 1e3
        values[cut:] = np.where(gone | np.isnan(values[cut:]), np.nan, wild)
        arrays[name] = values
    return replace(market, **arrays)


def _past_series(series: pd.DataFrame | None, day: pd.Timestamp) -> pd.DataFrame | None:
    return None if series is None else series.loc[~_is_future(series, day)]


def _poisoned_series(
    series: pd.DataFrame | None, day: pd.Timestamp, rng: np.random.Generator
) -> pd.DataFrame | None:
    if series is None:
        return None
    wild = rng.normal(0.0, 1e6, len(series))
    return series.assign(
        value=np.where(_is_future(series, day), wild, series["value"].to_numpy(dtype=np.float64))
    )


def _is_future(series: pd.DataFrame, day: pd.Timestamp) -> np.ndarray:
    return known_days(series["available_at"]) >= day.to_datetime64()


def _past_tables(
    tables: Mapping[str, pd.DataFrame] | None, day: pd.Timestamp
) -> dict[str, pd.DataFrame]:
    return {name: table.loc[~_is_later(table, day)] for name, table in (tables or {}).items()}


def _poisoned_tables(
    tables: Mapping[str, pd.DataFrame] | None, day: pd.Timestamp, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    poisoned = {}
    for name, table in (tables or {}).items():
        is_future = _is_later(table, day)
        numbers = table.select_dtypes("number")
        wild = {
            column: np.where(is_future, rng.normal(0.0, 1e6, len(table)), numbers[column])
            for column in numbers.columns
        }
        poisoned[name] = table.assign(**wild)
    return poisoned


def _is_later(table: pd.DataFrame, day: pd.Timestamp) -> np.ndarray:
    is_later = (pd.to_datetime(table["date"]) >= day).to_numpy()
    return is_later | _is_future(table, day) if "available_at" in table.columns else is_later


def _newest_sessions(market: MarketPanel, row: int, sessions: int) -> MarketPanel:
    """Rows up to ``row`` in which each asset keeps its newest ``sessions`` sessions."""
    has_session = market.has_session[: row + 1]
    age = has_session[::-1].cumsum(axis=0)[::-1]
    kept = has_session & (age <= sessions)
    start = int(kept.any(axis=1).argmax())
    short = market.part(slice(start, row + 1))
    arrays = {name: np.where(kept[start:], getattr(short, name), np.nan) for name in FIELDS}
    return replace(short, **arrays)


def _deviations(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    known = np.isfinite(flat)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, flat, 0.0).sum(axis=0) / count
    spread = np.where(known, flat - mean, 0.0)
    deviation = np.sqrt((spread**2).sum(axis=0) / count)
    # a feature that is constant on this panel is compared in its own unit
    return np.where(deviation > 0.0, deviation, 1.0)
