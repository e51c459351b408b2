"""Samples rolled up into minutes, and minutes into hours.

A roll-up is made from what is in the store, minute by minute, as soon as a minute is over.
So it repairs itself: after a crash, or when samples arrive late, the stretch is done again.
Where the samples have been forgotten since, what they became stays: a roll-up is replaced only
by one that is made of at least as many polls.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Table,
    cast,
    func,
    literal,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.types import BigInteger, Float

from model.metrics import metrics_of
from store import spans, tables
from store.database import Store
from store.kept import from_ms, to_ms
from store.tables import ROLLUPS

MINUTE, HOUR = 60, 3600  # seconds
RESOLUTIONS = (MINUTE, HOUR)
_GRACE = timedelta(seconds=5)  # a minute is done when its last samples have surely been written
_STEP = timedelta(hours=1)  # rolled up in one transaction when there is much to catch up
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FUTURE = datetime.max.replace(tzinfo=UTC)


def roll_up(store: Store, now: datetime) -> int:
    """Roll up what is complete at *now* and was not yet. Returns how many rows it made."""
    made = 0
    for sample in ROLLUPS:
        for resolution in RESOLUTIONS:
            made += _catch_up(store, sample, resolution, now)
    return made


def samples_arrived(connection: Connection, oldest: datetime) -> None:
    """Samples from *oldest* on were written: what was rolled up after it is done again."""
    state = tables.rollup_state
    for resolution in RESOLUTIONS:
        begin = _floor(oldest, resolution)
        connection.execute(
            update(state)
            .where(state.c.name.like(f"%:{resolution}"), state.c.until > begin)
            .values(until=begin)
        )


def rolled_until(connection: Connection, sample: Table, resolution: int) -> datetime:
    """The time up to which *sample* is rolled up; 1970 when nothing is."""
    state = tables.rollup_state
    found = connection.execute(
        select(state.c.until).where(state.c.name == _name(sample, resolution))
    ).scalar()
    return _EPOCH if found is None else found


def _catch_up(store: Store, sample: Table, resolution: int, now: datetime) -> int:
    made = 0
    with store.read() as connection:
        end = _floor(now - _GRACE, resolution)
        if resolution == HOUR:  # hours are made of minutes, so they can only be done after them
            end = min(end, _floor(rolled_until(connection, sample, MINUTE), HOUR))
        begin = rolled_until(connection, sample, resolution)
        if begin == _EPOCH:
            oldest = spans.oldest(connection, sample)
            if oldest is None:
                return 0
            begin = _floor(oldest, resolution)
        targets = list(connection.execute(select(tables.target.c.id)).scalars())
    while begin < end:
        begin = min(_next(store, sample, resolution, begin), end)  # nothing to do before it
        step = min(begin + max(_STEP, timedelta(seconds=resolution)), end)
        with store.write(durable=False) as connection:
            for target_id in targets:
                made += _roll(connection, sample, resolution, target_id, (begin, step))
            row = {"name": _name(sample, resolution), "until": step}
            connection.execute(
                insert(tables.rollup_state)
                .values(row)
                .on_conflict_do_update(index_elements=["name"], set_=row)
            )
        begin = step
    return made


def _next(store: Store, sample: Table, resolution: int, begin: datetime) -> datetime:
    """Where there is something to roll up, from *begin* on; far in the future if nowhere.

    One sample of a clock that was years behind must not cost a step for every hour since.
    """
    with store.read() as connection:
        found = spans.oldest(
            connection, sample, resolution=MINUTE if resolution == HOUR else 0, since=begin
        )
    return _FUTURE if found is None else max(_floor(found, resolution), begin)


def _roll(
    connection: Connection,
    sample: Table,
    resolution: int,
    target_id: int,
    span: tuple[datetime, datetime],
) -> int:
    """Make the roll-ups of one target and stretch (again)."""
    rollup = ROLLUPS[sample]
    query = (
        _of_samples(sample, target_id, span)
        if resolution == MINUTE
        else _of_minutes(sample, target_id, span)
    )
    names = [column.name for column in query.selected_columns]
    made = insert(rollup).from_select(names, query)
    kept = {name: made.excluded[name] for name in names if not rollup.c[name].primary_key}
    done = connection.execute(
        made.on_conflict_do_update(
            index_elements=_key(rollup), set_=kept, where=made.excluded.polls >= rollup.c.polls
        )
    )
    return done.rowcount


def _of_samples(sample: Table, target_id: int, span: tuple[datetime, datetime]) -> Select[Any]:
    slot = _slot(sample, MINUTE)
    parts = [column for column in sample.primary_key.columns if column.name != "at"]
    up = func.count() if "up" not in sample.c else func.sum(sample.c.up)
    columns: list[Any] = []
    for metric in metrics_of(sample.name).values():
        column = sample.c[metric.name]
        if metric.fold == "last":
            columns.append(_last(sample, column).label(metric.name))
        else:
            columns.append(func.min(column).label(f"{metric.name}_min"))
            columns.append(func.avg(column).label(f"{metric.name}_avg"))
            columns.append(func.max(column).label(f"{metric.name}_max"))
    if "stats_reset_at" in sample.c:
        columns.append(_last(sample, sample.c.stats_reset_at).label("stats_reset_at"))
    return (
        select(
            *parts,
            literal(MINUTE).label("resolution"),
            slot.label("at"),
            func.count().label("polls"),
            up.label("up"),
            *columns,
        )
        .where(sample.c.target_id == target_id, sample.c.at >= span[0], sample.c.at < span[1])
        .group_by(*parts, slot)
    )


def _of_minutes(sample: Table, target_id: int, span: tuple[datetime, datetime]) -> Select[Any]:
    rollup = ROLLUPS[sample]
    slot = _slot(rollup, HOUR)
    parts = [c for c in rollup.primary_key.columns if c.name not in {"at", "resolution"}]
    columns: list[Any] = []
    for metric in metrics_of(sample.name).values():
        if metric.fold == "last":
            columns.append(_last(rollup, rollup.c[metric.name]).label(metric.name))
        else:
            columns.append(func.min(rollup.c[f"{metric.name}_min"]).label(f"{metric.name}_min"))
            average = weighted_avg(rollup.c[f"{metric.name}_avg"], rollup.c.up)
            columns.append(average.label(f"{metric.name}_avg"))
            columns.append(func.max(rollup.c[f"{metric.name}_max"]).label(f"{metric.name}_max"))
    if "stats_reset_at" in rollup.c:
        columns.append(_last(rollup, rollup.c.stats_reset_at).label("stats_reset_at"))
    return (
        select(
            *parts,
            literal(HOUR).label("resolution"),
            slot.label("at"),
            func.sum(rollup.c.polls).label("polls"),
            func.sum(rollup.c.up).label("up"),
            *columns,
        )
        .where(
            rollup.c.target_id == target_id,
            rollup.c.resolution == MINUTE,
            rollup.c.at >= span[0],
            rollup.c.at < span[1],
        )
        .group_by(*parts, slot)
    )


def weighted_avg(average: Any, up: Any) -> Any:
    """The average over several roll-ups: each counts as often as it had an answer."""
    weight = cast(up, Float)
    return func.sum(average * weight) / func.nullif(
        func.sum(weight).filter(average.is_not(None)), 0.0
    )


def _last(table: Table, column: Any) -> Any:
    """The newest value of a group; SQL has no such aggregate, so the time goes in front.

    Limits hardly ever change and counters only rise, but a counter that was reset falls,
    so the maximum would be wrong.
    """
    stamped = func.printf("%020d", type_coerce(table.c.at, BigInteger)).concat(
        func.coalesce(column, "")
    )
    newest = func.substr(func.max(stamped).filter(column.is_not(None)), 21)
    return cast(newest, column.type)


def _slot(table: Table, resolution: int) -> Any:
    raw = type_coerce(table.c.at, BigInteger)
    return raw - raw % (resolution * 1000)


def _floor(at: datetime, resolution: int) -> datetime:
    size = resolution * 1000
    return from_ms(to_ms(at) // size * size)


def _key(rollup: Table) -> list[str]:
    return [column.name for column in rollup.primary_key.columns]


def _name(sample: Table, resolution: int) -> str:
    return f"{sample.name}:{resolution}"
