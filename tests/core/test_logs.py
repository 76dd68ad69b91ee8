"""Lines of the core say which run, asset and fold they are about."""

import logging
import multiprocessing as mp
import threading
from collections.abc import Iterator

import pytest

from tft_core.cli import main
from tft_core.logs import begin_context, get_logger, known_context, log_context

RUN = "1f2e3d4c-5b6a-7980-a1b2-c3d4e5f60718"


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("tft_core.somewhere")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)


LOG = get_logger("tft_core.somewhere")


def test_a_line_carries_what_is_known_around_it_in_text_and_in_fields(lines: Lines) -> None:
    LOG.info("before")
    with log_context(run=RUN):
        LOG.info("in the run")
        with log_context(asset="exploration_fold", fold="2024-01-01"):
            LOG.info("epoch %d of %d: %.0f%%", 3, 15, 20.0)
        LOG.info("again in the run")
    LOG.info("after")
    assert lines.text == [
        "before",
        "[run 1f2e3d4c] in the run",
        "[run 1f2e3d4c exploration_fold/2024-01-01] epoch 3 of 15: 20%",
        "[run 1f2e3d4c] again in the run",
        "after",
    ]
    record = lines.records[2]
    assert (record.tft_run, record.tft_asset, record.tft_fold) == (
        RUN,
        "exploration_fold",
        "2024-01-01",
    )
    assert not hasattr(lines.records[0], "tft_run")


def test_a_session_takes_the_place_of_the_fold(lines: Lines) -> None:
    with log_context(asset="inference", session="2026-11-13"):
        LOG.warning("no bar")
    assert lines.text == ["[inference/2026-11-13] no bar"]


def test_what_is_known_ends_with_an_error_too(lines: Lines) -> None:
    with pytest.raises(ValueError, match="odd"), log_context(run=RUN):
        raise ValueError("odd")
    assert known_context() == {}


def test_two_threads_know_different_things(lines: Lines) -> None:
    both = threading.Barrier(2, timeout=10)

    def work(fold: str) -> None:
        with log_context(asset="a", fold=fold):
            both.wait()
            LOG.info("here")

    threads = [threading.Thread(target=work, args=(fold,)) for fold in ("1", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lines.text) == ["[a/1] here", "[a/2] here"]


def told(known: dict[str, str], answer: "mp.Queue[str]") -> None:
    begin_context(known)
    message, _ = get_logger("tft_core.there").process("there", {})
    answer.put(message)


def test_a_process_that_is_started_takes_over_what_is_known() -> None:
    context = mp.get_context("spawn")
    answer: mp.Queue[str] = context.Queue()
    with log_context(run=RUN):
        process = context.Process(target=told, args=(known_context(), answer))
    process.start()
    assert answer.get(timeout=60) == "[run 1f2e3d4c] there"
    process.join()


def test_each_command_is_a_run_of_its_own(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tft_core.cli import page_commands
    from tft_core.cli.answer import Answer

    def say(arguments: object) -> Answer:
        LOG.info("said")
        return Answer({}, "done")

    monkeypatch.setattr(page_commands, "pages", say)
    assert main(["pages"]) == main(["pages"]) == 0
    first, second = (record.tft_run for record in lines.records)
    assert len(first) == 32 and first != second
    assert lines.text[0] == f"[run {first[:8]}] said"
