"""The present, and any single moment of the past."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    func,
    literal,
    or_,
    select,
)

from model.alerting import Alert, Culprit, Severity, Verdict
from store import alert_log, tables
from store.episodes import RESTATED
from store.kept import Instant, pids_from_text
from store.looks import last_look, there
from store.windows import id_of


@dataclass(frozen=True, slots=True)
class TargetNow:
    """A target as it was last seen. None means unknown.

    at:       of the last poll, also of one that failed.
    good_at:  of the last poll that succeeded.
    columns:  the numbers of the last poll (model.metrics); all None when it failed.
    pools:    poolers only: the last row of every pool.
    """

    name: str
    kind: str
    at: datetime | None
    up: bool | None
    failure: str | None
    reason: str | None
    degraded: str | None
    poll_seconds: float | None
    good_at: datetime | None
    version: str | None
    role: str | None
    columns: Mapping[str, Any]
    pools: tuple[Mapping[str, Any], ...]
    verdict: Verdict | None
    verdict_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session at one moment. Ages are in seconds, at that moment.

    state_seconds: None also for an idle session that worked within the last seconds, or, of a
                   past moment, after it: then its row does not say when it became idle.
    """

    pid: int
    backend_start: datetime
    database: str | None
    role: str | None
    application: str
    client: str | None
    state: str | None
    wait_event_type: str | None
    wait_event: str | None
    blocked_by: tuple[int, ...]
    statement: str | None
    session_seconds: float
    xact_seconds: float | None
    statement_seconds: float | None
    state_seconds: float | None
    started_at: datetime
    ended_at: datetime | None


def targets_now(connection: Connection) -> list[TargetNow]:
    """Every target that was ever polled, by name."""
    found = connection.execute(select(tables.target).order_by(tables.target.c.name)).all()
    return [_target_now(connection, row.id, row.name, row.kind) for row in found]


def target_now(connection: Connection, target: str, at: datetime | None = None) -> TargetNow | None:
    """One target, as it was last seen (at or before *at*); None when it was never polled."""
    row = connection.execute(select(tables.target).where(tables.target.c.name == target)).first()
    return None if row is None else _target_now(connection, row.id, row.name, row.kind, at)


def _target_now(
    connection: Connection, target_id: int, name: str, kind: str, at: datetime | None = None
) -> TargetNow:
    table = tables.server_sample if kind == "postgresql" else tables.pooler_sample
    newest_first = select(table).where(table.c.target_id == target_id).order_by(table.c.at.desc())
    newest_first = newest_first if at is None else newest_first.where(table.c.at <= at)
    last = _first(connection, newest_first)
    good = last if not last or last["up"] else _first(connection, newest_first.where(table.c.up))
    verdict, verdict_at = _verdict_now(connection, target_id, at)
    return TargetNow(
        name=name,
        kind=kind,
        at=last.get("at"),
        up=last.get("up"),
        failure=last.get("failure"),
        reason=last.get("reason"),
        degraded=last.get("degraded"),
        poll_seconds=last.get("poll_seconds"),
        good_at=good.get("at"),
        version=good.get("version"),
        role=good.get("role"),
        columns={k: v for k, v in last.items() if k not in tables.POLL_COLUMNS},
        pools=_pools_at(connection, target_id, last["at"]) if last and last["up"] else (),
        verdict=verdict,
        verdict_at=verdict_at,
    )


def _first(connection: Connection, query: Select[Any]) -> dict[str, Any]:
    row = connection.execute(query.limit(1)).mappings().first()
    return {} if row is None else {str(name): value for name, value in row.items()}


def _pools_at(
    connection: Connection, target_id: int, at: datetime
) -> tuple[Mapping[str, Any], ...]:
    pool, sample = tables.pool, tables.pool_sample
    rows = connection.execute(
        select(pool.c.database, pool.c.user, pool.c.process, sample)
        .join(sample, and_(sample.c.target_id == pool.c.target_id, sample.c.pool_id == pool.c.id))
        .where(pool.c.target_id == target_id, sample.c.at == at)
        .order_by(sample.c.client_waiting.desc(), pool.c.database, pool.c.user)
    ).mappings()
    hidden = ("target_id", "pool_id", "at")
    return tuple({k: v for k, v in row.items() if k not in hidden} for row in rows)


def _verdict_now(
    connection: Connection, target_id: int, at: datetime | None
) -> tuple[Verdict | None, datetime | None]:
    table = tables.verdict
    query = select(table).where(table.c.target_id == target_id).order_by(table.c.at.desc()).limit(1)
    row = connection.execute(query if at is None else query.where(table.c.at <= at)).first()
    return (None, None) if row is None else (_verdict(row), row.at)


