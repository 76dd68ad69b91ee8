"""Checkpoints: what is stored of a trained model, and how it is stored safely.

``metadata`` what a checkpoint says of itself, by the rules of ``fields`` · ``weights`` tensors ·
``manifest`` the table of contents that is verified · ``layout`` where versions lie · ``staging``
how one is written · ``reading`` how one is read · ``cleaning`` what may be removed ·
``manager`` the registry · ``promotions`` what was in production when · ``documents`` selector and
trials · ``atomic`` whole-or-absent files.
"""

from typing import TYPE_CHECKING, Any

from tft_core.checkpoint_manager.metadata import SCHEMA_VERSION, CheckpointMetadata
from tft_core.checkpoint_manager.promotions import PromotionEvent

if TYPE_CHECKING:
    from tft_core.checkpoint_manager.manager import CheckpointManager
    from tft_core.checkpoint_manager.reading import checkpoint_content_hash
    from tft_core.models.io import state_mismatches

__all__ = [
    "SCHEMA_VERSION",
    "CheckpointManager",
    "CheckpointMetadata",
    "PromotionEvent",
    "checkpoint_content_hash",
    "state_mismatches",
]


def __getattr__(name: str) -> Any:
    # the ledger uses this package's atomic files and must not load torch for them
    if name == "CheckpointManager":
        from tft_core.checkpoint_manager.manager import CheckpointManager

        return CheckpointManager
    if name == "checkpoint_content_hash":
        from tft_core.checkpoint_manager.reading import checkpoint_content_hash

        return checkpoint_content_hash
    if name == "state_mismatches":
        from tft_core.models.io import state_mismatches

        return state_mismatches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
