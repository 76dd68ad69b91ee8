"""The network's configuration and its presets."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from tft_core.config import build_dataclass
from tft_core.errors import ConfigError, LookAheadWarning
from tft_core.sequences import ContextMode

Architecture = Literal["x_trend", "linear"]
"""``x_trend``: eq. 12–19 · ``linear``: position = tanh of a linear map of the step's features."""

VsnForm = Literal["identified", "paper", "tft", "none"]
"""``identified``: static weights that mean something (``reference/vsn.md``) · ``paper``: one
FFN per variable, softmax weights per row (X-Trend eq. 13) · ``tft``: one GRN per variable ·
``none``: a linear projection in the VSN's place, which selects nothing."""

LossMode = Literal["sharpe", "joint_mle", "joint_quantile"]

LABEL_CLIP = 5.0
"""Next returns shown to the value encoder are clipped to ± this many daily volatilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XTrendConfig:
    """Shape of an X-Trend network and of what it is shown."""

    n_features: int
    n_assets: int
    """Assets with an embedding of their own; index 0 of the embedding is "unknown"."""
    architecture: Architecture = "x_trend"
    d_hidden: int = 64
    n_heads: int = 4
    lstm_layers: int = 2
    dropout: float = 0.1
    seq_len: int = 42
    """Steps of a target window."""
    warmup: int = 21
    """Steps at the start of a training window that bear no loss."""
    ctx_len: int = 42
    """Steps of a context; in mode ``segment`` the longest."""
    n_context: int = 16
    context_mode: ContextMode = "random"
    context_pool: int = 0
    """Contexts encoded per minibatch and shared by its targets; 0 means twice the targets,
    within 1 and 4 times n_context."""
    causal_contexts: bool = True
    """False shows training targets contexts from their future, as the paper does (footnote 4)."""
    vsn: VsnForm = "identified"
    vsn_hidden: int = 8
    """Hidden units per variable."""
    vsn_penalty: float = 2.0
    """λ of the identified form, in units of annualised Sharpe: enters the loss times the mean
    weight, which starts at 1."""
    vsn_dropout: float = 0.5
    """Share of variables hidden from each asset in a training minibatch (identified form)."""
    share_vsn: bool = True
    """One VSN for query, key and decoder, value = VSN + Linear(label); the paper has four."""
    entity_dropout: float = 0.05
    """Share of (asset, minibatch) pairs trained as the unknown asset, for zero-shot use."""
    target_embedding: bool = True
    """False is the paper's zero-shot network: targets have no embedding, contexts keep theirs."""
    loss_mode: LossMode = "sharpe"
    mle_weight: float = 0.1
    """α: weight of the likelihood (or pinball) part beside the Sharpe loss."""

    def __post_init__(self) -> None:
        for name in ("n_features", "n_assets", "d_hidden", "n_heads", "lstm_layers",
                     "seq_len", "ctx_len", "vsn_hidden"):  # fmt: skip
            _require(getattr(self, name) >= 1, f"model.{name} must be at least 1", self, name)
        _require(self.n_context >= 0, "model.n_context must not be negative", self, "n_context")
        for name in ("dropout", "vsn_dropout", "entity_dropout"):
            _require(
                0.0 <= getattr(self, name) < 1.0, f"model.{name} must lie in [0, 1)", self, name
            )
        for name in ("vsn_penalty", "mle_weight"):
            _require(getattr(self, name) >= 0.0, f"model.{name} must not be negative", self, name)
        _require(
            self.d_hidden % self.n_heads == 0,
            f"model.d_hidden must be a multiple of n_heads ({self.n_heads})",
            self,
            "d_hidden",
        )
        _require(
            0 <= self.warmup < self.seq_len,
            f"model.warmup must lie in [0, seq_len={self.seq_len})",
            self,
            "warmup",
        )
        for name, options in (
            ("architecture", get_args(Architecture)),
            ("vsn", get_args(VsnForm)),
            ("loss_mode", get_args(LossMode)),
            ("context_mode", get_args(ContextMode)),
        ):
            _require(
                getattr(self, name) in options,
                f"model.{name} must be one of {', '.join(options)}",
                self,
                name,
            )
        if self.architecture == "linear":
            for name, only in (("context_mode", "none"), ("vsn", "none"), ("loss_mode", "sharpe")):
                _require(
                    getattr(self, name) == only,
                    f'model.{name} must be "{only}" in architecture linear',
                    self,
                    name,
                )
        if self.uses_context and not self.causal_contexts:
            warnings.warn(
                "model.causal_contexts is False: training targets see contexts and labels of "
                "their own future, as in the paper's footnote 4; validation and out-of-sample "
                "figures stay causal, the training loss does not mean skill",
                LookAheadWarning,
                stacklevel=3,
            )
        if self.uses_context:
            _require(self.n_context >= 1, "model.n_context must be at least 1 with contexts; "
                     'use context_mode "none"', self, "n_context")  # fmt: skip
            _require(
                self.context_pool == 0 or self.context_pool >= self.n_context,
                f"model.context_pool must be 0 or at least n_context ({self.n_context})",
                self,
                "context_pool",
            )
        if self.context_mode == "time":
            _require(
                self.ctx_len == self.seq_len,
                f"model.ctx_len must equal seq_len ({self.seq_len}) in context mode time",
                self,
                "ctx_len",
            )

    @property
    def uses_context(self) -> bool:
        return self.context_mode != "none"

    def pool_size(self, n_targets: int) -> int:
        """Contexts drawn for a minibatch of ``n_targets`` windows."""
        return self.context_pool or min(max(2 * n_targets, self.n_context), 4 * self.n_context)

    @classmethod
    def plan(cls, **changes: Any) -> "XTrendConfig":
        """The plan's defaults (the defaults of this class)."""
        return cls(**changes)

    @classmethod
    def paper(cls, **changes: Any) -> "XTrendConfig":
        """X-Trend as published: Tables 3–4, change-point contexts of at most 21 days.

        α is the paper's for the loss, and FFN_j of the VSN is as wide as the network. The
        label's lag and the causal gate stay this project's (``docs/PARITY.md`` has the rest).
        """
        return cls(
            **{
                "d_hidden": 64,
                "n_heads": 4,
                "lstm_layers": 1,
                "dropout": 0.3,
                "seq_len": 126,
                "warmup": 63,
                "ctx_len": 21,
                "n_context": 20,
                "context_mode": "segment",
                "vsn": "paper",
                "vsn_hidden": changes.get("d_hidden", 64),
                "share_vsn": False,
                "entity_dropout": 0.0,
                "mle_weight": {"joint_quantile": 5.0}.get(changes.get("loss_mode", ""), 1.0),
                **changes,
            }
        )

    @classmethod
    def smoke(cls, **changes: Any) -> "XTrendConfig":
        """The smallest network that has every part: for tests."""
        return cls(
            **{
                "d_hidden": 8,
                "n_heads": 2,
                "lstm_layers": 1,
                "seq_len": 16,
                "warmup": 6,
                "ctx_len": 8,
                "n_context": 3,
                "context_pool": 8,
                "vsn_hidden": 4,
                **changes,
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Every field in plain types; ``from_dict`` gives the same configuration back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "XTrendConfig":
        """Rebuild from ``to_dict``; unknown and missing keys are refused."""
        names = {field.name for field in fields(cls)}
        wrong = sorted(names ^ set(values))
        if wrong:
            raise ConfigError(
                f"a stored model configuration must hold exactly the fields of XTrendConfig, "
                f"found a difference in {', '.join(wrong)}; it was written by another version"
            )
        return build_dataclass(cls, values, where="a stored model configuration")


def _require(holds: bool, rule: str, config: XTrendConfig, name: str) -> None:
    if not holds:
        raise ConfigError(f"{rule}, found {getattr(config, name)!r}")
