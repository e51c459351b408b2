"""The Evaluator: samples in, decisions out; restarts and silences included."""

from __future__ import annotations

import typing
from dataclasses import replace
from typing import Any

import pytest

from alerts.evaluate import Decision, Evaluator
from alerts.rules.registry import RULES
from alerts.view import FULL
from model.alerting import Alert, AlertState, Reason, Severity
from model.config import Config
from model.samples import Failure, Sample
from model.targets import Kind, Target
from tests.alert_samples import POOL, T0, after, failed, pool, pool_sample, server_sample

HOOK = {"kind": "webhook", "name": "hook", "url": "http://127.0.0.1:9/"}


def config(rules: dict[str, Any] | None = None, **changed: Any) -> Config:
    values = {
        "target": [
            {"name": "shop", "kind": "postgresql"},
            {"name": "shop-pool", "kind": "pgbouncer", "serves": ["shop"]},
        ],
        "channel": [HOOK],
        "rules": rules or {},
    }
    return Config.model_validate({**values, **changed})


def waiting(at: float, wait: float = 6.1) -> Sample:
    return pool_sample(at, pool(24, wait))


def calm(at: float) -> Sample:
    return pool_sample(at, pool())


def down(at: float) -> Sample:
    return failed(at, Failure.UNREACHABLE)


def reasons(*decisions: Decision) -> list[tuple[str, str, Reason]]:
    return [
        (name, n.finding.rule, n.reason) for decision in decisions for name, n in decision.notices
    ]


def test_waiters_are_told_with_the_first_sample_that_shows_them() -> None:
    decision = Evaluator(config()).observe(waiting(0))
    [(channel, notice)] = decision.notices
    assert (channel, notice.reason, notice.at) == ("hook", Reason.FIRING, T0)
    assert notice.verdict is not None
    assert notice.verdict.startswith("24 clients wait 6.1 s for pool shop/app")
    assert notice.link == (
        "http://localhost:8501/target?target=shop-pool"
        "&from=2029-12-31T23%3A55%3A00Z&to=2030-01-01T00%3A05%3A00Z"
        "&at=2030-01-01T00%3A00%3A00Z"
    )
    [alert] = decision.changed
    assert (alert.state, alert.notified_at, alert.id) == (AlertState.FIRING, T0, notice.alert_id)


@pytest.mark.parametrize("kind", typing.get_args(Kind))
@pytest.mark.parametrize("failure", Failure)
def test_whatever_a_poll_fails_with_somebody_is_told(failure: Failure, kind: Kind) -> None:
    target = Target(name="t", kind=kind)
    evaluator = Evaluator(config(target=[{"name": "t", "kind": kind}]))
    told = [evaluator.observe(failed(at, failure, target)) for at in range(5)]
    [(_, rule, reason)] = reasons(*told)
    assert reason is Reason.FIRING
    assert rule == ("slots_exhausted" if failure in FULL else "target_down")
    assert [alert.state for alert in evaluator.alerts()] == [AlertState.FIRING]


def test_a_short_wait_asks_to_look_again_and_then_fires() -> None:
    evaluator = Evaluator(config())
    first = evaluator.observe(waiting(0, 0.1))
    [(target, seconds)] = first.look_again
    assert (target, first.notices) == ("shop-pool", ())
    second = evaluator.observe(waiting(seconds, 0.1 + seconds))
    assert reasons(second) == [("hook", "pool_waiters", Reason.FIRING)]
    assert second.look_again == ()


def test_a_hold_time_that_ends_between_two_polls_asks_to_look_again() -> None:
    evaluator = Evaluator(config({"pool_waiters": {"for": "300ms"}}))
    assert evaluator.observe(waiting(0)).look_again == (("shop-pool", 0.3),)
    assert reasons(evaluator.observe(waiting(0.3)))


def test_it_tells_once_reminds_and_resolves() -> None:
    evaluator = Evaluator(config(alerts={"repeat_interval": "60s"}))
    told = [evaluator.observe(waiting(at)) for at in range(61)]
    told += [evaluator.observe(calm(at)) for at in range(61, 95)]
    assert [reason for *_, reason in reasons(*told)] == [
        Reason.FIRING,
        Reason.REMINDER,
        Reason.RESOLVED,
    ]
    ids = {n.id for decision in told for _, n in decision.notices}
    assert len(ids) == 3
    assert len({n.alert_id for decision in told for _, n in decision.notices}) == 1
    last = told[-1].notices or told[-4].notices
    assert last[0][1].resolved_at == after(91)
    assert evaluator.alerts() == []


