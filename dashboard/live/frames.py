"""Where the frames of an answer come from: which rows, of which target, which pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from dashboard.charts import Frame, frame_of, frame_of_pools, pool_series
from dashboard.panels import Panel, Rows, Series
from model.config import Config
from model.targets import CONSOLES, Target
from store.rates import database_rates
from store.windows import pool_windows, pooler_window, server_window

MAX_POOLS = 6  # lines a reader can tell apart; the rest of the pools share one


@dataclass(frozen=True, slots=True)
class Source:
    """Where one frame comes from.

    columns: what to read, in the words of the store.
    console: the pooler's own databases, which are not drawn.
    pools:   those that have a line of their own; rest: those that share one.
    """

    rows: Rows
    target: str
    columns: tuple[str, ...]
    stale_after_seconds: float
    console: frozenset[str] = frozenset()
    pools: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()


Plan = tuple[tuple[Panel, tuple[tuple[Series, int], ...]], ...]
"""For every panel its series, each with the number of its source."""


def sources_of(panels: Sequence[Panel], target: Target, config: Config) -> tuple[Source, ...]:
    """The sources that *panels* of *target* need."""
    poolers = (target,) if target.is_pooler else config.poolers_of(target.name)
    found: dict[tuple[Rows, str], Source] = {}
    for panel in panels:
        for owner in poolers if panel.rows is Rows.POOLS else (target,):
            columns = [name for series in panel.series for name in series.columns]
            columns += [limit.column for limit in panel.limits if limit.column]
            columns += panel.band or ()
            place = (panel.rows, owner.name)
            before = found[place].columns if place in found else ()
            found[place] = Source(
                panel.rows,
                owner.name,
                tuple(dict.fromkeys((*before, *columns))),
                _stale(panel, owner),
                CONSOLES.get(owner.kind, frozenset()),
            )
    return tuple(found.values())


def _stale(panel: Panel, target: Target) -> float:
    """Seconds without a new sample after which a frame is old. A poll that failed is a sample
    too, so this says that nobody polls. Counters are polled less often."""
    return max(90.0 if panel.rows is Rows.RATES else 0.0, target.stale_after_seconds)


def plan(panels: Sequence[Panel], sources: Sequence[Source]) -> Plan:
    """Which series of which source every panel shows."""
    many = len({source.target for source in sources if source.rows is Rows.POOLS}) > 1
    planned = []
    for panel in panels:
        entries: list[tuple[Series, int]] = []
        for number, source in enumerate(sources):
            if source.rows is not panel.rows:
                continue
            series = panel.series
            if panel.rows is Rows.POOLS:
                prefix = f"{source.target}: " if many else ""
                series = pool_series(panel, source.pools, source.rest, prefix)
            entries += [(one, number) for one in series]
        planned.append((panel, tuple(entries)))
    return tuple(planned)


def read(
    connection: Connection, source: Source, start: datetime, end: datetime, points: int
) -> tuple[Source, Frame]:
    """The frame, and the source with its pools chosen by what the rows say."""
    span = (source.target, start, end, points)
    if source.rows is Rows.SERVER:
        return source, frame_of(server_window(connection, *span, columns=source.columns))
    if source.rows is Rows.POOLER:
        return source, frame_of(pooler_window(connection, *span, columns=source.columns))
    if source.rows is Rows.RATES:
        return source, frame_of(database_rates(connection, *span))
    windows = pool_windows(connection, *span, columns=source.columns)
    windows = {pool: w for pool, w in windows.items() if pool.split("/")[0] not in source.console}
    if not source.pools:
        # Those where clients waited longest; in the alphabet's order, so that colours stay.
        busiest = sorted(
            windows,
            key=lambda pool: -max((v or 0.0 for v in _first(windows[pool].columns)), default=0),
        )
        shown = tuple(sorted(busiest[:MAX_POOLS]))
        source = replace(source, pools=shown, rest=tuple(sorted(set(windows) - set(shown))))
    return source, frame_of_pools(windows, source.columns, source.rest)


def _first(columns: dict[str, list[float | None]]) -> list[float | None]:
    return next(iter(columns.values()), [])


def strangers(source: Source, frame: Frame) -> bool:
    """Whether *frame* has a pool that *source* does not know, so that the lines must change."""
    known = {*source.pools, *source.rest}
    return source.rows is Rows.POOLS and any(
        name.rsplit(" ", 1)[0] not in known for name in frame.columns if not name.startswith("\0")
    )
