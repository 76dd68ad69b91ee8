"""The market data that comes with the package: ECB currencies, four stocks, WTI.

184,117 daily bars of 31 symbols, 1986-01-02 to 2026-10-30. What a user of it must know:

- 26 currencies against the dollar (``EURUSD``, ``JPYUSD``, …): close only, from 1999-01-04 or
  the year the ECB began to publish them, to 2026-10-30.
- ``AAPL``, ``GOOG``, ``IBM``, ``MSFT``: OHLCV, adjusted, end on 2013-03-01.
- ``WTI_SPOT``: close only, ends on 2019-01-03.
- No symbol has open interest. From 2019-01-04 on only the currencies trade.

Sources and licences stand in ``bundled/NOTICE``. Nothing is downloaded.
"""

import json
from importlib import resources

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from tft_core.data.report import IngestReport
from tft_core.data.store import MarketDataStore
from tft_core.schema import BAR_COLUMNS, PRICE_COLUMNS

SOURCE_NAME = "bundled sample"
SIGNIFICANT_DIGITS = 7
"""Published rates have at most 6 digits, so a cross is not known better than this."""

CURRENCIES = {
    "AUD": "Australian dollar",
    "BRL": "Brazilian real",
    "CAD": "Canadian dollar",
    "CHF": "Swiss franc",
    "CNY": "Chinese yuan renminbi",
    "CZK": "Czech koruna",
    "EUR": "Euro",
    "GBP": "Pound sterling",
    "HUF": "Hungarian forint",
    "IDR": "Indonesian rupiah",
    "ILS": "Israeli shekel",
    "INR": "Indian rupee",
    "JPY": "Japanese yen",
    "KRW": "South Korean won",
    "MXN": "Mexican peso",
    "MYR": "Malaysian ringgit",
    "NOK": "Norwegian krone",
    "NZD": "New Zealand dollar",
    "PHP": "Philippine peso",
    "PLN": "Polish zloty",
    "RON": "Romanian leu",
    "SEK": "Swedish krona",
    "SGD": "Singapore dollar",
    "THB": "Thai baht",
    "TRY": "Turkish lira",
    "ZAR": "South African rand",
}
STOCKS = {
    "AAPL": ("XNAS", "Apple Inc."),
    "GOOG": ("XNAS", "Google Inc."),
    "IBM": ("XNYS", "International Business Machines Corp."),
    "MSFT": ("XNAS", "Microsoft Corp."),
}


def load_sample(store: MarketDataStore) -> IngestReport:
    """Put the bundled bars and their instruments into a store; a second time changes nothing."""
    return store.ingest(sample_bars(), instruments=sample_instruments(), source_name=SOURCE_NAME)


def sample_bars() -> pd.DataFrame:
    """The bundled bars, long, with currencies derived from the published euro rates."""
    parts = [_currencies(), _stocks(), _wti()]
    # what a source does not publish is NaN
    return pd.concat(parts, ignore_index=True).reindex(columns=list(BAR_COLUMNS))


def sample_instruments() -> pd.DataFrame:
    """Facts of the bundled symbols; costs are left to the defaults of their asset class."""
    rows = [
        (f"{code}USD", "currency", "FX_ECB", "USD", f"{name} in US dollars, from ECB rates")
        for code, name in CURRENCIES.items()
    ]
    rows += [
        (symbol, "equity", exchange, "USD", f"{name} (Quandl WIKI, adjusted)")
        for symbol, (exchange, name) in STOCKS.items()
    ]
    rows.append(("WTI_SPOT", "energy", "EIA", "USD", "WTI crude oil spot, Cushing (EIA)"))
    columns = ["symbol", "asset_class", "exchange", "currency", "description"]
    return pd.DataFrame(rows, columns=columns)


def _currencies() -> pd.DataFrame:
    table, decimals = _read("ecb_eur_rates.parquet")
    rates = {
        name: table[name].to_numpy(np.float64, na_value=np.nan) / 10**places
        for name, places in decimals.items()
    }
    usd_per_eur = rates["EUR"]  # the published rate of the euro itself is dollars per euro
    parts = []
    for name, per_eur in rates.items():
        close = usd_per_eur if name == "EUR" else _round_significant(usd_per_eur / per_eur)
        published = np.isfinite(close)
        parts.append(
            pd.DataFrame(
                {
                    "date": _dates(table)[published],
                    "symbol": f"{name}USD",
                    "close": close[published],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _stocks() -> pd.DataFrame:
    table, decimals = _read("wiki_stocks.parquet")
    close = table["close"].to_numpy(np.int64)
    prices = {
        name: close + table[f"{name}_minus_close"].to_numpy(np.int64)
        for name in PRICE_COLUMNS
        if name != "close"
    } | {"close": close}
    return pd.DataFrame(
        {
            "date": _dates(table),
            "symbol": table["symbol"].astype(str),
            **{name: value / 10 ** decimals["price"] for name, value in prices.items()},
            "volume": table["volume"].to_numpy(np.float64),
        }
    )


def _wti() -> pd.DataFrame:
    table, decimals = _read("eia_wti.parquet")
    close = table["close"].to_numpy(np.float64) / 10 ** decimals["close"]
    return pd.DataFrame({"date": _dates(table), "symbol": "WTI_SPOT", "close": close})


def _read(name: str) -> tuple[pd.DataFrame, dict[str, int]]:
    source = resources.files("tft_core.data") / "bundled" / name
    with resources.as_file(source) as path:
        table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    return table.to_pandas(), json.loads(metadata[b"decimals"])


def _dates(table: pd.DataFrame) -> np.ndarray:
    return table["day"].to_numpy(np.int64).astype("datetime64[D]").astype("datetime64[us]")


def _round_significant(values: np.ndarray) -> np.ndarray:
    """Nearest numbers with so many significant digits; NaN stays NaN."""
    scale = 10.0 ** (SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(values)))
    rounded = np.round(values * scale) / scale
    is_near_tie = np.abs(values * scale % 1.0 - 0.5) < 1e-6  # there the product's error decides
    for i in np.flatnonzero(is_near_tie):
        rounded[i] = float(f"{values[i]:.{SIGNIFICANT_DIGITS}g}")
    return rounded
