"""Whether somebody is told, why, and through which channels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from model.alerting import Alert, AlertKey, AlertState, Reason, Severity
from model.channels import Channel

_SHADOWED = {"slots_exhausted": frozenset({"slots_low"})}
"""A firing rule → the rules of the same target that it makes superfluous. target_down
shadows all others: what a target that does not answer did last helps nobody."""


def reason_to_notify(alert: Alert, repeat_interval: float, at: datetime) -> Reason | None:
    """Why somebody has to be told of *alert* now; None if nobody has.

    repeat_interval: seconds between reminders.
    "Resolved" goes only to those who were told that it fired.
    """
    if alert.state is AlertState.INACTIVE:
        return Reason.RESOLVED if alert.notified_at is not None else None
    if alert.state is not AlertState.FIRING:
        return None
    if alert.notified_at is None:
        # One that was held back until its trouble was over is not news any more.
        return Reason.FIRING if alert.clear_since is None else None
    told = alert.notified_severity
    if told is None or alert.severity.rank > told.rank:
        return Reason.WORSE
    if alert.clear_since is None and at - alert.notified_at >= timedelta(seconds=repeat_interval):
        return Reason.REMINDER
    return None


def worst_told(alert: Alert) -> Severity:
    """The worst severity that has been told once *alert* is told now.

    It does not sink with the alert, so that a value around a limit raises it only once.
    """
    told = alert.notified_severity
    return alert.severity if told is None or alert.severity.rank > told.rank else told


def inhibited_by(alert: Alert, active: Iterable[Alert]) -> AlertKey | None:
    """The firing alert because of which *alert* is not told; None if it is told.

    It keeps its state, and is told when the other one ends and its trouble is still there.
    "Resolved" is never held back.
    """
    if alert.state is AlertState.INACTIVE:
        return None
    for other in active:
        if other.state is not AlertState.FIRING or other.key.target != alert.key.target:
            continue
        if other.key.rule == "target_down" and alert.key.rule != "target_down":
            return other.key
        if alert.key.rule in _SHADOWED.get(other.key.rule, ()):
            return other.key
    return None


def channels_for(
    alert: Alert, reason: Reason, allowed: tuple[str, ...] | None, channels: Sequence[Channel]
) -> tuple[str, ...]:
    """Names of the *channels* that are told of *alert* for *reason*.

    allowed: the rule's own list; None allows all.
    A channel hears "resolved" if it wants it and was told that it fired, whatever the severity
    is by then.
    """
    if reason is Reason.RESOLVED:
        return tuple(c.name for c in channels if c.send_resolved and c.name in alert.told)
    return tuple(
        channel.name
        for channel in channels
        if (allowed is None or channel.name in allowed)
        and alert.severity.value in channel.severities
    )
