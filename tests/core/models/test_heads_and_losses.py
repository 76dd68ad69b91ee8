import numpy as np
import pytest
import torch
from scipy.stats import norm

from tft_core.models.heads import QUANTILES, HeadOutput, make_head
from tft_core.models.losses import (
    LossTerms,
    Targets,
    gaussian_nll,
    held_positions,
    net_returns,
    pinball,
    sharpe_loss,
    training_loss,
)


def targets(y, inverse_sigma, cost, bears, date=None) -> Targets:
    shape = np.shape(y)
    dates = np.zeros(shape, dtype=np.int64) if date is None else np.asarray(date)
    return Targets(
        torch.tensor(y, dtype=torch.float64),
        torch.tensor(inverse_sigma, dtype=torch.float64),
        torch.tensor(cost, dtype=torch.float64),
        torch.tensor(bears),
        torch.from_numpy(dates),
        int(dates.max()) + 1,
    )


def test_net_returns_pay_for_the_change_of_the_scaled_position() -> None:
    z = torch.tensor([[0.5, -0.5, -0.5]], dtype=torch.float64)
    t = targets([[1.0, 2.0, -1.0]], [[100.0, 50.0, 100.0]], [[1e-3] * 3], [[True] * 3])
    # held: 50, −25, −50; traded: 50, 75, 25
    expected = [[0.5 - 0.5 * 0.05, -1.0 - 0.5 * 0.075, 0.5 - 0.5 * 0.025]]
    np.testing.assert_allclose(net_returns(z, t, 0.5), expected, rtol=1e-12)
    np.testing.assert_allclose(net_returns(z, t, 0.0), [[0.5, -1.0, 0.5]], rtol=1e-12)


def test_the_first_step_with_known_volatility_pays_the_entry() -> None:
    z = torch.tensor([[0.9, 0.5]], dtype=torch.float64)
    t = targets([[0.0, 0.0]], [[0.0, 100.0]], [[1e-3, 1e-3]], [[False, True]])
    np.testing.assert_allclose(net_returns(z, t, 1.0), [[0.0, -0.05]], rtol=1e-12)


def test_the_sharpe_loss_is_equation_8() -> None:
    rng = np.random.default_rng(0)
    r, bears = rng.standard_normal((20, 25)) + 0.1, rng.random((20, 25)) < 0.7
    expected = -np.sqrt(252) * r[bears].mean() / r[bears].std()
    loss = sharpe_loss(torch.from_numpy(r), torch.from_numpy(bears))
    assert float(loss) == pytest.approx(expected, rel=1e-8)


def test_the_likelihood_is_the_normal_one() -> None:
    rng = np.random.default_rng(0)
    mu, sigma, y = rng.standard_normal(50), rng.uniform(0.5, 2, 50), rng.standard_normal(50)
    nll = gaussian_nll(*(torch.from_numpy(a) for a in (mu, sigma, y)))
    np.testing.assert_allclose(nll, -norm.logpdf(y, mu, sigma), rtol=1e-10)


def test_pinball_is_smallest_at_the_quantiles_of_the_sample() -> None:
    y = torch.from_numpy(np.random.default_rng(0).standard_normal(4001))
    best = torch.quantile(y, torch.tensor(QUANTILES, dtype=torch.float64))
    at_best = float(pinball(best.expand(len(y), -1), y).mean())
    for shift in (-0.2, 0.2):
        assert float(pinball((best + shift).expand(len(y), -1), y).mean()) > at_best


def test_pinball_of_two_pairs_by_hand() -> None:
    q = torch.zeros(2, len(QUANTILES), dtype=torch.float64)
    y = torch.tensor([2.0, -1.0], dtype=torch.float64)
    # y = 2 above every quantile costs level·2 each; y = −1 below costs (1 − level)·1 each
    np.testing.assert_allclose(pinball(q, y), [2 * sum(QUANTILES), 13 - sum(QUANTILES)])


def test_steps_that_bear_no_loss_do_not_enter_it() -> None:
    rng = np.random.default_rng(0)
    y, bears = rng.standard_normal((3, 6)), rng.random((3, 6)) < 0.6
    t = targets(y, np.full((3, 6), 100.0), np.full((3, 6), 1e-3), bears)
    z = torch.from_numpy(rng.uniform(-1, 1, (3, 6)))
    mu, sigma = torch.from_numpy(rng.standard_normal((3, 6))), torch.full((3, 6), 0.7).double()
    loss = training_loss(HeadOutput(z, mu, sigma), t, LossTerms(mle_weight=0.3))
    r = (z.numpy() * y)[bears]
    nll = -norm.logpdf(y[bears], mu.numpy()[bears], 0.7).mean()
    expected = -np.sqrt(252) * r.mean() / r.std() + 0.3 * nll
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_held_positions_are_smoothed_day_by_day() -> None:
    z = np.random.default_rng(1).uniform(-1, 1, (2, 9))
    expected, before = np.empty_like(z), np.zeros(2)
    for step in range(9):
        before = before + 0.3 * (z[:, step] - before)
        expected[:, step] = before
    np.testing.assert_allclose(held_positions(torch.from_numpy(z), 0.3), expected, rtol=1e-12)
    np.testing.assert_array_equal(held_positions(torch.from_numpy(z), 1.0), z)


