"""The graph as data: who is made from whom, and that no fold sees its own test window."""

from datetime import date

import pytest

from tft_core.config import Settings
from tft_core.folds import FoldConfig, WalkForward
from tft_core.training_pipeline.graph import (
    GRAPH,
    SPECS,
    code_version,
    keys_of,
    made_from,
    study_key,
)

PLAN = WalkForward.from_config(FoldConfig(anchor=date(2020, 1, 1), test_length="12M", n_windows=6))
FOLD_ASSETS = [spec.name for spec in GRAPH if spec.partitions == "fold"]


def ancestors(name: str, key: str) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    todo = [(name, key)]
    while todo:
        for pair in made_from(*todo.pop(), PLAN, 4):
            if pair not in found:
                found.add(pair)
                todo.append(pair)
    return found


@pytest.mark.parametrize("asset", FOLD_ASSETS)
@pytest.mark.parametrize("key", PLAN.keys)
def test_nothing_made_for_a_fold_has_a_later_partition_upstream(asset, key):
    position = PLAN.keys.index(key)
    assert all(PLAN.keys.index(k) <= position for _, k in ancestors(asset, key))


def test_the_record_of_a_window_reads_one_feature_partition_more_and_no_later_one():
    keys = {k for a, k in ancestors("out_of_sample", "2021-01-01") if a == "mega_features"}
    assert keys == {"2020-01-01", "2021-01-01", "2022-01-01"}


def test_studies_are_made_at_the_first_fold_every_fourth_and_live():
    assert [study_key(key, PLAN, 4) for key in PLAN.keys] == [
        "2020-01-01",
        "2020-01-01",
        "2020-01-01",
        "2020-01-01",
        "2024-01-01",
        "2024-01-01",
        "live",
    ]


def test_a_new_window_moves_no_older_fold_s_upstream():
    wider = WalkForward.from_config(
        FoldConfig(anchor=date(2020, 1, 1), test_length="12M", n_windows=7)
    )
    for spec in GRAPH:
        if spec.partitions not in ("fold", "reported"):
            continue
        for key in keys_of(spec, PLAN):
            if key != "live":
                assert made_from(spec.name, key, PLAN, 4) == made_from(spec.name, key, wider, 4)


def test_the_code_version_follows_its_sections_and_not_the_number_of_windows(tmp_path):
    def version(name, **sections):
        settings = Settings(path=None, profile="p", home=tmp_path, sections=sections)
        return code_version(name, settings)

    plain = version("exploration_fold", folds={"n_windows": 3})
    assert version("exploration_fold", folds={"n_windows": 9}) == plain
    assert version("exploration_fold", folds={"test_length": "1M"}) != plain
    assert version("exploration_fold", gate={"min_oos_days": 9}) == plain
    assert version("exploration_fold", model={"d_hidden": 9}) != plain


def test_every_upstream_of_the_table_exists_and_comes_before():
    names = [spec.name for spec in GRAPH]
    for position, spec in enumerate(GRAPH):
        assert all(names.index(upstream) < position for upstream, _ in spec.upstream)
    assert set(SPECS) == set(names)
