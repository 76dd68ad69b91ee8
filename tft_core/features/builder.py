"""Builds every registered feature for a panel of markets.

Own-session groups run over chunks of assets in two threads, market groups once over the
dated universe. The builder packs, calls, masks short histories and scatters back; what a
feature is stands in ``groups/``.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd

from tft_core.data.moments import as_of_instant
from tft_core.data.panel import MarketPanel
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.errors import FeatureError, UnknownSymbolError
from tft_core.features.exogenous import ExogenousSeries
from tft_core.features.market import MarketGrid
from tft_core.features.panel import FeaturePanel, stamp_at
from tft_core.features.registry import (
    FeatureConfig,
    FeatureGroup,
    FeatureRegistry,
    check_result,
    plugin_file,
)
from tft_core.features.row_cache import RowCache
from tft_core.features.sessions import OwnSessions, SessionIndex
from tft_core.schema import content_hash, file_hash

N_THREADS = 2
_CHUNK_CELLS = 64_000
"""Sessions × assets of one chunk: a float64 array of it fits in a core's cache."""

_MARKET_SLACK = 1.15
"""Own sessions that may be needed to see one market session (holidays of the others)."""

_SERIES_WARMUP = timedelta(days=150)


class MegaFeatureBuilder:
    """The 292 mega features (and the user's own), from a store or from arrays."""

    def __init__(
        self,
        config: FeatureConfig | None = None,
        universe: UniverseConfig | None = None,
        cache: RowCache | None = None,
    ) -> None:
        """``cache`` keeps rows from one ``build`` to the next; default: every row is built."""
        self.config = config or FeatureConfig()
        self.cache = cache
        self.universe = universe or UniverseConfig()
        self.registry = FeatureRegistry.from_config(self.config)

    # -- the catalogue ------------------------------------------------------------------

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self.registry.names

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group name → its feature names."""
        return {g.name: tuple(f.name for f in g.features) for g in self.registry.groups}

    @property
    def group_of(self) -> dict[str, str]:
        """Feature name → its group's name."""
        return {name: group for group, names in self.groups.items() for name in names}

    def catalogue(self) -> pd.DataFrame:
        """One row per feature: name, group, inputs, lookback, unit, description, source."""
        return self.registry.catalogue()

    def catalogue_hash(self) -> str:
        """Content hash of every declaration and of the exogenous slots."""
        return content_hash([self.registry.catalogue_hash(), list(self.config.series)])

    def plugin_hashes(self) -> dict[str, str]:
        """SHA-256 of each plug-in's file: what it computes may change without its declarations."""
        return {path: file_hash(plugin_file(path)) for path in self.config.plugins}

    def required_lookback(self) -> int:
        """Sessions, the last one included, that make its features equal the full build's."""
        market = self.registry.lookback("market")
        return max(self.registry.lookback("own_sessions"), int(np.ceil(_MARKET_SLACK * market)))

    # -- from a store -------------------------------------------------------------------

    def build(
        self,
        store: MarketDataStore,
        symbols: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        as_of: date | datetime | None = None,
    ) -> FeaturePanel:
        """Features of the sessions in [start, end], each row from what was known then.

        Args:
            store: The market store; enough history before ``start`` is read from it.
            symbols: Assets to give features for; default all. The cross-section is always
                the configured universe.
            start: First session; default the store's first.
            end: Last session, inclusive; default the store's last.
            as_of: Nothing that became known after this counts.

        Raises:
            UnknownSymbolError: A symbol is not in the store.
            FeatureError: The store holds no session in the span.

        As of:
            Row t: the vintages known at t (``store.vintage_blocks``).
        """
        held = store.symbols()
        wanted = tuple(symbols) if symbols is not None else held
        unknown = [symbol for symbol in wanted if symbol not in set(held)]
        if unknown:
            raise UnknownSymbolError(
                f"symbols must be in the market store, found {', '.join(unknown[:5])}; "
                "ingest their bars or correct the name"
            )
        universe = Universe.resolve(self.universe, held)
        loaded = wanted
        if self._has_market_groups:
            loaded = (*wanted, *(s for s in universe.symbols if s not in set(wanted)))
        dates = store.session_dates(wanted, start, end, as_of)
        if len(dates) == 0:
            raise FeatureError(
                f"features must be asked for a span with sessions, found none between "
                f"{start or 'the first bar'} and {end or 'the last bar'}"
            )
        panels = []
        for block in store.vintage_blocks(_day(dates, 0), _day(dates, -1), loaded):
            panel = self._build_block(store, wanted, loaded, universe, block, as_of)
            if len(panel.dates):
                panels.append(panel)
        if self.cache is not None:
            self.cache.end_build()
        if not panels:
            raise FeatureError(
                f"features must be asked for bars that were known as of {as_of}, found none"
            )
        return panels[0] if len(panels) == 1 else FeaturePanel.concat(panels)

    def _build_block(
        self,
        store: MarketDataStore,
        wanted: tuple[str, ...],
        loaded: tuple[str, ...],
        universe: Universe,
        block: tuple[date, date, date | datetime | None],
        as_of: date | datetime | None,
    ) -> FeaturePanel:
        first, last, known_at = block
        known_at = _earlier(known_at, as_of)
        lookback = self.required_lookback()
        history = min(first, store.history_start(loaded, first, lookback, known_at))
        market = store.panel(loaded, history, last, known_at)
        deeper = _deeper_history(store, market, first, history, lookback, known_at)
        if deeper < history:
            market = store.panel(loaded, deeper, last, known_at)
        first_row = int(np.searchsorted(market.dates.to_numpy(), np.datetime64(first)))
        oldest = _day(market.dates, 0) if len(market.dates) else first
        # a series' windows count weekdays, so its history must reach as far as the bars'
        needed = min(oldest, first - timedelta(days=int(1.45 * lookback)))
        series = self.load_series(store, needed, last, known_at)
        tables = self.load_tables(store, oldest, last, known_at) if len(market.dates) else {}

        def built(from_row: int) -> FeaturePanel:
            return self.build_panel(
                market,
                universe=universe,
                series=series,
                first_row=from_row,
                symbols=wanted,
                tables=tables,
            )

        # rows that read more than bars are always built
        if self.cache is None or series is not None or tables or first_row >= len(market.dates):
            return built(first_row).traded_rows()
        known = self.cache.known(market, universe, wanted, first_row)
        parts = [] if known is None else [known]
        n_known = sum(map(len, parts))
        has_session = market.has_session[first_row:, [market.symbols.index(s) for s in wanted]]
        if n_known < len(has_session):
            parts.append(built(first_row + n_known).values)
        values = np.concatenate(parts)
        panel = FeaturePanel(
            values, market.dates[first_row:], wanted, self.feature_names, has_session
        )
        self.cache.keep(market, universe, wanted, first_row, values)
        return panel.traded_rows()

    def load_series(
        self, store: MarketDataStore, start: date, end: date, as_of: date | datetime | None = None
    ) -> pd.DataFrame | None:
        """Observations behind the exogenous features of [start, end]; ``None`` without slots."""
        if not self.config.series:
            return None
        return store.series(list(self.config.series), start - _SERIES_WARMUP, end, as_of)

    def load_tables(
        self, store: MarketDataStore, start: date, end: date, as_of: date | datetime | None = None
    ) -> dict[str, pd.DataFrame]:
        """The users' tables over [start, end] as known at ``as_of``, by group name.

        Raises:
            FeatureError: A table has no column ``date`` or ``symbol``.
        """
        return {
            group.name: _known_rows(group.name, group.load(store, start, end, as_of), as_of)
            for group in self.registry.groups
            if group.load is not None
        }

    @property
    def _has_market_groups(self) -> bool:
        return any(group.axis == "market" for group in self.registry.groups)

    # -- from arrays --------------------------------------------------------------------

    def build_panel(
        self,
        market: MarketPanel,
        *,
        universe: Universe | None = None,
        series: pd.DataFrame | None = None,
        first_row: int = 0,
        symbols: Sequence[str] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> FeaturePanel:
        """Features of the rows from ``first_row`` on; the rows before it are history.

        Args:
            market: Bars of the universe and of any other asset asked for.
            universe: Cross-section; default every symbol of the panel, undated.
            series: Exogenous observations ``name, date, value, available_at``.
            first_row: Earlier rows are only read, as far back as features look.
            symbols: Assets of the result; default all of the panel.
            tables: User tables by group name.

        As of:
            Row t reads bars of rows ≤ t and series available by the end of that day.
        """
        universe = universe or Universe.resolve(self.universe, market.symbols)
        wanted = tuple(symbols) if symbols is not None else market.symbols
        position = {symbol: i for i, symbol in enumerate(market.symbols)}
        absent = [symbol for symbol in wanted if symbol not in position]
        if absent:
            raise FeatureError(f"symbols must be in the market panel, found {absent[0]!r}")
        if not 0 <= first_row <= len(market.dates):
            raise FeatureError(f"first_row must lie in [0, {len(market.dates)}], found {first_row}")
        market, first_row = self._trim(market, universe, first_row)
        assets = [position[symbol] for symbol in wanted]
        has_session = market.has_session[first_row:, assets]
        values = np.full((*has_session.shape, len(self.feature_names)), np.nan, dtype=np.float32)
        known = ExogenousSeries.from_frame(series, self.config.series)
        tasks = self._own_tasks(market, first_row, assets, known, tables, values)
        if self._has_market_groups:
            # the longest task first, so that the other thread fills the time with chunks
            tasks.insert(
                0,
                lambda: self._market_groups(
                    market, universe, first_row, assets, tables, has_session, values
                ),
            )
        _run(tasks)
        return FeaturePanel(
            values, market.dates[first_row:], wanted, self.feature_names, has_session
        )

    def _trim(
        self, market: MarketPanel, universe: Universe, first_row: int
    ) -> tuple[MarketPanel, int]:
        """Drop rows older than any feature of the rows asked for can see."""
        lookback = self.required_lookback()
        has_session = market.has_session
        oldest = first_row
        for rows in (np.flatnonzero(column) for column in has_session.T):
            out = int(np.searchsorted(rows, first_row))
            if out < len(rows):
                oldest = min(oldest, int(rows[max(out - lookback + 1, 0)]))
        if self._has_market_groups and oldest > 0:
            grid_rows = MarketGrid.session_rows(market, universe)
            out = int(np.searchsorted(grid_rows, first_row))
            if out < len(grid_rows):
                reach = self.registry.lookback("market")
                oldest = min(oldest, int(grid_rows[max(out - reach + 1, 0)]))
        if oldest == 0:
            return market, first_row
        return market.part(slice(oldest, None)), first_row - oldest

    def _own_tasks(
        self,
        market: MarketPanel,
        first_row: int,
        assets: Sequence[int],
        series: ExogenousSeries,
        tables: Mapping[str, pd.DataFrame] | None,
        values: np.ndarray,
    ) -> list[Callable[[], None]]:
        index = SessionIndex.of(market.has_session, first_row)
        per_chunk = max(1, _CHUNK_CELLS // max(index.width, 1))
        if per_chunk < len(
            assets
        ):  # else it is one: splitting little work only repeats its overhead
            per_chunk = min(per_chunk, -(-len(assets) // N_THREADS))
        places = list(enumerate(assets))
        return [
            lambda chunk=places[i : i + per_chunk]: self._own_groups(
                market, index, first_row, chunk, series, tables, values
            )
            for i in range(0, len(places), per_chunk)
        ]

    def _own_groups(
        self,
        market: MarketPanel,
        index: SessionIndex,
        first_row: int,
        chunk: Sequence[tuple[int, int]],
        series: ExogenousSeries,
        tables: Mapping[str, pd.DataFrame] | None,
        values: np.ndarray,
    ) -> None:
        """Compute all own-session groups for some assets and write them in place."""
        bars = OwnSessions.from_market(market, index, [a for _, a in chunk], series, tables)
        placed = self._placed("own_sessions")
        n_out, n_features = bars.n_out, sum(len(group.features) for _, group in placed)
        block = np.full((len(chunk), n_out, n_features), np.nan, dtype=np.float32)
        lookback = np.array([f.lookback for _, group in placed for f in group.features])
        column = 0
        for _, group in placed:
            part = bars.newest(max(f.lookback for f in group.features))
            result = _compute(group, part, [part.shape, (part.shape[0], n_out)])
            for feature in group.features:
                block[:, :, column] = part.asked(result[feature.name])
                column += 1
        np.copyto(block, np.nan, where=~np.isfinite(block))
        for i, (place, asset) in enumerate(chunk):
            rows = index.rows[asset]
            n_before = index.first_out - index.start[asset]
            own = block[i, : len(rows) - n_before]
            n_short = min(max(int(lookback.max(initial=0)) - 1 - n_before, 0), len(own))
            history = n_before + 1 + np.arange(n_short)
            own[:n_short][history[:, None] < lookback] = np.nan
            first = 0
            for columns in _runs([columns for columns, _ in placed]):
                last = first + columns.stop - columns.start
                values[rows[n_before:] - first_row, place, columns] = own[:, first:last]
                first = last

    def _market_groups(
        self,
        market: MarketPanel,
        universe: Universe,
        first_row: int,
        assets: Sequence[int],
        tables: Mapping[str, pd.DataFrame] | None,
        has_session: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """Compute all market groups and write them where the assets have sessions."""
        grid = MarketGrid.from_market(market, universe, first_row, tables)
        rows = grid.rows[grid.first_out :]
        history = np.arange(grid.first_out, len(grid.rows)) + 1
        is_own = has_session[rows - first_row]
        for columns, group in self._placed("market"):
            n_out, n_assets = grid.n_out, grid.shape[1]
            shapes = [grid.shape, grid.shape[:1], (n_out, n_assets), (n_out,)]
            result = _compute(group, grid, shapes)
            for column, feature in zip(
                range(columns.start, columns.stop), group.features, strict=True
            ):
                wide = result[feature.name]
                wide = wide[len(wide) - n_out :]
                wide = wide[:, assets] if wide.ndim == 2 else wide[:, None]
                valid = np.isfinite(wide) & is_own & (history >= feature.lookback)[:, None]
                values[rows - first_row, :, column] = np.where(valid, wide, np.nan)

    def _placed(self, axis: str) -> list[tuple[slice, FeatureGroup]]:
        """Groups of one axis with their columns in the result."""
        placed, first = [], 0
        for group in self.registry.groups:
            columns = slice(first, first + len(group.features))
            first = columns.stop
            if group.axis == axis:
                placed.append((columns, group))
        return placed


def _runs(slices: Sequence[slice]) -> list[slice]:
    """Adjacent slices joined."""
    runs: list[slice] = []
    for part in slices:
        if runs and runs[-1].stop == part.start:
            runs[-1] = slice(runs[-1].start, part.stop)
        else:
            runs.append(part)
    return runs


def _compute(
    group: FeatureGroup, inputs: OwnSessions | MarketGrid, shapes: list[tuple[int, ...]]
) -> Mapping[str, np.ndarray]:
    # NaN is how missing data travels: only its creation is silent here, 0/0 is explicit
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        result = group.compute(inputs)
    check_result(group, result, shapes)
    return result


def _run(tasks: Sequence[Callable[[], None]]) -> None:
    if len(tasks) == 1 or N_THREADS == 1:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(max_workers=N_THREADS) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


def _earlier(left: date | datetime | None, right: date | datetime | None) -> date | datetime | None:
    one, other = as_of_instant(left), as_of_instant(right)
    if one is None or other is None:
        return right if one is None else left
    return left if one <= other else right


def _known_rows(group: str, table: pd.DataFrame, as_of: date | datetime | None) -> pd.DataFrame:
    for name in ("date", "symbol"):
        if name not in table.columns:
            raise FeatureError(f"table of feature group {group} must have a column {name!r}")
    limit = as_of_instant(as_of)
    if limit is None or "available_at" not in table.columns:
        return table
    available = pd.DatetimeIndex(pd.to_datetime(table["available_at"], utc=True))
    return table.loc[available.tz_localize(None) <= pd.Timestamp(limit)]


def _day(dates: pd.DatetimeIndex, row: int) -> date:
    return stamp_at(dates, row).date()


def _deeper_history(
    store: MarketDataStore,
    market: MarketPanel,
    first: date,
    history: date,
    lookback: int,
    as_of: date | datetime | None,
) -> date:
    """An earlier start, where an asset that resumes after a pause needs one."""
    is_out = np.asarray(market.dates >= pd.Timestamp(first))
    has_session = market.has_session
    short = has_session[is_out].any(axis=0) & (has_session[~is_out].sum(axis=0) < lookback - 1)
    start = history
    for asset in np.flatnonzero(short):
        resumed = _day(market.dates, int((is_out & has_session[:, asset]).argmax()))
        start = min(start, store.history_start([market.symbols[asset]], resumed, lookback, as_of))
    return start
