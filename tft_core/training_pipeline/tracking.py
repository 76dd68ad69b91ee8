"""``tft track``: realised results of the published signals against the walk-forward record.

The same function turns published and recorded positions into daily figures, so that the two can
be compared; ``evidence.tracking`` makes the bands.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from jaxtyping import Float

from tft_core.config import Settings
from tft_core.data.calendar import session_close, sessions
from tft_core.data.panel import own_session_shift
from tft_core.errors import DataError
from tft_core.evidence.tracking import Tracked, track
from tft_core.features.as_known import session_risk, wealth
from tft_core.features.panel import FeaturePanel
from tft_core.positions import CostConfig, PositionConfig, cost_rates
from tft_core.strategy.ledger import Ledger
from tft_core.strategy_adapter import STRATEGY_ID
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.graph import UNPARTITIONED_KEY
from tft_core.training_pipeline.nightly import LIVE_CAUSES
from tft_core.training_pipeline.phases.market import instrument_costs
from tft_core.training_pipeline.record import record_path
from tft_core.training_pipeline.rows import FoldData
from tft_core.training_pipeline.workspace import Workspace

FIGURES = ("net", "information_coefficient", "lag_slippage")
LONGEST_PAUSE = timedelta(days=15)
"""Within it every exchange trades again."""
MIN_ASSETS = 3
"""Assets that a day's cross-sectional correlation needs."""


@dataclass(frozen=True, slots=True)
class TrackReport:
    """Live figures, their bands, and what they were made from."""

    tracked: tuple[Tracked, ...]
    daily: pd.DataFrame
    """One row per realised decision day: ``net``, ``gross``, ``cost``, …"""
    fill_slippage_bps: float
    """Paid beyond the assumed close of t+1, per traded notional; NaN without fills."""
    first: date | None
    last: date | None
    late: tuple[date, ...] = ()
    """Sessions published after the close at which they count as entered: nobody traded them so."""

    @property
    def alarms(self) -> tuple[Tracked, ...]:
        return tuple(t for t in self.tracked if t.verdict == "outside")


def track_published(
    workspace: Workspace,
    *,
    n_sessions: int | None = None,
    fills: pd.DataFrame | None = None,
    level: float = 0.99,
) -> TrackReport:
    """Figures of the first publications of live sessions.

    Args:
        n_sessions: Newest published sessions to look at; default all.
        fills: ``session, symbol, price``: what was paid for the trades of a decision session.
        level: See ``evidence.tracking.track``.

    Raises:
        ArtifactError: There is no out-of-sample record to compare with.
        DataError: A fill is not of a session and symbol of the ledger.
    """
    held = published_positions(workspace, n_sessions)
    record = recorded_days(workspace)
    config = workspace.settings.build(PositionConfig, "positions")
    if held.empty:
        nothing = np.array([])
        tracked = tuple(track(n, nothing, record[n].to_numpy(), level=level) for n in FIGURES)
        return TrackReport(tracked, record.iloc[:0], float("nan"), None, None)
    first, last = held.index[0].date(), held.index[-1].date()
    data = market_days(workspace, first)
    window = np.flatnonzero((data.dates >= held.index[0]) & (data.dates <= held.index[-1]))
    live = daily_figures(workspace, data, window, held, config)
    tracked = tuple(
        track(n, live[n].to_numpy(), record[n].to_numpy(), level=level) for n in FIGURES
    )
    slippage = float("nan") if fills is None else _fill_slippage_bps(workspace, fills, held)
    late = published_late(_live_heads(workspace, n_sessions), workspace.settings)
    return TrackReport(tracked, live, slippage, first, last, late)


def published_positions(workspace: Workspace, n_sessions: int | None = None) -> pd.DataFrame:
    """Positions as first published for live sessions: one row per session, one column a symbol."""
    if not workspace.settings.ledger_path.exists():
        return pd.DataFrame()
    with Ledger(workspace.settings.ledger_path) as ledger:
        rows = ledger.positions(STRATEGY_ID, revision="first")
    chosen = rows[rows["session"].isin(_live_heads(workspace, n_sessions)["session"])]
    wide = chosen.pivot(index="session", columns="symbol", values="position").astype(float)
    wide.index = pd.DatetimeIndex(wide.index)
    return wide.sort_index()


def published_late(heads: pd.DataFrame, settings: Settings) -> tuple[date, ...]:
    """Sessions whose publication came after the close of the next one, oldest first.

    Args:
        heads: ``session`` and ``published_at`` of each publication, as the ledger has them.
    """
    operations = settings.build(OperationsConfig, "operations")
    sessions_of_heads = [date.fromisoformat(day) for day in heads["session"]]
    moments = [datetime.fromisoformat(moment) for moment in heads["published_at"]]
    return tuple(
        session
        for session, moment in zip(sessions_of_heads, moments, strict=True)
        if moment > _entry_close(operations, session)
    )


def _entry_close(operations: OperationsConfig, session: date) -> datetime:
    """Close of the session after; midnight behind it where no calendar tells its hour."""
    after = sessions(operations.exchange, session + timedelta(days=1), session + LONGEST_PAUSE)
    entry = after[0].date()
    midnight = datetime.combine(entry + timedelta(days=1), time.min, ZoneInfo(operations.timezone))
    return session_close(operations.exchange, entry) or midnight


