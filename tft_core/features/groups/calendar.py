"""Calendar: what the date of the session alone says, known long in advance."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import OwnSessions

_define = definer("cal")

FEATURES = (
    _define("dow_sin", "date", 1, "sine", "sin(2π d / 7), Monday d = 0"),
    _define("dow_cos", "date", 1, "cosine", "cos(2π d / 7), Monday d = 0"),
    _define("year_sin", "date", 1, "sine", "sin(2π d / length of the year), 1 January d = 0"),
    _define("year_cos", "date", 1, "cosine", "cos(2π d / length of the year), 1 January d = 0"),
    _define("weekday_of_month", "date", 1, "weekdays",
            "Mondays to Fridays of the month up to and with the day"),
    _define("weekdays_to_month_end", "date", 1, "weekdays",
            "Mondays to Fridays of the month after the day"),
    _define("turn_of_month", "date", 1, "0 or 1",
            "1 up to the third weekday of a month and from its last one on",
            "Lakonishok & Smidt 1988"),
    _define("quarter_end", "date", 1, "0 or 1",
            "1 if fewer than 5 weekdays of the quarter are to come"),
    _define("year_end", "date", 1, "0 or 1", "1 if fewer than 10 weekdays of the year are to come"),
    _define("expiry_week", "date", 1, "0 or 1", "1 from Monday to Friday of the week "
            "that holds the month's third Friday"),
    _define("gap_days", "date", 2, "days", "calendar days since the asset's previous session"),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    known = ~np.isnan(bars.day)
    number = np.where(known, bars.day, 0.0).astype(np.int64)
    days, place = np.unique(number, return_inverse=True)
    by_day = calendar_of(days.astype("datetime64[D]"))
    out = {
        f"cal_{name}": np.where(known, values[place.reshape(number.shape)], np.nan)
        for name, values in by_day.items()
    }
    out["cal_gap_days"] = k.diff(bars.day)
    return out


def calendar_of(day: np.ndarray) -> dict[str, np.ndarray]:
    """Calendar features of each date (``datetime64[D]``), but for the asset's own gap."""
    month = day.astype("datetime64[M]")
    first = month.astype("datetime64[D]")
    following = (month + 1).astype("datetime64[D]")
    tomorrow = day + np.timedelta64(1, "D")
    dow = (day.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    year = day.astype("datetime64[Y]")
    year_start = year.astype("datetime64[D]")
    year_days = ((year + 1).astype("datetime64[D]") - year_start).astype(np.float64)
    phase = 2.0 * np.pi * (day - year_start).astype(np.float64) / year_days
    so_far = np.busday_count(first, tomorrow)
    to_come = np.busday_count(tomorrow, following)
    month_number = month.astype(np.int64) % 12  # January is 0
    quarter_closes = month_number % 3 == 2
    third_friday = np.busday_offset(first, 2, roll="forward", weekmask="Fri")
    to_expiry = (third_friday - day).astype(np.int64)
    return {
        "dow_sin": np.sin(2.0 * np.pi * dow / 7.0),
        "dow_cos": np.cos(2.0 * np.pi * dow / 7.0),
        "year_sin": np.sin(phase),
        "year_cos": np.cos(phase),
        "weekday_of_month": so_far.astype(np.float64),
        "weekdays_to_month_end": to_come.astype(np.float64),
        "turn_of_month": ((so_far <= 3) | (to_come == 0)).astype(np.float64),
        "quarter_end": (quarter_closes & (to_come < 5)).astype(np.float64),
        "year_end": ((month_number == 11) & (to_come < 10)).astype(np.float64),
        "expiry_week": ((to_expiry >= 0) & (to_expiry <= 4)).astype(np.float64),
    }


GROUP = FeatureGroup(
    name="cal",
    title="Calendar",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
