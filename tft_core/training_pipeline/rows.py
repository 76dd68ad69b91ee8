"""From stored feature partitions to the rows a fold may train on.

This is where "fold k knows nothing at or after its test start" is kept: only partitions
≤ k are opened, and labels are computed from closes that lie in them.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from tft_core.data.panel import label_returns, own_session_shift
from tft_core.errors import FoldError
from tft_core.features.as_known import wealth
from tft_core.features.normalization import Scaler
from tft_core.features.panel import FeaturePanel
from tft_core.folds import Fold, FoldConfig, SessionSplit, split_sessions
from tft_core.inference import MarketInputs
from tft_core.schema import LABEL_LAG_SESSIONS
from tft_core.sequences import RowTable
from tft_core.training_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class FoldData:
    """Feature values and market columns of some dates, wide, on one grid."""

    panel: FeaturePanel
    close: Float[np.ndarray, "time asset"]
    """Wealth that returns compound to, 1 on the first row: levels are never stored."""
    sigma_daily: Float[np.ndarray, "time asset"]
    """Daily volatility as of each close."""
    cost_rate: Float[np.ndarray, "time asset"]
    """Cost of trading one unit of notional, as a fraction."""
    is_untraded: Bool[np.ndarray, "time asset"] | None = None
    """Bars without volume of assets that usually trade; ``None``: not read."""
    is_off_calendar: Bool[np.ndarray, "time asset"] | None = None
    """Bars on days on which the exchange does not trade; ``None``: not read."""

    @property
    def dates(self) -> pd.DatetimeIndex:
        return self.panel.dates

    @property
    def labels(self) -> Float[np.ndarray, "time asset"]:
        """r(t+1 → t+2) over each asset's own sessions; NaN where not yet known."""
        return label_returns(self.close)

    @property
    def label_end(self) -> Int64[np.ndarray, "time asset"]:
        """Position in ``dates`` of the session that completes each label; −1 where none."""
        has_session = np.isfinite(self.close)
        position = np.where(has_session, np.arange(len(self.dates))[:, None], np.nan)
        end = own_session_shift(position, has_session, LABEL_LAG_SESSIONS)
        return np.nan_to_num(end, nan=-1).astype(np.int64)

    def inputs(self) -> MarketInputs:
        """The same as the inference pipeline reads it."""
        return MarketInputs(
            panel=self.panel,
            close=self.close,
            sigma_daily=self.sigma_daily,
            is_untraded=self.is_untraded,
            is_off_calendar=self.is_off_calendar,
        )

    def until(self, n_dates: int) -> "FoldData":
        """The first ``n_dates`` dates: what was known then."""
        return FoldData(
            panel=FeaturePanel(
                values=self.panel.values[:n_dates],
                dates=self.panel.dates[:n_dates],
                symbols=self.panel.symbols,
                feature_names=self.panel.feature_names,
            ),
            close=self.close[:n_dates],
            sigma_daily=self.sigma_daily[:n_dates],
            cost_rate=self.cost_rate[:n_dates],
            is_untraded=None if self.is_untraded is None else self.is_untraded[:n_dates],
            is_off_calendar=(
                None if self.is_off_calendar is None else self.is_off_calendar[:n_dates]
            ),
        )

    def values_of(self, positions: Int64[np.ndarray, " day"]) -> Float[np.ndarray, "row feature"]:
        """Unscaled features (NaN kept) of the asset sessions on some dates.

        Args:
            positions: Into ``dates``.
        """
        has_session = np.isfinite(self.close[positions])
        return self.panel.values[positions][has_session]