def test_a_raised_severity_is_told_at_once() -> None:
    evaluator = Evaluator(config())
    told = [
        evaluator.observe(waiting(at, wait)) for at, wait in enumerate((1.0, 4.0, 5.0, 1.0, 6.0))
    ]
    assert [reason for *_, reason in reasons(*told)] == [Reason.FIRING, Reason.WORSE]


def test_a_flapping_queue_is_one_alert() -> None:
    evaluator = Evaluator(config())
    told = [evaluator.observe((waiting if at % 2 else calm)(at)) for at in range(100)]
    assert [reason for *_, reason in reasons(*told)] == [Reason.FIRING]


def test_failed_polls_resolve_nothing() -> None:
    evaluator = Evaluator(config())
    evaluator.observe(waiting(0))
    for at in range(1, 200):
        evaluator.observe(failed(at, Failure.TIMEOUT, POOL))
    rules = {alert.key.rule: alert for alert in evaluator.alerts()}
    assert rules["pool_waiters"].no_data_since == after(1)
    assert rules["target_down"].state is AlertState.FIRING


def test_a_down_target_mutes_its_other_alerts_but_keeps_them() -> None:
    evaluator = Evaluator(config({"target_down": {"for": "0s"}}))
    told = [evaluator.observe(down(0))]
    told.append(evaluator.observe(server_sample(1, slots_used=97)))
    assert reasons(*told) == [("hook", "target_down", Reason.FIRING)]
    told = [evaluator.observe(server_sample(at, slots_used=97)) for at in range(2, 8)]
    assert reasons(*told) == [
        ("hook", "target_down", Reason.RESOLVED),
        ("hook", "slots_exhausted", Reason.FIRING),
    ]


def test_exhausted_slots_mute_low_slots() -> None:
    evaluator = Evaluator(config({"slots_low": {"for": "0s"}}))
    assert reasons(evaluator.observe(server_sample(0, slots_used=97))) == [
        ("hook", "slots_exhausted", Reason.FIRING)
    ]
    assert {alert.key.rule for alert in evaluator.alerts()} == {"slots_exhausted", "slots_low"}


def test_a_pending_alert_that_ends_is_kept_as_ended_and_not_told() -> None:
    evaluator = Evaluator(config())
    assert [a.state for a in evaluator.observe(down(0)).changed] == [AlertState.PENDING]
    ended = evaluator.observe(server_sample(1))
    assert [a.state for a in ended.changed] == [AlertState.INACTIVE]
    assert ended.notices == ()


def test_numbers_alone_are_written_every_two_seconds() -> None:
    evaluator = Evaluator(config())
    evaluator.observe(waiting(0))
    written = [at for at in range(1, 11) if evaluator.observe(waiting(at, 6.1 + at)).changed]
    assert written == [2, 4, 6, 8, 10]


def restart(*alerts: Alert, **changed: Any) -> Evaluator:
    return Evaluator(config(**changed), alerts)


def fired() -> Alert:
    [alert] = Evaluator(config()).observe(waiting(0)).changed
    return alert


def test_a_restart_repeats_no_message_and_keeps_the_start() -> None:
    evaluator = restart(fired())
    assert reasons(evaluator.observe(waiting(60))) == []
    [alert] = evaluator.alerts()
    assert (alert.id, alert.since, alert.fired_at) == (fired().id, T0, T0)


def test_an_alert_that_ended_while_we_were_away_is_told_as_resolved() -> None:
    evaluator = restart(fired())
    told = [evaluator.observe(calm(at)) for at in range(60, 91)]
    assert reasons(*told) == [("hook", "pool_waiters", Reason.RESOLVED)]


def test_keep_firing_for_starts_again_after_a_restart_and_is_not_longer() -> None:
    evaluator = Evaluator(config())
    evaluator.observe(waiting(0))
    evaluator.observe(calm(1))
    kept = evaluator.observe(calm(3)).changed
    assert [alert.clear_since for alert in kept] == [after(1)]
    evaluator = restart(*kept)
    told = [evaluator.observe(calm(at)) for at in range(20, 51)]
    assert [at for at, d in enumerate(told, 20) if d.notices] == [50]


def test_a_restart_before_anything_was_kept_decides_the_same_notice() -> None:
    first = Evaluator(config()).observe(waiting(0)).notices
    assert Evaluator(config()).observe(waiting(0)).notices == first


