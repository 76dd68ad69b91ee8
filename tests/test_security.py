"""What must never be in the code, on a socket, in the open or in what is printed."""

import logging
import re
import stat
from pathlib import Path

import pytest

from tests.support.checkpoints import metadata, weights
from tests.support.tiny import tiny_settings
from tft_core.checkpoint_manager import CheckpointManager
from tft_core.cli import main
from tft_core.hp_tuner.storage import open_storage

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("tft_core/**/*.py"), *ROOT.glob("tft_assets/**/*.py")])
RUNNERS = [ROOT / name for name in ("Makefile", "workspace.yaml", "dagster_home/dagster.yaml")]
CANARY = "hunter2-canary"


def lines_with(pattern: str, files: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bpickle\.(loads?|Unpickler)\(|\b(joblib|cloudpickle|dill|shelve|marshal)\b",
        r"torch\.load\(|weights_only|allow_pickle\s*=\s*True|read_pickle",
        r"(^|[^.\w])(eval|exec)\(|yaml\.(load|unsafe_load|full_load)\(|shell\s*=\s*True|os\.system",
    ],
)
def test_no_source_runs_what_it_reads(pattern):
    assert lines_with(pattern, SOURCES) == []


def test_nothing_listens_beyond_this_machine():
    assert (
        lines_with(r"0\.0\.0\.0|--host[ =](?!127\.0\.0\.1|localhost)", [*SOURCES, *RUNNERS]) == []
    )


def test_state_is_the_owner_s_alone(tmp_path):
    path = CheckpointManager(tmp_path / "home" / "checkpoints").save(weights(), metadata())
    for directory in (path.parent, path.parents[1], path.parents[2]):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700, directory


def test_a_password_in_the_studies_url_is_never_shown(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "home"))
    said = []
    for url in (
        f"postgresql+nodriver://tft:{CANARY}@127.0.0.1:1/studies",
        f"postgresql://tft:{CANARY}@127.0.0.1:1/studies",
        f"no url at all {CANARY}",
    ):
        monkeypatch.setenv("TFT_STUDIES_URL", url)
        settings = tiny_settings(tmp_path / "home")
        with pytest.raises(Exception, match=r".") as refused:  # whatever it is must not tell
            open_storage(settings.studies_url, heartbeat_seconds=60)
        said += [str(refused.value), repr(refused.value), repr(settings)]
        for command in (["doctor", "--json"], ["checkpoints", "list"]):
            main(command)
    CheckpointManager(tmp_path / "home" / "checkpoints").save(weights(), metadata())
    printed = capsys.readouterr()
    said += [printed.out, printed.err, caplog.text]
    said += [
        file.read_bytes().decode("utf-8", "replace")
        for file in tmp_path.rglob("*")
        if file.is_file()
    ]
    assert [text for text in said if CANARY in text] == []
