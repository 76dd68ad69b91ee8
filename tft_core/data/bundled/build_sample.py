"""Makes the bundled sample from the project's data folder; run it again only to change it.

    python tft_core/data/bundled/build_sample.py FOLDER

Reads ``demo_bundle.parquet`` (which symbols, which dates, stocks, WTI) and
``fx_ecb.parquet`` (the published EUR rates). Whole numbers of the last published decimal
compress to a sixth of what the derived floats take.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
STOCK_DECIMALS, WTI_DECIMALS = 4, 2


def decimals_of(values: pd.Series) -> int:
    """Fewest decimals that hold every value."""
    for decimals in range(8):
        scaled = values * 10**decimals
        if np.allclose(scaled, scaled.round(), rtol=0, atol=1e-6):
            return decimals
    raise ValueError(f"more than 7 decimals in {values.name}")


def scaled(values: pd.Series, decimals: int) -> pd.Series:
    whole = (values * 10**decimals).round()
    assert np.allclose(whole / 10**decimals, values, rtol=1e-12, atol=0)
    return whole.astype("int64")


def write(name: str, frame: pd.DataFrame, decimals: dict[str, int]) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({"decimals": json.dumps(decimals, sort_keys=True)})
    whole = [c for c in frame.columns if c != "symbol"]
    dictionary: Any = ["symbol"] if "symbol" in frame else False  # pyarrow has no annotations
    pq.write_table(
        table,
        HERE / name,
        compression="zstd",
        compression_level=19,
        use_dictionary=dictionary,
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
        write_statistics=False,
    )


def main(folder: Path) -> None:
    bundle = pd.read_parquet(folder / "demo_bundle.parquet")
    bundle["date"] = pd.to_datetime(bundle["date"]).astype("datetime64[s]")
    bundle["day"] = bundle["date"].to_numpy("datetime64[D]").astype(np.int32)
    rates = pd.read_parquet(folder / "fx_ecb.parquet", columns=["date", "symbol", "eur_rate"])
    rates["date"] = pd.to_datetime(rates["date"]).astype("datetime64[s]")

    fx = bundle[bundle["asset_class"] == "currency"].merge(rates, on=["date", "symbol"])
    wide = fx.pivot(index="day", columns="symbol", values="eur_rate")
    wide.columns = [str(c).removesuffix("USD") for c in wide.columns]
    decimals = {str(name): decimals_of(rate.dropna()) for name, rate in wide.items()}
    ints = {n: scaled(wide[n].dropna(), d).reindex(wide.index) for n, d in decimals.items()}
    frame = pd.DataFrame(ints).astype("Int32").rename_axis("day").reset_index()
    write("ecb_eur_rates.parquet", frame, decimals)

    stocks = bundle[bundle["asset_class"] == "equity"].sort_values(["symbol", "date"])
    prices = {c: scaled(stocks[c], STOCK_DECIMALS) for c in ("open", "high", "low", "close")}
    frame = pd.DataFrame(
        {
            "symbol": stocks["symbol"].astype(str),
            "day": stocks["day"],
            "close": prices["close"].astype("int32"),
            **{
                f"{c}_minus_close": (prices[c] - prices["close"]).astype("int32")
                for c in ("open", "high", "low")
            },
            "volume": stocks["volume"].astype("int64"),
        }
    )
    write("wiki_stocks.parquet", frame, {"price": STOCK_DECIMALS})

    wti = bundle[bundle["symbol"] == "WTI_SPOT"].sort_values("date")
    frame = pd.DataFrame(
        {"day": wti["day"], "close": scaled(wti["close"], WTI_DECIMALS).astype("int32")}
    )
    write("eia_wti.parquet", frame, {"close": WTI_DECIMALS})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
