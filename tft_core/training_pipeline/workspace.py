"""One opened configuration: its fold plan, stores, and the way to build an asset.

A workspace is what a Dagster resource, the command line and a notebook share. It holds
paths and settings; the science of each asset lies in ``phases``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tft_core.checks.findings import Finding
from tft_core.config import Settings, load_settings
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.errors import ArtifactError, ConfigError, FoldError
from tft_core.features.builder import FeatureConfig, MegaFeatureBuilder
from tft_core.folds import FoldConfig, WalkForward
from tft_core.hp_tuner.config import TunerConfig
from tft_core.logs import log_context
from tft_core.schema import content_hash
from tft_core.training_pipeline.arrivals import Arrivals, arrivals, arrivals_stamp
from tft_core.training_pipeline.artifacts import Artifact, ArtifactStore, open_artifacts
from tft_core.training_pipeline.bars import market_rows
from tft_core.training_pipeline.feature_inputs import feature_inputs
from tft_core.training_pipeline.graph import (
    LIFECYCLE,
    SPECS,
    code_version,
    keys_of,
    made_from,
)

if TYPE_CHECKING:
    from tft_core.checkpoint_manager import CheckpointManager

Progress = Callable[[str], None]
"""Takes one line about what is being done."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Settings resolved into the objects that phases work with."""

    settings: Settings
    plan: WalkForward
    artifacts: ArtifactStore
    retune_every: int
    """Folds from one study to the next."""
    skip: frozenset[str] = field(default_factory=frozenset)
    """Toggles of the plan: ``tuning``, ``feature_selection``."""

    @classmethod
    def open(cls, settings: Settings | None = None) -> "Workspace":
        """Resolve settings; default those that ``load_settings`` finds.

        Raises:
            ConfigError: A section that every workspace reads (folds, tuning) cannot be used.
        """
        resolved = settings or load_settings()
        return cls(
            settings=resolved,
            plan=WalkForward.from_config(resolved.build(FoldConfig, "folds")),
            artifacts=open_artifacts(resolved),
            retune_every=resolved.build(TunerConfig, "tuning").retune_every,
        )

    @property
    def registry(self) -> "CheckpointManager":
        """The model registry; loading it loads torch, so it is made on use."""
        from tft_core.checkpoint_manager import CheckpointManager

        return CheckpointManager(self.settings.checkpoints_dir)

    def store(self) -> MarketDataStore:
        """The market store, read-only; close it (it is a context manager)."""
        return MarketDataStore(self.settings.store_path, read_only=True)

    def universe(self, symbols: tuple[str, ...]) -> Universe:
        """The configured universe; a member that is not among ``symbols`` is an error."""
        return Universe.resolve(self.settings.build(UniverseConfig, "universe"), symbols)

    def dated_universe(self, symbols: tuple[str, ...]) -> Universe:
        """The configured universe, members without any row in ``symbols`` included."""
        config = self.settings.build(UniverseConfig, "universe")
        members = {symbol for member in config.members for symbol in member.symbols}
        return Universe.resolve(config, tuple(sorted(members | set(symbols))))

    def universe_hash(self, key: str) -> str:
        """Content hash of the universe as far as a fold's model meets it.

        The model carries it and its record is sized by it, also where no feature row shows a
        difference: a member whose end is announced, say.
        """
        config = self.settings.build(UniverseConfig, "universe")
        return content_hash(config.as_seen_before(self.plan.fold(key).test_end))

    def builder(self) -> MegaFeatureBuilder:
        """The builder of the configured features."""
        return MegaFeatureBuilder(
            self.settings.build(FeatureConfig, "features"),
            self.settings.build(UniverseConfig, "universe"),
        )

    # -- what is there, what is fresh ------------------------------------------------------

    def upstream(self, asset: str, key: str) -> tuple[tuple[str, str], ...]:
        """All (asset, key) pairs that a lifecycle partition is made from."""
        return made_from(asset, key, self.plan, self.retune_every)

    def upstream_hashes(self, asset: str, key: str) -> dict[str, str]:
        """``asset/key`` of each artifact that a lifecycle partition is made from → content hash.

        Raises:
            ArtifactError: One was never made, is damaged, or failed a blocking check.
        """
        made = [self.artifacts.read(*pair) for pair in self.upstream(asset, key)]
        return {artifact.name: artifact.content_hash for artifact in made}

    def fingerprint(self, asset: str) -> str:
        """Code version and settings an artifact of ``asset`` is made under today."""
        return code_version(asset, self.settings)

    def is_fresh(self, asset: str, key: str) -> bool:
        """Whether the stored artifact is what a build would make from what is stored now.

        A damaged one, or one made from a damaged one, is not: only making it again helps.
        """
        try:
            return self._is_fresh(asset, key)
        except ArtifactError:
            return False

    def _is_fresh(self, asset: str, key: str) -> bool:
        artifact = self.artifacts.current(asset, key)
        if artifact is None or artifact.fingerprint != self.fingerprint(asset):
            return False
        if asset == "market_data" and not self._store_agrees(artifact):
            return False
        if asset == "mega_features" and not self._inputs_agree(artifact):
            return False
        if asset == "production_fold" and not self._holds_candidates(artifact):
            return False
        if asset in ("production_fold", "out_of_sample"):
            now = self.universe_hash(key)
            # those made before it was kept count as they did
            if artifact.summary.get("universe_hash", now) != now:
                return False
        for upstream, upstream_key in self.upstream(asset, key):
            made = self.artifacts.current(upstream, upstream_key)
            if made is None or artifact.made_from.get(made.name) != made.content_hash:
                return False
        return set(artifact.made_from) == {f"{a}/{k}" for a, k in self.upstream(asset, key)}

    def _store_agrees(self, artifact: Artifact) -> bool:
        """Whether the store still holds the bars that a ``market_data`` artifact describes."""
        with self.store() as store:
            return artifact.json("rows.json") == market_rows(self, store, artifact.key)

    def _inputs_agree(self, artifact: Artifact) -> bool:
        """Whether facts, series, users' tables and code are those the features were made from."""
        with self.store() as store:
            return artifact.summary.get("inputs_hash") == feature_inputs(self, store, artifact.key)

    def _holds_candidates(self, artifact: Artifact) -> bool:
        """Whether the registry still holds the models that a ``production_fold`` names."""
        digests = set(artifact.json("candidates.json").values())
        return all(self.registry.find(digest) is not None for digest in digests)

    def arrivals_stamp(self) -> str:
        """Changes whenever ``arrivals`` could; opens nothing, empty without a store."""
        return arrivals_stamp(self)

    def arrivals(self) -> Arrivals:
        """What the store holds beyond what the live fold was made from."""
        return arrivals(self)

    def health(self) -> tuple[Finding, ...]:
        """What is wrong with serving today: stale bars, an old model, drifted inputs."""
        from tft_core.training_pipeline.health import health_findings

        return health_findings(self)

    def lifecycle(self) -> list[tuple[str, str]]:
        """Every (asset, key) from market data to the checkpoint, upstream first."""
        return [(name, key) for name in LIFECYCLE for key in keys_of(SPECS[name], self.plan)]

    # -- building ----------------------------------------------------------------------------

    def build(
        self,
        asset: str,
        key: str,
        overrides: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Artifact:
        """Make one partition of one asset from its upstream artifacts.

        Args:
            overrides: Values that replace settings for this build only, e.g. ``{"seed": 7}``.
                What they make can be looked at; it is stale to the next run, which makes what
                the settings ask for.
            progress: Receives a line now and then on long work.

        Raises:
            TftError: Whatever the phase refuses; the partition's previous artifact stays.
        """
        # imported here: serving opens workspaces without loading training
        from tft_core.training_pipeline.phases import PHASES

        if asset not in PHASES:
            raise ConfigError(f"asset must be one of {', '.join(PHASES)}, found {asset!r}")
        phase = PHASES[asset]
        unknown = sorted(set(overrides or {}) - set(phase.overrides))
        if unknown:
            raise ConfigError(
                f"overrides of {asset} must be among {', '.join(phase.overrides) or '(none)'}, "
                f"found {unknown[0]!r}"
            )
        if SPECS[asset].partitions in ("fold", "reported"):
            keys = keys_of(SPECS[asset], self.plan)
            if key not in keys:
                raise FoldError(
                    f"partition of {asset} must be one of {', '.join(keys)}, found {key!r}"
                )
        is_session = SPECS[asset].partitions == "session"
        upstream = {} if is_session else self.upstream_hashes(asset, key)
        values = {name: v for name, v in (overrides or {}).items() if v is not None}
        fingerprint, replaced = self.fingerprint(asset), phase.replaced(values)
        if replaced:  # another artifact than the settings ask for: not fresh under them
            fingerprint = content_hash([fingerprint, replaced])[: len(fingerprint)]
        with (
            log_context(asset=asset, **{"session" if is_session else "fold": key}),
            self.artifacts.draft(asset, key, fingerprint) as draft,
        ):
            draft.made_from.update(upstream)
            phase.run(self, key, draft, values, progress or (lambda line: None))
        made = self.artifacts.current(asset, key)
        assert made is not None
        return made

    def with_settings(self, **sections: Mapping[str, Any]) -> "Workspace":
        """A workspace whose sections are overlaid by the given ones (tests, toggles)."""
        merged = {k: dict(v) for k, v in self.settings.sections.items()}
        for name, values in sections.items():
            merged[name] = {**merged.get(name, {}), **values}
        opened = Workspace.open(replace(self.settings, sections=merged))
        return replace(opened, skip=self.skip)