def load_fold_data(
    workspace: Workspace,
    keys: tuple[str, ...],
    *,
    features: tuple[str, ...] | None = None,
    start: date | None = None,
) -> FoldData:
    """Read feature partitions, oldest first, from ``start`` on.

    Raises:
        ArtifactError: A partition was never made, is damaged, or failed a blocking check.
        FoldError: No row is left.
    """
    filters = None if start is None else [("date", ">=", pd.Timestamp(start))]
    columns = None if features is None else ["date", "symbol", *features]
    feature_frames, market_frames = [], []
    for key in keys:
        artifact = workspace.artifacts.read("mega_features", key)
        feature_frames.append(artifact.frame("features.parquet", columns=columns, filters=filters))
        market_frames.append(artifact.frame("market.parquet", filters=filters))
    frame = pd.concat(feature_frames, ignore_index=True)
    market = pd.concat(market_frames, ignore_index=True)
    if frame.empty:
        raise FoldError(
            f"feature partitions {', '.join(keys)} must hold rows from {start} on, found none; "
            "move folds.anchor or ingest more history"
        )
    panel = FeaturePanel.from_frame(frame)
    rows = panel.dates.get_indexer(pd.DatetimeIndex(market["date"]))
    columns_of = pd.Index(panel.symbols).get_indexer(market["symbol"])
    wide = {}
    shape = (len(panel.dates), len(panel.symbols))
    for name in ("return", "sigma_daily", "cost_rate"):
        wide[name] = np.full(shape, np.nan)
        wide[name][rows, columns_of] = market[name].to_numpy()
    for name in ("is_untraded", "is_off_calendar"):
        wide[name] = np.zeros(shape, dtype=bool)
        wide[name][rows, columns_of] = market[name].to_numpy()
    return FoldData(panel=panel, close=wealth(wide.pop("return")), **wide)


def load_training_data(
    workspace: Workspace, key: str, features: tuple[str, ...] | None = None
) -> FoldData:
    """Everything fold ``key`` may train on: rows from its train start up to its test start."""
    fold = workspace.plan.fold(key)
    data = load_fold_data(
        workspace, workspace.plan.upto(key), features=features, start=fold.train_start
    )
    if fold.test_start is not None and data.dates[-1] >= pd.Timestamp(fold.test_start):
        raise FoldError(
            f"feature partitions of fold {key} must end before {fold.test_start}, found "
            f"{data.dates[-1].date()}; materialize mega_features again"
        )
    return data


def asset_classes(workspace: Workspace, key: str, symbols: tuple[str, ...]) -> np.ndarray:
    """Class of each symbol as feature partition ``key`` recorded it."""
    told = workspace.artifacts.read("mega_features", key).frame("instruments.parquet")
    by_symbol = told.set_index("symbol")["asset_class"]
    return by_symbol.reindex(list(symbols)).fillna("unclassified").to_numpy(dtype=str)


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Scaled rows of a training window with the masks of its parts."""

    rows: RowTable
    scaler: Scaler
    fit: Bool[np.ndarray, " row"]
    """Rows that bear loss while epochs are counted; their labels end before validation."""
    validation: Bool[np.ndarray, " row"]
    train: Bool[np.ndarray, " row"]
    """Rows that bear loss in the refit: all up to the final purge."""
    split: SessionSplit
    """Positions of the parts' sessions in the data that the rows were made from."""


def training_rows(
    data: FoldData, fold: Fold, config: FoldConfig, features: tuple[str, ...]
) -> TrainingRows:
    """The rows of a fold's training window: split in time, scaled, laid out flat.

    As of:
        The newest date of ``data``.
    """
    return split_rows(data, split_sessions(data.dates, fold, config), features)


def split_rows(
    data: FoldData, split: SessionSplit, features: tuple[str, ...], *, stop: int | None = None
) -> TrainingRows:
    """Fit the scaler on the sessions that bear loss first, and lay all rows out flat.

    Args:
        stop: Position in ``data`` before which every label must be complete; default its end.

    As of:
        Position ``stop``. A row bears loss only if its label was complete before the part that
        follows it; the rows from ``stop`` on are in no part.
    """
    panel = data.panel.select(features)
    has_session = np.isfinite(data.close)
    scaler = Scaler.fit(panel.values[split.fit][has_session[split.fit]])
    rows = RowTable.build(panel, data.close, data.sigma_daily, data.cost_rate, scaler)
    last = len(data.dates) if stop is None else stop

    def part(sessions: np.ndarray, before: int) -> Bool[np.ndarray, " row"]:
        is_in = np.isin(rows.date_index, sessions)
        return is_in & rows.can_bear_loss & (rows.label_end < before)

    return TrainingRows(
        rows=rows,
        scaler=scaler,
        fit=part(split.fit, int(split.validation[0])),
        validation=part(split.validation, last),
        train=part(split.train, last),
        split=split,
    )
