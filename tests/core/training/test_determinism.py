"""What decides whether a seed gives the same weights is pinned for a block, then put back."""

import platform

import pytest
import torch

from tft_core.errors import ConfigError
from tft_core.training.determinism import machine, pinned


def test_a_seed_gives_the_same_numbers_and_the_callers_generator_goes_on() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with pinned(7, threads=1):
        first = torch.rand(4)
        assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 1
    with pinned(7, threads=1):
        assert torch.equal(torch.rand(4), first)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_gpu_that_is_not_there_is_an_error_and_no_slower_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with (
        pytest.raises(ConfigError, match=r"found 'cuda' with a torch .* that sees no GPU"),
        pinned(7, threads=1, device="cuda"),
    ):
        pass


def test_the_instruction_set_that_chose_the_kernels_is_told() -> None:
    assert machine() == {
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "OMP_THREAD_LIMIT",
            "1",
            r"training.threads must be at most \$OMP_THREAD_LIMIT, found 2 and 1",
        ),
        (
            "OMP_DYNAMIC",
            "TRUE",
            r"\$OMP_DYNAMIC must be false where training.threads is 2, found true",
        ),
    ],
)
def test_an_openmp_that_may_start_fewer_threads_is_refused(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pinned(1, threads=1):
        pass
    with pytest.raises(ConfigError, match=said), pinned(1, threads=2):
        pass
