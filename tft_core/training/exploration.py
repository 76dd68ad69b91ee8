"""The exploration pass: train with shadow features beside the real ones, then ask the model
which features it uses: selection weight, permutation, integrated gradients.

One call is one fold; it makes the long record that the stability report reads.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from tft_core.errors import ConfigError, TrainingError
from tft_core.metrics import sharpe_ann
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import encode_in_chunks, integrated_gradients
from tft_core.models.network import Batch, ContextBank, XTrend
from tft_core.models.variable_selection import IdentifiedSelection
from tft_core.positions import PositionConfig
from tft_core.sequences import RowTable, epoch_windows, window_index
from tft_core.training.config import TrainingConfig
from tft_core.training.determinism import pinned
from tft_core.training.evaluation import diversified, net_by_row, scored_rows
from tft_core.training.loop import MemberResult, train_member
from tft_core.training.progress import Progress

SHADOW_PREFIX = "shadow::"
SHIFTS = 4
"""Most shadows of one feature."""
PERMUTE_STREAM, PROBE_STREAM = 12, 13
STEPS_AT_ONCE = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationConfig:
    """Budgets of the exploration pass; the rest of the training is the configured one."""

    n_seeds: int = 3
    pretrain_epochs: int = 15
    finetune_epochs: int = 25
    n_shadows: int = 64
    """Time-shifted copies of real features; at most ``SHIFTS`` of each."""
    permutation_windows: int = 256
    """Validation windows that permutation is measured on; 0 leaves it out (NaN)."""
    ig_windows: int = 64
    """Validation windows whose integrated gradients are averaged; 0 leaves them out (NaN)."""
    ig_steps: int = 4
    """Gauss–Legendre nodes of the integral."""

    def __post_init__(self) -> None:
        for name, low in (
            ("n_seeds", 1),
            ("pretrain_epochs", 0),
            ("finetune_epochs", 1),
            ("n_shadows", 0),
            ("permutation_windows", 0),
            ("ig_windows", 0),
            ("ig_steps", 1),
        ):
            if getattr(self, name) < low:
                raise ConfigError(
                    f"exploration.{name} must be at least {low}, found {getattr(self, name)}"
                )

    def training(self, base: TrainingConfig) -> TrainingConfig:
        """The training configuration with this pass's budgets."""
        return replace(
            base,
            n_seeds=self.n_seeds,
            pretrain_epochs=self.pretrain_epochs,
            finetune_epochs=self.finetune_epochs,
        )


@dataclass(frozen=True, slots=True)
class ExplorationResult:
    """One fold's exploration."""

    records: pd.DataFrame
    """``feature_selection.evidence.RUN_COLUMNS``, one row per seed and feature, shadows included;
    the caller adds the fold."""
    histories: pd.DataFrame
    val_sharpe_members: tuple[float, ...]
    best_epochs: tuple[int, ...]
    seconds_training: float
    seconds_measuring: float
    optimiser_steps: int


def explore(
    rows: RowTable,
    fit_rows: Bool[np.ndarray, " row"],
    val_rows: Bool[np.ndarray, " row"],
    model_config: XTrendConfig,
    training_config: TrainingConfig,
    config: ExplorationConfig,
    *,
    positions: PositionConfig | None = None,
    progress: Progress | None = None,
) -> ExplorationResult:
    """Train the exploration members and measure what each uses.

    Args:
        model_config: Its ``n_features`` is that of ``rows``; shadows are added here.
        positions: How outputs become positions (see ``train_member``).

    As of:
        The last label of ``val_rows``.

    Raises:
        ConfigError: The network has no VSN.
    """
    if model_config.vsn == "none":
        raise ConfigError(
            "exploration must have a variable selection network to look at, found model.vsn none; "
            "run with --skip-feature-selection"
        )
    training = config.training(training_config)
    results, records = [], []
    measuring = 0.0
    shadowed = with_shadows(rows, val_rows, config.n_shadows)
    wide = replace(model_config, n_features=shadowed.n_features)
    for seed in training.seeds:
        result = train_member(
            shadowed,
            fit_rows,
            val_rows,
            wide,
            training,
            seed,
            positions=positions,
            progress=progress,
        )
        started = time.perf_counter()
        with pinned(seed, training.threads, training.device):
            records.append(measure(result, shadowed, val_rows, config, seed, training.device))
        measuring += time.perf_counter() - started
        results.append(result)
    return ExplorationResult(
        records=pd.concat(records, ignore_index=True),
        histories=pd.DataFrame(
            [{f: getattr(e, f) for f in e.__slots__} for r in results for e in r.reports]
        ),
        val_sharpe_members=tuple(r.val_sharpe for r in results),
        best_epochs=tuple(r.best_epoch for r in results),
        seconds_training=sum(r.seconds for r in results),
        seconds_measuring=measuring,
        optimiser_steps=sum(r.optimiser_steps for r in results),
    )