def test_a_pending_alert_does_not_fire_because_we_were_away() -> None:
    [pending] = Evaluator(config()).observe(down(0)).changed
    evaluator = restart(pending)
    assert reasons(evaluator.observe(down(600))) == []
    told = [evaluator.observe(down(at)) for at in (601, 602, 603)]
    assert reasons(*told) == [("hook", "target_down", Reason.FIRING)]


@pytest.mark.parametrize(
    "changed",
    [
        {"rules": {"pool_waiters": {"enabled": False}}},
        {"target": [{"name": "shop", "kind": "postgresql"}]},
    ],
    ids=["the rule is off", "the target is gone"],
)
def test_alerts_that_are_no_longer_configured_end_without_a_message(changed: Any) -> None:
    evaluator = restart(fired(), **changed)
    decision = evaluator.observe(server_sample(5))
    [ended] = decision.changed
    assert (ended.id, ended.state, ended.resolved_at) == (fired().id, AlertState.INACTIVE, after(5))
    assert decision.notices == ()
    assert evaluator.observe(server_sample(6)).changed == ()


def test_without_a_channel_an_alert_is_not_marked_as_told() -> None:
    [alert] = Evaluator(config(channel=[])).observe(waiting(0)).changed
    assert alert.notified_at is None
    assert reasons(restart(alert).observe(waiting(1))) == [("hook", "pool_waiters", Reason.FIRING)]


def test_a_channel_for_critical_alerts_hears_of_it_when_it_becomes_critical() -> None:
    urgent = {**HOOK, "severities": ["critical"]}
    evaluator = Evaluator(config(channel=[urgent]))
    assert reasons(evaluator.observe(waiting(0, 1.0))) == []
    assert reasons(evaluator.observe(waiting(1, 5.0))) == [("hook", "pool_waiters", Reason.FIRING)]


@pytest.mark.parametrize(
    ("waits", "told"),
    [
        ((1.0, 8.0), [("noise", "firing"), ("pager", "severity raised")]),
        ((8.0, 1.0), [("pager", "firing")]),
        ((1.0, 1.0), [("noise", "firing")]),
    ],
    ids=["it became critical", "it was critical from the beginning", "it was a warning"],
)
def test_whoever_was_told_hears_the_end_also_after_a_restart(
    waits: tuple[float, ...], told: list[tuple[str, str]]
) -> None:
    channels = [
        {**HOOK, "name": "noise", "severities": ["warning"]},
        {**HOOK, "name": "pager", "severities": ["critical"]},
    ]
    evaluator = Evaluator(config(channel=channels))
    decisions = [evaluator.observe(waiting(at, wait)) for at, wait in enumerate(waits)]
    assert [(name, reason.value) for name, _, reason in reasons(*decisions)] == told
    [stored] = evaluator.alerts()
    evaluator = restart(stored, channel=channels)
    ends = reasons(*(evaluator.observe(calm(at)) for at in range(2, 40)))
    assert [(name, reason) for name, _, reason in ends] == [
        (name, Reason.RESOLVED) for name, _ in told
    ]


def test_a_rule_that_is_off_says_nothing() -> None:
    evaluator = Evaluator(config({"pool_waiters": {"enabled": False}}))
    decision = evaluator.observe(waiting(0, 0.1))
    assert (decision.changed, decision.notices, decision.look_again) == ((), (), ())


def test_a_sample_moves_the_verdicts_of_its_whole_system() -> None:
    evaluator = Evaluator(config())
    evaluator.observe(server_sample(0))
    said = dict(evaluator.observe(waiting(0.5)).verdicts)
    assert {target: verdict.cause for target, verdict in said.items()} == {
        "shop": "pool_full",
        "shop-pool": "pool_full",
    }


def test_an_unchanged_verdict_is_one_row_a_minute() -> None:
    evaluator = Evaluator(config())
    rows = [
        at for at in range(121)
        if "shop" in dict(evaluator.observe(server_sample(at, slots_used=10 + at % 5)).verdicts)
    ]  # fmt: skip
    assert rows == [0, 60, 120]


def test_samples_of_unknown_targets_are_ignored() -> None:
    evaluator = restart(target=[{"name": "other", "kind": "postgresql"}])
    assert evaluator.observe(server_sample(0)) == Decision()


