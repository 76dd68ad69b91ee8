"""Twelve-month sign: the strategy that docs/own-strategy.md walks through."""

import math
from datetime import date

import numpy as np

from tft_core import BaseStrategy, MarketDataStore, Signal


class TwelveMonthSign(BaseStrategy):
    """Long what rose over the last 252 of its own sessions, short what fell."""

    strategy_id = "s_twelve_month_sign_v1"

    def warmup_days(self) -> int:
        return 253

    def _scan_impl(self, d: date, store: MarketDataStore) -> list[Signal]:
        bars = store.bars(end=d, as_of=d)
        signals = []
        for symbol, own in bars.groupby("symbol"):
            if own["date"].iloc[-1].date() != d or len(own) < self.warmup_days():
                continue  # no session today, or too short a history: what is held stays
            close = own["close"].to_numpy()[-self.warmup_days() :]
            daily = np.diff(np.log(close))
            z = daily.sum() / (daily.std() * math.sqrt(len(daily)))
            conviction = min(abs(z) / 2.0, 1.0)
            direction = "flat" if conviction < 0.1 else "long" if z > 0 else "short"
            signals.append(
                Signal(self.strategy_id, symbol, direction, conviction, metadata={"z": float(z)})
            )
        return signals


def create_strategy() -> TwelveMonthSign:
    return TwelveMonthSign()
