import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.oracles import tft_equations as tft
from tft_core.models import folded
from tft_core.models.variable_selection import (
    GrnSelection,
    IdentifiedSelection,
    PaperSelection,
)

V, H, D, N, G = 7, 4, 5, 40, 3


@pytest.fixture(autouse=True)
def in_double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield
    torch.set_default_dtype(before)


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(N, V), torch.randint(0, G, (N,)), torch.randn(G, D)


def plain_identified(
    module: IdentifiedSelection, x: torch.Tensor, shown: torch.Tensor
) -> torch.Tensor:
    """vsn.md's formulas, variable by variable, with batch statistics and w/√V for w/V."""
    w = module.u.clamp(min=0.0)
    out = torch.zeros(len(x), D) + module.bias
    for j in range(V):
        h = F.elu(x[:, j : j + 1] * module.slope[j] + module.shift[j])
        mu = h.mean(dim=0)
        cov = (h - mu).T @ (h - mu) / len(x)
        w2 = module.mix[j]
        s = torch.sqrt(torch.trace(w2.T @ cov @ w2) + 1e-6)
        f = (h - mu) @ w2 / s
        out = out + w[j] / V**0.5 * shown[:, j : j + 1] * f
    return out


@pytest.mark.parametrize("p", [0.5, 0.9])  # at 0.9 groups show one variable or none
@pytest.mark.parametrize("rows", ["mixed", "by group"])
@pytest.mark.parametrize("cached_bytes", [1, 1 << 20])
def test_the_identified_fast_form_equals_its_plain_form_with_gradients(
    inputs, rows: str, p: float, cached_bytes: int, monkeypatch
) -> None:
    monkeypatch.setattr(folded, "CACHED_BYTES", cached_bytes)
    x, group, side = inputs
    if rows == "by group":
        group = group.sort().values
    module = IdentifiedSelection(V, H, D, p).train()
    with torch.no_grad():
        module.u.uniform_(0.1, 2.0)
        module.bias.normal_()
    state = torch.random.get_rng_state()
    fast = module(x, group, side)
    torch.random.set_rng_state(state)
    drawn = torch.rand(G, V) < 1.0 - p
    plain = plain_identified(module, x, (drawn.double() / (1.0 - p))[group])
    torch.testing.assert_close(fast, plain, atol=1e-9, rtol=0)
    probe = torch.randn(N, D)
    parameters = list(module.parameters())
    for a, b in zip(
        torch.autograd.grad((fast * probe).sum(), parameters),
        torch.autograd.grad((plain * probe).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


def test_a_mask_is_drawn_per_variable_and_asset_of_the_minibatch(inputs) -> None:
    x, group, side = inputs
    module = IdentifiedSelection(V, H, D, 0.5).train()
    same = x[:1].expand(N, -1).contiguous()
    same[0] += 0.1  # a spread to normalise by
    out = module(same, group, side)[1:]
    for g in range(G):
        rows = out[group[1:] == g]
        torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    assert len(torch.unique(out.round(decimals=9), dim=0)) == G


def test_contributions_are_normalised_whatever_the_scale_of_a_variable(inputs) -> None:
    x, group, side = inputs
    module = IdentifiedSelection(V, H, D, 0.0).train()
    with torch.no_grad():
        module.mix.mul_(torch.logspace(-2, 3, V)[:, None, None])
    module(x, group, side)
    module.eval()
    for j in range(V):
        part = module.contribution(x[:, j], j)
        assert part.mean(dim=0).abs().max() < 1e-9
        # E‖(w/√V) f̂‖² = 1/V for w = 1, up to the 1e-6 under the root
        assert float((part**2).sum(dim=1).mean().detach()) == pytest.approx(1 / V, rel=0.05)


def test_evaluation_output_is_the_sum_of_contributions(inputs) -> None:
    x, group, side = inputs
    module = IdentifiedSelection(V, H, D, 0.5).train()
    for _ in range(3):
        module(torch.randn(N, V), group, side)
    module.eval()
    parts = sum(module.contribution(x[:, j], j) for j in range(V))
    torch.testing.assert_close(module(x, group, side), parts + module.bias, atol=1e-9, rtol=0)


def test_leaving_out_dead_variables_changes_nothing(inputs) -> None:
    x, group, side = inputs
    module = IdentifiedSelection(V, H, D, 0.0).train()
    with torch.no_grad():
        module.u[[1, 2, 4]] = 0.0
    assert module._alive() is not None
    fast = module(x, group, side)
    plain = plain_identified(module, x, torch.ones(N, V))
    torch.testing.assert_close(fast, plain, atol=1e-9, rtol=0)
    gradient = torch.autograd.grad(fast.sum(), module.u)[0]
    assert (gradient[[1, 2, 4]] == 0).all()
    assert module.static_weights()[[1, 2, 4]].sum() == 0
    assert float(module.static_weights().sum()) == pytest.approx(1.0)


def test_the_penalty_pulls_all_weights_alike_and_lets_go_of_few() -> None:
    module = IdentifiedSelection(V, H, D, 0.0).train()
    with torch.no_grad():
        module.u.uniform_(0.8, 2.0)
    assert float(module.penalty().detach()) == pytest.approx(
        float(module.u.mean().detach()) - 1 / np.sqrt(V)
    )
    pull = torch.autograd.grad(module.penalty(), module.u)[0]
    torch.testing.assert_close(pull, torch.full((V,), 1 / V))
    with torch.no_grad():  # Σw just below √V: nothing may close the last gates
        module.u.fill_(0.0)
        module.u[:2] = 0.49 * V**0.5
    assert float(module.penalty().detach()) == 0.0
    assert (torch.autograd.grad(module.penalty(), module.u)[0] == 0).all()


def test_running_statistics_average_the_first_batches_then_move_by_momentum() -> None:
    module = IdentifiedSelection(1, 1, 1, 0.0).train()
    group, side = torch.zeros(50, dtype=torch.int64), torch.zeros(1, 1)
    seen = []
    for _ in range(30):
        x = torch.randn(50, 1)
        h = F.elu(x * module.slope[0] + module.shift[0])
        seen.append(float(h.mean().detach()))
        module(x, group, side)
    expected = np.mean(seen[:20])
    for value in seen[20:]:
        expected = 0.95 * expected + 0.05 * value
    assert float(module.running_mean) == pytest.approx(expected, rel=1e-9)


def test_the_folded_paper_form_is_equation_13(inputs) -> None:
    x, group, side = inputs
    module = PaperSelection(V, H, D, D, 0.3).eval()
    with torch.no_grad():
        module.bias.normal_()
    s = side[group]
    net = module.weight_net
    a = F.elu(x @ net.linear1.weight.T + net.linear1.bias + s @ net.linear2.weight.T)
    w = torch.softmax(a @ net.linear3.weight.T + net.linear3.bias, dim=1)
    expected = torch.zeros(N, D)
    for j in range(V):
        h = F.elu(x[:, j : j + 1] * module.slope[j] + module.shift[j])
        expected += w[:, j : j + 1] * (h @ module.mix[j] + module.bias[j])
    torch.testing.assert_close(module(x, group, side), expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(module.weights(x, group, side), w, atol=1e-12, rtol=0)


def test_the_batched_tft_form_is_its_papers_equations_2_to_8(inputs) -> None:
    x, group, side = inputs
    module = GrnSelection(V, H, D, D, 0.3).eval()
    with torch.no_grad():
        for parameter in module.parameters():  # none is left at an initial 0 or 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    w = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    x_np, c = x.numpy(), side[group].numpy()
    for got, expected in (
        (module.weights(x, group, side), tft.selection_weights(w, x_np, c)),
        (module(x, group, side), tft.variable_selection(w, x_np, c)),
    ):
        np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("form", [PaperSelection, GrnSelection])
def test_weights_depend_on_row_and_entity_and_sum_to_one(form, inputs) -> None:
    x, group, side = inputs
    module = form(V, H, D, D, 0.0).eval()
    w = module.weights(x, group, side)
    torch.testing.assert_close(w.sum(dim=1), torch.ones(N))
    moved = module.weights(x, (group + 1) % G, side)
    assert (w - moved).abs().max() > 1e-4


def test_a_variable_that_is_constant_in_the_batch_has_no_say_and_gives_no_nan() -> None:
    torch.manual_seed(0)
    selection = IdentifiedSelection(6, 4, 5, dropout=0.0)
    x = torch.randn(400, 6)
    x[:, 2], x[:, 4] = 4.7, -5.0
    group, side = torch.zeros(400, dtype=torch.int64), torch.zeros(1, 5)
    out = selection(x, group, side)
    out.square().mean().backward()
    for parameter in (selection.slope, selection.shift, selection.mix, selection.u):
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        if parameter is not selection.u:  # a weight also acts through the common norm
            assert (parameter.grad[[2, 4]] == 0.0).all()
    other = x.clone()
    other[:, 2] = -1.0
    torch.testing.assert_close(selection(other, group, side), out)


def test_a_minibatch_without_rows_leaves_the_running_statistics_alone() -> None:
    selection = IdentifiedSelection(6, 4, 5, dropout=0.5).train()
    side = torch.zeros(1, 5)
    selection(torch.randn(40, 6), torch.zeros(40, dtype=torch.int64), side)
    before = {name: buffer.clone() for name, buffer in selection.named_buffers()}
    out = selection(torch.empty(0, 6), torch.empty(0, dtype=torch.int64), side)
    assert out.shape == (0, 5)
    for name, buffer in selection.named_buffers():
        assert torch.equal(buffer, before[name])