def _verdict(row: Row[Any]) -> Verdict:
    detail = json.loads(row.detail)
    culprit = detail.get("culprit")
    return Verdict(
        layer=row.layer,
        cause=row.cause,
        sentence=row.sentence,
        severity=None if row.severity is None else Severity(row.severity),
        evidence=tuple(detail.get("evidence", ())),
        advice=detail.get("advice"),
        culprit=None if culprit is None else Culprit(**culprit),
    )


def verdicts_between(
    connection: Connection, target: str, start: datetime, end: datetime
) -> list[tuple[datetime, Verdict]]:
    """The verdicts of a target, each from when it began; first the one in force at *start*."""
    table = tables.verdict
    target_id = id_of(connection, target)
    in_force = (
        select(func.max(table.c.at))
        .where(table.c.target_id == target_id, table.c.at <= start)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(table)
        .where(
            table.c.target_id == target_id,
            table.c.at >= func.coalesce(in_force, literal(start, Instant)),
            table.c.at < end,
        )
        .order_by(table.c.at)
    )
    return [(row.at, _verdict(row)) for row in rows]


def sessions_at(connection: Connection, target: str, at: datetime | None) -> list[SessionRow]:
    """Who was connected to a target at *at* (None: as last seen), oldest transaction first."""
    session = tables.session
    target_id = id_of(connection, target)
    look = last_look(connection, tables.server_sample, target_id, at)
    if look is None:
        return []
    rows = connection.execute(
        select(session, tables.statement.c.text)
        .join(tables.statement, tables.statement.c.id == session.c.statement_id, isouter=True)
        .where(there(session, target_id, look.moment))
    )
    server_now = look.moment + look.skew
    found = [_session_row(row, server_now, RESTATED + look.usual) for row in rows]
    return sorted(found, key=lambda row: (-(row.xact_seconds or -1.0), -(row.state_seconds or 0.0)))


def _session_row(row: Row[Any], server_now: datetime, restated: timedelta) -> SessionRow:
    """restated: how young a change of an idle session's state may be without being known."""

    def age(start: datetime | None) -> float | None:
        return None if start is None else max((server_now - start).total_seconds(), 0.0)

    vague = row.state == "idle" and (
        row.state_change is None or server_now - row.state_change < restated
    )
    return SessionRow(
        pid=row.pid,
        backend_start=row.backend_start,
        database=row.database,
        role=row.role,
        application=row.application,
        client=row.client,
        state=row.state,
        wait_event_type=row.wait_event_type,
        wait_event=row.wait_event,
        blocked_by=pids_from_text(row.blocked_by),
        statement=row.text,
        session_seconds=age(row.backend_start) or 0.0,
        xact_seconds=age(row.xact_start),
        statement_seconds=age(row.query_start) if row.state == "active" else None,
        state_seconds=None if vague else age(row.state_change),
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def alerts_now(connection: Connection) -> list[Alert]:
    """Pending and firing alerts, worst first."""
    found = alert_log.active_alerts(connection)
    return sorted(found, key=lambda a: (-a.severity.rank, a.state.value, a.since))


def alerts_between(
    connection: Connection, start: datetime, end: datetime, target: str | None = None
) -> list[Alert]:
    """Alerts that fired at some time in the range, newest first."""
    table = tables.alert
    where = [
        table.c.fired_at.is_not(None),
        table.c.fired_at < end,
        or_(table.c.resolved_at.is_(None), table.c.resolved_at >= start),
    ]
    if target is not None:
        where.append(table.c.target == target)
    rows = connection.execute(select(table).where(*where).order_by(table.c.fired_at.desc()))
    return [alert_log.alert_of(row) for row in rows]


def gaps(connection: Connection, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """The times in the range when Headroom itself was not running, also up to its end."""
    run = tables.run
    rows = connection.execute(select(run).order_by(run.c.started_at)).all()
    found = []
    for before, after in itertools.pairwise(rows):
        stopped = before.stopped_at or before.seen_at
        if stopped < end and after.started_at > start:
            found.append((max(stopped, start), min(after.started_at, end)))
    # A run that was killed is not known to have stopped: it only has not been seen since.
    if rows and rows[-1].stopped_at is not None and rows[-1].stopped_at < end:
        found.append((max(rows[-1].stopped_at, start), end))
    return found