def test_polls_that_stop_keep_the_alert_and_say_so() -> None:
    evaluator = Evaluator(config())
    evaluator.observe(waiting(0))
    assert evaluator.tick(after(3)).changed == ()
    decision = evaluator.tick(after(60))
    [alert] = decision.changed
    assert (alert.state, alert.no_data_since) == (AlertState.FIRING, T0)
    assert dict(decision.verdicts)["shop-pool"].cause == "no_data"
    assert evaluator.tick(after(61)).changed == ()


def test_a_tick_reminds_and_says_that_data_is_missing() -> None:
    evaluator = Evaluator(config())
    evaluator.observe(waiting(0))
    evaluator.tick(after(60))
    [(_, notice)] = evaluator.tick(after(4 * 3600)).notices
    assert notice.reason is Reason.REMINDER
    assert notice.finding.evidence[0] == (
        "Headroom has had no data on this since 2030-01-01T00:00:00Z."
    )


def test_a_tick_ends_an_alert_between_two_polls() -> None:
    slow = [{"name": "shop-pool", "kind": "pgbouncer", "interval": "60s"}]
    evaluator = Evaluator(config(target=slow))
    evaluator.observe(waiting(0))
    evaluator.observe(calm(60))
    assert reasons(evaluator.tick(after(89))) == []
    assert reasons(evaluator.tick(after(90))) == [("hook", "pool_waiters", Reason.RESOLVED)]


def test_severity_override_reaches_the_message() -> None:
    evaluator = Evaluator(config({"pool_waiters": {"severity": "warning"}}))
    [(_, notice)] = evaluator.observe(waiting(0, 60.0)).notices
    assert notice.finding.severity is Severity.WARNING


@pytest.mark.parametrize(
    "part", ["sessions", "databases", "roles", "lock_waits", "pool_databases", "links"]
)
def test_old_samples_keep_no_long_lists_in_memory(part: str) -> None:
    evaluator = Evaluator(config())
    for at in range(300):
        evaluator.observe(replace(server_sample(at, None), **{part: ()}))
    kept = evaluator._windows["shop"].samples
    assert len(kept) == 121
    assert sum(getattr(sample, part) is not None for sample in kept) == 1


def breaks(rule: str, monkeypatch: pytest.MonkeyPatch, *, on: str = "find") -> None:
    """Makes *rule* raise from now on."""

    def broken(*_: object) -> Any:
        raise KeyError("x")

    rules = tuple(replace(r, **{on: broken}) if r.name == rule else r for r in RULES)
    monkeypatch.setattr("alerts.evaluate.RULES", rules)


def test_a_rule_that_raises_costs_no_other_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    breaks("slots_exhausted", monkeypatch)
    evaluator = Evaluator(config({"slots_low": {"for": "0s"}}))
    told = [evaluator.observe(server_sample(at, slots_used=97)) for at in range(5)]
    assert reasons(*told) == [("hook", "slots_low", Reason.FIRING)]
    assert dict(told[0].verdicts)["shop"].cause == "slots_exhausted"  # worked out apart
    assert evaluator.failures_total == 5
    assert caplog.text.count("rule slots_exhausted cannot judge shop (said once)") == 1
    assert "KeyError" in caplog.text


def test_an_alert_whose_rule_begins_to_raise_keeps_its_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator = Evaluator(config())
    evaluator.observe(waiting(0))
    breaks("pool_waiters", monkeypatch)
    told = [evaluator.observe(calm(at)) for at in range(1, 60)]
    assert reasons(*told) == []
    [alert] = evaluator.alerts()
    assert (alert.state, alert.no_data_since) == (AlertState.FIRING, after(1))


def test_a_look_ahead_that_raises_is_counted_and_the_rule_still_fires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaks("pool_waiters", monkeypatch, on="next_look")
    evaluator = Evaluator(config())
    assert reasons(evaluator.observe(waiting(0))) == [("hook", "pool_waiters", Reason.FIRING)]
    assert evaluator.failures_total == 1


def test_a_cause_that_raises_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("x")

    monkeypatch.setattr("alerts.verdict.CAUSES", (broken,))
    evaluator = Evaluator(config())
    decision = evaluator.observe(waiting(0))
    assert reasons(decision) == [("hook", "pool_waiters", Reason.FIRING)]
    assert {verdict.cause for _, verdict in decision.verdicts} == {"not_judged"}
    assert evaluator.failures_total == 2  # for the pooler and for its server
