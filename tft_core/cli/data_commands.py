"""Commands about data: ``init``, ``sample``, ``ingest``, ``quality``, ``audit``."""

import json
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import tomlkit

from tft_core.cli.answer import Answer, table
from tft_core.cli.first_config import (
    default_config_text,
    propose_folds,
    propose_members,
    write_config_if_none,
)
from tft_core.config import load_settings
from tft_core.data.quality import quality_summary
from tft_core.data.report import IngestReport
from tft_core.data.sample import load_sample
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.errors import ConfigError
from tft_core.features.builder import FeatureConfig, MegaFeatureBuilder
from tft_core.features.sampled_audit import audit_cuts, sampled_audit, tables_that_look_ahead
from tft_core.reports.quality_page import BarsView, data_quality_page


def init(arguments: Namespace) -> Answer:
    """Write the default configuration, with universe and folds of the user's own data."""
    target = Path(arguments.output)
    if target.exists() and not arguments.force:
        raise ConfigError(f"{target} must not exist yet, found one; use --force to replace it")
    template = default_config_text()
    document = tomlkit.parse(template)
    if arguments.data is None:
        target.write_text(template, encoding="utf-8")
        return Answer({"path": str(target)}, f"wrote {target}; next: tft sample")
    with (
        tempfile.TemporaryDirectory() as scratch,
        MarketDataStore(Path(scratch) / "scratch.duckdb") as store,
    ):
        store.ingest(arguments.data, instruments=arguments.instruments)
        spans = store.sql(
            "SELECT symbol, min(date) AS first, max(date) AS last, count(*) AS n "
            "FROM bars GROUP BY symbol ORDER BY symbol"
        )
        sessions = store.session_dates()
    folds = propose_folds(sessions)
    document["folds"].update(folds)
    document["universe"]["members"] = propose_members(spans)
    document["operations"]["first_session"] = folds["anchor"]
    if folds["train_length"] == "expanding":  # too short a history for a profile's own length
        for profile in document["profile"].values():
            profile.get("folds", {}).pop("train_length", None)
    target.write_text(tomlkit.dumps(document), encoding="utf-8")
    text = (
        f"wrote {target}: {len(spans)} symbols, {len(sessions)} sessions up to "
        f"{sessions[-1].date()}, {folds['n_windows'] - 1} reported windows of "
        f"{folds['test_length']} from {folds['anchor']}\nnext: tft ingest {arguments.data}"
        + (f" --instruments {arguments.instruments}" if arguments.instruments else "")
    )
    return Answer({"path": str(target), "folds": folds, "n_symbols": len(spans)}, text)


def sample(arguments: Namespace) -> Answer:
    """Load the bundled sample into the configured store; loading it again changes nothing.

    Where no configuration is found, the default one (it is made for the sample) is written into
    the working directory first, and the answer says so.
    """
    written = write_config_if_none()
    settings = load_settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with MarketDataStore(settings.store_path) as store:
        answer = _ingested(load_sample(store), settings.store_path)
    if written is None:
        return answer
    return Answer(
        {**answer.data, "config": str(written)},
        f"wrote {written}, the default configuration, since there was none\n{answer.text}",
        answer.exit_code,
    )


def ingest(arguments: Namespace) -> Answer:
    """Load bars, or values of series, from a file; the answer accounts for every row."""
    settings = load_settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if arguments.series:
        if arguments.instruments is not None:
            raise ConfigError(
                "--series must stand without --instruments, found both; a series has no exchange"
            )
        return _ingest_series(arguments.path, settings.store_path)
    with MarketDataStore(settings.store_path) as store:
        report = store.ingest(arguments.path, instruments=arguments.instruments)
    return _ingested(report, settings.store_path)


