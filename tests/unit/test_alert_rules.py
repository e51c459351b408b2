"""Each rule: when it fires, when it does not, and when it cannot tell."""

from __future__ import annotations

from typing import Any

import pytest

from alerts.applications import by_application
from alerts.rules.registry import BY_NAME, RULES, judge
from alerts.view import FULL, View
from model.alerting import Finding, Judgement, Severity, labels
from model.rules import Rules
from model.samples import Failure, PoolDatabase, Sample
from model.targets import POOLERS, Target
from tests.alert_samples import (
    POOL,
    SHOP,
    T0,
    failed,
    pool,
    pool_sample,
    server_sample,
    session,
    view,
    window,
)

Row = tuple[str, View, str | None]
WARNING, CRITICAL, NOTHING, UNJUDGED = "warning", "critical", None, "not judged"


def answer(rule: str, seen: View, **settings: Any) -> Judgement:
    return judge(BY_NAME[rule], seen, Rules.model_validate({rule: settings}))


def only(rule: str, seen: View, **settings: Any) -> Finding:
    [found] = answer(rule, seen, **settings).findings
    return found


def shop(*sessions: Any, **changed: Any) -> View:
    return view(SHOP, server_sample(0, tuple(sessions), **changed))


def pooled(*pools: Any) -> View:
    return view(POOL, pool_sample(0, *pools))


TABLE: list[tuple[str, str, View, str | None]] = [
    ("pool_waiters", "a wait above the first limit warns", pooled(pool(3, 0.5)), WARNING),
    ("pool_waiters", "a wait above the second is critical", pooled(pool(24, 6.1)), CRITICAL),
    ("pool_waiters", "a short wait is daily business", pooled(pool(24, 0.49)), NOTHING),
    ("pool_waiters", "nobody waits", pooled(pool()), NOTHING),
    ("pool_waiters", "an old maxwait without waiters is nothing", pooled(pool(0, 9.0)), NOTHING),
    (
        "pool_waiters",
        "the console itself is no pool",
        pooled(pool(1, 9, database="pgbouncer")),
        None,
    ),
    (
        "pool_waiters",
        "a failed poll says nothing",
        view(POOL, failed(0, Failure.TIMEOUT, POOL)),
        UNJUDGED,
    ),
    ("slots_low", "80 % of 97 slots warns", shop(slots_used=78), WARNING),
    ("slots_low", "95 % is critical", shop(slots_used=93), CRITICAL),
    ("slots_low", "half full is fine", shop(slots_used=48), NOTHING),
    ("slots_low", "an unknown count says nothing", shop(slots_used=None), UNJUDGED),
    (
        "slots_low",
        "a failed poll says nothing",
        view(SHOP, failed(0, Failure.SLOTS_EXHAUSTED)),
        UNJUDGED,
    ),
    ("slots_exhausted", "the last ordinary slot is critical", shop(slots_used=97), CRITICAL),
    ("slots_exhausted", "superusers in reserved slots too", shop(slots_used=99), CRITICAL),
    ("slots_exhausted", "one slot is left", shop(slots_used=96), NOTHING),
    (
        "slots_exhausted",
        "a first poll that was refused",
        view(SHOP, failed(0, Failure.SLOTS_EXHAUSTED)),
        CRITICAL,
    ),
    ("slots_exhausted", "a full database", view(SHOP, failed(0, Failure.DATABASE_LIMIT)), CRITICAL),
    ("slots_exhausted", "our own role's limit", view(SHOP, failed(0, Failure.ROLE_LIMIT)), WARNING),
    (
        "slots_exhausted",
        "a dead server is not full",
        view(SHOP, failed(0, Failure.UNREACHABLE)),
        UNJUDGED,
    ),
    (
        "slots_exhausted",
        "a pooler that refuses us",
        view(POOL, failed(0, Failure.SLOTS_EXHAUSTED, POOL)),
        CRITICAL,
    ),
    (
        "slots_exhausted",
        "a pooler that answers us and admits no more clients",
        view(POOL, pool_sample(0, pool(), clients=100)),
        CRITICAL,
    ),
    (
        "slots_exhausted",
        "a pooler with room for one more client",
        view(POOL, pool_sample(0, pool(), clients=99)),
        NOTHING,
    ),
    (
        "slots_exhausted",
        "a pooler whose server is full is not full",
        view(POOL, pool_sample(0, pool()), shop=window(server_sample(0, slots_used=97))),
        NOTHING,
    ),
    ("long_statement", "a minute warns", shop(session(1, age=60)), WARNING),
    ("long_statement", "five minutes are critical", shop(session(1, age=300)), CRITICAL),
    ("long_statement", "59 s are fine", shop(session(1, age=59)), NOTHING),
    (
        "long_statement",
        "pg_dump is expected to be slow",
        shop(session(1, age=900, application="pg_dump")),
        NOTHING,
    ),
    (
        "long_statement",
        "our own statements do not count",
        shop(session(1, age=900, application="headroom")),
        NOTHING,
    ),
    (
        "long_statement",
        "idle in transaction is not running",
        shop(session(1, "idle in transaction", 900)),
        NOTHING,
    ),
    (
        "long_statement",
        "sessions that were not asked for",
        view(SHOP, server_sample(0, None)),
        UNJUDGED,
    ),
    (
        "long_statement",
        "sessions without a visible state",
        shop(session(1, age=900, state=None), hidden=True),
        UNJUDGED,
    ),
    ("idle_in_transaction", "a minute warns", shop(session(1, "idle in transaction", 60)), WARNING),
    (
        "idle_in_transaction",
        "aborted ones too",
        shop(session(1, "idle in transaction (aborted)", 400)),
        CRITICAL,
    ),
    (
        "idle_in_transaction",
        "idle outside a transaction is fine",
        shop(session(1, "idle", 9000)),
        NOTHING,
    ),
    (
        "idle_in_transaction",
        "a failed poll says nothing",
        view(SHOP, failed(0, Failure.TIMEOUT)),
        UNJUDGED,
    ),
    ("target_down", "refused connections", view(SHOP, failed(0, Failure.UNREACHABLE)), CRITICAL),
    (
        "target_down",
        "a wrong password blinds us as well",
        view(SHOP, failed(0, Failure.AUTHENTICATION)),
        CRITICAL,
    ),
    ("target_down", "full is not down", view(SHOP, failed(0, Failure.SLOTS_EXHAUSTED)), NOTHING),
    (
        "target_down",
        "a full database is not down",
        view(SHOP, failed(0, Failure.DATABASE_LIMIT)),
        NOTHING,
    ),
    ("target_down", "an answer", shop(), NOTHING),
    ("target_down", "no poll yet", view(SHOP), UNJUDGED),
]