def with_shadows(rows: RowTable, val_rows: Bool[np.ndarray, " row"], n_shadows: int) -> RowTable:
    """Append circularly time-shifted copies of real features.

    A shadow has its original's distribution and memory but no tie to the label. Rows before
    the validation are shifted among themselves, later ones among themselves, so nothing
    crosses into the training rows; a shadow is shifted by as many sessions in all assets with
    periods about as long, so its cross-section stays real. Which features are copied and how
    far they are shifted follows from their names and the power of two below the period's
    length: a shadow meets the same labels in every seed and in folds that overlap, so that it
    overfits the same accident every time, as a useless feature does. (A shift by a share of the
    length would make new accidents in every fold, which average out, and the null too narrow.)

    Args:
        n_shadows: How many; every feature is copied once before one is copied again, at
            another shift, and at most ``SHIFTS`` times.
    """
    count = min(n_shadows, SHIFTS * rows.n_features)
    # copy 0 of every feature in the order of its draw, then copy 1, …
    draws = np.array(
        [_draw_of(_copy(name, k)) for k in range(SHIFTS) for name in rows.feature_names]
    )
    rank = np.lexsort((draws[:, 0], np.repeat(np.arange(SHIFTS), rows.n_features)))[:count]
    copy, originals = np.divmod(rank, rows.n_features)
    shares = 0.25 + 0.5 * draws[rank, 1]
    shadows = np.empty((len(rows), count), dtype=np.float32)
    for block in blocks_of(rows, val_rows):
        length = len(block)
        offsets = np.round(shares * 2 ** (length.bit_length() - 1)).astype(np.int64)
        source = (np.arange(length)[:, None] - offsets) % length
        shadows[block] = rows.features[block[source], originals]
    names = tuple(
        f"{SHADOW_PREFIX}{_copy(rows.feature_names[j], k)}"
        for k, j in zip(copy, originals, strict=True)
    )
    return rows.with_features(
        np.concatenate([rows.features, shadows], axis=1), (*rows.feature_names, *names)
    )


def _copy(name: str, number: int) -> str:
    """A copy's name: the feature's own for the first."""
    return f"{name}#{number + 1}" if number else name


