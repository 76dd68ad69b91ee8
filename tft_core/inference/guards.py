"""Guards: each raises or names a reason where a position must not be given.

They fail closed: what cannot be read or measured is refused like what is out of its limit.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from tft_core.checkpoint_manager import CheckpointMetadata
from tft_core.data.calendar import check_horizon
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import UniverseConfig
from tft_core.errors import DataError
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.normalization import Scaler
from tft_core.features.panel import FeaturePanel
from tft_core.inference.config import ServingConfig
from tft_core.inference.drift import drift_by_session, has_bins
from tft_core.inference.inputs import BarFaults
from tft_core.inference.reasons import Refusal
from tft_core.models.ensemble import Ensemble, RawOutput
from tft_core.sequences import RowTable

KILL_SWITCH_ENV = "TFT_KILL_SWITCH"
KILL_SWITCH_FILE = "KILL_SWITCH"
OFF = ("", "0", "false", "no", "off")


def refuse_if_killed(home: Path | None) -> None:
    """Refuse while ``$TFT_KILL_SWITCH`` is set, or a file ``KILL_SWITCH`` lies in the home."""
    if os.environ.get(KILL_SWITCH_ENV, "").strip().lower() not in OFF:
        raise Refusal(
            "kill_switch", f"the kill switch must be off, found it on (${KILL_SWITCH_ENV})"
        )
    if home is None:
        return
    try:
        is_on = KILL_SWITCH_FILE in os.listdir(home)  # noqa: PTH208 - finds dangling links too
    except FileNotFoundError:
        return  # no state, hence no file in it
    except OSError as error:
        raise Refusal("kill_switch", f"{home} must be readable, found: {error}") from error
    if is_on:
        raise Refusal(
            "kill_switch", f"the kill switch must be off, found it on ({home / KILL_SWITCH_FILE})"
        )


def refuse_wrong_age(metadata: CheckpointMetadata, day: date, limits: ServingConfig) -> None:
    """Refuse a model that has seen the session's label, or has grown old."""
    try:
        seen = date.fromisoformat(metadata.trained_through)
    except (TypeError, ValueError) as error:
        raise Refusal(
            "stale_model", f"the model must say up to when it was trained, found {error}"
        ) from error
    if day < seen:
        raise Refusal(
            "model_has_seen_label",
            f"the model must not have been trained through {day}, found bars up to {seen} in its "
            "training",
        )
    if day - seen > timedelta(days=limits.max_model_age_days):
        raise Refusal(
            "stale_model",
            f"the model must be at most {limits.max_model_age_days} days old, found "
            f"{(day - seen).days} (trained through {seen}, asked for {day})",
        )


def refuse_unknown_calendar(
    store: MarketDataStore, symbols: Sequence[str], days: Sequence[date]
) -> None:
    """Refuse sessions that the calendar of some member's exchange does not cover."""
    named = store.exchanges(symbols)
    for exchange in sorted({named.get(symbol, "") for symbol in symbols}):
        try:
            check_horizon(exchange, days[0])
            check_horizon(exchange, days[-1])
        except DataError as error:
            raise Refusal("calendar_horizon", str(error)) from error


def refuse_missing_members(universe: UniverseConfig, held: Sequence[str]) -> None:
    """Refuse a store without any bar of a member: cross-sections would be other ones."""
    members = {symbol for member in universe.members for symbol in member.symbols}
    missing = sorted(members - set(held))
    if missing:
        raise Refusal(
            "missing_asset",
            f"the store must hold bars of every member of the universe, found none of "
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}",
        )


def refuse_drift(
    panel: FeaturePanel,
    quantiles: Mapping[str, Sequence[float | None]],
    dates: pd.DatetimeIndex,
    limits: ServingConfig,
) -> None:
    """Refuse where features are no longer distributed as in training.

    Args:
        panel: The model's features, history included.
        dates: Sessions to judge, each by its newest ``drift_sessions`` rows.
    """
    unknown = [name for name in panel.feature_names if name not in quantiles]
    if unknown:
        raise Refusal(
            "feature_drift",
            f"training quantiles must be known to measure drift, found none of {unknown[0]}",
        )
    sizes = {len(quantiles[name]) for name in panel.feature_names}
    if len(sizes) > 1 or min(sizes, default=0) < 3:
        raise Refusal(
            "feature_drift",
            f"every feature must have as many training quantiles, at least 3, found {sizes}",
        )
    edges = np.array([quantiles[name] for name in panel.feature_names], dtype=np.float64)
    rows = panel.dates.get_indexer(dates)
    drift = drift_by_session(panel.values, edges, rows, limits.drift_sessions)
    is_binned = has_bins(edges)
    for code, measure, by_feature, limit in (
        ("feature_drift", "population stability index", drift.psi, limits.max_drift_psi),
        ("feature_shift", "Kolmogorov–Smirnov distance", drift.ks, limits.max_drift_ks),
    ):
        for day, figures in zip(dates, by_feature, strict=True):
            known = np.isfinite(figures)
            # a feature that training knew and nobody measures now has gone as far as one can
            judged = np.where(known, figures, np.inf)[is_binned]
            median = float(np.median(judged)) if known.any() else float("nan")
            # NaN means that drift could not be measured
            if not median <= limit:
                worst = np.argsort(-np.where(known, figures, -np.inf))[: min(3, int(known.sum()))]
                named = ", ".join(f"{panel.feature_names[i]} {figures[i]:.2g}" for i in worst)
                n_lost = int((is_binned & ~known).sum())
                lost = f"; {n_lost} of {int(is_binned.sum())} without values" if n_lost else ""
                raise Refusal(
                    code,
                    f"the median {measure} of the features must be at most {limit:g}, found "
                    f"{median:.2f} on {day.date()} (largest: {named or 'none is known'}{lost})",
                )


