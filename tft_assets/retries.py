"""Which faults pass by themselves: only for these is a step tried again.

A ``RetryPolicy`` would repeat everything, a refused input and Ctrl-C included, and train again
for hours to fail in the same way.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy.exc import DBAPIError

from tft_assets.failures import refusal
from tft_core.errors import StorageError, StorageRefusedError, StoreLockedError, TftError

MAX_RETRIES = 3
FIRST_WAIT_S = 10.0
"""Before the first retry; three times as long before each further one."""

_SQLITE_BUSY, _SQLITE_LOCKED = 5, 6
_UNREACHABLE = re.compile(
    r"connection refused|could not connect|server closed the connection|"
    r"terminating connection|the database system is (starting up|shutting down)",
    re.IGNORECASE,
)
"""What a data base's client says while its server is started again; a wrong password is not."""


def transient_fault(error: BaseException) -> str | None:
    """The name of the passing fault behind an error; ``None`` where there is none.

    Only causes that were named (``raise … from``) count.
    """
    cause: BaseException | None = error
    while cause is not None:
        name = _named(cause)
        if name is not None:
            return name
        cause = cause.__cause__
    return None


def _named(error: BaseException) -> str | None:
    if isinstance(error, StoreLockedError):
        return "market store locked"
    if isinstance(error, StorageError):
        is_refused = isinstance(error, StorageRefusedError)
        return None if is_refused else "object store unreachable"
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its extended part
        return "database locked" if code in (_SQLITE_BUSY, _SQLITE_LOCKED) else None
    if isinstance(error, ConnectionError):
        return "connection lost"
    if isinstance(error, DBAPIError):
        lost = error.connection_invalidated or _UNREACHABLE.search(str(error.orig))
        return "database unreachable" if lost else None
    return None


@contextmanager
def explained(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> Iterator[None]:
    """Errors of the core as Dagster shows them: a passing fault is retried, a refusal is final.

    Raises:
        dg.RetryRequested: The fault passes by itself, and there is a try left.
        dg.Failure: The core refused, with its one-line message; never retried.
    """
    try:
        yield
    except Exception as error:
        fault, number = transient_fault(error), context.retry_number
        if fault is not None and number < MAX_RETRIES:
            wait_s = FIRST_WAIT_S * 3**number
            context.log.warning(
                f"{fault}: {error}; retry {number + 1} of {MAX_RETRIES} in {wait_s:.0f} s"
            )
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait_s) from error
        if isinstance(error, TftError):
            raise refusal(error) from None
        raise
