"""Equations 2, 8 and 12–19 of X-Trend, piece by piece and as a whole, against the oracle."""

import numpy as np
import pytest
import torch
from row_tables import planted_rows
from torch import nn

from tests.oracles import xtrend_equations as paper
from tft_core.models.attention import ContextMixer, CrossAttention
from tft_core.models.batching import RowTensors
from tft_core.models.blocks import FFN, Decoder, SequenceBlock
from tft_core.models.config import XTrendConfig
from tft_core.models.heads import QUANTILES, make_head
from tft_core.models.losses import (
    LossTerms,
    Targets,
    gaussian_nll,
    net_returns,
    pinball,
    training_loss,
)
from tft_core.models.network import Batch, XTrend
from tft_core.models.variable_selection import PaperSelection
from tft_core.positions import PositionConfig, portfolio_returns, portfolio_weights
from tft_core.sequences import NO_CONTEXT, PADDING, sample_contexts

D, HEADS = 6, 2
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def in_double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(before)


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """The module's weights, none of them left at an initial 0 or 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}


def close(output: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(output.detach().numpy(), expected, atol=1e-12, rtol=1e-10)


def draw(*shape: int) -> tuple[torch.Tensor, np.ndarray]:
    x = RNG.standard_normal(shape)
    return torch.from_numpy(x), x


# -- blocks -----------------------------------------------------------------------------------


def test_ffn_with_side_information_is_equation_12() -> None:
    module = FFN(5, 7, 3, d_side=4, dropout=0.3).eval()
    w = weights_of(module)
    (h, h_np), (s, s_np) = draw(9, 5), draw(4)
    close(module(h, s), paper.ffn(w, h_np, s_np))


def test_no_embedding_is_an_embedding_of_zero() -> None:
    module = FFN(5, 7, 3, d_side=4).eval()
    w = weights_of(module)
    h, h_np = draw(9, 5)
    close(module(h, torch.zeros(4)), paper.ffn(w, h_np))


def test_variable_selection_is_equation_13() -> None:
    module = PaperSelection(7, 5, D, D, 0.3).eval()
    w = weights_of(module)
    (x, x_np), (side, side_np) = draw(12, 7), draw(2, D)
    group = torch.tensor([0] * 8 + [1] * 4)
    for g, rows in ((0, slice(0, 8)), (1, slice(8, 12))):
        close(module(x, group, side)[rows], paper.vsn(w, x_np[rows], side_np[g]))
        close(module.weights(x, group, side)[rows], paper.vsn_weights(w, x_np[rows], side_np[g]))


def test_the_encoder_is_equation_14_from_an_initial_state_made_of_the_ticker() -> None:
    module = SequenceBlock(D, 1, 0.3).eval()
    w = weights_of(module)
    (x, x_np), (s, s_np) = draw(3, 8, D), draw(3, D)
    expected = np.stack([paper.encoder(w, x_np[b], s_np[b]) for b in range(3)])
    close(module(x, s), expected)
    close(module(x, s, last_only=True), expected[:, -1:])


def test_a_sequence_behind_padding_starts_from_the_tickers_initial_state() -> None:
    module = SequenceBlock(D, 1, 0.3).eval()
    w = weights_of(module)
    (x, x_np), (s, s_np) = draw(3, 8, D), draw(3, D)
    n_padding = torch.tensor([0, 3, 7])
    states, last = module(x, s, n_padding), module(x, s, n_padding, last_only=True)
    for b, start in enumerate(n_padding.tolist()):
        expected = paper.encoder(w, x_np[b, start:], s_np[b])
        close(states[b, start:], expected)
        close(last[b], expected[-1:])


def test_context_values_mix_by_equation_17() -> None:
    module = ContextMixer(D, HEADS, 0.2).eval()
    w = weights_of(module)
    v, v_np = draw(2, 5, D)
    may = np.array([[True] * 5, [True, False, True, False, False]])
    mixed = module(v, torch.from_numpy(may))
    for b in range(2):
        close(mixed[b, may[b]], paper.context_values(w, v_np[b, may[b]], HEADS))


def test_targets_attend_by_equation_18_and_no_context_gives_zero() -> None:
    module = CrossAttention(D, HEADS, 0.2).eval()
    w = weights_of(module)
    (q, q_np), (k, k_np), (v, v_np) = draw(3, 4, D), draw(3, 5, D), draw(3, 5, D)
    may = np.array([[True] * 5, [False, True, False, True, True], [False] * 5])
    y, shares = module(q, k, v, torch.from_numpy(may))
    for b in range(2):
        close(y[b], paper.cross_attention(w, q_np[b], k_np[b, may[b]], v_np[b, may[b]], HEADS))
    assert (y[2] == 0).all()
    sums = shares.sum(dim=-1)
    close(sums[:2], np.ones((2, HEADS, 4)))
    assert (sums[2] == 0).all()
    assert (shares[1][..., [0, 2]] == 0).all()


@pytest.mark.parametrize("has_context", [True, False])
def test_the_decoder_is_equation_19(has_context: bool) -> None:
    module = Decoder(D, 1, 0.2, has_context=has_context).eval()
    w = weights_of(module)
    (x, x_np), (y, y_np), (s, s_np) = draw(2, 7, D), draw(2, 7, D), draw(2, D)
    got = module(x, y if has_context else None, s)
    for b in range(2):
        close(got[b], paper.decoder(w, x_np[b], y_np[b] if has_context else None, s_np[b]))


# -- heads ------------------------------------------------------------------------------------


def test_the_heads_are_tanh_and_learned_maps_from_forecast_to_position() -> None:
    h, h_np = draw(9, D)
    assert QUANTILES == paper.QUANTILE_LEVELS
    head = make_head("sharpe", D, 0.3).eval()
    w = weights_of(head)
    close(head(h).z, paper.position(w, h_np))
    head = make_head("joint_mle", D, 0.3).eval()
    w = weights_of(head)
    output = head(h)
    for got, expected in zip(
        (output.mu, output.sigma, output.z), paper.gaussian(w, h_np), strict=True
    ):
        close(got, expected)
    head = make_head("joint_quantile", D, 0.3).eval()
    w = weights_of(head)
    output = head(h)
    for got, expected in zip((output.quantiles, output.z), paper.quantile(w, h_np), strict=True):
        close(got, expected)


# -- losses -----------------------------------------------------------------------------------


def some_targets(bears: np.ndarray, cost: float = 0.0) -> Targets:
    shape = bears.shape
    return Targets(
        scaled_return=draw(*shape)[0],
        inverse_sigma=torch.from_numpy(RNG.uniform(50, 150, shape)),
        cost_rate=torch.full(shape, cost),
        bears_loss=torch.from_numpy(bears),
        date=torch.zeros(shape, dtype=torch.int64),
        n_dates=1,
    )


@pytest.mark.parametrize(("mode", "alpha"), [("sharpe", 0.0), ("joint_mle", 1.0),
                                             ("joint_quantile", 5.0)])  # fmt: skip
def test_the_loss_pools_pairs_by_equation_8_and_adds_alpha_times_the_likelihood(
    mode, alpha: float
) -> None:
    bears = RNG.random((4, 10)) < 0.7
    targets, head = some_targets(bears), make_head(mode, D, 0.0)
    output = head(draw(4, 10, D)[0])
    y = targets.scaled_return.numpy()[bears]
    expected = paper.sharpe_loss(output.z.detach().numpy()[bears], y)
    if mode == "joint_mle":
        mu, sigma = (t.detach().numpy()[bears] for t in (output.mu, output.sigma))
        expected += alpha * paper.gaussian_loss(mu, sigma, y)
    if mode == "joint_quantile":
        expected += alpha * paper.quantile_loss(output.quantiles.detach().numpy()[bears], y)
    loss = training_loss(output, targets, LossTerms(mle_weight=alpha))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-7)


def test_the_likelihood_parts_are_the_papers() -> None:
    (mu, mu_np), (y, y_np), (q, q_np) = draw(50), draw(50), draw(50, 13)
    sigma = torch.from_numpy(sigma_np := RNG.uniform(0.5, 2.0, 50))
    expected = paper.gaussian_loss(mu_np, sigma_np, y_np)
    assert float(gaussian_nll(mu, sigma, y).mean()) == pytest.approx(expected, rel=1e-10)
    expected = paper.quantile_loss(q_np, y_np)
    assert float(pinball(q, y).mean()) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("mode", ["sharpe", "joint_mle", "joint_quantile"])
def test_steps_of_the_warm_up_have_a_gradient_of_exactly_zero(mode) -> None:
    bears = np.zeros((3, 12), dtype=bool)
    bears[0, 5:], bears[1, 7:11], bears[2, 5:9] = True, True, True
    state = draw(3, 12, D)[0].requires_grad_()
    head = make_head(mode, D, 0.0)
    for cost_factor in (0.0, 0.5):
        terms = LossTerms(cost_factor=cost_factor, mle_weight=1.0)
        loss = training_loss(head(state), some_targets(bears, cost=1e-3), terms)
        gradient = torch.autograd.grad(loss, state)[0].abs().sum(dim=2).numpy()
        assert (gradient[bears] > 0).all()
        silent = ~bears
        if cost_factor > 0.0:  # the first loss step pays for leaving the position before it
            silent[:, :-1] &= ~bears[:, 1:]
        assert (gradient[silent] == 0.0).all()


def test_net_returns_are_equation_2_in_the_loss_and_in_the_record() -> None:
    n_days, n_assets, target = 6, 3, 0.15 / np.sqrt(252)
    z, r = RNG.uniform(-1, 1, (n_days, n_assets)), 0.01 * RNG.standard_normal((n_days, n_assets))
    sigma = RNG.uniform(0.005, 0.02, (n_days, n_assets))
    cost = np.array([1e-4, 5e-4, 2e-3])
    before = np.concatenate([np.zeros((1, n_assets)), z[:-1]])
    sigma_before = np.concatenate([np.ones((1, n_assets)), sigma[:-1]])
    expected = [
        paper.portfolio_return(z[t], before[t], r[t], sigma[t], sigma_before[t], cost, target)
        for t in range(n_days)
    ]
    positions = PositionConfig(vol_target=0.15)
    w = portfolio_weights(z, sigma, np.full(n_days, float(n_assets)), positions)
    record = portfolio_returns(w, r, np.broadcast_to(cost, z.shape))
    np.testing.assert_allclose(record.net, expected, rtol=1e-10)
    targets = Targets(
        scaled_return=torch.from_numpy((r / sigma).T.copy()),
        inverse_sigma=torch.from_numpy((1 / sigma).T.copy()),
        cost_rate=torch.from_numpy(cost)[:, None].expand(-1, n_days),
        bears_loss=torch.ones(n_assets, n_days, dtype=torch.bool),
        date=torch.arange(n_days).expand(n_assets, -1),
        n_dates=n_days,
    )
    by_pair = net_returns(torch.from_numpy(z.T.copy()), targets, 1.0).numpy()
    np.testing.assert_allclose(by_pair.mean(axis=0) * target, expected, rtol=1e-10)


# -- the whole network ------------------------------------------------------------------------

ROWS = planted_rows(n_assets=3, n_days=120, n_features=8, late={2: 40})


def paper_network(**changes) -> tuple[XTrend, XTrendConfig]:
    small = {"d_hidden": D, "n_heads": HEADS, "seq_len": 12, "warmup": 5, "ctx_len": 12,
             "n_context": 3}  # fmt: skip
    config = XTrendConfig.paper(n_features=8, n_assets=3, **{**small, **changes})
    return XTrend(config).eval(), config


def in_float64(batch: Batch) -> Batch:
    """Coverage, which the paper does not have, is left out by being zero."""
    return batch._replace(
        x=batch.x.double(),
        label=batch.label.double(),
        coverage=torch.zeros(len(batch.x)),
    )


@pytest.mark.parametrize("target_embedding", [True, False])
@pytest.mark.parametrize("mode", ["random", "time", "segment", "none"])
def test_the_network_is_equations_12_to_19(mode, target_embedding: bool) -> None:
    model, config = paper_network(context_mode=mode, target_embedding=target_embedding)
    w = weights_of(model)
    w["embedding.weight"][0] = 0.0
    model.load_state_dict({name: torch.from_numpy(array) for name, array in w.items()})
    ends = np.array([60, 100, 119, 205])
    index = ends[:, None] - np.arange(config.seq_len)[::-1]
    contexts, choice = None, np.array([[0, 1, 2], [3, 4, 0], [2, 1, NO_CONTEXT], [4, 0, 3]])
    if config.uses_context:
        contexts = sample_contexts(ROWS, 5, config.ctx_len, mode, np.random.default_rng(1))
        if mode == "segment":  # segments are shorter than the longest
            contexts.index[1, :4] = contexts.index[3, :7] = PADDING
    batch = RowTensors.of(ROWS, config).batch(index, contexts, choice if contexts else None)
    z = model(in_float64(batch)).z
    for b in range(len(index)):
        shown = []
        for c in choice[b][choice[b] != NO_CONTEXT] if contexts else ():
            rows = contexts.index[c][contexts.index[c] != PADDING]
            label = np.clip(ROWS.scaled_label[rows].astype(np.float32), -5, 5).astype(float)
            ticker = w["embedding.weight"][1 + contexts.asset_id[c]]
            shown.append((ROWS.features[rows].astype(float), label, ticker))
        own = w["embedding.weight"][1 + ROWS.asset_id[ends[b]] if target_embedding else 0]
        state = paper.x_trend(
            w, ROWS.features[index[b]].astype(float), own, shown, HEADS, by_step=mode == "time"
        )
        close(z[b], paper.position(paper.of(w, "head"), state))
