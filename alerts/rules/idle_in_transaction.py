"""idle_in_transaction: a session holds a transaction open and does nothing."""

from __future__ import annotations

from collections.abc import Iterator

from alerts.blocking import chains
from alerts.rules.limits import graded
from alerts.view import View
from alerts.wording import counted, culprit, is_idle_in_transaction, name, seconds, who
from model.alerting import Finding, labels
from model.rules import IdleInTransaction
from model.samples import Session

NAME = "idle_in_transaction"
SHOWN = 3  # further sessions in the evidence


def can_judge(view: View) -> bool:
    """Whether the sessions were asked for and may be seen."""
    return view.sessions is not None


def idle_too_long_in_transaction(view: View, limits: IdleInTransaction) -> Iterator[Finding]:
    """A session has done nothing inside a transaction longer than the limits allow.

    It keeps its connection, so that a pool runs dry; its locks, so that others wait; and
    its snapshot, so that dead rows stay. Nearly always the application forgot to commit or
    does slow work, such as a web request, in between. One finding a database, about the
    session that does most harm: one that blocks others first, then the oldest.
    """
    everyone = view.sessions or ()
    found = chains(everyone)
    idle: dict[str, list[tuple[int, float, Session]]] = {}
    for session in everyone:
        age = session.state_seconds
        if not is_idle_in_transaction(session) or age is None or age < limits.warning_seconds:
            continue
        if session.application not in limits.exclude_applications:
            blocked = len(found.blocked(session.pid))
            idle.setdefault(session.database or "", []).append((blocked, age, session))
    for database, entries in sorted(idle.items()):
        oldest = max(age for _, age, _ in entries)
        reached = graded(oldest, limits.warning_seconds, limits.critical_seconds)
        if reached is None:
            continue
        severity, limit = reached
        entries.sort(key=lambda entry: (-min(entry[0], 1), -entry[1], entry[2].pid))
        blocked, age, worst = entries[0]
        yield Finding(
            rule=NAME,
            target=view.target.name,
            labels=labels(database=database),
            severity=severity,
            value=round(oldest, 3),
            limit=limit,
            unit="s",
            summary=(
                f"{counted(len(entries), 'session has', 'sessions have')} been idle in "
                f"transaction in database {name(database)}, the longest for {seconds(oldest)} "
                f"(limit {seconds(limit)}); {'it is' if len(entries) == 1 else 'the worst is'} "
                f"{who(worst)}"
            ),
            advice=(
                f"Make application {name(worst.application)} commit or roll back before it "
                "does anything else, and set idle_in_transaction_session_timeout. "
                f"To end this one now: SELECT pg_terminate_backend({worst.pid});"
            ),
            culprit=culprit(worst, age),
            evidence=tuple(_evidence(entries)),
        )


def _evidence(entries: list[tuple[int, float, Session]]) -> Iterator[str]:
    blocked, _, worst = entries[0]
    if blocked:
        yield f"It blocks {counted(blocked, 'session')}."
    if worst.xact_seconds is not None:
        yield f"Its transaction has been open for {seconds(worst.xact_seconds)}."
    for blocks, age, session in entries[1 : 1 + SHOWN]:
        also = f" and blocks {counted(blocks, 'session')}" if blocks else ""
        yield f"Also {who(session)}, idle for {seconds(age)}{also}."
