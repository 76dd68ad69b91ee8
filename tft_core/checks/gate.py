"""The promotion gate: may this candidate go to production?

Absolute rules on the candidate's own out-of-sample record, one relative rule against the
model now in production, and the findings of all checks. What can't be computed fails: the
gate never opens for lack of evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tft_core.checks.findings import Finding, errors_among
from tft_core.errors import ConfigError, DataError
from tft_core.evidence.comparison import MIN_DAYS, compare
from tft_core.limits import require_at_least, require_positive
from tft_core.metrics import max_drawdown, sharpe_ann, vol_ann
from tft_core.schema import finite_or_none, float_or_nan


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Section ``[gate]`` of ``tft.toml``; ``None`` switches a rule off."""

    min_oos_days: int = 250
    """Least number of out-of-sample days behind the decision."""
    max_drawdown_limit: float | None = 0.25
    """Largest drawdown of the out-of-sample record, as a fraction of capital."""
    min_sharpe_net: float | None = 0.0
    """Least annualised Sharpe ratio net of costs."""
    max_sharpe_net: float | None = 5.0
    """Largest annualised net Sharpe ratio that is believed; one above it is a leak until a
    person has looked, who may promote by hand."""
    max_vol_ann: float | None = None
    """Largest annualised volatility, as a fraction of capital."""
    not_worse_than_production: bool = True
    """Refuse a candidate whose Sharpe ratio lies below production's beyond its error."""
    confidence: float = 0.9
    """Two-sided level of the interval of that difference."""
    min_common_days: int = 60
    """With fewer common days no comparison is possible, and the gate stays closed."""
    n_bootstrap: int = 2_000
    """Resamples behind that interval."""
    seed: int = 20_240_328

    def __post_init__(self) -> None:
        require_at_least(self, "gate", min_oos_days=1, min_common_days=MIN_DAYS, n_bootstrap=100)
        require_positive(self, "gate", "max_drawdown_limit", "max_vol_ann", "max_sharpe_net")
        if not 0.5 < self.confidence < 1.0:
            raise ConfigError(f"gate.confidence must lie in (0.5, 1), found {self.confidence:g}")