def _draw_of(name: str) -> tuple[float, float]:
    """Two numbers in [0, 1) that belong to a name, the same on every machine."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64, int.from_bytes(digest[8:16]) / 2**64


def blocks_of(
    rows: RowTable, val_rows: Bool[np.ndarray, " row"]
) -> list[Int64[np.ndarray, " some_row"]]:
    """Row numbers of each asset, before the first validation date and from it on."""
    if not val_rows.any():
        raise TrainingError("exploration must be given validation rows, found none")
    boundary = rows.date_index[val_rows].min()
    blocks = []
    for first, stop in zip(rows.asset_start[:-1], rows.asset_start[1:], strict=True):
        own = np.arange(first, stop)
        is_late = rows.date_index[own] >= boundary
        blocks += [own[~is_late], own[is_late]]
    return [block for block in blocks if len(block)]


def measure(
    result: MemberResult,
    rows: RowTable,
    val_rows: Bool[np.ndarray, " row"],
    config: ExplorationConfig,
    seed: int,
    device: str = "cpu",
) -> pd.DataFrame:
    """One member's record: weight, lift, permutation and gradients of every feature."""
    member, bank = result.member.eval(), result.bank
    tensors = RowTensors.of(rows, member.config, device)
    at = scored_rows(rows, val_rows)
    is_shadow = np.array([name.startswith(SHADOW_PREFIX) for name in rows.feature_names])
    weight = mean_weights(member, tensors, at)
    weight = weight / weight[~is_shadow].sum() if weight[~is_shadow].sum() > 0 else weight * np.nan
    dposition, dsharpe = permutation_importance(member, bank, rows, val_rows, config, seed, device)
    gradients = np.full(rows.n_features, np.nan)
    if config.ig_windows:
        rng = np.random.default_rng([seed, PROBE_STREAM])
        probe = np.sort(rng.choice(at, size=min(config.ig_windows, len(at)), replace=False))
        index = window_index(rows, probe, member.config.seq_len)
        parts = integrated_gradients(member, bank, tensors, index, config.ig_steps)
        gradients = np.abs(parts).mean(axis=0)
    return pd.DataFrame(
        {
            "seed": seed,
            "feature": list(rows.feature_names),
            "is_shadow": is_shadow,
            "weight": weight,
            "lift": weight * int((~is_shadow).sum()),
            "perm_dposition": dposition,
            "perm_dsharpe": dsharpe,
            "ig": gradients,
        }
    )


@torch.no_grad()
def mean_weights(
    member: XTrend, tensors: RowTensors, at: Int64[np.ndarray, " row"]
) -> Float64[np.ndarray, " feature"]:
    """Selection weights of the decoder's VSN, averaged over rows with their own entity."""
    selection = member.main_selection
    if isinstance(selection, IdentifiedSelection):
        return selection.static_weights().double().cpu().numpy()
    batch = tensors.batch(at[:, None])
    weights = member.selection_weights(batch)
    return weights.double().mean(dim=0).cpu().numpy()


