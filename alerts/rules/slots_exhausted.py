"""slots_exhausted: no slot is left, or the server says so."""

from __future__ import annotations

from collections.abc import Iterator

from alerts.rules.slots_low import (
    SHOWN,
    advice,
    application_culprit,
    application_words,
    by_application,
)
from alerts.view import FULL, View
from alerts.wording import counted
from model.alerting import Finding, Severity
from model.samples import Failure, Sample

NAME = "slots_exhausted"

REFUSALS = {
    Failure.SLOTS_EXHAUSTED: (
        Severity.CRITICAL,
        "The server refuses new connections because all its slots are taken",
        (
            "Free slots from a connection that is already open, or locally as a superuser, who has "
            "reserved slots: SELECT application_name, usename, state, count(*) "
            "FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC; then limit the pool of the "
            "largest. Grant Headroom pg_use_reserved_connections (PostgreSQL 16 and "
            "newer), so that it sees this itself."
        ),
    ),
    Failure.DATABASE_LIMIT: (
        Severity.CRITICAL,
        "The server refuses new connections because the database's CONNECTION LIMIT is reached",
        (
            "See who is connected to that database, then raise its limit "
            "(ALTER DATABASE … CONNECTION LIMIT …) or shrink the pools. "
            "Or let Headroom connect to another database, such as postgres."
        ),
    ),
    Failure.ROLE_LIMIT: (
        Severity.WARNING,
        (
            "The server refuses Headroom because its role's CONNECTION LIMIT is reached; "
            "nothing else can be seen until it gets in"
        ),
        (
            "See who else uses Headroom's role, or raise its limit: "
            "ALTER ROLE … CONNECTION LIMIT 3; (docs/permissions.md)."
        ),
    ),
}
"""What each refusal means: severity, summary, what to do first."""


def can_judge(view: View) -> bool:
    """Whether the server answered, be it that it is full."""
    newest = view.newest
    if newest is None:
        return False
    if not newest.up:
        return newest.failure in FULL
    return newest.server is not None and newest.server.slots_used is not None


def no_slot_left(view: View) -> Iterator[Finding]:
    """All slots open to ordinary roles are taken, or a poll was refused for that reason.

    From now on every new connection of an ordinary role fails with "sorry, too many clients
    already" or "remaining connection slots are reserved …" (SQLSTATE 53300). A monitor that
    never got in says so too: a full server and a dead one need different people.
    """
    newest = view.newest
    if newest is None:
        return
    if not newest.up:
        yield from _refused(view, newest)
        return
    server = newest.server
    if server is None or server.slots_used is None or server.slots_used < server.ordinary_capacity:
        return
    users = by_application(view.sessions or ())
    yield Finding(
        rule=NAME,
        target=view.target.name,
        labels=(),
        severity=Severity.CRITICAL,
        value=float(server.slots_used),
        limit=float(server.ordinary_capacity),
        unit="slots",
        summary=(
            f"No slot is left: {server.slots_used} of {server.ordinary_capacity} are in use "
            f"(max_connections {server.max_connections}); ordinary roles are refused"
        ),
        advice=advice(users),
        culprit=application_culprit(users),
        evidence=tuple(application_words(group) for group in users[:SHOWN]),
    )


def _refused(view: View, newest: Sample) -> Iterator[Finding]:
    if newest.failure not in REFUSALS:
        return
    severity, summary, first = REFUSALS[newest.failure]
    refusals = 0
    for sample in reversed(view.window.samples):
        if sample.failure is not newest.failure:
            break
        refusals += 1
    evidence = [f"{counted(refusals, 'poll was', 'polls were')} refused in a row."]
    before = view.window.newest_up
    if before is not None and before.server is not None and before.server.slots_used is not None:
        age = round((newest.at - before.at).total_seconds())
        evidence.append(
            f"{age} s ago, when we last got in, {before.server.slots_used} of "
            f"{before.server.ordinary_capacity} slots were in use."
        )
    groups = by_application(before.sessions or ()) if before else []
    evidence.extend(application_words(group) for group in groups[:SHOWN])
    yield Finding(
        rule=NAME,
        target=view.target.name,
        labels=(),
        severity=severity,
        value=float(refusals),
        limit=1.0,
        unit="refusals",
        summary=summary,
        advice=first,
        culprit=application_culprit(groups),
        evidence=tuple(evidence),
    )
