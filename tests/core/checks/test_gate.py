"""The promotion gate: each rule alone, and what must never open it."""

import json

import numpy as np
import pytest

from tft_core.checks import Finding, GateConfig, GateVerdict, gate_verdict
from tft_core.errors import ConfigError, DataError

FAST = GateConfig(n_bootstrap=300)


def returns(sharpe: float, days: int = 750, seed: int = 0, vol: float = 0.1) -> np.ndarray:
    """Daily returns with exactly this annualised Sharpe ratio."""
    noise = np.random.default_rng(seed).standard_normal(days)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return (noise + sharpe / 252**0.5) * vol / 252**0.5


def failed(verdict: GateVerdict) -> set[str]:
    return {rule.code for rule in verdict.reasons}


def test_a_good_first_candidate_passes_and_every_rule_is_told() -> None:
    verdict = gate_verdict(returns(1.0), None, (), FAST)
    assert verdict.passed
    assert verdict.finding() is None
    assert list(verdict.table()["rule"]) == [
        "returns_are_finite",
        "enough_days",
        "sharpe_net",
        "sharpe_is_believable",
        "max_drawdown",
        "not_worse_than_production",
    ]


def test_too_few_days_are_refused_with_the_figure() -> None:
    verdict = gate_verdict(returns(2.0, days=249), None, (), FAST)
    assert failed(verdict) == {"enough_days"}
    (rule,) = verdict.reasons
    assert (rule.value, rule.limit) == (249, 250)
    assert "249 out-of-sample days, at least 250 asked for" in verdict.sentence


def test_a_losing_candidate_is_refused() -> None:
    verdict = gate_verdict(returns(-0.2), None, (), FAST)
    assert "sharpe_net" in failed(verdict)
    assert verdict.reasons[0].value == pytest.approx(-0.2)


def test_a_deep_drawdown_is_refused() -> None:
    path = returns(1.0)
    path[100] = -0.3
    assert "max_drawdown" in failed(gate_verdict(path, None, (), FAST))


def test_a_record_too_good_to_be_true_is_refused_until_somebody_looked() -> None:
    verdict = gate_verdict(returns(5.1), None, (), FAST)
    assert failed(verdict) == {"sharpe_is_believable"}
    assert "5.10, at most 5.00 believed" in verdict.sentence
    assert gate_verdict(returns(4.9), None, (), FAST).passed


def test_a_switched_off_rule_does_not_appear() -> None:
    config = GateConfig(
        min_sharpe_net=None,
        max_sharpe_net=None,
        max_drawdown_limit=None,
        not_worse_than_production=False,
    )
    verdict = gate_verdict(returns(-3.0), None, (), config)
    assert verdict.passed
    assert len(verdict.rules) == 2


def test_an_error_among_the_findings_closes_the_gate_and_a_warning_does_not() -> None:
    warn = Finding("selection_is_above_chance.not_above_chance", "warn", "no signal")
    error = Finding("checkpoint_verifies.hash", "error", "model.safetensors is damaged")
    assert gate_verdict(returns(1.0), None, [warn], FAST).passed
    verdict = gate_verdict(returns(1.0), None, [warn, error], FAST)
    assert failed(verdict) == {"finding:checkpoint_verifies.hash"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_day_without_a_number_closes_the_gate(bad: float) -> None:
    path = returns(1.0)
    path[3] = bad
    assert "returns_are_finite" in failed(gate_verdict(path, None, (), FAST))


def test_no_days_and_constant_returns_close_the_gate() -> None:
    assert not gate_verdict(np.array([]), None, (), FAST).passed
    assert "sharpe_net" in failed(gate_verdict(np.zeros(300), None, (), FAST))


def test_a_candidate_clearly_worse_than_production_is_refused() -> None:
    production = returns(2.0)
    shipped = production - 1.2 * 0.1 / 252  # the same days, a Sharpe ratio of 1.2 less
    verdict = gate_verdict(shipped, production, (), FAST)
    assert failed(verdict) == {"not_worse_than_production"}
    assert verdict.reasons[0].value == pytest.approx(-1.2, abs=1e-6)


def test_worse_within_the_error_passes() -> None:
    verdict = gate_verdict(returns(0.6, seed=1), returns(0.8, seed=2), (), FAST)
    assert verdict.passed
    assert "interval" in verdict.table()["message"].iloc[-1]


def test_the_same_record_is_not_worse_than_itself() -> None:
    path = returns(1.0)
    verdict = gate_verdict(path, path.copy(), (), FAST)
    assert verdict.passed
    assert verdict.rules[-1].value == 0.0


def test_too_few_common_days_with_production_keep_the_gate_closed() -> None:
    production = np.full(750, np.nan)
    production[-30:] = 0.001
    verdict = gate_verdict(returns(1.0), production, (), FAST)
    assert failed(verdict) == {"not_worse_than_production"}
    assert "30 days in common" in verdict.sentence


def test_records_of_other_days_are_an_error() -> None:
    with pytest.raises(DataError, match="found 700 and 750 days"):
        gate_verdict(returns(1.0), returns(1.0, days=700), (), FAST)


def test_a_flat_record_cannot_be_compared_and_keeps_the_gate_closed() -> None:
    verdict = gate_verdict(np.zeros(750), returns(1.0), (), FAST)
    assert "not_worse_than_production" in failed(verdict)


def test_pairing_days_makes_a_small_loss_visible() -> None:
    """Apart, the two records' errors are about .6 each; day by day they differ by little."""
    production = returns(1.0, days=1500, seed=5)
    shipped = production + 0.1 * returns(-3.0, days=1500, seed=6)
    verdict = gate_verdict(shipped, production, (), FAST)
    assert failed(verdict) == {"not_worse_than_production"}
    assert -0.6 < verdict.reasons[0].value < -0.1


def test_the_verdict_survives_json() -> None:
    verdict = gate_verdict(returns(-1.0), None, (), FAST)
    stored = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert GateVerdict.from_dict(stored).to_dict() == stored
    assert not stored["passed"]
    assert [reason["code"] for reason in stored["reasons"]] == [r.code for r in verdict.reasons]


def test_an_empty_verdict_is_not_a_pass() -> None:
    assert not GateVerdict(()).passed


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"gate.min_oos_days must be at least 1, found 0"):
        GateConfig(min_oos_days=0)
    with pytest.raises(ConfigError, match=r"gate.confidence must lie in \(0.5, 1\), found 1"):
        GateConfig(confidence=1.0)
