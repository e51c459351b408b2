"""The state machine, one row a story: 1 found, 0 not found, - no data; a poll every second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts.state import alert_id, notice_id, step
from model.alerting import Alert, AlertState, Reason, Severity
from tests.alert_samples import after, finding

# steps, for, keep_firing_for, the state after each step
ROWS = [
    ("1", 0, 0, "firing"),  # no hold time: it fires at once
    ("0", 0, 0, "nothing"),
    ("-", 0, 0, "nothing"),  # no data begins nothing
    ("111", 2, 0, "pending=>pending=>firing"),
    ("1101", 2, 0, "pending=>pending=>inactive=>pending"),  # the hold time starts again
    ("110", 1, 0, "pending=>firing=>inactive"),
    ("11-11", 3, 0, "pending=>pending=>pending=>pending=>firing"),  # no data proves nothing
    ("1---1", 2, 0, "pending=>pending=>pending=>pending=>pending"),
    ("1--------", 2, 0, "pending" + 8 * "=>pending"),  # no data alone never fires
    ("1------", 0, 0, "firing" + 6 * "=>firing"),  # nor does it resolve
    ("1---0", 0, 0, "firing=>firing=>firing=>firing=>inactive"),
    ("10001", 0, 3, "firing=>firing=>firing=>firing=>firing"),  # a flapping value is one alert
    ("10000", 0, 3, "firing=>firing=>firing=>firing=>inactive"),
    ("1010000", 0, 3, "firing=>firing=>firing=>firing=>firing=>firing=>inactive"),
    ("100--00", 0, 3, "firing=>firing=>firing=>firing=>firing=>firing=>inactive"),
    ("1-0-0-0", 0, 2, "firing=>firing=>firing=>firing=>firing=>firing=>inactive"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "hold", "keep", "states"), ROWS)
def test_states_follow_the_answers(steps: str, hold: float, keep: float, states: str) -> None:
    alert: Alert | None = None
    seen = []
    for at, mark in enumerate(steps):
        found = finding() if mark == "1" else None
        judged = mark != "-"
        alert = step(alert, found, after(at), judged=judged, hold=hold, keep_firing_for=keep)
        seen.append(alert.state.value if alert else "nothing")
        if alert and alert.state is AlertState.INACTIVE:
            alert = None
    assert "=>".join(seen) == states


def run(steps: str, hold: float = 0, keep: float = 0) -> Alert:
    alert: Alert | None = None
    for at, mark in enumerate(steps):
        found = finding(value=at) if mark == "1" else None
        alert = step(alert, found, after(at), judged=mark != "-", hold=hold, keep_firing_for=keep)
    assert alert is not None
    return alert


def test_an_alert_keeps_its_id_and_start_from_pending_to_resolved() -> None:
    alert = run("1110", hold=1)
    assert alert.id == run("1", hold=1).id
    assert (alert.since, alert.fired_at, alert.last_seen_at) == (after(0), after(1), after(2))
    assert (alert.state, alert.resolved_at) == (AlertState.INACTIVE, after(3))


def test_an_alert_that_never_fired_ends_without_a_firing_time() -> None:
    assert run("10", hold=5).fired_at is None


def test_no_data_is_remembered_and_forgotten() -> None:
    assert run("1--").no_data_since == after(1)
    assert run("1--1").no_data_since is None


def test_a_firing_alert_keeps_its_start_over_a_time_without_data() -> None:
    assert run("1---1").since == after(0)


def test_the_severity_follows_the_finding_both_ways() -> None:
    alert = run("1")
    for severity in (Severity.CRITICAL, Severity.WARNING):
        worse = step(alert, finding(severity), after(1), judged=True, hold=0, keep_firing_for=0)
        assert worse is not None
        assert worse.severity is severity


def test_an_id_tells_targets_labels_and_starts_apart_and_nothing_else() -> None:
    key = finding().key
    ids = {
        alert_id(key, after(0)),
        alert_id(key, after(0.001)),
        alert_id(replace(key, target="other"), after(0)),
        alert_id(replace(key, labels=()), after(0)),
    }
    assert len(ids) == 4
    assert alert_id(key, after(0)) == alert_id(finding(value=9).key, after(0.0004))


def test_a_notice_that_is_decided_again_has_the_same_id() -> None:
    alert = run("1")
    assert notice_id(alert, Reason.FIRING) == notice_id(run("11"), Reason.FIRING)
    told = replace(alert, notified_at=after(0))
    later = replace(alert, notified_at=after(100))
    ids = {notice_id(a, Reason.REMINDER) for a in (told, later)}
    assert len(ids | {notice_id(told, Reason.RESOLVED)}) == 3


def test_history_remembers_an_alert_as_bad_as_it_was_told() -> None:
    begun = step(
        None, finding(severity=Severity.WARNING), after(0), judged=True, hold=0, keep_firing_for=0
    )
    assert begun is not None
    worse = replace(begun, notified_severity=Severity.CRITICAL)
    ended = step(worse, None, after(9), judged=True, hold=0, keep_firing_for=0)
    assert ended is not None
    assert (ended.state, ended.severity) == (AlertState.INACTIVE, Severity.CRITICAL)
