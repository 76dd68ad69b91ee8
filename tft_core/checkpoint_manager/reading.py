"""Reading versions back: nothing is believed that the manifest does not vouch for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tft_core.checkpoint_manager.layout import VERSION_DIR
from tft_core.checkpoint_manager.manifest import (
    MANIFEST,
    METADATA,
    WEIGHTS,
    Manifest,
    read_manifest,
    read_verified,
)
from tft_core.checkpoint_manager.metadata import CheckpointMetadata
from tft_core.checkpoint_manager.promotions import PromotionEvent, promoted_stack, rolled_back
from tft_core.checkpoint_manager.weights import HasState, parse_weights
from tft_core.errors import CheckpointError
from tft_core.models.io import weight_hash
from tft_core.schema import content_hash


def checkpoint_content_hash(
    model: HasState | Mapping[str, Tensor], metadata: CheckpointMetadata
) -> str:
    """Identity of a model: its weights and the content fields of its metadata."""
    state = model if isinstance(model, Mapping) else model.state_dict()
    return content_hash({"weights": weight_hash(state), "metadata": metadata.content()})


def load_version(directory: Path) -> tuple[dict[str, Tensor], CheckpointMetadata, Manifest]:
    """Weights, metadata and manifest of one version, every file of it verified.

    Raises:
        CheckpointError: A file is damaged, extra, missing or a link; it is named.
    """
    manifest = read_manifest(directory)
    metadata = read_metadata(directory, manifest)
    for name in manifest.files:
        if name not in (WEIGHTS, METADATA):
            read_verified(directory, manifest, name)  # at most MAX_DOCUMENT_BYTES at a time
    data = read_verified(directory, manifest, WEIGHTS)
    return parse_weights(data, str(directory / WEIGHTS)), metadata, manifest


def read_metadata(directory: Path, manifest: Manifest) -> CheckpointMetadata:
    """The verified metadata of one version.

    Raises:
        CheckpointError: The file is damaged, or breaks a rule of ``CheckpointMetadata``.
    """
    data = read_verified(directory, manifest, METADATA)
    try:
        return CheckpointMetadata.from_json(data)
    except CheckpointError as error:
        raise CheckpointError(f"{directory / METADATA}: {error}") from error


def summary_row(
    model_type: str, version: int, directory: Path, events: Sequence[PromotionEvent]
) -> dict[str, Any]:
    """One row of ``CheckpointManager.list_checkpoints``; a damaged version has a ``problem``."""
    row: dict[str, Any] = {
        "path": directory,
        "model_type": model_type,
        "version": version,
        "status": "damaged",
        "problem": None,
        "created_at": None,
        "fold": None,
        "procedure": None,
        "trained_through": None,
        "content_hash": None,
        "sharpe_oos": None,
        "total_return_oos": None,
        "max_drawdown_oos": None,
    }
    try:
        manifest = read_manifest(directory)
        metadata = read_metadata(directory, manifest)
    except CheckpointError as error:
        return {**row, "problem": str(error)}
    stack = promoted_stack(events)
    if stack and stack[-1].directory == directory.name:
        status = "production"
    elif version in rolled_back(events):
        status = "rolled_back"
    elif any(event.directory == directory.name for event in events):
        status = "retired"
    else:
        status = metadata.status
    figures = ("created_at", "fold", "trained_through", "sharpe_oos", "total_return_oos",
               "max_drawdown_oos")  # fmt: skip
    return {
        **row,
        **{name: getattr(metadata, name) for name in figures},
        "status": status,
        "procedure": metadata.path,
        "content_hash": manifest.content_hash,
    }


def problems_of(directory: Path, root: Path) -> list[str]:
    """Everything wrong with a version, as sentences; [] if it may be served."""
    try:
        state, metadata, manifest = load_version(directory)
    except CheckpointError as error:
        return [str(error)]
    problems = []
    if checkpoint_content_hash(state, metadata) != manifest.content_hash:
        problems.append(
            f"{directory / MANIFEST} must carry the hash of its content, "
            f"found {manifest.content_hash[:12]}; do not use it"
        )
    named = VERSION_DIR.fullmatch(directory.name)
    if named and int(named[1]) != metadata.version:
        problems.append(
            f"{directory} must be named after its version {metadata.version}, "
            f"found {directory.name}; rename it back"
        )
    folder = directory.resolve().parent
    if folder.parent == root.resolve() and folder.name != metadata.model_type:
        problems.append(
            f"{directory} must lie under {metadata.model_type}, found {folder.name}; move it back"
        )
    return problems
