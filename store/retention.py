"""Old rows out, in small steps, so that polls are never kept waiting.

What has to go is looked for without the write lock, and by its key; the lock is held only
while a step's rows are deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, or_, select
from sqlalchemy.dialects.sqlite import insert

from store import spans, tables
from store.database import Store
from store.episodes import LONGEST
from store.rollup import HOUR, MINUTE, RESOLUTIONS
from store.size import used_bytes

if TYPE_CHECKING:
    from model.config import StoreSettings

STEP = 2_000  # rows deleted in one transaction; some 10 ms of write lock
_EARLIER = timedelta(hours=1)  # how much sooner samples go, step by step, when space is short


def _always() -> bool:
    return True


def forget(
    store: Store,
    at: datetime,
    keep: StoreSettings,
    keep_going: Callable[[], bool] = _always,
) -> int:
    """Delete what is older than *keep* says, and more when the store is too big.

    keep_going: asked before every step; when it says no, the rest is left for the next call.
    Returns how many rows went. What goes on (open sessions, firing alerts, unsent messages)
    always stays. Raises StoreError.
    """
    work = _Work(store, keep_going)
    samples, minutes, hours, alerts = (
        at - timedelta(seconds=seconds)
        for seconds in (keep.keep_samples, keep.keep_minutes, keep.keep_hours, keep.keep_alerts)
    )
    _forget_samples(work, samples)
    for sample in tables.SAMPLE_TABLES:
        for resolution, before in ((MINUTE, minutes), (HOUR, hours)):
            work.delete(_rows_before(store, sample, before, resolution))
    _forget_alerts(work, alerts)
    reached = _fit(work, at, keep.max_size)
    _forget_statements(work, max(samples, reached or samples))
    _forget_runs(work, samples)
    _retire(work, at)
    if work.gone:
        store.give_back()
    return work.gone


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows that may go: what they have in common, and about how many they are."""

    table: Table
    condition: ColumnElement[bool]
    rows: int


@dataclass(slots=True)
class _Work:
    """Deletes parts, several small ones together, as long as it may."""

    store: Store
    keep_going: Callable[[], bool]
    gone: int = 0

    def delete(self, parts: Iterator[_Part]) -> bool:
        """Delete *parts*. Returns whether all of them went."""
        waiting: list[_Part] = []
        for part in parts:
            waiting.append(part)
            if sum(one.rows for one in waiting) >= STEP:
                if not self.step(waiting):
                    return False
                waiting = []
        return not waiting or self.step(waiting)

    def step(self, parts: Sequence[_Part]) -> bool:
        """One transaction. Returns whether it was done."""
        if not self.keep_going():
            return False
        with self.store.write(durable=False) as connection:
            for part in parts:
                done = connection.execute(delete(part.table).where(part.condition))
                self.gone += done.rowcount
        return True


# Samples, episodes, verdicts


def _forget_samples(work: _Work, before: datetime) -> bool:
    """Returns whether everything older than *before* went."""
    for sample in tables.SAMPLE_TABLES:
        if not work.delete(_rows_before(work.store, sample, before)):
            return False
    return all(
        work.delete(_episodes_before(work.store, table, before)) for table in tables.EPISODE_TABLES
    ) and work.delete(_verdicts_before(work.store, before))


def _rows_before(
    store: Store, sample: Table, before: datetime, resolution: int = 0
) -> Iterator[_Part]:
    """Samples, or roll-ups of so many seconds."""
    table = tables.ROLLUPS[sample] if resolution else sample
    with store.read() as connection:
        keys = spans.keys(connection, sample)
    for key in keys:
        same = [table.c[name] == value for name, value in key.items()]
        if resolution:
            same.append(table.c.resolution == resolution)
        yield from _stretches(store, table, table.c.at, and_(*same), table.c.at < before)


def _episodes_before(store: Store, table: Table, before: datetime) -> Iterator[_Part]:
    """Those that had ended. They began earlier, which the key knows."""
    with store.read() as connection:
        keys = spans.keys(connection, tables.server_sample)
    for key in keys:
        ended = and_(table.c.started_at < before, table.c.ended_at < before)
        same = table.c.target_id == key["target_id"]
        yield from _stretches(store, table, table.c.started_at, same, ended)


def _verdicts_before(store: Store, before: datetime) -> Iterator[_Part]:
    """All but the last, which is still in force."""
    table = tables.verdict
    with store.read() as connection:
        keys = spans.keys(connection, tables.server_sample)
    for key in keys:
        same = table.c.target_id == key["target_id"]
        with store.read() as connection:
            last = connection.execute(
                select(func.max(table.c.at)).where(same, table.c.at < before)
            ).scalar()
        if last is not None:
            yield from _stretches(store, table, table.c.at, same, table.c.at < last)


def _stretches(
    store: Store,
    table: Table,
    order: Any,
    same: ColumnElement[bool],
    old: ColumnElement[bool],
) -> Iterator[_Part]:
    """The *old* rows of one key in stretches of about a step, the oldest first.

    order: the next column of the key.
    """
    past: ColumnElement[bool] | None = None  # what was found before need not be looked at again
    while True:
        rows = select(order).where(same, old).order_by(order).limit(STEP)
        if past is not None:
            rows = rows.where(past)
        found = rows.subquery()
        with store.read() as connection:
            count, last = connection.execute(
                select(func.count(), func.max(found.c[order.name]))
            ).one()
        if not count:
            return
        part = and_(same, old, order <= last)
        yield _Part(table, part if past is None else and_(part, past), count)
        past = order > last


