"""Every reason for which no position is given, in one table: what it means, what to look at, do.

``docs/runbook.md`` is this table for people; a test compares the two.
"""

from dataclasses import dataclass
from typing import Literal

from tft_core.errors import InferenceError

OK = "ok"


@dataclass(frozen=True, slots=True)
class Reason:
    """One code."""

    scope: Literal["asset", "session"]
    """``asset``: that asset gets no position; ``session``: nobody does."""
    meaning: str
    act: str


REASONS: dict[str, Reason] = {
    "not_in_universe": Reason(
        "asset",
        "its membership in the dated universe does not cover this session",
        "nothing, or correct [universe]; what was on is closed",
    ),
    "unknown_asset": Reason(
        "asset",
        "the model was not trained with it",
        "refit the live fold; what was on is closed",
    ),
    "stale_data": Reason(
        "asset",
        "it has had no bar for more than serving.max_bar_age_sessions sessions of the universe",
        "look for the missing bars and ingest them",
    ),
    "no_session": Reason(
        "asset",
        "it has no bar of this session, though it had one recently (a holiday, or late data)",
        "ingest the bar if there is one; the position is held",
    ),
    "short_history": Reason(
        "asset",
        "too few of its features have a value, or its volatility is unknown",
        "ingest its earlier bars, or wait until it has a history",
    ),
    "input_outlier": Reason(
        "asset",
        "a recent move is larger than serving.max_return_sigmas daily volatilities, or more than "
        "serving.max_clipped_share of its features lie beyond the scaler's clip",
        "compare with another source; ingest the corrected bars, or, if the move was real, add "
        "'SYMBOL DATE' to serving.accepted_moves",
    ),
    "stale_price": Reason(
        "asset",
        "its close has not moved for serving.max_unchanged_sessions of its own sessions",
        "compare with another source: a frozen feed looks like this",
    ),
    "zero_volume": Reason(
        "asset",
        "its newest bar has no volume, while it usually trades",
        "compare with another source; without a trade the close is no price to trade at",
    ),
    "off_calendar": Reason(
        "asset",
        "it has a bar of this session, on which its exchange does not trade",
        "tell the exchange (`tft ingest --instruments`), or correct the date of the bar",
    ),
    "members_disagree": Reason(
        "asset",
        "the ensemble's members differ by more than serving.max_disagreement",
        "look at its inputs and its attribution; the position is held until they agree",
    ),
    "kill_switch": Reason(
        "session",
        "a person has stopped trading, or the switch cannot be read",
        "remove $TFT_KILL_SWITCH or the file KILL_SWITCH when trading may go on",
    ),
    "stale_model": Reason(
        "session",
        "the model has not been refitted for serving.max_model_age_days",
        "materialize production_checkpoint",
    ),
    "model_has_seen_label": Reason(
        "session",
        "the model was trained on bars of this session or later ones",
        "use the model of that session's fold",
    ),
    "schema_mismatch": Reason(
        "session",
        "the checkpoint was made for other feature definitions, or it contradicts itself",
        "retrain, or serve with the code version of the checkpoint",
    ),
    "too_few_members": Reason(
        "session",
        "the checkpoint holds fewer members than serving.min_members",
        "retrain with more seeds, or lower serving.min_members",
    ),
    "calendar_horizon": Reason(
        "session",
        "an exchange's calendar does not cover the session, so holidays are unknown",
        "update exchange_calendars, or add sessions in $TFT_CALENDAR_OVERRIDES",
    ),
    "missing_asset": Reason(
        "session",
        "the store holds no bar of a member of the universe, so cross-sections are undefined",
        "ingest its bars, or retrain without it",
    ),
    "no_data": Reason(
        "session",
        "no asset of the universe has a bar of the session, or the history asked for is too short",
        "run `tft ingest`; ask for a day with bars",
    ),
    "feature_drift": Reason(
        "session",
        "the newest features are no longer distributed as in training, or nobody can tell",
        "look at the features named; retrain, or raise serving.max_drift_psi",
    ),
    "feature_shift": Reason(
        "session",
        "the bulk of the newest features lies elsewhere than in training (Kolmogorov–Smirnov)",
        "look at the features named for a unit, sign or column mixed up; retrain, or raise "
        "serving.max_drift_ks",
    ),
    "invalid_output": Reason(
        "session",
        "the network gave a number that is not finite",
        "roll back to the checkpoint before; do not trade this one",
    ),
    "exposure_limit": Reason(
        "session",
        "capital weights would add up to more than serving.max_gross_exposure, or are unknown",
        "look at the volatilities and the held positions; raise the limit only knowingly",
    ),
    "bad_previous": Reason(
        "session",
        "a previous position is not a finite number within its limits",
        "look at the ledger (`tft signals verify`)",
    ),
}


class Refusal(InferenceError):
    """No position is given to anyone; ``code`` is one of ``REASONS``."""

    def __init__(self, code: str, detail: str) -> None:
        assert REASONS[code].scope == "session", code
        super().__init__(f"{code}: {detail}; {REASONS[code].act}")
        self.code = code
