"""Tensors to disk and back: safetensors, written durably, read strictly.

Nothing on the load path can run code. Which files make a checkpoint, and their hashes, is
the checkpoint manager's business.
"""

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tft_core.errors import CheckpointError


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a flat mapping of tensors; the file is whole and on disk when this returns."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_durably(path, save(plain))


def read_tensors(path: Path, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Read a tensor file.

    Args:
        expected: Tensors whose names, types and shapes the file must have exactly.

    Raises:
        CheckpointError: The file is missing or damaged, or differs from ``expected``.
    """
    try:
        tensors = load(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"tensor file must exist, found nothing at {path}") from error
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch doesn't have
        raise CheckpointError(f"{path} must be a whole safetensors file, found: {error}") from error
    if expected is not None:
        compare_tensors(tensors, expected, where=str(path))
    return tensors


def compare_tensors(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, where: str
) -> None:
    """Refuse any difference in names, types or shapes; all of them are named.

    Raises:
        CheckpointError: See above.
    """
    problems = state_mismatches(found, expected)
    if problems:
        raise CheckpointError(
            f"{where} must hold exactly the model's {len(expected)} tensors, found "
            f"{len(problems)} differences: {'; '.join(problems)}; load it with the "
            "configuration that it was saved with"
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


def write_json(path: Path, value: Any) -> None:
    """Write JSON durably; NaN is refused (an undefined figure is ``null``)."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_durably(path, text.encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: It is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name} must exist, found nothing at {path}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} must be valid JSON, found: {error}") from error


def write_durably(path: Path, content: bytes) -> None:
    """Write beside the target, fsync, rename over it, fsync the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with staged.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def weight_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes: equal weights, equal hash."""
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
