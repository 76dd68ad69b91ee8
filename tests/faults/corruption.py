"""Damage every file of a registry in four ways; nothing damaged may be accepted."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load

from tests.faults.report import Row
from tests.support.checkpoints import metadata, weights
from tft_core.checkpoint_manager import CheckpointManager
from tft_core.errors import CheckpointError

KINDS = ("bit flip", "truncation", "zeroed block", "swapped blocks")
BLOCK = 64


def damage(data: bytes, kind: str, rng: random.Random) -> bytes:
    broken = bytearray(data)
    at = rng.randrange(len(broken))
    if kind == "bit flip":
        broken[at] ^= 1 << rng.randrange(8)
    elif kind == "truncation":
        del broken[at:]
    elif kind == "zeroed block":
        broken[at : at + BLOCK] = bytes(len(broken[at : at + BLOCK]))
    else:
        size = min(BLOCK, len(broken) // 2)
        one = rng.randrange(len(broken) - 2 * size + 1)
        other = rng.randrange(one + size, len(broken) - size + 1)
        broken[one : one + size], broken[other : other + size] = (
            broken[other : other + size],
            broken[one : one + size],
        )
    return bytes(broken)


def corruption(folder: Path, per_file_and_kind: int = 90) -> Row:
    """Each file of a version and the promotion record, each kind, at random places."""
    registry = CheckpointManager(folder / "registry")
    path = registry.save(
        weights(size=200),
        metadata(),
        feature_selector={"kept": ["ret_1", "vol_21"], "why": "stable in three folds"},
        optuna_study={"trials": [{"number": n, "value": n / 7} for n in range(20)]},
        extra_files={"report.html": b"<html><body>out of sample</body></html>"},
    )
    registry.promote(path, "first")
    rng, tried, problems = random.Random(7), Counter[str](), []
    accepted_without = Counter[str]()
    for file in [*sorted(path.iterdir()), path.parent / "promotions.json"]:
        intact = file.read_bytes()
        reader = _reader(registry, path, file)
        for kind in KINDS:
            done = 0
            while done < per_file_and_kind:
                broken = damage(intact, kind, rng)
                if broken == intact:
                    continue
                done += 1
                tried[kind] += 1
                file.write_bytes(broken)
                try:
                    reader()
                    problems.append(f"{kind} of {file.name} was accepted")
                except CheckpointError as error:
                    if file.name not in str(error):
                        problems.append(f"{kind} of {file.name} was refused by another name")
                if file.name == "model.safetensors":
                    accepted_without[kind] += _accepted_by_safetensors(broken)
        file.write_bytes(intact)
        reader()
    weight_files = len(KINDS) * per_file_and_kind
    return Row(
        "damaged files: " + ", ".join(KINDS),
        tried.total(),
        len(problems),
        2000,
        f"all refused by the file's name; of the {weight_files} damaged weight files "
        f"safetensors alone would have accepted {accepted_without.total()}",
        tuple(problems[:20]),
    )


def _reader(registry: CheckpointManager, path: Path, file: Path) -> Callable[[], object]:
    """What must refuse the file: the load of its version, or of what is in production."""
    return (lambda: registry.load(path)) if file.parent == path else registry.load_production


def _accepted_by_safetensors(data: bytes) -> bool:
    try:
        load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError):
        return False
    return True
