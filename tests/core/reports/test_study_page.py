"""The study's page: every trial with its fate, and plots of whatever there is to plot."""

import struct

import numpy as np
import pandas as pd
import pytest
from test_page import assert_self_contained

from tft_core.evidence import search_evidence
from tft_core.reports.html import study_page
from tft_core.reports.study_plots import history_png, importances_png, parallel_png

REASON = "mean Sharpe -0.31 after 2 of 3 inner folds lies below the median 0.12 of 4 complete"


def trials(n: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": np.arange(n),
            "state": ["pruned" if i % 3 == 2 else "complete" for i in range(n)],
            "value": [np.nan if i % 3 == 2 else 0.1 * i for i in range(n)],
            "sharpe": 0.4,
            "sharpe_se": 0.6,
            "params_d_hidden": rng.choice([8, 16], n),
            "params_lr": np.geomspace(3e-4, 3e-3, n),
            "params_loss_mode": ["sharpe", "joint_mle"] * (n // 2),
            "params_mle_weight": [np.nan, 0.1] * (n // 2),
            "sharpe_fold_0": 0.2,
            "sharpe_fold_1": np.nan,
            "pruned_reason": [REASON if i % 3 == 2 else None for i in range(n)],
        }
    )
    return frame


@pytest.fixture
def study() -> dict:
    frame = trials()
    daily = pd.DataFrame(np.random.default_rng(1).normal(0.0, 0.01, (189, 8)))
    return {
        "study_name": "x_trend-live-abc",
        "best_number": 7,
        "best_params": {"lr": 3e-3, "d_hidden": 16},
        "best_value": 0.7,
        "default_params": {"lr": 3e-4, "d_hidden": 8},
        "default_value": 0.0,
        "n_finished": 8,
        "n_pruned": 2,
        "budget": {"kind": "trials", "spent": True, "sentence": "All 8 trials are finished."},
        "trials": frame.astype(object).where(frame.notna(), None).to_dict(orient="records"),
        "importances": [
            {"name": "lr", "share": 0.7, "chance": 0.5},
            {"name": "d_hidden", "share": 0.3, "chance": 0.5},
        ],
        "evidence": search_evidence(daily, 7).to_dict(),
    }


def test_the_page_tells_each_trial_s_fate_and_whether_the_budget_was_spent(study):
    text = study_page(study, "Study")
    outline = assert_self_contained(text)
    assert outline.tags.count("img") == 3
    assert "All 8 trials are finished." in text
    assert text.count(REASON) == 2
    for sentence in study["evidence"]["sentences"]:
        assert sentence in text.replace("&#39;", "'")
    assert ">lr<" in text and "70.0%" in text


def test_the_page_of_a_study_that_says_nothing_is_whole(study):
    first = [{**study["trials"][0], "params_lr": 1e-3}]
    poor = {**study, "trials": first, "importances": [], "best_number": 0, "evidence": None}
    text = study_page(poor, "Study")
    assert_self_contained(text)
    assert "Importances need ten complete trials" in text
    assert "The evidence on this search was not recorded." in text


@pytest.mark.parametrize(
    "make",
    [
        lambda: history_png(trials()),
        lambda: history_png(trials().assign(state="pruned")),
        lambda: importances_png([]),
        lambda: importances_png([{"name": "lr", "share": 1.0, "chance": 0.2}]),
        lambda: parallel_png(trials(), 7),
        lambda: parallel_png(trials(2).assign(params_lr=1.0, params_d_hidden=8), 0),
        lambda: parallel_png(trials()[["number", "state", "value"]], 0),
    ],
)
def test_a_plot_is_a_whole_png_of_readable_size(make):
    png = make()
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and png[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", png[16:24])
    assert 600 <= width <= 1000 and 250 <= height <= 4000


def test_the_same_study_gives_the_same_bytes():
    assert parallel_png(trials(), 7) == parallel_png(trials(), 7)
