"""Whether somebody is told, why, and through which channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from alerts.notifying import channels_for, inhibited_by, reason_to_notify, worst_told
from model.alerting import Alert, AlertState, Reason, Severity
from model.channels import WebhookChannel
from tests.alert_samples import after, finding

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


def alert(state: AlertState = AlertState.FIRING, rule: str = "slots_low", **changed: Any) -> Alert:
    found = finding(rule=rule, target="shop", labels=())
    made = Alert("a1", found.key, state, found.severity, after(0), after(0), found, after(0))
    return replace(made, **changed)


def told(at: float, severity: Severity = WARNING, **changed: Any) -> Alert:
    return alert(notified_at=after(at), notified_severity=severity, **changed)


@pytest.mark.parametrize(
    ("what", "made", "at", "reason"),
    [
        ("pending alerts are nobody's business", alert(AlertState.PENDING), 0, None),
        ("a new one is told", alert(), 0, Reason.FIRING),
        ("it is told once", told(0), 59, None),
        ("and again after repeat_interval", told(0), 60, Reason.REMINDER),
        ("a raised severity is told at once", told(0, severity=WARNING), 1, None),
        ("worse", replace(told(0), severity=CRITICAL), 1, Reason.WORSE),
        ("a sunk severity is not told", told(0, CRITICAL), 1, None),
        (
            "what was held back until it was over is not told as news",
            alert(clear_since=after(5)),
            6,
            None,
        ),
        ("no reminder while the finding is gone", told(0, clear_since=after(50)), 60, None),
        (
            "an end is told to those who knew",
            told(0, state=AlertState.INACTIVE),
            9,
            Reason.RESOLVED,
        ),
        ("nobody knew of it", alert(AlertState.INACTIVE), 9, None),
    ],
)
def test_the_reason_to_notify(what: str, made: Alert, at: float, reason: Reason | None) -> None:
    assert reason_to_notify(made, 60.0, after(at)) is reason, what


def test_the_worst_told_severity_does_not_sink() -> None:
    assert worst_told(told(0, CRITICAL)) is CRITICAL
    assert worst_told(replace(told(0), severity=CRITICAL)) is CRITICAL
    assert worst_told(alert()) is WARNING


@pytest.mark.parametrize(
    ("what", "made", "other", "inhibited"),
    [
        ("a down target mutes its others", alert(), alert(rule="target_down"), True),
        ("it does not mute itself", alert(rule="target_down"), alert(rule="target_down"), False),
        ("exhausted mutes low", alert(), alert(rule="slots_exhausted"), True),
        ("low does not mute exhausted", alert(rule="slots_exhausted"), alert(), False),
        (
            "exhausted mutes nothing else",
            alert(rule="long_statement"),
            alert(rule="slots_exhausted"),
            False,
        ),
        ("a pending one mutes nothing", alert(), alert(AlertState.PENDING, "target_down"), False),
        ("an end is never held back", alert(AlertState.INACTIVE), alert(rule="target_down"), False),
    ],
)
def test_inhibition(what: str, made: Alert, other: Alert, inhibited: bool) -> None:
    assert (inhibited_by(made, [made, other]) is not None) is inhibited, what


def test_another_target_s_alert_inhibits_nothing() -> None:
    down = alert(rule="target_down")
    elsewhere = replace(down, key=replace(down.key, target="other"))
    assert inhibited_by(alert(), [elsewhere]) is None


def channel(name: str, **changed: Any) -> WebhookChannel:
    url = SecretStr("http://127.0.0.1:9/")
    return WebhookChannel.model_validate({"kind": "webhook", "name": name, "url": url, **changed})


CHANNELS = (
    channel("all"),
    channel("urgent", severities=("critical",)),
    channel("no-ends", send_resolved=False),
)


@pytest.mark.parametrize(
    ("made", "reason", "allowed", "names"),
    [
        (alert(), Reason.FIRING, None, ("all", "no-ends")),
        (alert(), Reason.FIRING, ("urgent",), ()),
        (alert(severity=CRITICAL), Reason.FIRING, None, ("all", "urgent", "no-ends")),
        (alert(severity=CRITICAL), Reason.FIRING, ("urgent", "all"), ("all", "urgent")),
        (told(0, CRITICAL, told=("urgent", "all")), Reason.RESOLVED, None, ("all", "urgent")),
        (told(0, CRITICAL, told=("all",)), Reason.RESOLVED, ("urgent",), ("all",)),
        (told(0, CRITICAL, told=("no-ends", "gone")), Reason.RESOLVED, None, ()),
    ],
)
def test_channels_are_chosen_by_rule_severity_and_wish(
    made: Alert, reason: Reason, allowed: tuple[str, ...] | None, names: tuple[str, ...]
) -> None:
    assert channels_for(made, reason, allowed, CHANNELS) == names