@pytest.mark.parametrize(
    ("rule", "seen", "expected"),
    [
        pytest.param(rule, seen, expected, id=f"{rule}: {what}")
        for rule, what, seen, expected in TABLE
    ],
)
def test_a_rule_answers(rule: str, seen: View, expected: str | None) -> None:
    said = answer(rule, seen)
    if expected == UNJUDGED:
        assert not said.judged
        assert said.findings == ()
    else:
        assert said.judged
        assert [f.severity for f in said.findings] == ([Severity(expected)] if expected else [])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_configured_severity_overrides_the_rule_s_own(rule: Any) -> None:
    row = next(
        seen for name, _, seen, expected in TABLE if name == rule.name and expected == CRITICAL
    )
    assert only(rule.name, row, severity="warning").severity is Severity.WARNING


def test_waiters_are_told_with_count_pool_limit_and_occupancy() -> None:
    found = only("pool_waiters", pooled(pool(24, 6.1)))
    assert found.labels == labels(database="shop", user="app")
    assert (found.value, found.limit, found.unit) == (6.1, 5.0, "s")
    assert found.summary == (
        "24 clients wait for a connection to pool shop/app, the oldest for 6.1 s (limit 5 s); "
        "all 20 server connections are in use"
    )


@pytest.mark.parametrize(
    ("made", "paused", "words"),
    [
        (pool(3, 1.0, server_active=4, server_login=1), None, "only 4 of 20 server connections"),
        (pool(3, 1.0, server_active=4, server_login=1), None, "1 more is being opened"),
        (pool(3, 1.0, server_active=4), None, "or the server refuses new connections"),
        (pool(3, 1.0, pool_size=None), None, "20 server connections in use"),
        (pool(3, 1.0, pool_size=1, server_active=1), None, "its only server connection is in use"),
        (
            pool(3, 1.0, server_active=22, reserve_pool_size=5),
            None,
            "all 22 server connections are in use, 2 of the reserve of 5 included",
        ),
        (pool(3, 1.0, reserve_pool_size=5), None, "all 20 server connections are in use"),
        (pool(3, 1.0), True, "PgBouncer is paused"),
        (pool(3, 1.0, process="6433"), None, "pool shop/app of process 6433"),
    ],
)
def test_the_pool_s_occupancy_says_why_they_wait(made: Any, paused: Any, words: str) -> None:
    assert words in only("pool_waiters", view(POOL, pool_sample(0, made, paused=paused))).summary


