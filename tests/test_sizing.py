"""The formulas of docs/sizing.md: the plan's job step by step, and straight lines where stated."""

import pytest

from benchmarks.sizing import Job, Rates, gpu_hours, rates_of
from tft_core.errors import ConfigError

PLAN = Job(assets=4, years=2.1, folds=9, test_years=44 / 261, retune_every=99)
"""The job of `make bench-plan`: epochs so short that each has the fewest steps allowed."""


def rates(**changes) -> Rates:
    values = {
        "store_mb_per_asset_year": 0.02,
        "feature_mb_per_asset_year": 0.3,
        "build_base_gb": 0.5,
        "build_mb_per_asset_year": 2.0,
        "build_s_per_asset_year": {50: 0.1, 200: 0.2},
        "rows_base_gb": 0.5,
        "rows_mb_per_asset_year": 1.0,
        "cpu_step_ms": 200.0,
    }
    return Rates(**{**values, **changes})


def test_the_plans_job_has_the_steps_that_its_benchmark_counted():
    # docs/BENCHMARKS.md, "The plan's whole job", 2 studies
    assert PLAN.studies == 2
    assert PLAN.steps() == {"exploration": 19_200, "tuning": 153_600, "production": 153_600}


def test_an_epoch_of_a_large_fold_has_every_asset_day_in_the_loss_once():
    job = Job(assets=500, years=30, folds=30, test_years=0.75, batch=256)
    # 500 × 252 × 30 asset days, 21 to a window, 256 windows to a step
    assert job.steps_per_epoch(30) == 704
    assert job.train_years()[0] == 7.5 and job.train_years()[-1] == 30
    assert job.studies == 9  # folds 0, 4, …, 28 and live


def test_a_larger_batch_costs_less_though_its_step_costs_more():
    job = {"assets": 500, "years": 30, "folds": 30, "test_years": 0.75}
    small, large = gpu_hours(Job(**job, batch=32)), gpu_hours(Job(**job, batch=256))
    assert small / large == pytest.approx(8 * 4.2 / 6.1, rel=0.01)


def test_features_of_more_assets_than_were_measured_follow_the_power_of_the_last_two():
    job = Job(assets=800, years=10, folds=2)
    # four times the assets doubled the cost of an asset-year, so 800 double it once more
    assert rates().build_cpu_hours(job) == pytest.approx(8_000 * 0.4 / 3600)
    assert rates().build_cpu_hours(Job(assets=4, years=36, folds=2)) == pytest.approx(14.4 / 3600)


def test_memory_is_a_base_and_a_straight_line_and_the_first_partition_is_the_largest():
    job = Job(assets=100, years=30, folds=20)
    assert rates().build_gb(job) == pytest.approx(0.5 + 100 * 10 * 2e-3)
    assert rates().train_gb(job) == pytest.approx(0.5 + 100 * 30 * 1e-3)
    figures = {
        n: {
            "peak_gb": 0.5 + n * 6 * 2e-3,
            "base_gb": 0.5,
            "cpu_s": n,
            "store_mb": n,
            "features_mb": n,
        }
        for n in (4, 50, 200)
    }
    found = rates_of(
        {"store": figures, "features": figures, "rows": figures, "step": {200: {"cpu_ms": 100.0}}},
        years=6,
    )
    assert found.build_mb_per_asset_year == pytest.approx(2.0)
    assert found.feature_mb_per_asset_year == pytest.approx(1 / 6)


def test_steps_that_were_not_measured_on_a_cpu_are_not_made_up():
    with pytest.raises(ConfigError, match="must have the 32 windows measured, found 256"):
        rates().cpu_core_days(Job(assets=4, years=10, folds=4, batch=256))
