"""Weights of a checkpoint: what may become a weight file, and what may be taken from one.

Writing and hashing are ``models/io``'s. Reading here parses the very bytes whose SHA-256 was
taken, so that a file can't change between the check and the use.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from tft_core.errors import CheckpointError


@runtime_checkable
class HasState(Protocol):
    """Anything with weights: an ``nn.Module``, an ensemble."""

    def state_dict(self) -> Mapping[str, Any]: ...


def state_of(model: HasState | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as contiguous CPU tensors of their own, checked.

    Raises:
        CheckpointError: A leaf is no tensor, or a number in it is not finite.
    """
    leaves = model if isinstance(model, Mapping) else model.state_dict()
    state: dict[str, Tensor] = {}
    for name, leaf in leaves.items():
        if not isinstance(name, str) or not isinstance(leaf, Tensor):
            raise CheckpointError(
                f"weights must be named tensors, found {name!r}: {type(leaf).__name__}; "
                "pass the module or its state_dict()"
            )
        state[name] = leaf.detach().to("cpu").contiguous().clone()
    check_state(state, "weights")
    return state


def check_state(state: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that are empty, complex or not finite; all such leaves are named.

    Raises:
        CheckpointError: See above.
    """
    if not state:
        raise CheckpointError(f"{what} must hold at least one tensor, found none")
    bad = [
        name
        for name, tensor in state.items()
        if tensor.is_complex()
        or (tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()))
    ]
    if bad:
        raise CheckpointError(
            f"{what} must be finite real numbers, found others in {', '.join(bad[:5])}"
            f"{' …' if len(bad) > 5 else ''} ({len(bad)} of {len(state)} tensors); train again"
        )


def state_mismatches(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Every leaf in which two sets of weights differ in name, shape or dtype; [] if none."""
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is not expected" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        here, there = found[name], expected[name]
        if here.shape != there.shape:
            problems.append(
                f"{name} must have shape {tuple(there.shape)}, found {tuple(here.shape)}"
            )
        if here.dtype != there.dtype:
            problems.append(f"{name} must be {there.dtype}, found {here.dtype}")
    return sorted(problems)


def parse_weights(data: bytes, what: str) -> dict[str, Tensor]:
    """Weights from the bytes of a safetensors file; nothing in it can run.

    Raises:
        CheckpointError: It is no safetensors file, or holds numbers that are not finite.
    """
    try:
        state = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{what} must be a safetensors file, found: {str(error)[:200]}; "
            "restore it or use another version"
        ) from error
    check_state(state, what)
    return state