@pytest.mark.parametrize(
    ("database", "words", "first"),
    [
        (
            PoolDatabase("shop", max_connections=5, current_connections=5),
            "all 5 that PgBouncer may open to database shop are in use by its pools",
            "Raise max_db_connections",
        ),
        (
            PoolDatabase("shop", max_connections=6, current_connections=5),
            "the pool is still growing",
            "refused logins",
        ),
        (PoolDatabase("shop", paused=True), "database shop is paused on PgBouncer", "Run RESUME"),
        (PoolDatabase("jobs", paused=True), "the pool is still growing", "refused logins"),
    ],
)
def test_what_keeps_a_pool_from_growing_is_named(
    database: PoolDatabase, words: str, first: str
) -> None:
    made = pool(3, 1.0, server_active=4)
    found = only("pool_waiters", view(POOL, pool_sample(0, made, database=database)))
    assert words in found.summary
    assert found.advice is not None
    assert first in found.advice


def test_a_pooler_that_does_not_report_its_queue_has_no_waiters() -> None:
    made = pool(client_waiting=None, maxwait_seconds=None, server_used=None)
    assert answer("pool_waiters", view(POOL, pool_sample(0, made))).findings == ()


@pytest.mark.parametrize("kind", POOLERS)
def test_every_kind_of_pooler_is_judged(kind: Any) -> None:
    for rule in ("pool_waiters", "slots_exhausted", "target_down"):
        assert kind in BY_NAME[rule].kinds


def test_clients_that_wait_at_login_are_timed_by_us() -> None:
    waiting = pool(2, 0.0, server_active=0, server_login=1)
    samples = [pool_sample(0, pool())] + [pool_sample(at, waiting) for at in (1, 2, 3)]
    assert only("pool_waiters", view(POOL, *samples)).value == 2.0


def test_a_failed_poll_does_not_restart_the_count_at_login() -> None:
    waiting = pool(2, 0.0)
    lost = failed(2, Failure.TIMEOUT, POOL)
    assert (
        only(
            "pool_waiters", view(POOL, pool_sample(1, waiting), lost, pool_sample(3, waiting))
        ).value
        == 2.0
    )


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ((pool(1, 0.1),), 0.42),
        ((pool(1, 0.1), pool(1, 0.4, user="b")), 0.12),
        ((pool(1, 0.0),), 0.52),
        ((pool(1, 0.7),), None),
        ((pool(),), None),
    ],
)
def test_a_short_wait_asks_for_a_look_when_the_limit_is_reached(pools: Any, expected: Any) -> None:
    next_look = BY_NAME["pool_waiters"].next_look
    assert next_look is not None
    soon = next_look(pooled(*pools), Rules())
    assert soon == (None if expected is None else pytest.approx(expected))


def test_waiters_name_who_holds_the_pool_s_connections() -> None:
    holding = tuple(session(4700 + i, "idle in transaction", 10 + i) for i in range(12))
    running = tuple(session(4800 + i, "active", 0.2) for i in range(8))
    other = session(9999, "idle in transaction", 5000, database="billing", role="batch")
    server = window(server_sample(0, (*holding, *running, other)))
    found = only("pool_waiters", view(POOL, pool_sample(0, pool(24, 6.1)), shop=server))
    assert found.culprit is not None
    assert (found.culprit.pid, found.culprit.age_seconds) == (4711, 21.0)
    assert (
        found.evidence[0] == "The pool's sessions on the server: 12 idle in transaction, 8 active."
    )
    assert "pid 4711" in found.advice


def test_the_root_of_a_lock_chain_is_blamed_rather_than_its_victims() -> None:
    victims = tuple(
        session(100 + i, "active", 30, wait_event_type="Lock", blocked_by=(7,)) for i in range(5)
    )
    root = session(7, "idle in transaction", 12)
    server = window(server_sample(0, (*victims, root)))
    found = only("pool_waiters", view(POOL, pool_sample(0, pool(24, 6.1)), shop=server))
    assert found.culprit is not None
    assert found.culprit.pid == 7
    assert "blocks 5 sessions" in found.advice


def test_a_pool_under_an_alias_is_matched_by_its_user() -> None:
    server = window(server_sample(0, (session(5, "active", 9, database="real_name"),)))
    found = only(
        "pool_waiters", view(POOL, pool_sample(0, pool(1, 1.0, database="alias")), shop=server)
    )
    assert found.culprit is not None
    assert found.culprit.pid == 5