@dataclass(frozen=True, slots=True)
class GateRule:
    """One rule, what it found and what it demands."""

    code: str
    passed: bool
    message: str
    value: float = float("nan")
    """The figure looked at; NaN where there is none."""
    limit: float = float("nan")
    """What it is held against."""


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """All rules with their figures; passed only if every one of them is."""

    rules: tuple[GateRule, ...]

    @property
    def passed(self) -> bool:
        """True if there are rules and all of them hold."""
        return bool(self.rules) and all(rule.passed for rule in self.rules)

    @property
    def reasons(self) -> tuple[GateRule, ...]:
        """The rules that failed; empty if the gate is open."""
        return tuple(rule for rule in self.rules if not rule.passed)

    @property
    def sentence(self) -> str:
        """The verdict in words, with the message of each rule that fails."""
        if self.passed:
            return f"All {len(self.rules)} rules of the gate hold."
        failed = "; ".join(rule.message for rule in self.reasons)
        return f"{len(self.reasons)} of {len(self.rules)} rules of the gate fail: {failed}."

    def table(self) -> pd.DataFrame:
        """One row per rule: rule, passed, value, limit, message."""
        return pd.DataFrame(
            [(r.code, r.passed, r.value, r.limit, r.message) for r in self.rules],
            columns=["rule", "passed", "value", "limit", "message"],
        )

    def finding(self) -> Finding | None:
        """The closed gate as a finding, for reports and Dagster's check."""
        if self.passed:
            return None
        return Finding(
            "gate_passed.refused",
            "warn",
            self.sentence,
            {"reasons": [rule.code for rule in self.reasons]},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` gives the same verdict back."""
        rules = [
            {
                "code": r.code,
                "passed": r.passed,
                "message": r.message,
                "value": finite_or_none(r.value),
                "limit": finite_or_none(r.limit),
            }
            for r in self.rules
        ]
        return {
            "passed": self.passed,
            "sentence": self.sentence,
            "reasons": [rule for rule in rules if not rule["passed"]],
            "rules": rules,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GateVerdict":
        """Inverse of ``to_dict``."""
        return cls(
            tuple(
                GateRule(
                    r["code"],
                    r["passed"],
                    r["message"],
                    float_or_nan(r["value"]),
                    float_or_nan(r["limit"]),
                )
                for r in data["rules"]
            )
        )


def gate_verdict(
    shipped: Float[np.ndarray, " time"],
    production: Float[np.ndarray, " production_time"] | None,
    findings: Sequence[Finding] = (),
    config: GateConfig | None = None,
) -> GateVerdict:
    """Apply every rule of the gate.

    Args:
        shipped: Out-of-sample net daily returns of the candidate's record.
        production: The same days' net returns of the model in production, NaN on days it has
            no record of; ``None`` if nothing is in production.
        findings: All findings about the candidate; an error among them closes the gate.

    Raises:
        DataError: The two records are not of the same days.
    """
    config = config or GateConfig()
    if production is not None and len(production) != len(shipped):
        raise DataError(
            "the production record must cover the candidate's days, found "
            f"{len(production)} and {len(shipped)} days; align them by date"
        )
    n_bad = int(np.sum(~np.isfinite(shipped)))
    rules = [
        GateRule(
            "returns_are_finite",
            n_bad == 0,
            f"{n_bad} of {len(shipped)} out-of-sample days have no finite return",
            float(n_bad),
            0.0,
        ),
        GateRule(
            "enough_days",
            len(shipped) >= config.min_oos_days,
            f"{len(shipped)} out-of-sample days, at least {config.min_oos_days} asked for",
            float(len(shipped)),
            float(config.min_oos_days),
        ),
        # one bad day leaves every figure undefined, and an undefined figure fails its rule
        *_absolute_rules(shipped if n_bad == 0 else np.empty(0), config),
    ]
    if config.not_worse_than_production:
        rules.append(_relative_rule(shipped, production, config))
    rules += [
        GateRule(f"finding:{finding.code}", False, finding.message)
        for finding in errors_among(findings)
    ]
    return GateVerdict(tuple(rules))


def _absolute_rules(shipped: Float[np.ndarray, " time"], config: GateConfig) -> list[GateRule]:
    sharpe, drawdown = sharpe_ann(shipped), max_drawdown(shipped)
    vol = vol_ann(shipped)
    rules = []
    if config.min_sharpe_net is not None:
        rules.append(
            GateRule(
                "sharpe_net",
                sharpe >= config.min_sharpe_net,
                f"net Sharpe ratio {sharpe:.2f}, at least {config.min_sharpe_net:.2f} asked for",
                sharpe,
                config.min_sharpe_net,
            )
        )
    if config.max_sharpe_net is not None:
        rules.append(
            GateRule(
                "sharpe_is_believable",
                sharpe <= config.max_sharpe_net,
                f"net Sharpe ratio {sharpe:.2f}, at most {config.max_sharpe_net:.2f} believed "
                "without a look for a leak",
                sharpe,
                config.max_sharpe_net,
            )
        )
    if config.max_drawdown_limit is not None:
        rules.append(
            GateRule(
                "max_drawdown",
                drawdown <= config.max_drawdown_limit,
                f"largest drawdown {drawdown:.1%}, at most {config.max_drawdown_limit:.1%} allowed",
                drawdown,
                config.max_drawdown_limit,
            )
        )
    if config.max_vol_ann is not None:
        rules.append(
            GateRule(
                "vol_ann",
                vol <= config.max_vol_ann,
                f"volatility {vol:.1%} a year, at most {config.max_vol_ann:.1%} allowed",
                vol,
                config.max_vol_ann,
            )
        )
    return rules


def _relative_rule(
    shipped: Float[np.ndarray, " time"],
    production: Float[np.ndarray, " time"] | None,
    config: GateConfig,
) -> GateRule:
    code = "not_worse_than_production"
    if production is None:
        return GateRule(code, True, "nothing is in production to compare with")
    common = np.isfinite(shipped) & np.isfinite(production)
    n_common = int(common.sum())
    if n_common < config.min_common_days:
        return GateRule(
            code,
            False,
            f"{n_common} days in common with production's record, at least "
            f"{config.min_common_days} needed to compare; promote by hand if that is right",
            float(n_common),
            float(config.min_common_days),
        )
    found = compare(
        shipped[common],
        production[common],
        confidence=config.confidence,
        n_resamples=config.n_bootstrap,
        seed=config.seed,
    )
    return GateRule(
        code,
        # an interval that could not be computed must not open the gate
        bool(found.high >= 0.0),
        f"Sharpe ratio against production {found.difference:+.2f} "
        f"({config.confidence:.0%} interval {found.low:+.2f} to {found.high:+.2f})",
        found.difference,
        0.0,
    )
