"""The asset graph as data: what each asset is made from, and which settings it reads.

``tft run`` and Dagster both build from this one table, so that they agree about what is
missing, what is stale and in which order things are made.
"""

from dataclasses import dataclass
from typing import Any, Literal

from tft_core.config import Settings
from tft_core.errors import FoldError
from tft_core.folds import WalkForward
from tft_core.schema import LIVE_FOLD, content_hash

Relation = Literal["same", "upto", "before", "upto_next", "study", "all", "live"]
"""Which upstream keys partition k is made from:
``same`` k itself · ``upto`` all keys ≤ k · ``before`` all keys < k · ``upto_next`` all keys
up to the one after k · ``study`` k and the fold whose study k uses · ``all`` every key of the
upstream · ``live`` the live fold only."""

Partitions = Literal["fold", "reported", "none", "session"]
UNPARTITIONED_KEY = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSpec:
    """One asset of the lifecycle."""

    name: str
    partitions: Partitions
    upstream: tuple[tuple[str, Relation], ...]
    sections: tuple[str, ...]
    """Config sections it reads; a change in one of them makes it stale."""
    code_version: str
    trains: bool = False
    """True where it holds a slot of the ``gpu`` pool."""


GRAPH: tuple[AssetSpec, ...] = (
    AssetSpec(
        name="market_data",
        partitions="fold",
        upstream=(),
        sections=("store", "universe"),
        code_version="2",
    ),
    AssetSpec(
        name="mega_features",
        partitions="fold",
        upstream=(("market_data", "upto"),),
        sections=("universe", "features", "costs"),
        code_version="5",
    ),
    AssetSpec(
        name="prefiltered_features",
        partitions="fold",
        upstream=(("mega_features", "upto"),),
        sections=("selection",),
        code_version="2",
    ),
    AssetSpec(
        name="exploration_fold",
        partitions="fold",
        upstream=(("prefiltered_features", "same"), ("mega_features", "upto")),
        sections=("selection", "exploration", "model", "training", "positions", "costs"),
        code_version="6",
        trains=True,
    ),
    AssetSpec(
        name="vsn_stability_report",
        partitions="fold",
        upstream=(("exploration_fold", "upto"), ("prefiltered_features", "same")),
        sections=("selection",),
        code_version="2",
    ),
    AssetSpec(
        name="optuna_study",
        partitions="fold",
        upstream=(("vsn_stability_report", "before"), ("mega_features", "upto")),
        sections=("tuning", "selection", "model", "training", "positions", "costs"),
        code_version="7",
        trains=True,
    ),
    AssetSpec(
        name="production_fold",
        partitions="fold",
        upstream=(
            ("vsn_stability_report", "same"),
            ("optuna_study", "study"),
            ("mega_features", "upto"),
        ),
        sections=("model", "training", "positions", "costs"),
        code_version="5",
        trains=True,
    ),
    AssetSpec(
        name="out_of_sample",
        partitions="reported",
        upstream=(("production_fold", "same"), ("mega_features", "upto_next")),
        sections=("positions", "costs", "serving"),
        code_version="4",
    ),
    AssetSpec(
        name="production_checkpoint",
        partitions="none",
        upstream=(
            ("out_of_sample", "all"),
            ("production_fold", "live"),
            ("vsn_stability_report", "live"),
        ),
        sections=("gate", "positions"),
        code_version="2",
    ),
    AssetSpec(
        name="inference",
        partitions="session",
        upstream=(("production_checkpoint", "all"),),
        sections=("serving", "universe"),
        code_version="2",
    ),
    AssetSpec(
        name="strategy_signals",
        partitions="session",
        upstream=(("inference", "same"),),
        sections=("serving",),
        code_version="1",
    ),
)
SPECS = {spec.name: spec for spec in GRAPH}
LIFECYCLE = tuple(s.name for s in GRAPH if s.partitions != "session")
"""Assets from market data to the production checkpoint, in the order they are made."""


def keys_of(spec: AssetSpec, plan: WalkForward) -> tuple[str, ...]:
    """Partition keys of an asset; sessions are not listed here (they follow the calendar)."""
    if spec.partitions == "fold":
        return plan.keys
    if spec.partitions == "reported":
        return plan.reported_keys
    if spec.partitions == "none":
        return (UNPARTITIONED_KEY,)
    raise FoldError(f"asset {spec.name} must be partitioned by fold, found by session")


