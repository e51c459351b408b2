"""Old rows out, in small steps, so that polls are never kept waiting."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Table, and_, delete, exists, func, or_, select, tuple_

from store import tables
from store.database import Store

STEP = 5_000  # rows deleted in one transaction; some 20 ms of write lock


def forget(store: Store, at: datetime, samples: timedelta, alerts: timedelta) -> int:
    """Delete samples and sessions older than *samples*, and alerts resolved before *alerts*.

    Returns how many rows went. The newest sample of a target always stays.
    """
    gone = 0
    for table in tables.SAMPLE_TABLES:
        gone += _delete_in_steps(store, table, table.c.at < at - samples)
    session, verdict, alert, outbox = tables.session, tables.verdict, tables.alert, tables.outbox
    gone += _delete_in_steps(store, session, session.c.ended_at < at - samples)
    newer = verdict.alias()
    superseded = exists().where(
        newer.c.target_id == verdict.c.target_id,
        newer.c.at > verdict.c.at,
        newer.c.at < at - samples,
    )
    gone += _delete_in_steps(store, verdict, and_(verdict.c.at < at - samples, superseded))
    gone += _delete_in_steps(store, alert, alert.c.resolved_at < at - alerts)
    done_before = or_(outbox.c.sent_at < at - alerts, outbox.c.dead_at < at - alerts)
    gone += _delete_in_steps(store, outbox, done_before)
    unused = ~exists().where(session.c.statement_id == tables.statement.c.id)
    if gone:
        gone += _delete_in_steps(store, tables.statement, unused)
    return gone


def _delete_in_steps(store: Store, table: Table, condition: object) -> int:
    gone = 0
    key = list(table.primary_key.columns)
    while True:
        some = select(*key).where(condition).limit(STEP)  # type: ignore[arg-type]
        with store.write(durable=False) as connection:
            count = connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
        gone += count
        if count < STEP:
            return gone


def oldest(store: Store, table: Table) -> datetime | None:
    """The time of the oldest row of a sample table."""
    with store.read() as connection:
        found: datetime | None = connection.execute(select(func.min(table.c.at))).scalar()
        return found
