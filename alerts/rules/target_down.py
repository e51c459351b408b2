"""target_down: a target does not answer."""

from __future__ import annotations

from collections.abc import Iterator

from alerts.view import FULL, View
from alerts.wording import plain, seconds
from model.alerting import Finding, Severity
from model.rules import TargetDown
from model.samples import Failure

NAME = "target_down"

FAILURES = {
    Failure.UNREACHABLE: (
        "cannot be reached",
        "Check that the process runs, and the host, the port and the firewall on the way.",
    ),
    Failure.TIMEOUT: (
        "does not answer in time",
        "Check the host for overload, full disks and a stopped process; then the network.",
    ),
    Failure.NOT_AVAILABLE: (
        "is starting up, shutting down or in recovery",
        "Read the server's log to see how far it is and why it restarted.",
    ),
    Failure.AUTHENTICATION: (
        "refuses Headroom's login",
        (
            "Fix the credentials in Headroom's configuration, or pg_hba.conf (for PgBouncer: "
            "auth_file); `headroom check` says which."
        ),
    ),
    Failure.PERMISSION: (
        "lets Headroom in but refuses to answer",
        "Grant what is missing: `headroom check` prints the exact statement (docs/permissions.md).",
    ),
    Failure.PROTOCOL: (
        "does not answer like a target of this kind",
        "Check host, port and kind in Headroom's configuration.",
    ),
}
"""What each failure means: what the target does, what to do first."""
_UNKNOWN = ("does not answer", "Check that it runs and that Headroom can reach it.")


def can_judge(view: View) -> bool:
    """Whether there has been a poll at all: a failed one is an answer here."""
    return view.newest is not None


def no_answer(view: View, limits: TargetDown) -> Iterator[Finding]:
    """The polls of a target fail, for another reason than that it is full.

    Either nobody gets in, or only Headroom does not; both blind it, so its other alerts
    keep their state and are not sent while this one fires.
    """
    newest = view.newest
    if newest is None or newest.up or newest.failure in FULL:
        return
    does, first = FAILURES.get(newest.failure, _UNKNOWN) if newest.failure else _UNKNOWN
    answered = view.window.answered_at
    since = answered or view.window.watched_since or newest.at
    silent = (newest.at - since).total_seconds()
    when = (
        f"its last answer came {seconds(silent)} ago"
        if answered
        else f"it has not answered since Headroom began to ask {seconds(silent)} ago"
    )
    reason = f"The poll says: {plain(newest.reason, 300)}" if newest.reason else None
    yield Finding(
        rule=NAME,
        target=view.target.name,
        labels=(),
        severity=Severity.CRITICAL,
        value=round(silent, 3),
        limit=limits.hold,
        unit="s",
        summary=f"{view.target.name} {does}; {when} (limit {seconds(limits.hold)})",
        advice=first,
        evidence=(reason,) if reason else (),
    )
