"""The ``tft`` command: answers, one-line errors, exit codes, nothing lost."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from tft_core.cli import _say, main
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market

ROOT = Path(__file__).parents[2]
TOML = """
default_profile = "tiny"
[folds]
anchor = 2018-01-01
[profile.tiny]
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "tft.toml").write_text(TOML)
    monkeypatch.setenv("TFT_CONFIG", str(tmp_path / "tft.toml"))
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TFT_PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bars(home):
    path = home / "bars.parquet"
    synthetic_market(3, 2600, seed=3, start="2012-01-02").to_parquet(path)
    return path


def test_ingest_answers_in_json_and_the_rows_add_up(home, bars, capsys):
    assert main(["ingest", str(bars), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows_in"] == (
        report["accepted"] + report["quarantined"] + report["exact_duplicates"]
    )


def test_series_are_ingested_beside_bars_and_listed_by_name(home, capsys):
    frame = pd.DataFrame({"symbol": "US10Y", "date": ["2020-01-01", "2020-01-02"], "yield": 0.02})
    frame.to_csv(home / "yields.csv", index=False)
    assert main(["ingest", str(home / "yields.csv")]) == 1
    assert "--series" in capsys.readouterr().err
    assert main(["ingest", str(home / "yields.csv"), "--series", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["new"], [row["name"] for row in told["series"]]) == (2, ["US10Y"])
    with MarketDataStore(home / "state" / "market.duckdb", read_only=True) as store:
        assert store.series(["US10Y"])["value"].tolist() == [0.02, 0.02]
        assert store.ingestions()["kind"].tolist() == ["series"]


def test_quality_writes_a_page_and_names_the_symbols_with_findings(home, capsys):
    market = synthetic_market(2, 300, seed=3, holidays=False)
    own = market.index[market["symbol"] == "S01"]
    market.loc[own[100:120], ["open", "high", "low", "close"]] = 50.0
    market.to_parquet(home / "bars.parquet")
    main(["ingest", str(home / "bars.parquet")])
    capsys.readouterr()
    assert main(["quality", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["findings"]) == ["S01"]
    assert "stale_run" in told["findings"]["S01"]
    page = home / "state" / "reports" / "data_quality.html"
    assert told["path"] == str(page)
    assert "Look at 1 of 2 symbols" in page.read_text("utf-8")


def test_an_empty_file_is_refused_in_one_line_and_the_store_is_unchanged(home, bars, capsys):
    main(["ingest", str(bars)])
    empty = home / "empty.csv"
    empty.write_text("")
    with MarketDataStore(home / "state" / "market.duckdb", read_only=True) as store:
        before = store.data_hash()
    capsys.readouterr()
    assert main(["ingest", str(empty)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tft: ") and "empty.csv" in error and error.count("\n") == 1
    with MarketDataStore(home / "state" / "market.duckdb", read_only=True) as store:
        assert store.data_hash() == before


def test_a_file_of_instruments_that_makes_no_sense_is_refused_in_one_line(home, bars, capsys):
    facts = home / "facts.csv"
    facts.write_text("")
    assert main(["ingest", str(bars), "--instruments", str(facts)]) == 1
    error = capsys.readouterr().err
    assert f"{facts} must hold instruments, found an empty file" in error
    assert error.count("\n") == 1
    facts.write_text("symbol;exchange\nS00;XNYS\n000001;XSHG\n")  # read like any other file
    assert main(["ingest", str(bars), "--instruments", str(facts)]) == 0
    with MarketDataStore(home / "state" / "market.duckdb", read_only=True) as store:
        exchange = store.instruments()["exchange"]
    assert (exchange["S00"], exchange["000001"]) == ("XNYS", "XSHG")


@pytest.mark.parametrize("fills", [b"", b"session,price\n1,2\n1,2,3\n", b"\xff\xfe\xff", None])
def test_a_file_of_fills_that_makes_no_sense_is_refused_in_one_line(home, capsys, fills):
    if fills is not None:
        (home / "fills.csv").write_bytes(fills)
    assert main(["track", "--fills", "fills.csv"]) == 1
    error = capsys.readouterr().err
    assert "--fills must be a CSV file, found fills.csv" in error


def test_init_refuses_data_without_a_single_usable_bar(home, capsys):
    frame = pd.DataFrame({"date": ["2020-01-02"], "symbol": ["A"], "close": [-1.0]})
    frame.to_csv(home / "negative.csv", index=False)
    assert main(["init", "--data", "negative.csv", "--output", "my.toml"]) == 1
    assert "at least 300 sessions to propose folds, found 0" in capsys.readouterr().err


def test_a_missing_column_is_named(home, capsys):
    path = home / "no_close.csv"
    pd.DataFrame({"date": ["2020-01-02"], "symbol": ["A"], "open": [1.0]}).to_csv(path)
    assert main(["ingest", str(path)]) == 1
    assert "close" in capsys.readouterr().err


def test_the_sample_brings_a_configuration_where_there_is_none(tmp_path, monkeypatch, capsys):
    for name in ("TFT_CONFIG", "TFT_HOME", "TFT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["sample"]) == 0
    assert f"wrote {tmp_path / 'tft.toml'}" in capsys.readouterr().out
    assert (tmp_path / "tft.toml").read_bytes() == (ROOT / "tft.toml").read_bytes()
    assert (tmp_path / "var" / "market.duckdb").is_file()
    assert main(["sample"]) == 0  # the second time it is read, not written
    assert "wrote" not in capsys.readouterr().out


def test_the_sample_writes_no_configuration_where_one_is_named_and_missing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFT_CONFIG", str(tmp_path / "mine.toml"))
    assert main(["sample"]) == 2
    assert "mine.toml" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_does_not_exist_exits_with_2(home, monkeypatch, capsys):
    monkeypatch.setenv("TFT_PROFILE", "huge")
    assert main(["sample"]) == 2
    assert "found 'huge'" in capsys.readouterr().err


def test_a_wrong_argument_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "tomorrow"])
    assert stop.value.code == 2
    assert "ISO date" in capsys.readouterr().err


def test_init_proposes_folds_that_end_with_the_data(home, bars, capsys):
    target = home / "my.toml"
    assert main(["init", "--data", str(bars), "--output", str(target)]) == 0
    written = tomllib.loads(target.read_text())
    assert written["folds"]["n_windows"] == 4
    assert {s for m in written["universe"]["members"] for s in m["symbols"]} == {
        "S00",
        "S01",
        "S02",
    }
    assert main(["init", "--output", str(target)]) == 2
    assert "--force" in capsys.readouterr().err


def test_doctor_says_what_is_due_and_fixes_the_number_of_windows(home, bars, capsys):
    target = home / "my.toml"
    main(["init", "--data", str(bars), "--output", str(target)])
    text = target.read_text().replace("n_windows = 4", "n_windows = 3")
    (home / "tft.toml").write_text(text)
    main(["ingest", str(bars)])
    capsys.readouterr()
    assert main(["doctor"]) == 1
    assert "sets folds.n_windows = 4" in capsys.readouterr().out
    main(["doctor", "--fix"])
    assert tomllib.loads((home / "tft.toml").read_text())["folds"]["n_windows"] == 4


def test_doctor_reads_the_section_of_the_last_phase_too(home, bars, capsys):
    target = home / "my.toml"
    main(["init", "--data", str(bars), "--output", str(target)])
    text = target.read_text().replace("min_oos_days =", "min_out_of_sample_days =")
    (home / "tft.toml").write_text(text)
    capsys.readouterr()
    assert main(["doctor"]) != 0
    assert "min_out_of_sample_days" in capsys.readouterr().err


def test_predicting_without_a_checkpoint_says_what_to_do(home, capsys):
    assert main(["predict", "2018-01-02"]) == 1
    assert "materialize production_fold" in capsys.readouterr().err


def test_a_store_locked_by_another_process_is_named_with_its_holder(home, bars, capsys):
    main(["ingest", str(bars)])
    path = home / "state" / "market.duckdb"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, duckdb\n"
            f"held = duckdb.connect({str(path)!r})\n"
            "print('held', flush=True)\nsys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    capsys.readouterr()
    try:
        assert main(["ingest", str(bars)]) == 1
        assert str(holder.pid) in capsys.readouterr().err
    finally:
        holder.communicate("")


def test_help_has_examples_and_exits_with_0(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "tft predict 2026-10-30 --json" in capsys.readouterr().out


def test_the_audit_prints_a_row_for_every_feature_and_ends_with_0(home, capsys):
    path = home / "long.parquet"
    synthetic_market(5, 760, seed=3, start="2012-01-02").to_parquet(path)
    main(["ingest", str(path)])
    capsys.readouterr()
    assert main(["audit", "--cuts", "2", "--assets", "5"]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines() if line.split()[-1:] == ["ok"]]
    seen = {row[0] for row in rows}
    assert {"ret_21", "ta_adx_14", "xs_dispersion_z_252", "rmt_top_shift_21"} <= seen
    assert len(rows) == 292 - 24  # no exogenous series is configured
    assert "292 features audited at 2 cuts" in text and "0 fail, 24 could not be seen" in text


def test_the_audit_ends_with_1_and_names_what_looks_ahead(home, capsys):
    path = home / "long.parquet"
    synthetic_market(5, 760, seed=3, start="2012-01-02").to_parquet(path)
    main(["ingest", str(path)])
    (home / "leaky.py").write_text(
        "import numpy as np\n"
        "from tft_core.features.registry import FeatureGroup, definer\n"
        "define = definer('mine')\n"
        "def compute(bars):\n"
        "    top = np.fmax.reduce(bars.close, axis=1, keepdims=True)\n"
        "    return {'mine_top': bars.close / top, 'mine_sum': np.nancumsum(bars.ret, axis=1)}\n"
        "GROUP = FeatureGroup(name='mine', title='Mine', axis='own_sessions', compute=compute,\n"
        "    features=(define('top', 'close', 1, 'ratio', 'of the highest close'),\n"
        "              define('sum', 'close', 2, 'ratio', 'all returns')))\n"
    )
    (home / "tft.toml").write_text(
        TOML + '[features]\nplugins = ["leaky.py"]\ngroups = ["ret", "mine"]\n'
    )
    capsys.readouterr()
    assert main(["audit", "--cuts", "2", "--assets", "3", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["failed"] == ["mine_top", "mine_sum"] and answer["n_features"] == 30
    verdicts = {row["feature"]: row["verdict"] for row in answer["features"]}
    assert verdicts["mine_top"] == "looks ahead" and verdicts["ret_21"] == "ok"
    assert verdicts["mine_sum"] == "remembers too much"


def test_a_reader_that_has_seen_enough_ends_nothing(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)  # as `tft … | head` does
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        _say("a line\n" * 100_000)
        _say("another, which nobody reads either")
