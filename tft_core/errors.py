"""Every deliberate error of the system, one family under ``TftError``.

A message reads ``<thing> must <rule>, found <value>; <what to do>``. Only the edges
(command line, Dagster asset, strategy) catch ``TftError``; nothing in between does.
"""

from collections.abc import Sequence


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Names for a message: so many of them, and … where there are more."""
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])])


class TftError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigError(TftError):
    """A setting is unknown, missing or out of its range."""


class DataError(TftError):
    """Market data cannot be understood or used: names the file, row or symbol."""


class OutOfOrderError(DataError):
    """A session must wait for the one before it, which is not published."""


class UnknownSymbolError(DataError):
    """A symbol was asked for that the store does not hold."""


class StoreLockedError(DataError):
    """Another process holds the market store and did not let go in time."""


class FeatureError(TftError):
    """A feature cannot be built as declared (history, name, shape)."""


class FoldError(TftError):
    """A fold key does not exist, or a fold's window holds too little data."""


class ModelError(TftError):
    """A network was asked for something its configuration does not allow."""


class LookAheadWarning(UserWarning):
    """A setting lets training see what a decision of that day could not have known."""


class TrainingError(TftError):
    """Training failed: a loss or weight stopped being a number, or no row bore loss."""


class SelectionError(TftError):
    """Feature selection was given nothing it could select from."""


class TuningError(TftError):
    """A study could not produce a usable trial."""


class ArtifactError(TftError):
    """A stored artifact is missing, damaged, or failed its own check."""


class AlertError(TftError):
    """An alert cannot be kept, or a sink did not take it."""


class StorageError(TftError):
    """The object store of the artifacts did not answer; nothing is known of them."""


class StorageRefusedError(StorageError):
    """It answered, and refused: no permission, no such bucket. To ask again is no use."""


class BackupError(TftError):
    """A backup cannot be made, is damaged, or would replace what is there."""


class CheckpointError(TftError):
    """A checkpoint is missing, damaged, or does not fit what asks for it."""


class InferenceError(TftError):
    """A prediction as a whole must not be made (stale model, drift, kill switch, schema)."""


class StrategyError(TftError):
    """A strategy or the orchestrator was used against its contract."""


class LedgerError(TftError):
    """The signal ledger would lose or double a signal."""
