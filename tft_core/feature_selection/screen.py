"""The cross-check: what simple screens see in the training rows, beside what the model uses.

Mutual information and |IC| are not used to select. Where they contradict the stability
report strongly, the feature is flagged for a person.
"""

from collections.abc import Sequence

import bottleneck as bn
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

from tft_core.errors import SelectionError
from tft_core.feature_selection.config import FeatureSelectionConfig
from tft_core.feature_selection.prefilter import evenly_spaced
from tft_core.feature_selection.report import StabilityReport
from tft_core.metrics import newey_west_lags

MODEL_ONLY = "model_uses_it_screens_see_nothing"
SCREEN_ONLY = "screens_see_it_model_does_not"

_MIN_ROWS = 50
_MIN_DATES = 20


def screen(
    values: Float[np.ndarray, "row feature"],
    names: Sequence[str],
    label: Float[np.ndarray, " row"],
    dates: Sequence[object] | np.ndarray,
    config: FeatureSelectionConfig | None = None,
) -> pd.DataFrame:
    """Rank IC with a date-clustered HAC interval, and mutual information, per feature.

    Args:
        values: Features of training rows, NaN where undefined.
        label: Volatility-scaled return that each row's decision earns; NaN rows are left out.
        dates: Session of each row: rows of one date are one observation of the IC.

    Returns:
        Index feature; columns ``ic, ic_low, ic_high, ic_t, mi, n_rows``. NaN below 50 rows
        or 20 dates.

    As of:
        The labels' end, two sessions after the newest row: hand over purged training rows.
    """
    config = config or FeatureSelectionConfig()
    if values.shape != (len(label), len(names)) or len(dates) != len(label):
        raise SelectionError(
            f"the screen must get {len(names)} features, a label and a date per row, found values "
            f"{values.shape}, {len(label)} labels, {len(dates)} dates; align them"
        )
    known = np.isfinite(label)
    x = np.where(np.isfinite(values[known]), values[known], np.nan)
    y = label[known].astype(np.float64)
    day = np.unique(np.asarray(dates)[known], return_inverse=True)[1].astype(np.int64)
    table = _rank_ic(x, y, day, config.confidence)
    table["mi"] = _mutual_information(x, y, config)
    table["n_rows"] = np.isfinite(x).sum(axis=0)
    table.index = pd.Index(list(names), name="feature", dtype="str")
    return table


def _rank_ic(
    x: Float[np.ndarray, "row feature"],
    y: Float[np.ndarray, " row"],
    day: Int[np.ndarray, " row"],
    confidence: float,
) -> pd.DataFrame:
    """Pooled Spearman correlation; its error from the sums per date, Newey–West over dates."""
    n_days = int(day.max()) + 1 if len(day) else 0
    reach = float(stats.norm.ppf(0.5 + confidence / 2.0))
    lags = newey_west_lags(n_days)
    rows = []
    for column in x.T if len(x) else np.empty((x.shape[1], 0)):
        known = np.isfinite(column)
        n = int(known.sum())
        a, b = _standard_ranks(column[known]), _standard_ranks(y[known])
        if n < _MIN_ROWS or a is None or b is None or len(np.unique(day[known])) < _MIN_DATES:
            rows.append((np.nan,) * 4)
            continue
        ic = float(a @ b) / n
        # influence of a row on the correlation: ab - ic (a² + b²) / 2, summed by date
        influence = a * b - 0.5 * ic * (a * a + b * b)
        by_day = np.bincount(day[known], weights=influence, minlength=n_days)
        variance = float(by_day @ by_day)
        for lag in range(1, min(lags, n_days - 1) + 1):
            variance += 2.0 * (1.0 - lag / (lags + 1)) * float(by_day[lag:] @ by_day[:-lag])
        error = float(np.sqrt(max(variance, 0.0))) / n
        t = ic / error if error > 0.0 else float("nan")
        rows.append((ic, ic - reach * error, ic + reach * error, t))
    return pd.DataFrame(rows, columns=["ic", "ic_low", "ic_high", "ic_t"], dtype="float64")


def _standard_ranks(values: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"] | None:
    if len(values) < 2:
        return None
    rank = bn.rankdata(values)
    rank -= rank.mean()
    spread = rank.std()
    return rank / spread if spread > 0.0 else None


def _mutual_information(
    x: Float[np.ndarray, "row feature"],
    y: Float[np.ndarray, " row"],
    config: FeatureSelectionConfig,
) -> Float[np.ndarray, " feature"]:
    # scikit-learn takes a second to import, and serving never comes here
    from sklearn.feature_selection import mutual_info_regression

    out = np.full(x.shape[1], np.nan)
    for i in range(x.shape[1]):
        known = np.flatnonzero(np.isfinite(x[:, i]))
        if len(known) < _MIN_ROWS:
            continue
        known = known[evenly_spaced(len(known), config.mi_max_rows)]
        out[i] = mutual_info_regression(
            x[known, i : i + 1],
            y[known],
            n_neighbors=config.mi_neighbors,
            random_state=config.seed,
        )[0]
    return out


def cross_check(
    screened: pd.DataFrame, report: StabilityReport, *, level: float = 0.05
) -> pd.DataFrame:
    """The screens beside the report, with a ``flag`` where they contradict each other.

    ``model_uses_it_screens_see_nothing``: passes the stability rule, yet the IC interval holds
    zero and the mutual information is in the lower half. ``screens_see_it_model_does_not``:
    the IC stands out among all features tested (Bonferroni), yet the weight is below the
    shadows. A flag is a question for a person, not a verdict.

    Args:
        level: Chance that any of all features stands out by luck.
    """
    table = report.table[["evidence", "passes", "above_shadow", "recommended"]].join(screened)
    table["ic_abs"] = table["ic"].abs()
    columns = {"evidence": "rank_model", "mi": "rank_mi", "ic_abs": "rank_ic"}
    for source, rank in columns.items():
        table[rank] = table[source].rank(ascending=False, method="average")
    table["rank_consensus"] = table[list(columns.values())].mean(axis=1, skipna=False)
    holds_zero = (table["ic_low"] <= 0.0) & (table["ic_high"] >= 0.0)
    lower_half = table["mi"] <= table["mi"].median()
    stands_out = table["ic_t"].abs() > stats.norm.ppf(1.0 - level / 2.0 / max(len(table), 1))
    table["flag"] = np.select(
        [table["passes"] & holds_zero & lower_half, stands_out & ~table["above_shadow"]],
        [MODEL_ONLY, SCREEN_ONLY],
        default="",
    )
    return table.sort_values(["rank_consensus", "rank_model"])
