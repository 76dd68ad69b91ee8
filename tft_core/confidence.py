"""What confidence means: the probability that the sign of an output is right, as validation
measured it.

    score = |z|·z²/(z² + s²),  confidence = isotonic hit rate of the score

z is the members' mean and s their standard deviation: the factor is the share of the members'
mean square that their mean explains. So confidence grows with the size of the output and
shrinks with disagreement, and it is a frequency, not a width. Nothing here knows a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tft_core.errors import CheckpointError

MIN_ROWS = 100
"""Fewer traded validation rows tell nothing: confidence is NaN then."""
N_BINS = 10
"""Bins of the score that the map is fitted on, filled equally."""
PRIOR_ROWS = 50.0
"""Rows at one half that each bin is mixed with: labels of one day hang together, so a bin of
50 rows holds far less than 50 observations."""


def agreement_score(
    z: Float[np.ndarray, " row"], disagreement: Float[np.ndarray, " row"]
) -> Float[np.ndarray, " row"]:
    """|z|·z²/(z² + s²), in the unit of z; |z| where disagreement is NaN (a single member).

    Args:
        z: The members' mean output, in [−1, 1].
        disagreement: Their standard deviation s.
    """
    square, spread = np.square(z), np.square(np.nan_to_num(disagreement))
    share = np.divide(square, square + spread, out=np.zeros_like(square), where=square > 0)
    return np.abs(z) * share


@dataclass(frozen=True, slots=True)
class Calibration:
    """Piecewise-linear map from score to hit rate; the nearest knot holds outside of them."""

    score: tuple[float, ...]
    """Knots, ascending."""
    hit_rate: tuple[float, ...]
    """Probability that the sign is right at each knot, in [0, 1]."""
    n_rows: int
    """Traded validation rows behind it; below ``MIN_ROWS`` there are no knots."""

    @classmethod
    def fit(
        cls,
        z: Float[np.ndarray, " row"],
        disagreement: Float[np.ndarray, " row"],
        label: Float[np.ndarray, " row"],
    ) -> "Calibration":
        """Isotonic regression of the hit indicator on ten equally filled bins of the score.

        Args:
            z: The members' mean output, in [−1, 1].
            disagreement: Their standard deviation; NaN for a single member.
            label: Outcome that the sign of ``z`` is held against; a row where either is 0 or
                unknown was not traded.

        As of:
            The last label given: pass validation rows, predicted by members that did not
            train on them.
        """
        from sklearn.isotonic import IsotonicRegression  # serving never fits

        traded = (z != 0) & (label != 0) & np.isfinite(z) & np.isfinite(label)
        n_rows = int(traded.sum())
        if n_rows < MIN_ROWS:
            return cls((), (), n_rows)
        score = agreement_score(z[traded], disagreement[traded])
        hit = (np.sign(z[traded]) == np.sign(label[traded])).astype(float)
        edges = np.unique(np.quantile(score, np.linspace(0, 1, N_BINS + 1)))
        last = max(len(edges) - 2, 0)
        bins = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, last)
        counts = np.bincount(bins)
        filled = np.flatnonzero(counts)
        centre = (np.bincount(bins, score) / np.maximum(counts, 1))[filled]
        mixed = (np.bincount(bins, hit) + PRIOR_ROWS / 2) / (counts + PRIOR_ROWS)
        isotonic = IsotonicRegression(y_min=0.0, y_max=1.0)
        rate = isotonic.fit_transform(centre, mixed[filled], sample_weight=counts[filled])
        return cls(tuple(centre.tolist()), tuple(np.asarray(rate).tolist()), n_rows)

    def probability(
        self, z: Float[np.ndarray, " row"], disagreement: Float[np.ndarray, " row"]
    ) -> Float[np.ndarray, " row"]:
        """Confidence of outputs, in [0, 1]; NaN where the output is, or where nothing is known."""
        if not self.score:
            return np.full(len(z), np.nan)
        return np.interp(agreement_score(z, disagreement), self.score, self.hit_rate)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` gives the same map back."""
        return {
            "score": list(self.score), "hit_rate": list(self.hit_rate), "n_rows": self.n_rows
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Inverse of ``to_dict``.

        Raises:
            CheckpointError: The knots are not those of a monotone map into [0, 1].
        """
        try:
            score, rate = (tuple(float(x) for x in values[name]) for name in ("score", "hit_rate"))
            n_rows = int(values["n_rows"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"confidence must have the knots score and hit_rate and n_rows, found {error!r}; "
                "use another version"
            ) from error
        is_sound = (
            len(score) == len(rate)
            and bool(np.isfinite(score).all())
            and bool((np.diff(score) > 0).all())
            and bool((np.diff(rate) >= 0).all())
            and all(0.0 <= r <= 1.0 for r in rate)
        )
        if not is_sound:
            raise CheckpointError(
                "confidence must rise from knot to knot within [0, 1], found score "
                f"{list(score)[:4]}, hit_rate {list(rate)[:4]}; use another version"
            )
        return cls(score, rate, n_rows)
