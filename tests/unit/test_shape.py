"""What pages say about what the store says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dashboard import cards, words
from dashboard.shape import (
    Health,
    Status,
    figures,
    health_of,
    not_known,
    systems,
)
from dashboard.span import parse_moment, parse_span
from dashboard.views.time_range import typed_moment
from model.alerting import Alert, Severity, Verdict
from model.config import Config
from model.moments import iso
from model.rules import Rules
from model.targets import POOLERS, PRODUCTS, Target
from store.latest import TargetNow
from tests.filled_store import HOSTILE, alert

T0 = datetime(2030, 1, 1, tzinfo=UTC)
SHOP = Target(name="shop", kind="postgresql")
POOL = Target(name="shop-pool", kind="pgbouncer", serves=("shop",))
CONFIG = Config.model_validate(
    {
        "target": [
            {"name": "shop", "kind": "postgresql"},
            {"name": "b", "kind": "postgresql"},
            {"name": "shop-pool", "kind": "pgbouncer", "serves": ["shop"]},
        ]
    }
)


def seen(name: str = "shop", at: datetime | None = T0, up: bool = True, **more: Any) -> TargetNow:
    columns = {
        "slots_used": 31,
        "ordinary_capacity": 97,
        "max_connections": 100,
        "active": 8,
        "idle": 20,
        "idle_in_transaction": 2,
        "idle_in_transaction_aborted": 1,
    }
    values: dict[str, Any] = {
        "name": name,
        "kind": "postgresql",
        "at": at,
        "up": up,
        "failure": None,
        "reason": None,
        "degraded": None,
        "poll_seconds": 0.01,
        "good_at": at,
        "version": "18.6",
        "role": "primary",
        "columns": columns if up else dict.fromkeys(columns),
        "pools": (),
        "verdict": None,
        "verdict_at": None,
    }
    return TargetNow(**(values | more))


def pooler(waiting: int, oldest: float) -> TargetNow:
    columns = {
        "client_waiting": waiting,
        "maxwait_seconds": oldest,
        "server_active": 8,
        "server_idle": 0,
        "client_active": 14,
        "used_clients": 20,
        "max_client_conn": 100,
    }
    return seen("shop-pool", kind="pgbouncer", columns=columns, version="1.18.0", role=None)


def verdict(severity: Severity | None, sentence: str = "24 clients wait.") -> Verdict:
    return Verdict("pooler", "pool_full", sentence, severity, ("8 of 8 busy",), "Look at pid 7.")


@pytest.mark.parametrize(
    ("now", "later", "status", "said"),
    [
        (None, 0, Status.WAITING, "no data yet"),
        (seen(at=None), 0, Status.WAITING, "no data yet"),
        (seen(), 4, Status.OK, "66 of 97 slots are free"),
        (seen(), 180, Status.STALE, "no new data for 3 min — is “headroom run” running?"),
        (seen(up=False, reason="refused"), 1, Status.DOWN, "does not answer: refused."),
        (seen(up=False, reason="is it up?"), 1, Status.DOWN, "does not answer: is it up?"),
        # Old data are stale, even if the last word was that it is down or in trouble.
        (seen(up=False, reason="refused"), 180, Status.STALE, "no new data"),
        (seen(verdict=verdict(Severity.CRITICAL)), 180, Status.STALE, "no new data"),
        (seen(verdict=verdict(Severity.CRITICAL)), 1, Status.CRITICAL, "24 clients wait."),
        (seen(verdict=verdict(None, "All is well.")), 1, Status.OK, "All is well."),
    ],
)
def test_a_target_is_what_its_newest_data_say(now, later, status, said) -> None:
    health = health_of(SHOP, now, [], T0 + timedelta(seconds=later))
    assert health.status is status
    assert said in health.sentence


def test_a_firing_alert_speaks_where_no_verdict_does() -> None:
    firing = alert(T0, "Waiters!", Severity.WARNING, "shop")
    calm = seen(verdict=verdict(None, "All is well."))
    for now in (seen(), calm):
        health = health_of(SHOP, now, [firing], T0)
        assert (health.status, health.sentence) == (Status.WARNING, "Waiters!")


def test_systems_come_worst_first_and_a_pooler_belongs_to_its_server() -> None:
    now = [seen(), pooler(24, 6.1), seen("b", verdict=verdict(Severity.WARNING))]
    found = systems(CONFIG, now, [alert(T0, "24 wait", Severity.CRITICAL, "shop-pool")], T0)
    assert [(s.name, s.health.status) for s in found] == [("shop", "critical"), ("b", "warning")]
    assert found[0].waiters == 24
    assert found[0].oldest_wait_seconds == 6.1
    assert found[0].states == {"active": 8, "idle in transaction": 3, "idle": 20, "other": 0}


def test_what_is_not_known_is_not_zero() -> None:
    found = systems(CONFIG, [seen(up=False)], [], T0)
    shop = next(s for s in found if s.name == "shop")
    assert shop.waiters is None
    assert shop.headroom is None
    assert [f.value for f in figures(shop, Rules())][:2] == ["– / –", "–"]


def test_figures_turn_amber_and_red_at_the_limits_of_the_rules() -> None:
    def status(**columns: Any) -> dict[str, Status]:
        now = seen(columns={"ordinary_capacity": 100, **columns})
        system = systems(CONFIG, [now, pooler(3, 0.7)], [], T0)
        shop = next(s for s in system if s.name == "shop")
        return {f.label: f.status for f in figures(shop, Rules())}

    assert status(slots_used=79)["Connections"] is Status.OK
    assert status(slots_used=80)["Connections"] is Status.WARNING
    assert status(slots_used=95)["Connections"] is Status.CRITICAL
    assert status(longest_statement_seconds=300.0)["Longest statement"] is Status.CRITICAL
    assert status()["Clients waiting"] is Status.WARNING


def test_a_pooler_has_figures_of_its_own() -> None:
    alone = Config.model_validate({"target": [{"name": "shop-pool", "kind": "pgbouncer"}]})
    (system,) = systems(alone, [pooler(24, 6.1)], [], T0)
    assert {f.label: f.value for f in figures(system, Rules())} == {
        "Clients waiting": "24",
        "Client connections": "20 / 100",
        "Clients served": "14",
        "Servers busy": "8 / 8",
    }


def test_hostile_names_are_text_on_every_card() -> None:
    now = [seen(verdict=verdict(Severity.CRITICAL, HOSTILE), version=HOSTILE, role=HOSTILE)]
    found = systems(CONFIG, now, [alert(T0, HOSTILE, Severity.CRITICAL, "shop")], T0)
    shop = next(s for s in found if s.name == "shop")
    health = Health(Status.CRITICAL, HOSTILE, HOSTILE, (HOSTILE,))
    for html in (
        cards.card(shop),
        cards.banner(health, [HOSTILE]),
        cards.figure_row(figures(shop, Rules())),
    ):
        assert "<img" not in html
        assert "\u202e" not in html
    assert "&lt;img" in cards.card(shop)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain name", "plain name"),
        ("line\nbreak\ttab", "line break tab"),
        ("right\u202eto left", "right�to left"),
        ("zero\u200bwidth", "zero�width"),
        ("nul\x00", "nul�"),
        ("Zoë – ключ – 鍵", "Zoë – ключ – 鍵"),
    ],
)
def test_text_cannot_hide_or_turn_around(raw, shown) -> None:
    assert words.visible(raw) == shown


def test_a_name_in_markdown_is_only_a_name() -> None:
    assert words.literal("a_b") == r"a\_b"
    assert words.literal(":smile: [x](y)") == r"\:smile\: \[x\]\(y\)"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0, "0 s"), (0.25, "250 ms"), (6.1, "6.1 s"), (192, "3 min 12 s")],
)
def test_ages_are_words(seconds, said) -> None:
    assert words.age(seconds) == said


@pytest.mark.parametrize(
    ("params", "start", "end", "live"),
    [
        ({}, -900, 0, True),
        ({"range": "1h"}, -3600, 0, True),
        ({"from": "2029-12-31T23:00:00Z", "to": "2029-12-31T23:30:00Z"}, -3600, -1800, False),
        ({"from": "2029-12-31T23:00:00Z"}, -3600, 0, False),
        ({"from": "2030-01-01T00:30:00 01:00"}, -1800, 0, False),  # a plus that was not encoded
        ({"from": "2029-12-31 23:00:00"}, -3600, 0, False),  # no zone: UTC
    ],
)
def test_the_url_says_the_range(params, start, end, live) -> None:
    span = parse_span(params, T0)
    assert (span.start - T0).total_seconds() == start
    assert (span.end - T0).total_seconds() == end
    assert span.live is live
    assert parse_span(span.params(), T0) == span


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"range": "2m"}, "choose one of 5m, 15m"),
        ({"from": "yesterday"}, "write it like 2030-01-01T03:12:05Z"),
        ({"from": "2030-01-01", "to": "2029-01-01"}, "'from' must be before 'to'"),
        ({"from": "2020-01-01"}, "not be longer than 400 days"),
    ],
)
def test_a_range_that_cannot_be_read_says_what_is_allowed(params, said) -> None:
    with pytest.raises(ValueError, match=said):
        parse_span(params, T0)


def test_a_moment_survives_its_url() -> None:
    moment = datetime(2030, 1, 1, 3, 12, 5, 250000, tzinfo=UTC)
    assert parse_moment(iso(moment)) == moment


def test_an_alert_that_keeps_firing_after_the_trouble_is_told_as_over() -> None:
    calm = Verdict("none", "healthy", "No queue.", None)
    fired = alert(T0 - timedelta(seconds=60), "9 wait", Severity.CRITICAL, "shop")
    kept = replace(fired, clear_since=T0 - timedelta(seconds=12))
    health = health_of(SHOP, seen(verdict=calm), [kept], T0)
    assert (health.status, health.sentence) == (Status.OK, "No queue.")
    assert health.evidence == ("Over for 12 s: 9 wait.",)


def test_a_card_shows_what_is_over_in_the_past_and_without_alarm() -> None:
    fired = alert(T0 - timedelta(seconds=60), "9 wait", Severity.CRITICAL, "shop")
    kept = replace(fired, clear_since=T0 - timedelta(seconds=9))
    shop = next(
        s for s in systems(CONFIG, [seen(), pooler(0, 0.0)], [kept], T0) if s.name == "shop"
    )
    assert shop.health.status is Status.OK
    html = cards.card(shop)
    assert '<li class="hd-over"><b>over for 9 s</b> pool_waiters: 9 wait</li>' in html
    assert "critical" not in html


def test_the_alert_to_read_first_is_never_among_those_left_out() -> None:
    def fired(rule: str, second: int, severity: Severity = Severity.CRITICAL) -> Alert:
        one = alert(T0 + timedelta(seconds=second), rule, severity, "shop")
        return replace(one, key=replace(one.key, rule=rule))

    ended = replace(fired("slots_exhausted", 9), clear_since=T0)
    found = [
        ended,
        fired("long_statement", 8, Severity.WARNING),
        fired("pool_waiters", 3),
        fired("slots_low", 4),
        fired("target_down", 1),
    ]
    shop = next(s for s in systems(CONFIG, [seen()], found, T0) if s.name == "shop")
    order = ["target_down", "slots_low", "pool_waiters", "long_statement", "slots_exhausted"]
    assert [line.rule for line in shop.alerts] == order
    assert "and 2 more" in cards.card(shop)


def test_full_is_not_down() -> None:
    refused = "remaining connection slots are reserved"
    full = seen(up=False, failure="slots_exhausted", reason=refused)
    health = health_of(SHOP, full, [], T0)
    assert health.status is Status.CRITICAL
    assert health.sentence == f"shop is full: {refused}"


@pytest.mark.parametrize("kind", POOLERS)
def test_every_kind_of_pooler_is_called_by_its_name(kind) -> None:
    alone = Config.model_validate({"target": [{"name": "shop-pool", "kind": kind}]})
    (system,) = systems(alone, [pooler(24, 6.1)], [], T0)
    assert "Clients served" in [f.label for f in figures(system, Rules())]
    html = cards.card(system)
    assert PRODUCTS[kind] in html
    assert "not known" not in html  # slots are a server's
    served = CONFIG.model_copy(
        update={"targets": (SHOP, Target(name="p", kind=kind, serves=("shop",)))}
    )
    shop = systems(served, [seen(), pooler(24, 6.1)], [], T0)[0]
    assert f"p · {PRODUCTS[kind]}" in cards.card(shop)


def test_a_queue_that_is_not_reported_is_not_an_empty_one() -> None:
    silent = pooler(0, 0.0)
    columns = dict(silent.columns) | {"client_waiting": None, "maxwait_seconds": None}
    found = systems(CONFIG, [seen(), replace(silent, columns=columns)], [], T0)
    shop = next(s for s in found if s.name == "shop")
    queue = {f.label: f for f in figures(shop, Rules())}["Clients waiting"]
    assert (queue.value, queue.note) == ("–", "not reported")


def test_only_what_is_old_is_shown_as_old() -> None:
    later = T0 + timedelta(hours=2)
    fire = replace(pooler(24, 6.1), at=later, verdict=verdict(Severity.CRITICAL))
    system = systems(CONFIG, [seen(), fire], [], later)[0]
    assert system.health.status is Status.CRITICAL
    assert {f.label: f.old for f in figures(system, Rules())} == {
        "Connections": True,
        "Active": True,
        "Idle in transaction": True,
        "Blocked": True,
        "Clients waiting": False,
        "Longest statement": True,
        "Longest transaction": True,
    }
    assert "data 2 h old" in cards.meta(system)
    assert system.oldest_age_seconds == 7200
    stale_pooler = systems(CONFIG, [replace(seen(), at=later), pooler(24, 6.1)], [], later)[0]
    old = {f.label: f.old for f in figures(stale_pooler, Rules())}
    assert (old["Connections"], old["Clients waiting"]) == (False, True)
    assert "as last seen" in cards.figure_row(figures(stale_pooler, Rules()))
    assert cards.card(stale_pooler).count("hd-old") == 3  # two numbers, and the pooler's line


@pytest.mark.parametrize(
    ("now", "later", "said"),
    [
        (None, 0, "it had not been polled yet"),
        (seen(), 1, None),
        (seen(), 7200, "nobody had polled for 2 h"),
        (seen(up=False, reason="refused"), 1, "refused"),
        (seen(columns={"active": None}, degraded="hidden"), 1, "hidden"),
        (seen(columns={"active": None}), 1, "does not show its sessions"),
    ],
)
def test_who_is_connected_is_known_only_when_somebody_could_look(now, later, said) -> None:
    reason = not_known(SHOP, now, T0 + timedelta(seconds=later))
    assert (reason is None) if said is None else (said in (reason or ""))


def test_a_status_is_not_told_by_its_colour_alone() -> None:
    now = seen(columns={"ordinary_capacity": 100, "slots_used": 95})
    fired = alert(T0, "24 wait", Severity.CRITICAL, "shop")
    shop = next(s for s in systems(CONFIG, [now], [fired], T0) if s.name == "shop")
    assert 'aria-label="critical">✕</em> 95 / 100' in cards.figure_row(figures(shop, Rules()))
    assert "<b>critical</b> pool_waiters" in cards.card(shop)


def test_a_range_that_ends_later_is_open() -> None:
    params = {"from": "2029-12-31T23:55:00Z", "to": "2030-01-01T00:05:00Z"}
    assert parse_span(params, T0).grows
    assert not parse_span(params, T0).live
    assert not parse_span(params, T0 + timedelta(minutes=6)).grows


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2030-07-01 03:12:05", "2030-07-01T01:12:05Z"),
        (" 2030-07-01T03:12:05+00:00 ", "2030-07-01T03:12:05Z"),
        ("2030-07-01", "2030-06-30T22:00:00Z"),
    ],
)
def test_a_moment_is_typed_in_the_zone_of_the_viewer(text, utc) -> None:
    assert iso(typed_moment(text, ZoneInfo("Europe/Berlin"))) == utc


def test_a_typed_moment_that_cannot_be_read_says_how() -> None:
    with pytest.raises(ValueError, match="write it like 2030-01-01 03:12:05"):
        typed_moment("yesterday", ZoneInfo("UTC"))
