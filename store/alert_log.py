"""Alerts, verdicts and the outbox: what was decided, and what has still to be said.

State and outbox rows of one decision are written in one durable transaction; sending comes
after, and is marked after. So a crash repeats a message at most once and loses none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.sqlite import insert

from model.alerting import (
    Alert,
    AlertKey,
    AlertState,
    Severity,
    Verdict,
    culprit_to_json,
    finding_from_json,
    finding_to_json,
    labels,
)
from store import tables
from store.append import took
from store.database import Store
from store.windows import id_of


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message for one channel, as it lies in the outbox.

    id:      the notice's id and its channel; the same message decided twice is kept once.
    payload: the notice as JSON text.
    """

    id: str
    alert_id: str
    channel: str
    payload: str
    created_at: datetime
    next_attempt_at: datetime
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What became of a message while the store was away."""

    attempts: int = 0
    next_attempt_at: datetime | None = None
    last_error: str | None = None
    sent_at: datetime | None = None
    dead_at: datetime | None = None


def record(
    store: Store,
    alerts: Iterable[Alert],
    messages: Sequence[OutboxRow],
    verdicts: Iterable[tuple[str, Verdict]],
    at: datetime,
    *,
    progress: Mapping[str, Progress] | None = None,
    position: tuple[int, int] | None = None,
) -> None:
    """Keep one decision: changed alerts, new messages, changed verdicts. Raises StoreError.

    progress: of messages that were tried already, while the store was away.
    position: where the spool that it comes from goes on after it.
    """
    with store.write(durable=True) as connection:
        for alert in alerts:
            row = _alert_row(alert)
            connection.execute(
                insert(tables.alert)
                .values(row)
                .on_conflict_do_update(index_elements=["id"], set_=row)
            )
        for message in messages:
            made = (progress or {}).get(message.id, Progress())
            connection.execute(
                insert(tables.outbox)
                .values(
                    id=message.id,
                    alert_id=message.alert_id,
                    channel=message.channel,
                    payload=message.payload,
                    created_at=message.created_at,
                    next_attempt_at=made.next_attempt_at or message.next_attempt_at,
                    attempts=made.attempts,
                    last_error=made.last_error,
                    sent_at=made.sent_at,
                    dead_at=made.dead_at,
                )
                .on_conflict_do_nothing()
            )
        for target, verdict in verdicts:
            _record_verdict(connection, target, verdict, at)
        if position is not None:
            took(connection, position)


def _record_verdict(connection: Connection, target: str, verdict: Verdict, at: datetime) -> None:
    target_id = id_of(connection, target)
    if target_id < 0:  # its first sample has not been written yet; the next verdict will be
        return
    row = {
        "target_id": target_id,
        "at": at,
        "layer": verdict.layer,
        "cause": verdict.cause,
        "sentence": verdict.sentence,
        "severity": verdict.severity,
        "detail": json.dumps(
            {
                "evidence": list(verdict.evidence),
                "advice": verdict.advice,
                "culprit": None if verdict.culprit is None else culprit_to_json(verdict.culprit),
            }
        ),
    }
    connection.execute(
        insert(tables.verdict)
        .values(row)
        .on_conflict_do_update(index_elements=["target_id", "at"], set_=row)
    )


def active_alerts(connection: Connection) -> list[Alert]:
    """Pending and firing alerts."""
    rows = connection.execute(
        select(tables.alert).where(tables.alert.c.state != AlertState.INACTIVE.value)
    )
    return [alert_of(row) for row in rows]


def due(connection: Connection, channel: str, at: datetime, limit: int) -> list[OutboxRow]:
    """Messages of a channel that may be tried now, oldest first.

    Of each alert only the oldest unsent one, so that "resolved" never overtakes "firing".
    """
    table = tables.outbox
    unsent = [table.c.channel == channel, table.c.sent_at.is_(None), table.c.dead_at.is_(None)]
    oldest = select(func.min(table.c.seq)).where(*unsent).group_by(table.c.alert_id)
    rows = connection.execute(
        select(table)
        .where(table.c.seq.in_(oldest), table.c.next_attempt_at <= at)
        .order_by(table.c.seq)
        .limit(limit)
    )
    return [
        OutboxRow(
            row.id,
            row.alert_id,
            row.channel,
            row.payload,
            row.created_at,
            row.next_attempt_at,
            row.attempts,
        )
        for row in rows
    ]


def open_alerts(connection: Connection, channel: str) -> set[str]:
    """Alerts with a message for *channel* that was neither sent nor given up."""
    table = tables.outbox
    unsent = (table.c.channel == channel, table.c.sent_at.is_(None), table.c.dead_at.is_(None))
    return set(connection.execute(select(table.c.alert_id).where(*unsent).distinct()).scalars())


def settle(store: Store, message_id: str, progress: Progress) -> None:
    """What became of a message between the decision's commit and now."""
    _mark(
        store,
        message_id,
        attempts=progress.attempts,
        last_error=progress.last_error,
        sent_at=progress.sent_at,
        dead_at=progress.dead_at,
        **({"next_attempt_at": progress.next_attempt_at} if progress.next_attempt_at else {}),
    )


