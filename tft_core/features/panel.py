"""The feature panel: what the builder makes and everything downstream reads.

Only shape, slicing and the exchange with long tables belong here, no feature maths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from tft_core.errors import FeatureError

KEY_COLUMNS = ("date", "symbol")


def stamp_at(dates: pd.DatetimeIndex, row: int) -> pd.Timestamp:
    """One date of an axis; an axis holds no missing dates."""
    stamp = pd.Timestamp(dates.to_numpy()[row])
    assert isinstance(stamp, pd.Timestamp)
    return stamp


@dataclass(frozen=True, slots=True, eq=False)
class FeaturePanel:
    """Features of several assets on the union of their session dates.

    ``values`` is NaN off an asset's sessions and where a feature is undefined.
    """

    values: Float[np.ndarray, "time asset feature"]
    """float32."""
    dates: pd.DatetimeIndex
    symbols: tuple[str, ...]
    feature_names: tuple[str, ...]
    has_session: Bool[np.ndarray, "time asset"] = None  # type: ignore[assignment]
    """True where the asset traded; by default wherever a feature is known."""

    def __post_init__(self) -> None:
        shape = (len(self.dates), len(self.symbols), len(self.feature_names))
        if self.values.shape != shape:
            raise FeatureError(
                f"feature panel values must have shape {shape} (dates, symbols, features), "
                f"found {self.values.shape}"
            )
        if self.has_session is None:
            object.__setattr__(self, "has_session", np.isfinite(self.values).any(axis=2))
        elif self.has_session.shape != shape[:2]:
            raise FeatureError(
                f"feature panel has_session must have shape {shape[:2]}, "
                f"found {self.has_session.shape}"
            )

    def to_frame(self) -> pd.DataFrame:
        """Long table ``date, symbol, <features>``: one row per session of an asset."""
        rows, columns = np.nonzero(self.has_session)
        keys = pd.DataFrame(
            {
                "date": self.dates[rows],
                "symbol": np.asarray(self.symbols, dtype=object)[columns],
            }
        )
        features = pd.DataFrame(self.values[rows, columns], columns=list(self.feature_names))
        return pd.concat([keys, features], axis=1)

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, symbols: Sequence[str] | None = None
    ) -> "FeaturePanel":
        """Inverse of ``to_frame``; each row of the table is a session.

        Args:
            frame: Columns ``date, symbol`` and the features.
            symbols: Order of the asset axis; default sorted. Rows of others are left out.

        Raises:
            FeatureError: A key column is missing or a (date, symbol) pair occurs twice.
        """
        missing = [name for name in KEY_COLUMNS if name not in frame.columns]
        if missing:
            raise FeatureError(f"feature table must have a column {missing[0]!r}, found none")
        if symbols is None:
            symbols = sorted(frame["symbol"].unique())
        names = tuple(name for name in frame.columns if name not in KEY_COLUMNS)
        columns = pd.Index(list(symbols), dtype=object).get_indexer(
            pd.Index(frame["symbol"], dtype=object)
        )
        known = columns >= 0
        row_dates = pd.DatetimeIndex(frame["date"])[known]
        dates = pd.DatetimeIndex(np.unique(row_dates))
        rows, columns = dates.get_indexer(row_dates), columns[known]
        has_session = np.zeros((len(dates), len(symbols)), dtype=bool)
        has_session[rows, columns] = True
        if has_session.sum() != len(rows):
            raise FeatureError(
                "feature table must hold one row per date and symbol, "
                f"found {len(rows) - int(has_session.sum())} rows twice"
            )
        values = np.full((*has_session.shape, len(names)), np.nan, dtype=np.float32)
        values[rows, columns] = frame.loc[known, list(names)].to_numpy(dtype=np.float32)
        return cls(values, dates, tuple(symbols), names, has_session)

    def select(self, names: Sequence[str]) -> "FeaturePanel":
        """The named features only, in that order.

        Raises:
            FeatureError: The panel lacks one of them.
        """
        position = {name: i for i, name in enumerate(self.feature_names)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise FeatureError(
                f"feature must be one of the panel's {len(position)}, found {unknown[0]!r}"
            )
        columns = [position[name] for name in names]
        return FeaturePanel(
            self.values[:, :, columns], self.dates, self.symbols, tuple(names), self.has_session
        )

    def between(
        self,
        start: date | pd.Timestamp | None = None,
        end_exclusive: date | pd.Timestamp | None = None,
    ) -> "FeaturePanel":
        """Rows with start ≤ date < end_exclusive; an open side takes everything."""
        days = self.dates.to_numpy()
        first = 0 if start is None else int(np.searchsorted(days, np.datetime64(start)))
        last = len(days)
        if end_exclusive is not None:
            last = int(np.searchsorted(days, np.datetime64(end_exclusive)))
        return self._rows(np.arange(first, max(first, last)))

    def _rows(self, keep: np.ndarray) -> "FeaturePanel":
        first, last = (int(keep[0]), int(keep[-1]) + 1) if len(keep) else (0, 0)
        rows = slice(first, last) if last - first == len(keep) else keep  # a view where it can
        return FeaturePanel(
            self.values[rows],
            self.dates[rows],
            self.symbols,
            self.feature_names,
            self.has_session[rows],
        )

    def traded_rows(self) -> "FeaturePanel":
        """Only dates on which at least one asset has a session."""
        return self._rows(np.flatnonzero(self.has_session.any(axis=1)))

    @classmethod
    def concat(cls, panels: Sequence["FeaturePanel"]) -> "FeaturePanel":
        """Panels laid end to end along time.

        The asset axis is the union in order of first appearance.

        Raises:
            FeatureError: There is none, features differ, or the dates do not follow each other.
        """
        if not panels:
            raise FeatureError("concat must be given at least one feature panel, found none")
        names = panels[0].feature_names
        for before, after in pairwise(panels):
            if after.feature_names != names:
                raise FeatureError("feature panels must have the same features to be joined")
            if len(before.dates) == 0 or len(after.dates) == 0:
                continue
            last, first = stamp_at(before.dates, -1), stamp_at(after.dates, 0)
            if last >= first:
                raise FeatureError(
                    "feature panels must follow each other in time, found "
                    f"{first.date()} after {last.date()}"
                )
        symbols = tuple(dict.fromkeys(s for panel in panels for s in panel.symbols))
        n_rows = sum(len(panel.dates) for panel in panels)
        values = np.full((n_rows, len(symbols), len(names)), np.nan, dtype=np.float32)
        has_session = np.zeros((n_rows, len(symbols)), dtype=bool)
        first = 0
        for panel in panels:
            rows = slice(first, first + len(panel.dates))
            columns = [symbols.index(s) for s in panel.symbols]
            values[rows, columns] = panel.values
            has_session[rows, columns] = panel.has_session
            first = rows.stop
        dates = pd.DatetimeIndex(np.concatenate([p.dates.to_numpy() for p in panels]))
        return cls(values, dates, symbols, names, has_session)