# Everything else


def _forget_alerts(work: _Work, before: datetime) -> None:
    alert, outbox = tables.alert, tables.outbox
    done = or_(outbox.c.sent_at < before, outbox.c.dead_at < before)
    work.delete(_numbered(work.store, alert, alert.c.id, alert.c.resolved_at < before))
    work.delete(_numbered(work.store, outbox, outbox.c.seq, done))


def _forget_statements(work: _Work, before: datetime) -> None:
    """Texts that no episode refers to. Those of open episodes are not old, whatever they say."""
    session, statement = tables.session, tables.statement
    # An episode that begins is noted within an hour, and lasts an hour.
    unused = statement.c.used_at < before - 3 * LONGEST
    with work.store.read() as connection:
        open_ = select(session.c.statement_id).where(session.c.ended_at.is_(None)).distinct()
        still = set(connection.execute(open_).scalars())
    work.delete(_numbered(work.store, statement, statement.c.id, unused, but=still))


def _forget_runs(work: _Work, before: datetime) -> None:
    """Lives of ours; the one before a gap stays as long as the gap can be seen."""
    run = tables.run
    next_one = run.alias()
    over = (
        select(func.min(next_one.c.started_at)).where(next_one.c.id > run.c.id).scalar_subquery()
        < before
    )
    work.delete(_numbered(work.store, run, run.c.id, and_(run.c.seen_at < before, over)))


def _numbered(
    store: Store,
    table: Table,
    number: Any,
    old: ColumnElement[bool],
    but: set[int] | frozenset[int] = frozenset(),
) -> Iterator[_Part]:
    with store.read() as connection:
        found = [n for n in connection.execute(select(number).where(old)).scalars() if n not in but]
    for i in range(0, len(found), 500):
        some = found[i : i + 500]
        yield _Part(table, and_(number.in_(some), old), len(some))


def _retire(work: _Work, at: datetime) -> None:
    """Names of which no row is left, not even an hour."""
    with work.store.read() as connection:
        unused = [
            (names, number)
            for names in (tables.pool, tables.database, tables.role)
            for number in _without_rows(connection, names)
        ]
        lost = _targets_without_rows(connection)
    if not (unused or lost) or not work.keep_going():
        return
    with work.store.write(durable=False) as connection:
        for names, number in unused:
            if number in _without_rows(connection, names, number):
                connection.execute(delete(names).where(names.c.id == number))
                work.gone += 1
        for number in _targets_without_rows(connection):  # their pools may just have gone
            connection.execute(delete(tables.verdict).where(tables.verdict.c.target_id == number))
            connection.execute(delete(tables.target).where(tables.target.c.id == number))
            work.gone += 1
        row = {"id": 1, "at": at}
        connection.execute(
            insert(tables.retired_state)
            .values(row)
            .on_conflict_do_update(index_elements=["id"], set_=row)
        )


def _without_rows(connection: Connection, names: Table, number: int | None = None) -> list[int]:
    query = select(names.c.id)
    for sample, (owner, column) in spans.NAMES.items():
        if owner is names:
            query = query.where(
                *(
                    ~part.where(
                        table.c.target_id == names.c.target_id, table.c[column] == names.c.id
                    )
                    .correlate(names)
                    .exists()
                    for table, part in _places(sample)
                )
            )
    if number is not None:
        query = query.where(names.c.id == number)
    return list(connection.execute(query).scalars())


def _targets_without_rows(connection: Connection) -> list[int]:
    target = tables.target
    query = select(target.c.id)
    for names in (tables.pool, tables.database, tables.role):
        query = query.where(~select(names.c.id).where(names.c.target_id == target.c.id).exists())
    for sample in (tables.server_sample, tables.pooler_sample):
        for table, part in _places(sample):
            query = query.where(~part.where(table.c.target_id == target.c.id).exists())
    for table in tables.EPISODE_TABLES:
        some = select(table.c.started_at).where(table.c.target_id == target.c.id)
        query = query.where(~some.exists())
    return list(connection.execute(query).scalars())


def _places(sample: Table) -> list[tuple[Table, Any]]:
    """Where rows of one kind may be; a roll-up's key has its resolution before the number."""
    rollup = tables.ROLLUPS[sample]
    minutes_and_hours = [
        (rollup, select(rollup.c.at).where(rollup.c.resolution == size)) for size in RESOLUTIONS
    ]
    return [(sample, select(sample.c.at)), *minutes_and_hours]


# Space


def _fit(work: _Work, at: datetime, max_size: int) -> datetime | None:
    """Let the oldest samples go, an hour at a time, until the store fits.

    Returns the time before which everything went, if anything had to.
    """
    reached = None
    while used_bytes(work.store) > max_size:
        oldest = _oldest_sample(work.store)
        if oldest is None or oldest > at - _EARLIER:  # the last hour stays whatever it takes
            return reached
        before = min(oldest + _EARLIER, at - _EARLIER / 2)
        if not _forget_samples(work, before):
            return reached
        reached = before
    return reached


def _oldest_sample(store: Store) -> datetime | None:
    with store.read() as connection:
        found = [spans.oldest(connection, table) for table in tables.SAMPLE_TABLES]
    return min((at for at in found if at is not None), default=None)