def quality(arguments: Namespace) -> Answer:
    """Write a page about all bars of the store: coverage, findings, gaps, outliers."""
    settings = load_settings()
    target = Path(arguments.output or settings.reports_dir / "data_quality.html")
    with MarketDataStore(settings.store_path, read_only=True) as store:
        symbols = tuple(arguments.symbols or store.symbols())
        bars = BarsView.read(store, symbols, store.first_session(), store.last_session())
    page = data_quality_page("Data quality", bars=bars, subtitle=str(settings.store_path))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    summary = quality_summary(bars.panel, history=bars.findings)
    told = summary[summary["findings"] != ""][["rows", "findings"]]
    text = f"{len(symbols)} symbols, {len(told)} with findings: {target}" + (
        f"\n{table(told)}" if len(told) else ""
    )
    return Answer({"path": str(target), "findings": told["findings"].to_dict()}, text)


def audit(arguments: Namespace) -> Answer:
    """Look-ahead and finite-history audit of every feature; exit code 1 on a finding."""
    settings = load_settings()
    universe_config = settings.build(UniverseConfig, "universe")
    builder = MegaFeatureBuilder(settings.build(FeatureConfig, "features"), universe_config)
    with MarketDataStore(settings.store_path, read_only=True) as store:
        universe = Universe.resolve(universe_config, store.symbols())
        market = store.panel(tuple(arguments.symbols or universe.symbols))
        cuts = audit_cuts(builder, len(market.dates), arguments.cuts)
        first, last = market.dates[0].date(), market.dates[-1].date()
        series = builder.load_series(store, first, last)
        tables = builder.load_tables(store, first, last)
        middle = market.dates[cuts[len(cuts) // 2]].date()
        leaky = tables_that_look_ahead(builder, store, first, last, middle)
    result = sampled_audit(
        builder, market, cuts, n_symbols=arguments.assets, series=series, tables=tables
    )
    result.loc[result["group"].isin(leaky), "is_causal"] = False
    result["verdict"] = np.select(
        [~result["is_causal"], ~result["is_finite_memory"], result["cells"] == 0],
        ["looks ahead", "remembers too much", "not seen"],
        "ok",
    )
    failed = result[~(result["is_causal"] & result["is_finite_memory"])]
    unseen = result.index[result["verdict"] == "not seen"].tolist()
    text = (
        f"{table(_audit_table(result))}\n\n"
        f"{len(result)} features audited at {len(cuts)} cuts between "
        f"{market.dates[cuts[0]].date()} and {market.dates[cuts[-1]].date()} on "
        f"{min(arguments.assets, len(market.symbols))} of {len(market.symbols)} symbols each: "
        f"{len(failed)} fail, {len(unseen)} could not be seen (their inputs are absent)"
        + (f"\nfailed: {', '.join(failed.index)}" if len(failed) else "")
        + "".join(
            f"\nthe table of group {group} changes when it is loaded later" for group in leaky
        )
    )
    data = {
        "n_features": len(result),
        "cuts": [str(market.dates[cut].date()) for cut in cuts],
        "failed": failed.index.tolist(),
        "unseen": unseen,
        "features": json.loads(result.reset_index().to_json(orient="records", date_format="iso")),
    }
    return Answer(data, text, exit_code=1 if len(failed) else 0)


def _audit_table(result: pd.DataFrame) -> pd.DataFrame:
    shown = result.drop(columns=["is_causal", "is_finite_memory"])
    shown["max_difference"] = shown["max_difference"].map("{:.0e}".format)
    shown["first_date"] = pd.to_datetime(shown["first_date"]).dt.date.astype(object)
    return shown


def _ingest_series(path: str, store_path: Path) -> Answer:
    with MarketDataStore(store_path) as store:
        new = store.ingest_series(path)
        held = store.sql(
            "SELECT name, count(*) AS n_values, min(date)::VARCHAR AS first, "
            "max(date)::VARCHAR AS last, max(available_at) AS known_through "
            "FROM series GROUP BY name ORDER BY name"
        )
    text = (
        f"{store_path}\n{path}: {new:,} new values\n{table(held)}\n"
        "next: name the ones to use in [features] series"
    )
    data = {"source": path, "new": new, "series": held.astype(str).to_dict(orient="records")}
    return Answer(data, text)


def _ingested(report: IngestReport, path: Path) -> Answer:
    return Answer(report.to_dict(), f"{path}\n{report}")
