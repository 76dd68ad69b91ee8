"""How ``pytest -n 2`` shares the tests between its workers: by folder, the longest first.

A folder's tests stay in one worker, so that what they share is built once: the finished lifecycle
of ``integration``, the served model of ``core/inference``. What takes minutes begins first; at the
end only short folders are left, which even the two workers out.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

LONGEST = (
    "tests/integration",
    "tests/assets",
    "tests/core/training",
    "tests/core/models",
    "tests/core/features",
    "tests/core/hp_tuner",
    "tests/core/checkpoint_manager",
)
"""Folders by the time that they take; all others, which take less, follow by name."""


def folder_of(nodeid: str) -> str:
    return nodeid.partition("::")[0].rpartition("/")[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one process alone keeps the order of the names
        rank = {folder: number for number, folder in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(folder_of(item.nodeid), len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(
    config: pytest.Config, log: "Producer"
) -> "LoadScopeScheduling | None":
    if config.getvalue("dist") != "load":  # the caller has another wish
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return folder_of(nodeid)

    config.option.loadscopereorder = False  # the order of the items, not the number in a folder
    return ByFolder(config, log)
