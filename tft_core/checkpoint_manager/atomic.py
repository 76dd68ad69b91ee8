"""Files that are either whole or absent, whatever kills the process that writes them.

Only the file system's side belongs here: synced writes, atomic replacement, cross-process
locks, strict JSON. What a checkpoint or a ledger is, is not known here.
"""

import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

MAX_JSON_BYTES = 2 * 1024 * 1024
MAX_JSON_DEPTH = 24
MAX_INTEGER = 2**63 - 1
_O_DIRECTORY = getattr(os, "O_DIRECTORY", 0)


class StrictJsonError(ValueError):
    """A text is not the plain, finite, duplicate-free JSON that our own writers make."""


def fsync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY | _O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_file(path: Path) -> None:
    """Make a file that somebody else wrote survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Create a directory and its parents, the owner's alone; new names are synced."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    fsync_directory(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and sync its bytes; its name is not synced yet."""
    with path.open("xb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` in place of a file: a reader sees the old bytes or the new, never a mixture."""
    staged = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        write_synced(staged, data)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
    fsync_directory(path.parent)


@contextmanager
def locked(path: Path, timeout_s: float, what: str, error: type[Exception]) -> Iterator[None]:
    """Hold an exclusive lock between processes; a killed holder lets go.

    Args:
        path: The lock file; it is created, and stays.
        what: The thing protected, for the message.
        error: Type raised when another process does not let go in time.
    """
    lock = FileLock(str(path), timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as timeout:
        raise error(
            f"{what} must be free within {timeout_s:g} s, found it locked by another process "
            f"({path}); wait for that process, or end it"
        ) from timeout
    try:
        yield
    finally:
        lock.release()


def dump_json(value: Any) -> bytes:
    """The one text our writers give a plain value: sorted keys, indented, no NaN."""
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode("utf-8")


def load_json(data: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Parse JSON that may come from an enemy.

    Raises:
        StrictJsonError: Too large, too deep, not UTF-8, a key twice, or a number that is not
            finite.
    """
    if len(data) > max_bytes:
        raise StrictJsonError(f"JSON must be at most {max_bytes} bytes, found {len(data)}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
        )
    except StrictJsonError:
        raise
    except RecursionError as error:
        raise StrictJsonError(f"JSON must nest at most {MAX_JSON_DEPTH} deep") from error
    except ValueError as error:  # malformed text, bad UTF-8, integers of thousands of digits
        raise StrictJsonError(f"JSON must be well formed, found: {error}") from error
    _check_values(value)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise StrictJsonError(f"JSON keys must be unique, found {twice[:80]!r} twice")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJsonError(f"JSON numbers must be finite, found {name}")


def _check_values(value: Any) -> None:
    """Depth, range of numbers, and text; afterwards, since a call for each number is slow."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            raise StrictJsonError(f"JSON must nest at most {MAX_JSON_DEPTH} deep")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
                inner.extend(item)
            elif isinstance(item, list):
                inner.extend(item)
            elif isinstance(item, str):
                if not item.isascii():
                    _check_encodable(item)
            elif isinstance(item, float):
                if not math.isfinite(item):
                    raise StrictJsonError(f"JSON numbers must be finite, found {item}")
            elif isinstance(item, int) and abs(item) > MAX_INTEGER:
                raise StrictJsonError(f"JSON integers must fit 64 bits, found {str(item)[:40]}")
        level = inner


def _check_encodable(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise StrictJsonError("JSON text must be valid Unicode, found a lone surrogate") from error