def _live_heads(workspace: Workspace, n_sessions: int | None) -> pd.DataFrame:
    """First publications of live sessions, oldest first."""
    with Ledger(workspace.settings.ledger_path) as ledger:
        heads = ledger.publications(STRATEGY_ID, revision="first")
    live = heads[heads["cause"].isin(LIVE_CAUSES)].sort_values("session")
    return live.iloc[-n_sessions:] if n_sessions else live


def recorded_days(workspace: Workspace) -> pd.DataFrame:
    """Daily figures of the shipped path on the reported windows, each starting flat."""
    shipped = workspace.artifacts.read("production_checkpoint", UNPARTITIONED_KEY)
    chosen = shipped.json("verdict.json")["path_by_fold"]
    config = workspace.settings.build(PositionConfig, "positions")
    parts = []
    frames = {
        key: workspace.artifacts.read("out_of_sample", key).frame("positions.parquet")
        for key in chosen
    }
    first = min(frame["date"].min() for frame in frames.values()).date()
    data = market_days(workspace, first)
    for key, path in chosen.items():
        own = frames[key][frames[key]["path"] == path]
        wide = own.pivot(index="date", columns="symbol", values="position").sort_index()
        window = np.flatnonzero((data.dates >= wide.index[0]) & (data.dates <= wide.index[-1]))
        parts.append(daily_figures(workspace, data, window, wide, config))
    return pd.concat(parts)


def market_days(workspace: Workspace, first: date) -> FoldData:
    """Returns, volatilities and costs from a day up to the newest bar, straight from the store."""
    with workspace.store() as store:
        symbols = workspace.universe(store.symbols()).symbols
        risk = session_risk(store, symbols, first, store.last_session(symbols))
        facts = store.instruments().reindex(list(symbols))
    bps, vol = instrument_costs(facts, workspace.settings.build(CostConfig, "costs"))
    has_session = np.isfinite(risk.returns)
    empty = np.empty((*has_session.shape, 0), dtype=np.float32)
    return FoldData(
        panel=FeaturePanel(empty, risk.dates, symbols, (), has_session),
        close=wealth(risk.returns),
        sigma_daily=risk.sigma_daily,
        cost_rate=cost_rates(risk.sigma_daily, bps, vol),
    )


def daily_figures(
    workspace: Workspace,
    data: FoldData,
    window: np.ndarray,
    held: pd.DataFrame,
    config: PositionConfig,
) -> pd.DataFrame:
    """Net return, information coefficient and cost of the lag, by decision day.

    ``information_coefficient`` is the day's correlation over assets of position and y/σ;
    ``lag_slippage`` is Σ Δw·r(t → t+1), what waiting for the close of t+1 cost.

    Args:
        held: Positions by date and symbol; a day or symbol without one keeps the one before.
    """
    symbols = data.panel.symbols
    positions = held.reindex(index=data.dates[window], columns=list(symbols)).ffill().fillna(0.0)
    made = record_path(
        data, workspace.dated_universe(symbols), window, positions.to_numpy(), config
    )
    kept = window[: len(made.dates)]
    next_close = own_session_shift(data.close, np.isfinite(data.close), 1)
    lag_return = np.nan_to_num(next_close / data.close - 1.0)[kept]
    change = np.diff(made.weights, axis=0, prepend=0.0)
    outcome = data.labels[kept] / data.sigma_daily[kept]
    coefficients = [
        _correlation(p, y) for p, y in zip(positions.to_numpy()[: len(kept)], outcome, strict=True)
    ]
    return pd.DataFrame(
        {
            "net": made.net,
            "gross": made.gross,
            "cost": made.cost,
            "turnover": made.turnover,
            "information_coefficient": coefficients,
            "lag_slippage": (change * lag_return).sum(axis=1),
        },
        index=made.dates,
    )


def _correlation(one: Float[np.ndarray, " asset"], other: Float[np.ndarray, " asset"]) -> float:
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < MIN_ASSETS:
        return float("nan")
    x, y = one[known] - one[known].mean(), other[known] - other[known].mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else float("nan")


def _fill_slippage_bps(workspace: Workspace, fills: pd.DataFrame, held: pd.DataFrame) -> float:
    """Signed distance of fills from the close of t+1, weighted by the change of position."""
    missing = {"session", "symbol", "price"} - set(fills.columns)
    if missing:
        raise DataError(f"fills must have the column {sorted(missing)[0]!r}, found none")
    traded = held.fillna(0.0).diff().fillna(held)
    with workspace.store() as store:
        market = store.panel(tuple(held.columns), held.index[0].date())
    after = own_session_shift(market.close, market.has_session, 1)
    entry = pd.DataFrame(after, index=market.dates, columns=list(market.symbols))
    paid = total = 0.0
    for session, symbol, price in zip(
        pd.to_datetime(fills["session"]), fills["symbol"], fills["price"], strict=True
    ):
        if session not in traded.index or symbol not in traded.columns or not price > 0:
            raise DataError(
                "every fill must be of a published session and symbol at a positive price, found "
                f"{symbol} on {session.date()} at {price}"
            )
        size, reference = traded[symbol].at[session], entry[symbol].at[session]
        if np.isfinite(reference):  # the close of t+1 is not there yet for the newest session
            paid += size * (price / reference - 1.0)
            total += abs(size)
    return 1e4 * paid / total if total > 0 else float("nan")