@torch.no_grad()
def permutation_importance(
    member: XTrend,
    bank: ContextBank | None,
    rows: RowTable,
    val_rows: Bool[np.ndarray, " row"],
    config: ExplorationConfig,
    seed: int,
    device: str = "cpu",
) -> tuple[Float64[np.ndarray, " feature"], Float64[np.ndarray, " feature"]]:
    """Mean |Δposition| and loss of net Sharpe when a feature is shuffled in time.

    A feature is permuted within each asset's rows before, and from, the first validation
    date. Positions are read at every loss step of tiled windows (not at last steps only), so
    that one window tells of many days. Of the row encodings only the permuted feature's
    part is redone where the VSN is additive; the context bank stays as it is.
    """
    nothing = np.full(rows.n_features, np.nan)
    if config.permutation_windows == 0:
        return nothing, nothing.copy()
    rng = np.random.default_rng([seed, PERMUTE_STREAM])
    model = member.config
    index, counts = epoch_windows(
        rows, val_rows & rows.can_bear_loss, model.seq_len, model.warmup, rng
    )
    if len(index) > config.permutation_windows:
        kept = np.sort(rng.choice(len(index), size=config.permutation_windows, replace=False))
        index, counts = index[kept], counts[kept]
    tensors = RowTensors.of(rows, model, device)
    batch = tensors.batch(index)
    at = index[counts]
    order = np.argsort(at)
    probe = _Probe(member, bank, batch, torch.from_numpy(counts), order)
    shuffled = permuted_rows(rows, val_rows, rng)
    used = np.unique(index[index >= 0])
    base_z = probe.positions([probe.encoded])[0]
    base_sharpe = _sharpe(rows, at[order], base_z)
    dposition, dsharpe = np.zeros(rows.n_features), np.zeros(rows.n_features)
    at_once = max(1, STEPS_AT_ONCE // index.size)
    unused = probe.unused_features()
    todo = [j for j in range(rows.n_features) if j not in unused]
    for start in range(0, len(todo), at_once):
        chosen = todo[start : start + at_once]
        encodings = [
            probe.encode_with(j, tensors.features[shuffled[used], j].to(device)) for j in chosen
        ]
        for j, z in zip(chosen, probe.positions(encodings), strict=True):
            dposition[j] = np.abs(z - base_z).mean()
            dsharpe[j] = base_sharpe - _sharpe(rows, at[order], z)
    return dposition, dsharpe


def permuted_rows(
    rows: RowTable, val_rows: Bool[np.ndarray, " row"], rng: np.random.Generator
) -> Int64[np.ndarray, " row"]:
    """For every row, the row whose value it is given: a shuffle within each asset's block."""
    source = np.arange(len(rows))
    for block in blocks_of(rows, val_rows):
        source[block] = rng.permutation(block)
    return source


class _Probe:
    """Runs one set of windows on many versions of the row encodings."""

    def __init__(
        self,
        member: XTrend,
        bank: ContextBank | None,
        batch: Batch,
        counts: Tensor,
        order: Int64[np.ndarray, " row"],
    ) -> None:
        self.member, self.bank, self.batch = member, bank, batch
        self.counts, self.order = counts, order
        self.encoded, self.entity = encode_in_chunks(member, batch)

    def unused_features(self) -> set[int]:
        """Features with weight 0 in every VSN that predicts: permuting them changes nothing."""
        found = self.member.identified()
        if not found:
            return set()
        dead = [set(torch.nonzero(m.u <= 0.0).flatten().tolist()) for m in found]
        return set.intersection(*dead)

    def encode_with(
        self, feature: int, values: Float32[Tensor, " row"]
    ) -> dict[str, Float32[Tensor, "row_plus_padding hidden"]]:
        """Row encodings with one feature's values replaced."""
        if self.member.identified():
            changed: dict[int, Tensor] = {}
            out = {}
            for role, encoding in self.encoded.items():
                if id(encoding) not in changed:
                    name = "shared" if self.member.config.share_vsn else role
                    selection = self.member.selection[name]
                    assert isinstance(selection, IdentifiedSelection)
                    delta = selection.contribution(values, feature) - selection.contribution(
                        self.batch.x[:, feature], feature
                    )
                    changed[id(encoding)] = torch.cat([encoding[:-1] + delta, encoding[-1:]])
                out[role] = changed[id(encoding)]
            return out
        x = self.batch.x.clone()
        x[:, feature] = values
        return encode_in_chunks(self.member, self.batch._replace(x=x))[0]

    def positions(self, encodings: Sequence[dict[str, Tensor]]) -> list[np.ndarray]:
        """Positions at the counted steps, in row order, for each version."""
        copies, length = len(encodings), len(self.batch.index)
        n_rows = len(self.batch.x)
        # all versions as one batch: version v's rows lie at v·(N+1), its padding row last
        stacked = {
            role: torch.cat([e[role] for e in encodings])
            for role in ("query", "decoder")
            if role in encodings[0]
        }
        shift = torch.arange(copies, device=self.batch.x.device).repeat_interleave(length)
        index = self.batch.index.repeat(copies, 1) + shift[:, None] * (n_rows + 1)
        wide = self.batch._replace(index=index, window_group=self.batch.window_group.repeat(copies))
        states, _ = self.member.states_from_rows(stacked, wide, self.entity, self.bank)
        z = self.member.head(states).z.view(copies, length, -1)
        return [version[self.counts].double().cpu().numpy()[self.order] for version in z]


def _sharpe(rows: RowTable, at: Int64[np.ndarray, " row"], z: Float64[np.ndarray, " row"]) -> float:
    return sharpe_ann(diversified(rows, at, net_by_row(rows, at, z)))
