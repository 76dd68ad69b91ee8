"""The ``[serving]`` section: limits beyond which no position is given."""

from dataclasses import dataclass
from datetime import date

from tft_core.errors import ConfigError
from tft_core.limits import require_at_least, require_positive, require_share


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingConfig:
    """Limits beyond which no position is given (``reasons`` says what each one leads to)."""

    max_model_age_days: int = 120
    """Calendar days from the newest bar a model has seen to the session it predicts."""
    max_bar_age_sessions: int = 3
    """Universe sessions without a bar after which an asset counts as stale, not as closed."""
    min_coverage: float = 0.25
    """Smallest share of an asset's features that must have a value."""
    max_drift_psi: float = 4.0
    """Largest median population stability index of the newest features against training."""
    max_drift_ks: float = 0.5
    """Largest median Kolmogorov–Smirnov distance of the newest features to training."""
    drift_sessions: int = 63
    """Newest sessions whose feature distribution is compared with training."""
    max_return_sigmas: float = 20.0
    """Largest move of one session, in daily volatilities as of the session before."""
    outlier_sessions: int = 42
    """Own sessions for which a larger move keeps an asset without a position."""
    accepted_moves: tuple[str, ...] = ()
    """Larger moves that a person has found to be real: ``SYMBOL DATE``."""
    max_clipped_share: float = 0.5
    """Largest share of an asset's features beyond the scaler's clip."""
    max_unchanged_sessions: int = 5
    """Own sessions in a row with an unchanged close after which a price counts as frozen."""
    max_disagreement: float = 0.8
    """Largest standard deviation of the members' outputs, which lie in [−1, 1]."""
    min_members: int = 1
    """Fewest members of an ensemble; with a single one disagreement is not known."""
    max_gross_exposure: float = 4.0
    """Largest sum of absolute capital weights, as a multiple of capital."""
    conviction_threshold: float = 0.3
    """Share of the largest position below which a strategy emits no signal."""
    threads: int = 2
    """Worker threads of a prediction; torch runs on one thread in each. Changes no result."""
    top_features: int = 10
    """Features per asset whose attribution is reported."""

    def __post_init__(self) -> None:
        require_at_least(
            self,
            "serving",
            max_model_age_days=1,
            max_bar_age_sessions=1,
            drift_sessions=1,
            outlier_sessions=1,
            max_unchanged_sessions=1,
            min_members=1,
            threads=1,
        )
        require_share(
            self,
            "serving",
            "conviction_threshold",
            "min_coverage",
            "max_clipped_share",
            "max_drift_ks",
        )
        require_positive(
            self, "serving", "max_return_sigmas", "max_disagreement", "max_gross_exposure"
        )
        _ = self.accepted

    @property
    def accepted(self) -> frozenset[tuple[str, date]]:
        """``accepted_moves`` as (symbol, session)."""
        found = []
        for text in self.accepted_moves:
            symbol, _, day = text.rpartition(" ")
            try:
                found.append((symbol.strip(), date.fromisoformat(day)))
            except ValueError as error:
                raise ConfigError(
                    "serving.accepted_moves must hold texts such as 'CHFUSD 2015-01-15', "
                    f"found {text!r}"
                ) from error
            if not symbol.strip():
                raise ConfigError(f"serving.accepted_moves must name a symbol, found {text!r}")
        return frozenset(found)