def test_stale_sessions_of_the_server_explain_nothing() -> None:
    server = window(server_sample(0, (session(5, "active", 9),)))
    assert (
        only("pool_waiters", view(POOL, pool_sample(30, pool(1, 1.0)), shop=server)).culprit is None
    )


def test_low_slots_name_the_application_with_most_connections() -> None:
    many = tuple(session(i, "idle", 5, application="worker", role="batch") for i in range(60))
    found = only("slots_low", shop(*many, session(99, age=1), slots_used=80))
    assert found.culprit is not None
    assert (found.culprit.pid, found.culprit.application) == (None, "worker")
    assert found.evidence[0] == "60 connections of application worker (60 idle) as role batch."
    assert "application_name = 'worker'" in found.advice
    assert found.summary == (
        "80 of 97 slots are in use (82%, limit 80%), 60 of them by application worker; 17 are left"
    )


def test_instances_with_names_of_their_own_are_blamed_together() -> None:
    functions = tuple(session(i, "idle", 5, application=f"fn-1001-{i:04x}") for i in range(56))
    workers = tuple(session(100 + i, "idle", 5, application="worker") for i in range(4))
    for rule, used in (("slots_low", 80), ("slots_exhausted", 97)):
        found = only(rule, shop(*workers, *functions, slots_used=used))
        assert ", 56 of them by applications fn-*; " in found.summary
        assert found.evidence == (
            "56 connections of applications fn-* (56 idle) as role app, under 56 names.",
            "4 connections of application worker (4 idle) as role app.",
        )
        assert found.culprit is not None
        assert found.culprit.application == "fn-*"
        assert "Put PgBouncer before applications fn-*, which hold 56 slots" in found.advice
        assert "SELECT" not in found.advice


@pytest.mark.parametrize(
    ("what", "names", "groups"),
    [
        ("ordinary names are themselves", ("checkout", "psql", "checkout"), ["checkout", "psql"]),
        ("a name that stands alone keeps its number", ("web1", "job-17"), ["job-17", "web1"]),
        ("numbered workers are one", ("web1", "web2", "web10", "api"), ["web*", "api"]),
        ("ids at the end", ("fn-1001-ab12", "fn-1002-beef", "fn-7-12ab"), ["fn-*"]),
        (
            "a UUID is one id",
            (
                "job 6f1c0e9a-5b7d-4c1e-8d2f-0a1b2c3d4e5f",
                "job 00000000-1111-2222-3333-444444444444",
            ),
            ["job *"],
        ),
        ("addresses", ("app - 10.0.0.1:5123", "app - 10.0.0.12:80"), ["app - *"]),
        ("letters alone are no id", ("cafe-app", "face-app"), ["cafe-app", "face-app"]),
        ("what comes behind an id tells apart", ("a-1-x", "a-2-x", "a-3-y"), ["a-*-x", "a-3-y"]),
        ("names of ids alone", ("8f00ba11", "1234"), ["*"]),
        ("no name", ("", "", "1"), ["", "1"]),
        ("a star in a name", ("a*1", "b"), ["a*1", "b"]),
    ],
)  # fmt: skip
def test_names_that_differ_in_ids_alone_are_one_group(
    what: str, names: tuple[str, ...], groups: list[str]
) -> None:
    made = by_application(session(i, application=n) for i, n in enumerate(names))
    assert [group.name for group in made] == groups, what
    assert sum(len(group.sessions) for group in made) == len(names)


def test_advice_never_builds_sql_from_a_hostile_name() -> None:
    many = tuple(session(i, "idle", 5, application="x'; DROP TABLE y; --") for i in range(60))
    assert "SELECT" not in only("slots_low", shop(*many, slots_used=80)).advice


def test_a_refused_poll_counts_refusals_and_recalls_the_last_answer() -> None:
    refused = [failed(at, Failure.SLOTS_EXHAUSTED) for at in (1, 2)]
    found = only("slots_exhausted", view(SHOP, server_sample(0, slots_used=97), *refused))
    assert (found.value, found.unit) == (2.0, "refusals")
    assert found.evidence == (
        "2 polls were refused in a row.",
        "2 s ago, when we last got in, 97 of 97 slots were in use.",
    )


