"""Which live publications came too late to be traded as they are counted."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from tft_core.config import Settings
from tft_core.training_pipeline.tracking import published_late


@pytest.mark.parametrize(
    ("exchange", "session", "last_moment", "too_late"),
    [
        # a Friday before a usual Monday, and before a holiday: Martin Luther King's day
        ("XNYS", "2026-01-02", "2026-01-05T21:00:00+00:00", "2026-01-05T21:00:01+00:00"),
        ("XNYS", "2026-01-16", "2026-01-20T21:00:00+00:00", "2026-01-20T21:00:01+00:00"),
        # weekdays without hours: the entry's day ends at midnight of the desk's zone
        ("24/5", "2026-01-02", "2026-01-06T00:00:00+01:00", "2026-01-06T00:00:01+01:00"),
    ],
)
def test_a_session_is_late_once_the_close_of_its_entry_is_over(
    exchange: str, session: str, last_moment: str, too_late: str
) -> None:
    operations = {"exchange": exchange, "timezone": "Europe/Berlin"}
    settings = Settings(path=None, profile="test", home=Path(), sections={"operations": operations})
    heads = pd.DataFrame({"session": [session, session], "published_at": [last_moment, too_late]})
    assert published_late(heads.iloc[:1], settings) == ()
    assert published_late(heads, settings) == (date.fromisoformat(session),)
