"""slots_low: few slots are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from alerts.rules.limits import graded
from alerts.view import View
from alerts.wording import counted, name, quoted
from model.alerting import Culprit, Finding
from model.rules import SlotsLow
from model.samples import Session

NAME = "slots_low"
SHOWN = 3  # applications in the evidence
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
            f"{limit:.0%}); {counted(left, 'is', 'are')} left"
        ),
        advice=advice(users),
        culprit=application_culprit(users),
        evidence=tuple(application_words(group) for group in users[:SHOWN]),
    )


def by_application(sessions: Iterable[Session]) -> list[list[Session]]:
    """Sessions grouped by application, the largest group first."""
    groups: dict[str, list[Session]] = {}
    for session in sessions:
        groups.setdefault(session.application, []).append(session)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0].application))


def application_words(group: list[Session]) -> str:
    """ "Application checkout holds 60 slots (55 idle, 5 active) as role app"."""
    states = Counter(session.state or "unknown" for session in group).most_common()
    roles = Counter(session.role or "(none)" for session in group).most_common(2)
    shown = ", ".join(f"{count} {name(state)}" for state, count in states)
    return (
        f"Application {name(group[0].application)} holds {counted(len(group), 'slot')} ({shown}) "
        f"as role {', '.join(name(role) for role, _ in roles)}."
    )


def application_culprit(groups: list[list[Session]]) -> Culprit | None:
    """The application with the most connections; no single session is to blame."""
    if not groups:
        return None
    group = groups[0]
    roles, databases = {s.role for s in group}, {s.database for s in group}
    return Culprit(
        pid=None,
        application=group[0].application,
        role=roles.pop() if len(roles) == 1 else None,
        database=databases.pop() if len(databases) == 1 else None,
        client=None,
        state=Counter(s.state for s in group).most_common(1)[0][0],
        age_seconds=None,
        statement=None,
    )


def advice(groups: list[list[Session]]) -> str:
    """What to do first about the largest group."""
    if not groups:
        return (
            "See who holds the slots: SELECT application_name, usename, state, count(*) "
            "FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "GROUP BY 1, 2, 3 ORDER BY 4 DESC;"
        )
    group = groups[0]
    idle = sum(1 for session in group if session.state == "idle")
    text = (
        f"Limit the pool of application {name(group[0].application)}, which holds "
        f"{counted(len(group), 'slot')}, or put PgBouncer before it."
    )
    literal = quoted(group[0].application)
    if idle and literal:
        text += f" To free its {counted(idle, 'idle slot')} now: {_END_IDLE}{literal};"
    return text