def refuse_exposure(
    weights: Float[np.ndarray, " asset"],
    positions: Float[np.ndarray, " asset"],
    symbols: Sequence[str],
    day: date,
    limits: ServingConfig,
) -> float:
    """Gross exposure of one session; refuse it beyond the limit or where it is unknown."""
    unknown = np.flatnonzero((positions != 0.0) & ~np.isfinite(weights))
    if len(unknown):
        raise Refusal(
            "exposure_limit",
            f"every held position must have a volatility, found none of {symbols[unknown[0]]} "
            f"({positions[unknown[0]]:g}) on {day}",
        )
    gross = float(np.nansum(np.abs(weights)))
    if not gross <= limits.max_gross_exposure:
        raise Refusal(
            "exposure_limit",
            f"gross exposure must be at most {limits.max_gross_exposure:g} times capital, found "
            f"{gross:.2f} on {day}",
        )
    return gross


def refuse_bad_previous(
    previous: Mapping[str, float] | None, symbols: Sequence[str]
) -> Float[np.ndarray, " asset"] | None:
    """Previous positions in the order of ``symbols``; one that was never held is 0."""
    if previous is None:
        return None
    if not isinstance(previous, Mapping):
        raise Refusal(
            "bad_previous", f"previous positions must be given by symbol, found {previous!r:.60}"
        )
    for symbol, position in previous.items():
        is_number = isinstance(position, Real) and not isinstance(position, bool)
        if not is_number or not abs(position) <= 1.0:
            raise Refusal(
                "bad_previous",
                f"previous position of {symbol} must lie in [−1, 1], found {position}",
            )
    return np.array([previous.get(symbol, 0.0) for symbol in symbols], dtype=np.float64)


def asset_codes(
    coverage: Float[np.ndarray, "time asset"],
    sigma: Float[np.ndarray, "time asset"],
    clipped_share: Float[np.ndarray, "time asset"],
    faults: BarFaults,
    limits: ServingConfig,
) -> np.ndarray:
    """[time, asset] code of why an asset with a session gets no position; "" where it may."""
    outlier = ~np.isnat(faults.outlier_day) | ~(clipped_share <= limits.max_clipped_share)
    short: Bool[np.ndarray, "time asset"] = ~(coverage >= limits.min_coverage) | ~(sigma > 0.0)
    codes = np.full(coverage.shape, "", dtype="U24")
    for code, hit in (
        ("off_calendar", faults.is_off_calendar),
        ("zero_volume", faults.is_untraded),
        ("stale_price", faults.is_frozen),
        ("input_outlier", outlier),
        ("short_history", short),
    ):
        codes[hit] = code
    return codes


def refuse_incomplete(values: object, names: Sequence[str], what: str) -> None:
    """Refuse a stored table that lacks a field: the code's default is not what it was made with."""
    if not isinstance(values, Mapping):
        raise Refusal(
            "schema_mismatch", f"the checkpoint's {what} must be a table, found {values!r:.60}"
        )
    missing = [name for name in names if name not in values]
    if missing:
        raise Refusal(
            "schema_mismatch",
            f"the checkpoint's {what} must give every field, found no {', '.join(missing)}",
        )


def refuse_mismatch(
    metadata: CheckpointMetadata, builder: MegaFeatureBuilder, scaler: Scaler, ensemble: Ensemble
) -> None:
    """The checkpoint must fit the code's features, and its own scaler, network and contexts."""
    made, wanted = builder.catalogue_hash(), metadata.catalogue_hash
    if made != wanted:
        raise Refusal(
            "schema_mismatch",
            "feature definitions must be those the checkpoint was trained with "
            f"({wanted[:12]}), found {made[:12]}",
        )
    unknown = sorted(set(metadata.feature_names) - set(builder.feature_names))
    if unknown:
        raise Refusal(
            "schema_mismatch",
            f"every feature of the model must be one that is built, found {unknown[0]}",
        )
    counts = {
        "scaler": len(scaler.mean),
        "network": ensemble.config.n_features,
        "metadata": len(metadata.feature_names),
    }
    if len(set(counts.values())) > 1:
        raise Refusal("schema_mismatch", f"the number of features must be the same, found {counts}")
    if len(ensemble) != len(metadata.seeds):
        raise Refusal(
            "schema_mismatch",
            f"the ensemble must have a member for each of its {len(metadata.seeds)} seeds, found "
            f"{len(ensemble)}: nobody could tell whether those that are missing agree",
        )
    known = ensemble.context_available
    if known is not None and known > np.datetime64(metadata.trained_through):
        raise Refusal(
            "schema_mismatch",
            f"every context must be known by {metadata.trained_through}, up to which the model "
            f"says that it was trained, found one of {known}",
        )


def refuse_thin_ensemble(n_members: int, limits: ServingConfig) -> None:
    """Refuse an ensemble with too few members to tell whether they agree."""
    if n_members < limits.min_members:
        raise Refusal(
            "too_few_members",
            f"an ensemble must have at least {limits.min_members} members to be served, "
            f"found {n_members}",
        )


def refuse_bad_output(
    output: RawOutput, rows: RowTable, end_rows: Int64[np.ndarray, " row"]
) -> None:
    """Refuse a model whose output is not a number: its weights are broken."""
    bad = np.flatnonzero(~np.isfinite(output.member_z).all(axis=0))
    if len(bad):
        row = int(end_rows[bad[0]])
        raise Refusal(
            "invalid_output",
            f"every output must be finite, found {output.member_z[:, bad[0]].tolist()} for "
            f"{rows.symbols[rows.asset_id[row]]} on {rows.row_dates[row].date()}",
        )
