"""Loggers whose lines say what they are about: run, asset and fold (or session).

What is known is set once, around the work, by ``log_context``; the lines of everything that is
called inside carry it, on a terminal and as Dagster's events alike.
"""

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

RUN_DIGITS = 8
"""Of a run's id, in a line's text; ``record.tft_run`` has all of it."""

_known: ContextVar[Mapping[str, str]] = ContextVar("tft_known", default=MappingProxyType({}))


class ContextLogger(logging.LoggerAdapter):
    """Puts what is known before the text, and into the record as ``tft_run``, ``tft_asset``, …"""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """The line with its context, as ``logging.LoggerAdapter`` asks for it."""
        known = _known.get()
        if not known:
            return msg, kwargs
        kwargs["extra"] = {
            **{f"tft_{name}": value for name, value in known.items()},
            **(kwargs.get("extra") or {}),
        }
        return f"[{_spoken(known)}] {msg}", kwargs


def get_logger(name: str) -> ContextLogger:
    """The logger of a module of the core."""
    return ContextLogger(logging.getLogger(name), None)


@contextmanager
def log_context(**known: str) -> Iterator[None]:
    """Lines logged inside carry ``run``, ``asset``, ``fold`` or ``session`` beside what they do."""
    token = _known.set({**_known.get(), **known})
    try:
        yield
    finally:
        _known.reset(token)


def known_context() -> dict[str, str]:
    """What is known here, to hand to a process that is started."""
    return dict(_known.get())


def begin_context(known: Mapping[str, str]) -> None:
    """Take over what the starting process knew, for the rest of this one."""
    _known.set(dict(known))


def _spoken(known: Mapping[str, str]) -> str:
    """``run 1f2e3d4c exploration_fold/2024-01-01``, as far as it is known."""
    run, asset = known.get("run"), known.get("asset")
    key = known.get("fold") or known.get("session")
    parts = [
        "" if run is None else f"run {run[:RUN_DIGITS]}",
        "/".join(part for part in (asset, key) if part),
    ]
    return " ".join(part for part in parts if part)
