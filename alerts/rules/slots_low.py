"""slots_low: few slots are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from alerts.applications import Group, by_application
from alerts.rules.limits import graded
from alerts.view import View
from alerts.wording import counted, name, quoted
from model.alerting import Culprit, Finding
from model.rules import SlotsLow

NAME = "slots_low"
SHOWN = 3  # applications in the evidence
_END_STUCK = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE state LIKE 'idle in transaction%' AND application_name = "
)
_END_IDLE = (  # for people to run; Headroom itself only reads
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE state = 'idle' AND application_name = "
)


def can_judge(view: View) -> bool:
    """Whether the server has just told us how many slots are used."""
    server = view.answer.server if view.answer else None
    return server is not None and server.slots_used is not None and server.ordinary_capacity > 0


def few_slots_left(view: View, limits: SlotsLow) -> Iterator[Finding]:
    """Slots in use, as a share of those open to ordinary roles, have reached a limit.

    When the last one is taken, the server refuses every new connection, and each process
    costs it memory before that. Reserved slots do not count: applications never get them
    (https://www.postgresql.org/docs/current/runtime-config-connection.html).
    """
    server = view.answer.server if view.answer else None
    if server is None or server.slots_used is None:
        return
    capacity = server.ordinary_capacity
    ratio = server.slots_used / capacity
    reached = graded(ratio, limits.warning_ratio, limits.critical_ratio)
    if reached is None:
        return
    severity, limit = reached
    users = by_application(view.sessions or ())
    left = server.headroom or 0
    yield Finding(
        rule=NAME,
        target=view.target.name,
        labels=(),
        severity=severity,
        value=round(ratio, 4),
        limit=limit,
        unit="ratio",
        summary=(
            f"{server.slots_used} of {capacity} slots are in use ({ratio:.0%}, limit "
            f"{limit:.0%}){largest_words(users)}; {counted(left, 'is', 'are')} left"
        ),
        advice=advice(users),
        culprit=group_culprit(users),
        evidence=tuple(group_words(group) for group in users[:SHOWN]),
    )


def group_words(group: Group) -> str:
    """ "60 connections of application checkout (55 idle, 5 active) as role app"."""
    states = Counter(session.state or "unknown" for session in group.sessions).most_common()
    roles = Counter(session.role or "(none)" for session in group.sessions).most_common(2)
    shown = ", ".join(f"{count} {name(state)}" for state, count in states)
    also = f", under {group.names} names" if group.names > 1 else ""
    return (
        f"{group.connections} ({shown}) as role {', '.join(name(role) for role, _ in roles)}{also}."
    )


def largest_words(groups: list[Group]) -> str:
    """ ", 60 of them by application checkout" for a sentence about slots in use; "" if unknown."""
    if not groups:
        return ""
    return f", {len(groups[0].sessions)} of them by {groups[0].words}"


def group_culprit(groups: list[Group]) -> Culprit | None:
    """The application with the most connections; no single session is to blame."""
    if not groups:
        return None
    group = groups[0]
    roles, databases = {s.role for s in group.sessions}, {s.database for s in group.sessions}
    return Culprit(
        pid=None,
        application=group.name,
        role=roles.pop() if len(roles) == 1 else None,
        database=databases.pop() if len(databases) == 1 else None,
        client=None,
        state=Counter(s.state for s in group.sessions).most_common(1)[0][0],
        age_seconds=None,
        statement=None,
    )


def advice(groups: list[Group]) -> str:
    """What to do first about the largest group."""
    if not groups:
        return (
            "See who holds the slots: SELECT application_name, usename, state, count(*) "
            "FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "GROUP BY 1, 2, 3 ORDER BY 4 DESC;"
        )
    group = groups[0]
    held = counted(len(group.sessions), "slot")
    if group.names > 1:
        # No SQL: names that begin alike may belong to somebody else.
        return (
            f"Put PgBouncer before {group.words}, which hold {held} under {group.names} names: "
            "each of their instances has connections of its own. Or let fewer of them run at once."
        )
    idle = sum(1 for session in group.sessions if session.state == "idle")
    stuck = sum(1 for s in group.sessions if (s.state or "").startswith("idle in transaction"))
    text = f"Limit the pool of {group.words}, which holds {held}, or put PgBouncer before it."
    literal = quoted(group.name)
    if stuck > idle and literal:
        text = (
            f"{group.words[0].upper()}{group.words[1:]} does not give connections back. To free "
            f"its {counted(stuck, 'slot')} that are idle in transaction now: "
            f"{_END_STUCK}{literal};"
        )
    elif idle and literal:
        text += f" To free its {counted(idle, 'idle slot')} now: {_END_IDLE}{literal};"
    return text
