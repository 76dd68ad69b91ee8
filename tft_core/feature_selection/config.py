"""The settings of feature selection: the plan's thresholds and those of our own rule."""

from dataclasses import dataclass

from tft_core.errors import ConfigError
from tft_core.limits import require_at_least, require_positive, require_share


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSelectionConfig:
    """Section ``[selection]`` of ``tft.toml``: pre-filter, stability rule, cross-check."""

    min_coverage: float = 0.3
    """A feature must be finite on at least this share of all training rows."""
    correlation_threshold: float = 0.95
    """Of features whose |r| exceeds this only one, the medoid, is kept."""
    correlation_clip: float = 5.0
    """Standard deviations at which values are clipped before r is taken, as the network
    sees them: a few wild rows do not make two features the same."""
    correlation_max_rows: int = 60_000
    """Above this many training rows, r is taken on evenly spaced ones."""
    cluster_threshold: float = 0.7
    """Average |r| above which kept features share a cluster, whose weights are summed."""

    vsn_weight_threshold: float = 0.005
    """The plan's rule: mean weight above this …"""
    stability_min_folds: float = 0.5
    """… and chosen in at least this share of the folds that had the feature."""
    final_max_features: int = 80
    final_min_features: int = 60
    """Filled up to this number by rank, if the verdict allows it; 0 never fills."""

    min_folds: int = 3
    """With fewer folds the report says so and passes the pre-filtered set on."""
    shadow_quantile: float = 0.95
    """Share of shadows that a feature must beat. How many there are is set for the exploration
    pass, and bounds what can be shown: with 20 shadows six true ones among 60 features can
    not be told from luck."""
    max_fdr: float = 0.2
    """Largest expected share of useless features among those that pass."""
    chance_level: float = 0.05
    """Level of the test of all features against all shadows behind ``not_above_chance``."""
    agreement_threshold: float = 0.9
    """Least Spearman correlation between weights and permutation importance."""
    confidence: float = 0.9
    """Two-sided level of every interval in the report."""

    mi_neighbors: int = 3
    """Neighbours of the nearest-neighbour estimate of mutual information."""
    mi_max_rows: int = 3_000
    """Rows (evenly spaced) on which mutual information is estimated; its cost is in these."""
    seed: int = 0
    """Seed of the label permutation test and of the mutual information's tie-breaking."""

    def __post_init__(self) -> None:
        require_share(
            self,
            "selection",
            "min_coverage",
            "correlation_threshold",
            "cluster_threshold",
            "vsn_weight_threshold",
            "stability_min_folds",
            "agreement_threshold",
        )
        for name in ("shadow_quantile", "max_fdr", "chance_level", "confidence"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise ConfigError(f"selection.{name} must lie in (0, 1), found {value:g}")
        require_positive(self, "selection", "correlation_clip")
        require_at_least(
            self,
            "selection",
            correlation_max_rows=100,
            final_max_features=1,
            final_min_features=0,
            min_folds=2,
            mi_neighbors=1,
            mi_max_rows=100,
        )
        if self.final_min_features > self.final_max_features:
            raise ConfigError(
                "selection.final_min_features must not exceed final_max_features "
                f"({self.final_max_features}), found {self.final_min_features}"
            )
