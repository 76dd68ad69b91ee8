import pytest
import torch
from torch import nn

from tft_core.errors import TrainingError
from tft_core.training.flat import flattened, unflatten


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(nn.Linear(5, 7), nn.ELU(), nn.Linear(7, 3)).double()


def test_clipping_and_adamw_on_the_vector_are_those_on_the_tensors() -> None:
    plain, member = network(), network()
    vector = flattened(list(member.parameters()))
    x, settings = torch.randn(20, 5, dtype=torch.float64), {"lr": 0.05, "weight_decay": 0.1}
    by_tensor = torch.optim.AdamW(plain.parameters(), **settings)
    as_one = torch.optim.AdamW([vector], fused=True, **settings)
    for _ in range(5):
        for model, optimiser, params in (
            (plain, by_tensor, list(plain.parameters())),
            (member, as_one, [vector]),
        ):
            optimiser.zero_grad(set_to_none=False)
            model(x).square().sum().backward()
            torch.nn.utils.clip_grad_norm_(params, 0.7)
            optimiser.step()
    for a, b in zip(member.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_a_parameter_without_a_gradient_in_a_step_still_decays() -> None:
    member = network()
    vector = flattened(list(member.parameters()))
    unused = member[2].weight.detach().clone()
    optimiser = torch.optim.AdamW([vector], lr=0.1, weight_decay=0.5)
    optimiser.zero_grad(set_to_none=False)
    member[0](torch.ones(1, 5, dtype=torch.float64)).sum().backward()
    optimiser.step()
    torch.testing.assert_close(member[2].weight.detach(), unused * (1.0 - 0.1 * 0.5))


def test_unflattened_parameters_own_their_memory_and_keep_their_values() -> None:
    member, expected = network(), network()
    flattened(list(member.parameters()))
    parameters = list(member.parameters())
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == 1
    unflatten(parameters)
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == len(parameters)
    for a, b in zip(parameters, expected.parameters(), strict=True):
        assert torch.equal(a, b) and a.grad is None


def test_parameters_of_two_types_cannot_be_one_vector() -> None:
    with pytest.raises(TrainingError, match=r"must share torch.float64, found torch.float32"):
        flattened([nn.Parameter(torch.zeros(2).double()), nn.Parameter(torch.zeros(2))])
