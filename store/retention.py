"""Old rows out, in small steps, so that polls are never kept waiting."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, or_, select, tuple_

from store import tables
from store.database import Store
from store.rollup import HOUR, MINUTE
from store.size import used_bytes

if TYPE_CHECKING:
    from model.config import StoreSettings

STEP = 5_000  # rows deleted in one transaction; some 20 ms of write lock
_EARLIER = timedelta(hours=1)  # how much sooner samples go, step by step, when space is short


def forget(store: Store, at: datetime, keep: StoreSettings) -> int:
    """Delete what is older than *keep* says, and more when the store is too big.

    Returns how many rows went. What goes on (open sessions, firing alerts, unsent messages)
    always stays.
    """

    def before(seconds: float) -> datetime:
        return at - timedelta(seconds=seconds)

    gone = _forget_samples(store, before(keep.keep_samples))
    for rollup in tables.ROLLUPS.values():
        for resolution, kept in ((MINUTE, keep.keep_minutes), (HOUR, keep.keep_hours)):
            old = and_(rollup.c.resolution == resolution, rollup.c.at < before(kept))
            gone += _delete_in_steps(store, rollup, old)
    gone += _forget_alerts(store, before(keep.keep_alerts))
    gone += _fit(store, at, keep.max_size)
    if gone:
        session, statement = tables.session, tables.statement
        unused = ~exists().where(session.c.statement_id == statement.c.id)
        gone += _delete_in_steps(store, statement, unused)
        store.give_back()
    return gone


def _forget_samples(store: Store, before: datetime) -> int:
    gone = 0
    for table in tables.SAMPLE_TABLES:
        gone += _delete_in_steps(store, table, table.c.at < before)
    for table in tables.EPISODE_TABLES:
        gone += _delete_in_steps(store, table, table.c.ended_at < before)
    verdict = tables.verdict
    newer = verdict.alias()
    superseded = exists().where(
        newer.c.target_id == verdict.c.target_id,
        newer.c.at > verdict.c.at,
        newer.c.at < before,
    )
    return gone + _delete_in_steps(store, verdict, and_(verdict.c.at < before, superseded))


def _forget_alerts(store: Store, before: datetime) -> int:
    alert, outbox = tables.alert, tables.outbox
    gone = _delete_in_steps(store, alert, alert.c.resolved_at < before)
    done = or_(outbox.c.sent_at < before, outbox.c.dead_at < before)
    return gone + _delete_in_steps(store, outbox, done)


def _fit(store: Store, at: datetime, max_size: int) -> int:
    """Let the oldest samples go, an hour at a time, until the store fits."""
    gone = 0
    while used_bytes(store) > max_size:
        oldest = _oldest_sample(store)
        if oldest is None or oldest > at - _EARLIER:  # the last hour stays whatever it takes
            return gone
        gone += _forget_samples(store, min(oldest + _EARLIER, at - _EARLIER / 2))
    return gone


def _oldest_sample(store: Store) -> datetime | None:
    with store.read() as connection:
        found = [
            connection.execute(select(func.min(table.c.at))).scalar()
            for table in tables.SAMPLE_TABLES
        ]
    return min((at for at in found if at is not None), default=None)


def _delete_in_steps(store: Store, table: Table, condition: ColumnElement[bool]) -> int:
    gone = 0
    key: list[Any] = list(table.primary_key.columns)
    while True:
        some = select(*key).where(condition).limit(STEP)
        with store.write(durable=False) as connection:
            count = connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
        gone += count
        if count < STEP:
            return gone
