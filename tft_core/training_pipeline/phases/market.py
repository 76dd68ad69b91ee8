"""Phases ``market_data`` and ``mega_features``: from the store to stored feature rows."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from tft_core.checks import Finding, bars_are_sane, costs_are_named, features_are_covered
from tft_core.data.panel import MarketPanel
from tft_core.data.quality import quality_summary
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.errors import DataError
from tft_core.features.as_known import session_risk
from tft_core.features.audit import causality_audit
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.sampled_audit import ROWS_AFTER, newest, sampled_audit
from tft_core.inference import ServingConfig
from tft_core.inference.inputs import read_market
from tft_core.positions import CostConfig, cost_rates
from tft_core.reports.html import BarsView, data_quality_page
from tft_core.reports.plots import coverage_png
from tft_core.training_pipeline.arrivals import VERSION_DIGITS
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.bars import feature_days, market_rows
from tft_core.training_pipeline.feature_inputs import feature_inputs
from tft_core.training_pipeline.workspace import Progress, Workspace

AUDIT_SYMBOLS = 6
AUDIT_SPAN = timedelta(days=1_100)
AUDIT_CUTS = 8
"""Further cuts, spread over the partition's own rows: a leak may be there on some days only."""


def market_data(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """Content hash and quality of the bars on the partition's rows."""
    with workspace.store() as store:
        symbols = workspace.universe(store.symbols()).symbols
        first, last = feature_days(workspace, store, key)
        bars = BarsView.read(store, symbols, first, last)
        late_share = store.late_share(symbols, first, last, as_of=last)
        panel = bars.panel
        if not len(panel.dates):
            raise DataError(
                f"the store must hold bars in [{first}, {last}] for partition {key}, found none; "
                "move folds.anchor or run `tft ingest`"
            )
        rows = market_rows(workspace, store, key)
    n_rows = int(panel.has_session.sum())
    quality = quality_summary(panel, history=bars.findings)
    draft.findings.extend(bars_are_sane(quality, late_share=late_share))
    draft.write_json("rows.json", rows)
    draft.write_frame("table_quality.parquet", quality.reset_index())
    draft.write_text("data_quality.html", data_quality_page(f"Market data {key}", bars=bars))
    draft.summary.update(
        n_rows=n_rows,
        n_symbols=int(panel.has_session.any(axis=0).sum()),
        n_sessions=len(panel.dates),
        first=str(panel.dates[0].date()),
        last=str(panel.dates[-1].date()),
        data_hash=rows["data_hash"][:VERSION_DIGITS],
        n_findings=len(draft.findings),
    )


def mega_features(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """All features of the partition's rows, and the returns, volatilities and costs beside them."""
    builder = workspace.builder()
    with workspace.store() as store:
        symbols = workspace.universe(store.symbols()).symbols
        first, last = feature_days(workspace, store, key)
        progress(f"mega_features {key}: {len(builder.feature_names)} features, {first} to {last}")
        panel = builder.build(store, symbols=symbols, start=first, end=last)
        risk = session_risk(store, symbols, first, last)
        # of the faults only those that no limit of [serving] decides are kept
        faults = read_market(store, panel, last, ServingConfig()).faults
        assert faults is not None
        audited = store.panel(symbols, last - AUDIT_SPAN, last, as_of=last)
        bars = BarsView.read(store, symbols, first, last)
        series = builder.load_series(store, last - AUDIT_SPAN, last, last)
        tables = builder.load_tables(store, last - AUDIT_SPAN, last, last)
        instruments = store.instruments().reindex(list(symbols))
        inputs_hash = feature_inputs(workspace, store, key)
    offset = risk.dates.get_indexer(panel.dates)
    returns, sigma = risk.returns[offset], risk.sigma_daily[offset]
    costs = workspace.settings.build(CostConfig, "costs")
    cost = cost_rates(sigma, *instrument_costs(instruments, costs))
    has_session = np.isfinite(returns)
    time, asset = np.nonzero(has_session)
    draft.write_frame("features.parquet", panel.to_frame())
    draft.write_frame(
        "market.parquet",
        pd.DataFrame(
            {
                "date": panel.dates[time],
                "symbol": np.array(panel.symbols)[asset],
                "return": returns[time, asset],
                "sigma_daily": sigma[time, asset],
                "cost_rate": cost[time, asset],
                "is_untraded": faults.is_untraded[time, asset],
                "is_off_calendar": faults.is_off_calendar[time, asset],
            }
        ),
    )
    draft.write_frame(
        "instruments.parquet",
        pd.DataFrame(
            {
                "symbol": list(symbols),
                "asset_class": instruments["asset_class"].fillna("unclassified").to_numpy(),
            }
        ),
    )
    coverage = feature_coverage(panel.values, has_session, builder.feature_names)
    by_group = coverage.groupby(coverage.index.map(builder.group_of)).mean()
    draft.write_frame(
        "table_coverage.parquet",
        pd.DataFrame({"group": by_group.index, "mean_coverage": by_group.to_numpy()}),
    )
    draft.findings.extend(features_are_covered(coverage))
    traded = instruments.iloc[np.flatnonzero(has_session.any(axis=0))]
    draft.findings.extend(
        costs_are_named(charged_by_default(traded, costs), len(traded), costs.default_bps)
    )
    progress(f"mega_features {key}: audit of causality and finite history")
    draft.findings.extend(_audit(builder, audited, len(panel.dates), series, tables))
    by_symbol = symbol_group_coverage(panel.values, has_session, panel.symbols, builder)
    draft.write_bytes("coverage.png", coverage_png(by_symbol))
    draft.write_text(
        "data_quality.html",
        data_quality_page(
            f"Features {key}",
            bars=bars,
            coverage=by_symbol,
            notes=[finding.message for finding in draft.findings],
        ),
    )
    draft.summary.update(
        n_rows=len(time),
        n_features=len(builder.feature_names),
        n_sessions=len(panel.dates),
        mean_coverage=float(coverage.mean()),
        n_uncovered=int((coverage == 0).sum()),
        first=str(panel.dates[0].date()),
        last=str(panel.dates[-1].date()),
        catalogue_hash=builder.catalogue_hash()[:16],
        inputs_hash=inputs_hash,
    )


def instrument_costs(
    instruments: pd.DataFrame, config: CostConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(cost_bps, cost_vol) per instrument: its own, else its asset class's, else the default."""
    classes = instruments["asset_class"].astype("object")
    own_bps = instruments["cost_bps"].to_numpy(dtype=np.float64, na_value=np.nan)
    own_vol = instruments["cost_vol"].to_numpy(dtype=np.float64, na_value=np.nan)
    class_vol = classes.map(config.vol or {}).to_numpy(dtype=np.float64, na_value=np.nan)
    class_bps = classes.map(config.bps or {}).to_numpy(dtype=np.float64, na_value=np.nan)
    vol = np.where(np.isnan(own_vol) & np.isnan(own_bps), class_vol, own_vol)
    bps = np.where(np.isnan(own_bps), class_bps, own_bps)
    return np.where(np.isnan(bps), config.default_bps, bps), vol


def charged_by_default(instruments: pd.DataFrame, config: CostConfig) -> list[str]:
    """Symbols without costs of their own whose class no table of ``[costs]`` names.

    None where there are no tables: then the default is what was asked for.
    """
    named = {*(config.bps or {}), *(config.vol or {})}
    if not named:
        return []
    is_bare = instruments[["cost_bps", "cost_vol"]].isna().all(axis=1)
    is_unnamed = ~instruments["asset_class"].isin(list(named))
    return [str(symbol) for symbol in instruments.index[is_bare & is_unnamed]]


def feature_coverage(
    values: np.ndarray, has_session: np.ndarray, names: tuple[str, ...]
) -> pd.Series:
    """Share of asset sessions on which each feature has a value."""
    return pd.Series(np.isfinite(values[has_session]).mean(axis=0), index=list(names))


def symbol_group_coverage(
    values: np.ndarray,
    has_session: np.ndarray,
    symbols: tuple[str, ...],
    builder: MegaFeatureBuilder,
) -> pd.DataFrame:
    """Mean coverage by symbol (rows) and feature group (columns) on the symbol's sessions."""
    finite = np.isfinite(values) & has_session[:, :, None]
    sessions = has_session.sum(axis=0)
    share = finite.sum(axis=0) / np.where(sessions > 0, sessions, np.nan)[:, None]
    position = {name: i for i, name in enumerate(builder.feature_names)}
    columns = {
        group: share[:, [position[n] for n in names]].mean(axis=1)
        for group, names in builder.groups.items()
    }
    return pd.DataFrame(columns, index=list(symbols))


def _audit(
    builder: MegaFeatureBuilder,
    market: MarketPanel,
    n_rows: int,
    series: pd.DataFrame | None,
    tables: Mapping[str, pd.DataFrame],
) -> list[Finding]:
    """Look-ahead and finite-history audit on the newest bars of some symbols.

    A sample, since a partition must not take an hour; ``tft audit`` does more of it.
    """
    audit = sampled_audit(
        builder,
        market,
        [len(market.dates) - ROWS_AFTER],
        n_symbols=AUDIT_SYMBOLS,
        series=series,
        tables=tables,
    )
    leaking = {
        *audit.index[~audit["is_causal"]],
        *_leaking_somewhere(builder, market, n_rows, series, tables),
    }
    forgetful = set(audit.index[~audit["is_finite_memory"]])
    findings = []
    for code, found in (
        ("features_are_causal", leaking),
        ("features_have_finite_history", forgetful),
    ):
        failed = [name for name in builder.feature_names if name in found]
        if failed:
            findings.append(
                Finding(
                    code=code,
                    severity="error",
                    message=f"{len(failed)} features fail, first {failed[0]}; run `tft audit`",
                    values={"features": failed},
                )
            )
    return findings


def _leaking_somewhere(
    builder: MegaFeatureBuilder,
    market: MarketPanel,
    n_rows: int,
    series: pd.DataFrame | None,
    tables: Mapping[str, pd.DataFrame],
) -> list[str]:
    """Features that a cut somewhere in the newest ``n_rows`` rows finds looking ahead."""
    window = newest(market, len(market.dates), len(market.dates), AUDIT_SYMBOLS, offset=1)
    n_dates = len(window.dates)
    places = np.linspace(max(n_dates - n_rows, 1), n_dates - 1, AUDIT_CUTS + 2)[1:-1]
    audit = causality_audit(
        builder,
        window,
        sorted({int(place) for place in places}),
        universe=Universe.resolve(UniverseConfig(), window.symbols),
        series=series,
        tables=tables,
    )
    return audit.loc[~audit["is_causal"], "feature"].tolist()
