"""long_statement: a statement has run for long."""

from __future__ import annotations

from collections.abc import Iterator

from alerts.blocking import Chains, chains
from alerts.rules.limits import graded
from alerts.view import View
from alerts.wording import counted, culprit, name, seconds, session_words, who
from model.alerting import Finding, labels
from model.rules import LongStatement
from model.samples import Session

NAME = "long_statement"
SHOWN = 3  # further statements in the evidence


def can_judge(view: View) -> bool:
    """Whether the sessions were asked for and may be seen."""
    return view.sessions is not None


def statements_running_too_long(view: View, limits: LongStatement) -> Iterator[Finding]:
    """A client's statement has run longer than the limits allow; one finding a database.

    It holds its connection, its locks and its snapshot all that time: others queue behind
    it, and vacuum cannot clean up what it might still see. Dumps and restores are expected
    to take long and are left out by their application name.
    """
    everyone = view.sessions or ()
    found = chains(everyone)
    slow: dict[str, list[tuple[float, Session]]] = {}
    for session in everyone:
        age = session.statement_seconds
        if session.state != "active" or age is None or age < limits.warning_seconds:
            continue
        if session.application not in limits.exclude_applications:
            slow.setdefault(session.database or "", []).append((age, session))
    for database, entries in sorted(slow.items()):
        entries.sort(key=lambda entry: (-entry[0], entry[1].pid))
        age, worst = entries[0]
        reached = graded(age, limits.warning_seconds, limits.critical_seconds)
        if reached is None:
            continue
        severity, limit = reached
        yield Finding(
            rule=NAME,
            target=view.target.name,
            labels=labels(database=database),
            severity=severity,
            value=round(age, 3),
            limit=limit,
            unit="s",
            summary=(
                f"{_count(len(entries))} in database {name(database)} for {seconds(age)} "
                f"(limit {seconds(limit)}): {who(worst)}"
            ),
            advice=_advice(worst, found),
            culprit=culprit(worst, age),
            evidence=(
                *_lock_words(worst, found, everyone),
                *(_next_words(session, age) for age, session in entries[1 : 1 + SHOWN]),
            ),
        )


def _count(count: int) -> str:
    if count == 1:
        return "A statement has run"
    return f"{counted(count, 'statement')} have run too long, the oldest"


def _next_words(session: Session, age: float) -> str:
    return f"Also {who(session)}, for {seconds(age)}."


def _lock_words(worst: Session, found: Chains, everyone: tuple[Session, ...]) -> Iterator[str]:
    blocked = len(found.blocked(worst.pid))
    if blocked:
        yield f"It blocks {counted(blocked, 'session')}."
    if worst.blocked_by:
        root = found.root_of(worst.pid)
        if root == 0:
            yield "It waits for a lock of a prepared transaction (see pg_prepared_xacts)."
            return
        holder = next((s for s in everyone if s.pid == root), None)
        words = session_words(holder) if holder else f"pid {root or worst.blocked_by[0]}"
        yield f"It waits for a lock: {words}."


def _advice(worst: Session, found: Chains) -> str:
    if worst.blocked_by:
        root = found.root_of(worst.pid)
        if root == 0:
            return (
                "Finish the prepared transaction that holds the lock: "
                "SELECT gid, prepared, owner FROM pg_prepared_xacts ORDER BY prepared;"
            )
        root = root or worst.blocked_by[0]
        return (
            f"It only waits. Look at pid {root}, which holds the lock; "
            f"to end that transaction: SELECT pg_terminate_backend({root});"
        )
    return (
        f"Ask the owner of application {name(worst.application)} whether it is still wanted; "
        f"if not: SELECT pg_cancel_backend({worst.pid}); Set statement_timeout for that role."
    )
