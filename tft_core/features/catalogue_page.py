"""``docs/features.md``: what every feature is, written from the registry.

python -m tft_core.features.catalogue_page > docs/features.md
"""

from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import FeatureGroup, FeatureRegistry

HEAD = """# Features

Written by `make docs` from the registry (`tft_core/features/groups/`); don't edit. {total}
features in {n_groups} groups. Every one is checked against a slow, independent computation
(`tests/oracles/feature_values.py`, `feature_values_market.py`), for look-ahead and for finite
memory (`tft audit`). For groups of your own see [own-features.md](own-features.md).

## How to read the formulas

- **Sessions** are the asset's own: "21 sessions" are the last 21 on which *it* traded, the current
  one included. A **market session** is a date on which at least 80 % of the dated universe traded;
  the groups {market_groups} count those. `t` is the current session, `x_t−1` the value one session
  before. **Lookback** is the number of sessions a feature reads; a shorter history gives NaN.
- O, H, L, C, V, OI: open, high, low, close, volume, open interest. Δ: change since the previous
  session. ln: natural logarithm. Σ over n sessions: the last n.
- **r** = ln(C_t / C_t−1), the daily log return. **Deviation** is the population standard
  deviation (divisor n), exactly 0 over a constant window; **variance** its square. **z-score** over
  n sessions = (newest − mean) / deviation of the last n. **Correlation** is Pearson's, NaN if a
  side is constant. q05, q25, …: quantiles with linear interpolation. Ranks give ties their mean.
- **EMA n** = Σ_k (1 − α)^k x_t−k / Σ_k (1 − α)^k with α = 2/(n + 1), over k = 0 … 251 and known
  values only; **Wilder n** the same with α = 1/n. They end after 252 sessions (or as stated), so
  that history length can't matter, and differ from the recursive forms by less than the weight
  beyond.
- **σ_t** = pandas `ewm(span=60).std()` of the last 252 simple returns C_t / C_t−1 − 1, at least 21
  of them. **z** (in cpd, cyc, rmt) = r_t / σ_t−1, clipped at ±10.
- A window of n sessions needs numbers in at least 80 % of them (rounded up) and is taken over
  those; least-squares lines, quantiles and tails of returns, fractional differences, Fourier
  windows and TA-Lib indicators need all n. Where a number is undefined (0/0, ln of 0, an absent
  column) the feature is NaN, never 0.
- Values are compared after rounding to 9 to 12 digits where ties decide, so that equal prices tie
  whatever their last bit is. Results are float32.
- Restating prices (a roll, a split, another unit) changes no feature: all are free of scale.
"""

_AXIS = {"own_sessions": "", "market": " Counted on market sessions, over the dated universe."}


def page(registry: FeatureRegistry | None = None) -> str:
    """The catalogue as one Markdown page; by default of the built-in groups."""
    registry = registry or MegaFeatureBuilder().registry
    market = [f"`{group.name}`" for group in registry.groups if group.axis == "market"]
    head = HEAD.format(
        total=len(registry.features),
        n_groups=len(registry.groups),
        market_groups=" and ".join(market),
    )
    return "\n".join([head, _overview(registry), *map(_section, registry.groups)])


def _overview(registry: FeatureRegistry) -> str:
    rows = [
        f"| [{group.name}](#{_anchor(group)}) | {group.title} | {len(group.features)} | "
        f"{max(feature.lookback for feature in group.features)} |"
        for group in registry.groups
    ]
    return "\n".join(["| group | | features | longest lookback |", "|---|---|---|---|", *rows, ""])


def _section(group: FeatureGroup) -> str:
    rows = [
        f"| `{f.name}` | {_cell(f.description)} | {', '.join(f.inputs)} | {f.lookback} | "
        f"{_cell(f.unit)} | {_cell(f.source)} |"
        for f in group.features
    ]
    head = [
        f"## {group.title} ({group.name})",
        "",
        f"{len(group.features)} features.{_AXIS[group.axis]}",
        "",
        "| name | formula | inputs | lookback | unit | source |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _anchor(group: FeatureGroup) -> str:
    kept = "".join(c for c in f"{group.title} {group.name}".lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
