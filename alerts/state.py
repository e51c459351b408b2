"""An alert's state machine: inactive → pending → firing → inactive. Pure.

hold ("for"):      seconds that a finding must last before the alert fires; 0 fires at once.
keep_firing_for:   seconds that the finding must be gone before a firing alert ends.
no data:           a moment without an answer. It resolves nothing and advances nothing:
                   both timers stand still, from the poll that failed until answers come
                   back.
A pending alert whose finding is gone ends silently. The words and the order of states are
those of Prometheus and vmalert (https://docs.victoriametrics.com/vmalert/#alerting-rules).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from model.alerting import Alert, AlertKey, AlertState, Finding, Reason


def step(
    alert: Alert | None,
    finding: Finding | None,
    at: datetime,
    *,
    judged: bool,
    hold: float,
    keep_firing_for: float,
) -> Alert | None:
    """*alert* after the answer at *at*; None if there was and is nothing.

    alert:   pending or firing, or None.
    finding: None if nothing was found, or if the rule was not judged.
    Returns an inactive alert once, when it ends; `fired_at` tells whether it had fired.
    """
    if alert is None:
        return None if finding is None else _begin(finding, at, hold)
    if not judged:
        return alert if alert.no_data_since else replace(alert, no_data_since=at)
    if alert.no_data_since is not None:
        alert = _resume(alert, at)
    if finding is not None:
        return _confirm(alert, finding, at, hold)
    return _miss(alert, at, keep_firing_for)


def _begin(finding: Finding, at: datetime, hold: float) -> Alert:
    firing = hold <= 0
    return Alert(
        id=alert_id(finding.key, at),
        key=finding.key,
        state=AlertState.FIRING if firing else AlertState.PENDING,
        severity=finding.severity,
        since=at,
        last_seen_at=at,
        finding=finding,
        fired_at=at if firing else None,
    )


def _resume(alert: Alert, at: datetime) -> Alert:
    """Answers are back: the timers leave out the time without them.

    A pending alert's `since` moves, because that time proves nothing. A firing alert's
    does not: nobody has said that the trouble was gone.
    """
    assert alert.no_data_since is not None
    gap = max(at - alert.no_data_since, timedelta(0))
    since = alert.since + gap if alert.state is AlertState.PENDING else alert.since
    clear_since = None if alert.clear_since is None else min(alert.clear_since + gap, at)
    return replace(alert, no_data_since=None, since=since, clear_since=clear_since)


def _confirm(alert: Alert, finding: Finding, at: datetime, hold: float) -> Alert:
    fires = alert.state is AlertState.FIRING or at - alert.since >= timedelta(seconds=hold)
    return replace(
        alert,
        state=AlertState.FIRING if fires else AlertState.PENDING,
        fired_at=(alert.fired_at or at) if fires else None,
        severity=finding.severity,
        finding=finding,
        last_seen_at=at,
        clear_since=None,
    )


def _miss(alert: Alert, at: datetime, keep_firing_for: float) -> Alert:
    if alert.state is AlertState.FIRING:
        clear_since = alert.clear_since or at
        if at - clear_since < timedelta(seconds=keep_firing_for):
            return replace(alert, clear_since=clear_since)
    return resolve(alert, at)


def resolve(alert: Alert, at: datetime) -> Alert:
    """*alert*, ended at *at*. History remembers it as bad as it was told."""
    told = alert.notified_severity
    worst = told if told is not None and told.rank > alert.severity.rank else alert.severity
    return replace(
        alert, state=AlertState.INACTIVE, severity=worst, resolved_at=at, clear_since=None
    )


def alert_id(key: AlertKey, since: datetime) -> str:
    """32 hex digits, the same for the same alert that began at the same millisecond."""
    return _digest(key.rule, key.target, repr(key.labels), str(_ms(since)))


def notice_id(alert: Alert, reason: Reason) -> str:
    """32 hex digits, the same whenever the same notice is decided again.

    It counts on `notified_at` as it was before this notice, so two reminders differ, and a
    notice that is decided anew after a crash, from the same stored alert, does not.
    """
    before = "-" if alert.notified_at is None else str(_ms(alert.notified_at))
    return _digest(alert.id, reason.value, before)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


def _ms(at: datetime) -> int:
    """Whole milliseconds, as the store keeps them."""
    return int(at.timestamp() * 1000)