def upstream_keys(
    relation: Relation, upstream: AssetSpec, key: str, plan: WalkForward, retune_every: int
) -> tuple[str, ...]:
    """The keys of ``upstream`` that partition ``key`` is made from."""
    if relation == "same":
        return (key,)
    if relation == "upto":
        return plan.upto(key)
    if relation == "before":
        return plan.upto(key)[:-1]
    if relation == "upto_next":
        return plan.upto(plan.next_key(key))
    if relation == "study":
        return tuple(dict.fromkeys((study_key(key, plan, retune_every), key)))
    if relation == "live":
        return (LIVE_FOLD,)
    return keys_of(upstream, plan)


def study_key(key: str, plan: WalkForward, retune_every: int) -> str:
    """The fold whose study fold ``key`` uses.

    Tuned at the first fold, every ``retune_every`` folds, and at ``live``. It follows from
    the fold's position alone, so a new window moves no older fold's study.
    """
    if plan.fold(key).is_live:
        return key
    position = plan.keys.index(key)
    return plan.keys[position - position % retune_every]


def made_from(
    name: str, key: str, plan: WalkForward, retune_every: int
) -> tuple[tuple[str, str], ...]:
    """All (asset, key) pairs that partition ``key`` of asset ``name`` is made from."""
    return tuple(
        (upstream, upstream_key)
        for upstream, relation in SPECS[name].upstream
        for upstream_key in upstream_keys(relation, SPECS[upstream], key, plan, retune_every)
    )


def window_rule(settings: Settings) -> dict[str, Any]:
    """Section ``[folds]`` without the number of windows: a new window changes no older fold."""
    return {k: v for k, v in settings.sections.get("folds", {}).items() if k != "n_windows"}


def code_version(name: str, settings: Settings) -> str:
    """Version of an asset's code, settings and window rule, never of the number of windows."""
    spec = SPECS[name]
    state = {
        "code": spec.code_version,
        "profile": settings.profile,
        "folds": window_rule(settings),
        "sections": {s: settings.sections.get(s, {}) for s in spec.sections},
    }
    return content_hash(state)[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """A statement about an artifact; a finding whose code is its name says it does not hold."""

    name: str
    blocking: bool
    description: str


CHECKS: dict[str, tuple[CheckSpec, ...]] = {
    "market_data": (
        CheckSpec(
            name="bars_are_sane",
            blocking=True,
            description="Prices are positive and finite, symbols have data, spikes are flagged.",
        ),
    ),
    "mega_features": (
        CheckSpec(
            name="features_are_causal",
            blocking=True,
            description="Cutting or poisoning the future changes no past value of any feature.",
        ),
        CheckSpec(
            name="features_have_finite_history",
            blocking=True,
            description="The last day built from the required lookback equals the full build.",
        ),
        CheckSpec(
            name="features_are_covered",
            blocking=False,
            description="Enough features have values on the partition's rows.",
        ),
        CheckSpec(
            name="costs_are_named",
            blocking=False,
            description="No instrument is charged the default for want of its class in [costs].",
        ),
    ),
    "exploration_fold": (
        CheckSpec(
            name="training_converged",
            blocking=True,
            description="Every seed trained to finite losses and a finite validation Sharpe.",
        ),
    ),
    "vsn_stability_report": (
        CheckSpec(
            name="selection_is_above_chance",
            blocking=False,
            description="Weights of real features lie above those of shadow features.",
        ),
    ),
    "production_fold": (
        CheckSpec(
            name="training_converged",
            blocking=True,
            description="Every member trained to finite losses and a finite validation Sharpe.",
        ),
        CheckSpec(
            name="checkpoint_verifies",
            blocking=True,
            description="The saved candidate loads, its hashes match, and it predicts alike.",
        ),
    ),
    "production_checkpoint": (
        CheckSpec(
            name="checkpoint_verifies",
            blocking=True,
            description="The candidate in the registry loads and its hashes match.",
        ),
        CheckSpec(
            name="gate_passed",
            blocking=False,
            description="The candidate meets the gate; a refused one is kept, not promoted.",
        ),
    ),
    "inference": (
        CheckSpec(
            name="inputs_are_fresh",
            blocking=False,
            description="Every asset of the model has a bar of the session; others are named.",
        ),
    ),
    "strategy_signals": (
        CheckSpec(
            name="ledger_is_consistent",
            blocking=True,
            description="The ledger holds this session once, as published.",
        ),
    ),
}
