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

from tft_core.checkpoint_manager.atomic import MAX_JSON_BYTES, load_json
from tft_core.errors import CheckpointError, first_few

_TYPES = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool}
    | {torch.int8, torch.int16, torch.int32, torch.int64}
    | {torch.uint8, torch.uint16, torch.uint32, torch.uint64}
)
_MAX_AXES = 16


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
    """Refuse weights that are empty, of an odd type or shape, or not finite; all are named.

    Raises:
        CheckpointError: See above.
    """
    if not state:
        raise CheckpointError(f"{what} must hold at least one tensor, found none")
    bad = [
        name
        for name, tensor in state.items()
        if tensor.dtype not in _TYPES
        or tensor.dim() > _MAX_AXES
        or (tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()))
    ]
    if bad:
        raise CheckpointError(
            f"{what} must be finite real numbers of a common type, found others in "
            f"{first_few(bad)} "
            f"({len(bad)} of {len(state)} tensors); train again"
        )


def parse_weights(data: bytes, what: str) -> dict[str, Tensor]:
    """Weights from the bytes of a safetensors file; nothing in it can run.

    Raises:
        CheckpointError: It is no safetensors file, names a tensor twice, or holds numbers that
            are not finite.
    """
    try:
        _check_header(data)
        state = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{what} must be a safetensors file, found: {str(error)[:200]}; "
            "restore it or use another version"
        ) from error
    check_state(state, what)
    return state


def _check_header(data: bytes) -> None:
    """Refuse a header that isn't strict JSON; the library lets a name stand twice."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, MAX_JSON_BYTES):
        raise ValueError(f"a header of {size} bytes in a file of {len(data)}")
    load_json(data[8 : 8 + size])