@pytest.mark.parametrize("cost_factor", [0.0, 0.5])
def test_a_smoothed_position_starts_flat_at_the_first_step_with_a_volatility(cost_factor) -> None:
    rng = np.random.default_rng(4)
    y, z = rng.standard_normal((2, 7)), rng.uniform(0.2, 1, (2, 7))
    inverse, bears = np.full((2, 7), 100.0), np.ones((2, 7), dtype=bool)
    inverse[0, :4], bears[0, :4] = 0.0, False  # padding in front of an asset's first session
    y[0, :4] = 0.0
    t = targets(y, inverse, np.full((2, 7), 1e-3), bears)
    net = []
    for window, first in ((0, 4), (1, 0)):
        held = 0.0
        for step in range(first, 7):
            before, held = held, held + 0.3 * (z[window, step] - held)
            net.append(held * y[window, step] - cost_factor * 1e-3 * 100.0 * abs(held - before))
    terms = LossTerms(cost_factor=cost_factor, smooth=0.3)
    loss = training_loss(HeadOutput(torch.from_numpy(z)), t, terms)
    assert float(loss) == pytest.approx(-np.sqrt(252) * np.mean(net) / np.std(net), rel=1e-6)


def by_date_case():
    """Returns of 3 windows on 8 dates, some of which bear no loss."""
    rng = np.random.default_rng(2)
    y, bears = rng.standard_normal((3, 6)), rng.random((3, 6)) < 0.8
    date = np.array([[0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5]])
    mean = np.array([y[bears & (date == d)].mean() for d in range(8)])
    assert np.isfinite(mean).all()
    return y, bears, date, mean


def test_a_portfolio_loss_is_the_sharpe_ratio_of_the_dates_mean_returns() -> None:
    y, bears, date, mean = by_date_case()
    t = targets(y, np.ones_like(y), np.zeros_like(y), bears, date)
    loss = training_loss(HeadOutput(torch.ones(3, 6).double()), t, LossTerms(level="portfolio"))
    assert float(loss) == pytest.approx(-np.sqrt(252) * mean.mean() / mean.std(), rel=1e-6)


def test_the_softmin_is_near_the_worst_calendar_block() -> None:
    y, bears, date, mean = by_date_case()
    t = targets(y, np.ones_like(y), np.zeros_like(y), bears, date)
    blocks = [mean[:3], mean[3:6], mean[6:]]
    by_block = np.array([np.sqrt(252) * b.mean() / np.sqrt(b.var() + 1e-9) for b in blocks])
    terms = LossTerms(level="portfolio", softmin_weight=0.1, softmin_temperature=2.0, block_dates=3)
    loss = training_loss(HeadOutput(torch.ones(3, 6).double()), t, terms)
    softmin = -2.0 * np.log(np.exp(-by_block / 2.0).mean())
    expected = -np.sqrt(252) * mean.mean() / mean.std() - 0.1 * softmin
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert by_block.min() <= softmin <= by_block.mean()


def test_a_softmin_over_no_block_adds_nothing_and_has_no_gradient() -> None:
    z = torch.full((1, 2), 0.5, dtype=torch.float64, requires_grad=True)
    t = targets([[1.0, -0.5]], [[1.0, 1.0]], [[0.0, 0.0]], [[True, True]], [[0, 5]])
    with_it, without = (
        training_loss(HeadOutput(z), t, LossTerms(softmin_weight=w, block_dates=2))
        for w in (0.5, 0.0)
    )
    assert with_it.item() == without.item()
    gradients = [torch.autograd.grad(loss, z)[0] for loss in (with_it, without)]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("mode", ["sharpe", "joint_mle", "joint_quantile"])
def test_every_head_gives_a_position_inside_one(mode) -> None:
    head = make_head(mode, 8, 0.0)
    output = head(torch.randn(4, 5, 8) * 10)
    assert output.z.shape == (4, 5)
    assert float(output.z.detach().abs().max()) <= 1.0
    assert (output.mu is not None) == (mode == "joint_mle")
    assert (output.quantiles is not None) == (mode == "joint_quantile")
    if output.sigma is not None:
        assert float(output.sigma.detach().min()) > 0.0
    if output.quantiles is not None:
        assert output.quantiles.shape == (4, 5, 13)


@pytest.mark.parametrize("mode", ["joint_mle", "joint_quantile"])
def test_the_position_is_learned_from_the_forecast_alone(mode) -> None:
    head = make_head(mode, 8, 0.0)
    output = head(torch.randn(2, 3, 8))
    forecast = output.mu if output.mu is not None else output.quantiles
    assert torch.autograd.grad(output.z.sum(), forecast)[0].abs().sum() > 0
