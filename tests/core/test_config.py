"""``tft.toml``: profiles overlay sections; what nobody would read is refused."""

import shutil
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal

import pytest

from tft_core.config import load_settings
from tft_core.data.universe import UniverseConfig
from tft_core.errors import ConfigError
from tft_core.features.builder import FeatureConfig
from tft_core.inference import ServingConfig

ROOT = Path(__file__).parents[2]

TOML = """
default_profile = "small"
[folds]
anchor = 2020-01-01
n_windows = 4
[profile.small.folds]
n_windows = 2
[profile.large]
"""


@dataclass(frozen=True, kw_only=True)
class Example:
    anchor: date
    n_windows: int
    share: float = 0.5
    mode: Literal["a", "b"] = "a"


@pytest.fixture
def toml(tmp_path):
    file = tmp_path / "tft.toml"
    file.write_text(TOML)
    return file


def test_a_profile_lies_over_the_shared_sections(toml):
    assert load_settings(toml).build(Example, "folds").n_windows == 2
    assert load_settings(toml, profile="large").build(Example, "folds").n_windows == 4


def test_the_environment_names_profile_and_home(toml, monkeypatch, tmp_path):
    monkeypatch.setenv("TFT_CONFIG", str(toml))
    monkeypatch.setenv("TFT_PROFILE", "large")
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "elsewhere"))
    settings = load_settings()
    assert (settings.profile, settings.home) == ("large", tmp_path / "elsewhere")


def test_a_profile_that_does_not_exist_names_those_that_do(toml):
    with pytest.raises(ConfigError, match=r"one of large, small in .*found 'huge'"):
        load_settings(toml, profile="huge")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[flods]\n[profile.small]", r"found \[flods\]"),
        ("[profile.small.flods]", r"found \[profile.small.flods\]"),
        ("folds = ", "must be valid TOML"),
        ("folds = 3\n[profile.small]", r"\[folds\] must be a table of .*, found 3"),
        ('profile = "small"', r"\[profile.<name>\] must be a table of .*, found 'small'"),
        ("[profile]\nsmall = 3", r"\[profile.small\] must be a table of .*, found 3"),
        ("[profile.small]\nfolds = 3", r"\[profile.small.folds\] must be a table of .*, found 3"),
    ],
)
def test_a_file_nobody_could_mean_is_refused(toml, text, message):
    toml.write_text('default_profile = "small"\n' + text)
    with pytest.raises(ConfigError, match=message):
        load_settings(toml)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"windows": 3}, "found 'windows'"),
        ({"n_windows": "three"}, "n_windows must be of type int, found 'three'"),
        ({"n_windows": True}, "n_windows must be of type int, found True"),
        ({"mode": "c"}, r"mode must be one of \['a', 'b'\], found 'c'"),
        ({"anchor": "soon"}, "anchor must be an ISO date, found 'soon'"),
        ({"anchor": datetime(2020, 1, 1, 9)}, "anchor must be a date without time, found 2020"),
    ],
)
def test_a_wrong_key_or_type_is_refused_with_its_value(toml, values, message):
    with pytest.raises(ConfigError, match=message):
        load_settings(toml).build(Example, "folds", **values)


@pytest.mark.parametrize(
    ("cls", "section", "values"),
    [
        (FeatureConfig, "features", {"series": "VIX"}),
        (FeatureConfig, "features", {"groups": "ret"}),
        (ServingConfig, "serving", {"accepted_moves": "CHFUSD 2015-01-15"}),
        (UniverseConfig, "universe", {"members": [{"symbols": "EURUSD"}]}),
    ],
)
def test_a_text_where_a_list_belongs_is_not_read_letter_by_letter(toml, cls, section, values):
    with pytest.raises(ConfigError, match=r"must be a list, found '.*'; write it in brackets"):
        load_settings(toml).build(cls, section, **values)


def test_a_whole_number_serves_as_a_float(toml):
    assert load_settings(toml).build(Example, "folds", share=1).share == 1.0


def test_an_empty_variable_names_no_storage_of_studies(toml, monkeypatch):
    monkeypatch.setenv("TFT_STUDIES_URL", "")
    assert load_settings(toml).studies_url.startswith("sqlite:///")


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="tft init"):
        load_settings(tmp_path / "none.toml")


def test_the_packaged_default_is_the_checkout_s_file():
    packaged = ROOT / "tft_core" / "default_tft.toml"
    assert packaged.read_text() == (ROOT / "tft.toml").read_text()


def test_the_config_is_found_from_a_folder_below(toml, monkeypatch):
    below = toml.parent / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.delenv("TFT_CONFIG", raising=False)
    assert load_settings().path == toml
    shutil.rmtree(toml.parent / "a")


def test_a_state_directory_in_an_object_store_is_refused(toml, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"POSIX file system, found s3://b/x; only artifacts"):
        load_settings(toml, home="s3://b/x")
    assert not (tmp_path / "s3:").exists()  # what pathlib makes of it
