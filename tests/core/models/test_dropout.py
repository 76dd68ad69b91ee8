import pytest
import torch
from torch import nn

from tft_core.models.blocks import EntityLSTM
from tft_core.models.dropout import Dropout, keep_scale

P = 0.1


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_is_kept_with_its_probability_and_scaled_to_keep_the_mean(dtype) -> None:
    n = 1_000_001  # not a multiple of the four numbers that one draw decides over
    scale = keep_scale(torch.empty(n, dtype=dtype), P)
    assert scale.dtype == dtype and scale.shape == (n,)
    error = (P * (1.0 - P) / n) ** 0.5
    assert float((scale == 0).double().mean()) == pytest.approx(P, abs=4.0 * error)
    assert float(scale.double().mean()) == pytest.approx(1.0, abs=5.0 * error / (1.0 - P))
    assert scale.max() == pytest.approx(1.0 / (1.0 - P), rel=1e-4)


def test_the_four_numbers_of_one_draw_are_independent() -> None:
    four = (keep_scale(torch.empty(400_000, dtype=torch.float64), 0.5) > 0).double().view(-1, 4)
    correlation = torch.corrcoef(four.t()) - torch.eye(4)
    assert correlation.abs().max() < 5.0 / 100_000**0.5
    # the draw's highest bit too: each of the four is kept as often as the others
    assert (four.mean(0) - 0.5).abs().max() < 5.0 * 0.5 / 100_000**0.5


def test_gradients_pass_where_numbers_did() -> None:
    x = torch.randn(50, 8, requires_grad=True)
    out = Dropout(P).train()(x)
    out.sum().backward()
    torch.testing.assert_close(out, x * x.grad)
    assert set((x.grad == 0).flatten().tolist()) == {True, False}


def test_the_generators_seed_decides() -> None:
    x, module = torch.randn(30, 4), Dropout(P).train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(module(x))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_nothing_is_dropped_in_evaluation_or_at_probability_zero() -> None:
    x = torch.randn(30, 4)
    assert Dropout(P).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layer_by_layer_the_lstm_is_pytorchs(layers: int) -> None:
    lstm = EntityLSTM(6, layers, 0.0).double()
    x = torch.randn(4, 9, 6, dtype=torch.float64, requires_grad=True)
    entity = torch.randn(4, 6, dtype=torch.float64)
    h0, c0 = (
        f(entity).view(4, layers, 6).transpose(0, 1).contiguous()
        for f in (lstm.initial_h, lstm.initial_c)
    )
    whole = nn.LSTM(6, 6, layers, batch_first=True).double()
    whole.load_state_dict(lstm.lstm.state_dict())
    expected, found = whole(x, (h0, c0))[0], lstm.train()(x, entity)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    probe = torch.randn_like(found)
    a, b = (torch.autograd.grad((y * probe).sum(), x)[0] for y in (found, expected))
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_dropout_stands_between_the_lstms_layers_in_training_only() -> None:
    lstm, x, entity = EntityLSTM(6, 2, 0.5), torch.randn(4, 9, 6), torch.randn(4, 6)
    assert not torch.equal(lstm.train()(x, entity), lstm(x, entity))
    assert torch.equal(lstm.eval()(x, entity), lstm(x, entity))
    single = EntityLSTM(6, 1, 0.5).train()
    assert torch.equal(single(x, entity), single(x, entity))