def test_a_full_pooler_is_told_in_its_own_words() -> None:
    full = pool_sample(0, pool(7, 0.1), pool(None, user="b", client_active=1), clients=100)
    found = only("slots_exhausted", view(POOL, full))
    assert (found.value, found.limit, found.unit) == (100.0, 100.0, "clients")
    assert found.summary == (
        "PgBouncer admits no more clients: 100 of 100 are connected (max_client_conn)"
    )
    assert "SHOW CLIENTS" in found.advice
    assert found.evidence == (
        "Pool shop/app has 20 active clients, 7 waiting.",
        "Pool shop/b has 1 active client.",
    )


@pytest.mark.parametrize("kind", POOLERS)
def test_a_pooler_that_refuses_us_is_not_told_as_a_server(kind: Any) -> None:
    pooler = Target(name="pooler", kind=kind)
    for failure in FULL:
        refused = failed(0, failure, pooler, "FATAL: no more connections allowed")
        found = only("slots_exhausted", view(pooler, refused))
        assert "The server" not in found.summary
        assert "slot" not in found.summary + found.advice
        assert "The poll says: FATAL: no more connections allowed" in found.evidence


def test_long_statements_are_one_finding_a_database_about_the_longest() -> None:
    seen = shop(session(1, age=90), session(2, age=400), session(3, age=70, database="billing"))
    billing, shop_found = sorted(answer("long_statement", seen).findings, key=lambda f: f.labels)
    assert billing.value == 70
    assert (shop_found.value, shop_found.severity) == (400, Severity.CRITICAL)
    assert shop_found.culprit is not None
    assert shop_found.culprit.pid == 2
    assert shop_found.evidence == ("Also pid 1 (application checkout, role app), for 1 min 30 s.",)
    assert "pg_cancel_backend(2)" in shop_found.advice


def test_a_long_statement_that_only_waits_points_to_the_holder() -> None:
    seen = shop(
        session(1, age=90, wait_event_type="Lock", blocked_by=(2,)),
        session(2, age=5, wait_event_type="Lock", blocked_by=(3,)),
        session(3, "idle in transaction", 20, application="admin"),
    )
    found = only("long_statement", seen)
    assert "Look at pid 3" in found.advice
    [line] = found.evidence
    assert line == (
        "It waits for a lock: pid 3 (application admin, role app) "
        "has been idle in transaction for 20 s."
    )


def test_a_prepared_transaction_that_holds_the_lock_is_named() -> None:
    found = only("long_statement", shop(session(1, age=90, blocked_by=(0,))))
    assert "pg_prepared_xacts" in found.advice


def test_idle_in_transaction_ranks_one_that_blocks_before_an_older_one() -> None:
    seen = shop(
        session(1, "idle in transaction", 400),
        session(2, "idle in transaction", 90),
        session(3, age=3, blocked_by=(2,)),
    )
    found = only("idle_in_transaction", seen)
    assert found.culprit is not None
    assert (found.culprit.pid, found.value) == (2, 400)
    assert found.evidence[0] == "It blocks 1 session."
    assert "pg_terminate_backend(2)" in found.advice


def test_excluded_applications_may_idle_in_a_transaction() -> None:
    seen = shop(session(1, "idle in transaction", 400))
    assert not answer("idle_in_transaction", seen, exclude_applications=("checkout",)).findings


def test_a_down_target_counts_from_its_last_answer_full_or_not() -> None:
    down = [failed(at, Failure.UNREACHABLE) for at in range(6, 10)]
    full = failed(5, Failure.SLOTS_EXHAUSTED)
    found = only("target_down", view(SHOP, server_sample(0), full, *down))
    assert found.value == 4.0
    assert found.evidence == ("The poll says: refused",)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure.AUTHENTICATION, "credentials"),
        (Failure.UNREACHABLE, "process runs"),
        (Failure.TIMEOUT, "overload"),
        (Failure.PERMISSION, "Grant"),
        (Failure.NOT_AVAILABLE, "log"),
        (Failure.PROTOCOL, "kind"),
    ],
)
def test_advice_for_a_down_target_depends_on_the_failure(failure: Failure, words: str) -> None:
    assert words in only("target_down", view(SHOP, failed(0, failure))).advice


@pytest.mark.parametrize("target", [SHOP, POOL], ids=lambda target: target.kind)
def test_no_rule_fails_on_a_sample_that_is_up_but_empty(target: Target) -> None:
    seen = view(target, Sample(target.name, target.kind, T0, 0.1, up=True))
    for rule in RULES:
        if target.kind in rule.kinds:
            assert judge(rule, seen, Rules()).findings == ()