def mark_sent(store: Store, message_id: str, at: datetime) -> None:
    """The receiver has it."""
    _mark(store, message_id, sent_at=at)


def mark_failed(store: Store, message_id: str, error: str, next_attempt_at: datetime) -> None:
    """It was refused for now."""
    attempts = tables.outbox.c.attempts + 1
    _mark(store, message_id, last_error=error, next_attempt_at=next_attempt_at, attempts=attempts)


def mark_dead(store: Store, message_id: str, error: str, at: datetime) -> None:
    """It is given up: refused for good, or tried for too long."""
    _mark(store, message_id, last_error=error, dead_at=at, attempts=tables.outbox.c.attempts + 1)


def _mark(store: Store, message_id: str, **values: Any) -> None:
    with store.write(durable=True) as connection:
        connection.execute(
            update(tables.outbox).where(tables.outbox.c.id == message_id).values(**values)
        )


def outbox_counts(connection: Connection) -> dict[str, int]:
    """How many messages wait, were given up, were sent."""
    table = tables.outbox
    waiting = table.c.sent_at.is_(None) & table.c.dead_at.is_(None)
    row = connection.execute(
        select(
            func.count().filter(waiting).label("waiting"),
            func.count(table.c.dead_at).label("dead"),
            func.count(table.c.sent_at).label("sent"),
        )
    ).one()
    return {"waiting": row.waiting, "dead": row.dead, "sent": row.sent}


def _alert_row(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "rule": alert.key.rule,
        "target": alert.key.target,
        "labels": json.dumps(dict(alert.key.labels)),
        "state": alert.state.value,
        "severity": alert.severity.value,
        "since": alert.since,
        "last_seen_at": alert.last_seen_at,
        "fired_at": alert.fired_at,
        "resolved_at": alert.resolved_at,
        "notified_at": alert.notified_at,
        "notified_severity": alert.notified_severity,
        "told": json.dumps(alert.told),
        "no_data_since": alert.no_data_since,
        "clear_since": alert.clear_since,
        "finding": json.dumps(finding_to_json(alert.finding)),
    }


def alert_of(row: Row[Any]) -> Alert:
    """A row of the alert table as an Alert."""
    notified = row.notified_severity
    return Alert(
        id=row.id,
        key=AlertKey(row.rule, row.target, labels(**json.loads(row.labels))),
        state=AlertState(row.state),
        severity=Severity(row.severity),
        since=row.since,
        last_seen_at=row.last_seen_at,
        finding=finding_from_json(json.loads(row.finding)),
        fired_at=row.fired_at,
        resolved_at=row.resolved_at,
        notified_at=row.notified_at,
        notified_severity=None if notified is None else Severity(notified),
        told=tuple(str(channel) for channel in json.loads(row.told or "[]")),
        no_data_since=row.no_data_since,
        clear_since=row.clear_since,
    )
