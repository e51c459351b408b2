"""The verdict: one sentence that says where the queue is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alerts.verdict import CAUSES, HEALTHY, System, verdict
from alerts.view import FULL, Window
from model.alerting import Severity, Verdict
from model.rules import Rules
from model.samples import Failure, LockWait, PoolDatabase, Sample
from tests.alert_samples import (
    POOL,
    SHOP,
    T0,
    failed,
    pool,
    pool_sample,
    server_sample,
    session,
    window,
)

QUIET = pool_sample(0, pool())
IDLERS = tuple(session(4700 + i, "idle in transaction", 180 + i) for i in range(12))
RUNNING = tuple(session(4800 + i, "active", 0.1) for i in range(8))
BLOCKED = tuple(
    session(100 + i, "active", 30, wait_event_type="Lock", blocked_by=(7,)) for i in range(3)
)
ROOT = session(7, "idle in transaction", 50, application="admin")


def say(server: Sample | Window | None, pooler: Sample | Window | None = QUIET) -> Verdict:
    made = [w if isinstance(w, Window) else window(*([w] if w else [])) for w in (server, pooler)]
    return verdict(System(SHOP, ((SHOP, made[0]), (POOL, made[1])), Rules()))


ROWS: list[tuple[str, Any, Any, str]] = [
    ("nobody waits", server_sample(), QUIET, "none/healthy"),
    ("nothing was asked yet", None, None, "unknown/no_data"),
    ("the server does not answer", failed(0, Failure.UNREACHABLE), QUIET, "target/target_down"),
    (
        "its pooler does not answer",
        server_sample(),
        failed(0, Failure.TIMEOUT, POOL),
        "target/target_down",
    ),
    (
        "the server refuses us",
        failed(0, Failure.SLOTS_EXHAUSTED),
        QUIET,
        "server slots/full_refused",
    ),
    (
        "the pooler refuses us",
        server_sample(),
        failed(0, Failure.SLOTS_EXHAUSTED, POOL),
        "pooler/full_refused",
    ),
    (
        "the pooler admits no more clients",
        server_sample(),
        pool_sample(0, pool(), clients=100),
        "pooler/clients_refused",
    ),
    (
        "waiters explain why clients pile up",
        server_sample(),
        pool_sample(0, pool(24, 6.1), clients=100),
        "pooler/pool_full",
    ),
    ("all slots are taken", server_sample(slots_used=97), QUIET, "server slots/slots_exhausted"),
    (
        "taken slots explain the waiters",
        server_sample(slots_used=97),
        pool_sample(0, pool(9, 3.0)),
        "server slots/slots_exhausted",
    ),
    ("few slots are left", server_sample(slots_used=90), QUIET, "server slots/slots_low"),
    ("a full pool", server_sample(), pool_sample(0, pool(24, 6.1)), "pooler/pool_full"),
    (
        "a pool that grows",
        server_sample(),
        pool_sample(0, pool(3, 2.0, server_active=2)),
        "pooler/pool_ramping",
    ),
    (
        "a pool whose database may have no more servers",
        server_sample(),
        pool_sample(
            0,
            pool(3, 2.0, server_active=2),
            database=PoolDatabase("shop", max_connections=9, current_connections=9),
        ),
        "pooler/pool_capped",
    ),
    (
        "a paused pooler",
        server_sample(),
        pool_sample(0, pool(3, 2.0, server_active=0), paused=True),
        "pooler/pool_paused",
    ),
    (
        "a paused database",
        server_sample(),
        pool_sample(0, pool(3, 2.0, server_active=0), database=PoolDatabase("shop", paused=True)),
        "pooler/pool_paused",
    ),
    (
        "a pooler without a queue to see",
        server_sample(),
        pool_sample(0, pool(client_waiting=None, maxwait_seconds=None)),
        "none/healthy",
    ),
    ("a wait below the limit", server_sample(), pool_sample(0, pool(3, 0.2)), "none/healthy"),
    ("locks", server_sample(0, (*BLOCKED, ROOT)), QUIET, "locks/lock_chain"),
    (
        "a lock wait of a moment",
        server_sample(0, (session(1, age=0.1, blocked_by=(7,)), session(7, age=1))),
        QUIET,
        "none/healthy",
    ),
    (
        "a forgotten transaction",
        server_sample(0, (session(1, "idle in transaction", 90),)),
        QUIET,
        "statements/idle_in_transaction",
    ),
    (
        "a long statement",
        server_sample(0, (session(1, age=90),)),
        QUIET,
        "statements/long_statement",
    ),
    (
        "hidden sessions",
        server_sample(0, (session(1, state=None),), hidden=True),
        QUIET,
        "unknown/hidden",
    ),
    (
        "hidden sessions do not hide waiters",
        server_sample(0, None, hidden=True),
        pool_sample(0, pool(3, 1.0)),
        "pooler/pool_full",
    ),
    (
        "stale waiters are no waiters",
        server_sample(60),
        pool_sample(0, pool(24, 6.1)),
        "none/healthy",
    ),
]


@pytest.mark.parametrize(("what", "server", "pooler", "expected"), ROWS)
def test_each_state_of_the_system_has_its_cause(
    what: str, server: Any, pooler: Any, expected: str
) -> None:
    said = say(server, pooler)
    assert f"{said.layer}/{said.cause}" == expected, what
    assert said.sentence.endswith(".")
    assert ".." not in said.sentence


def test_a_full_pool_says_who_holds_its_connections() -> None:
    said = say(server_sample(0, (*IDLERS, *RUNNING)), pool_sample(0, pool(24, 6.1)))
    assert said.sentence == (
        "24 clients wait 6.1 s for pool shop/app: all 20 server connections are in use, "
        "12 of them idle in transaction; pid 4711 (application checkout) has done nothing "
        "for 3 min 11 s."
    )
    assert said.severity is Severity.CRITICAL
    assert said.culprit is not None
    assert said.culprit.pid == 4711


def test_a_full_pool_behind_locks_says_who_blocks() -> None:
    said = say(server_sample(0, (*BLOCKED, ROOT)), pool_sample(0, pool(24, 6.1)))
    assert (
        "3 of them waiting for locks; pid 7 (application admin) blocks 3 sessions" in said.sentence
    )


def test_a_full_pool_with_slow_statements_names_the_oldest() -> None:
    said = say(server_sample(0, (session(1, age=40), *RUNNING)), pool_sample(0, pool(24, 6.1)))
    assert (
        "the oldest is pid 1 (application checkout), which has run a statement for 40 s"
        in said.sentence
    )


def test_a_lock_chain_names_its_root() -> None:
    said = say(server_sample(0, (*BLOCKED, ROOT)))
    assert said.sentence == (
        "3 sessions wait for locks that pid 7 (application admin, role app) holds; "
        "it has been idle in transaction for 50 s."
    )


def lock_wait(pid: int, seconds: float, relation: str | None = "public.orders") -> LockWait:
    return LockWait(pid, T0, (7,), 7, 1, False, "relation", "RowExclusiveLock", relation, seconds)


@pytest.mark.parametrize(
    ("waits", "words"),
    [
        ((lock_wait(100, 4), lock_wait(101, 2), lock_wait(102, 3)), "for locks on public.orders"),
        ((lock_wait(100, 4), lock_wait(101, 2, "b"), lock_wait(102, 3)), "for locks that"),
        ((lock_wait(100, 4, None), lock_wait(101, 2), lock_wait(102, 3)), "for locks that"),
    ],
    ids=["one table", "two tables", "not known"],
)
def test_a_lock_chain_says_which_table_and_how_long_the_lock_is_waited_for(
    waits: tuple[LockWait, ...], words: str
) -> None:
    said = say(replace(server_sample(0, (*BLOCKED, ROOT)), lock_waits=waits))
    assert words in said.sentence
    assert said.evidence == ("The longest wait lasts 4 s.",)  # the statements run for 30 s


def test_a_long_statement_that_waits_for_a_lock_only_now_is_no_lock_chain() -> None:
    waits = tuple(lock_wait(100 + i, 0.2) for i in range(3))
    assert say(replace(server_sample(0, (*BLOCKED, ROOT)), lock_waits=waits)).cause == "healthy"


def test_a_circle_of_lock_waits_ends() -> None:
    circle = (session(1, age=5, blocked_by=(2,)), session(2, age=5, blocked_by=(1,)))
    assert say(server_sample(0, circle)).cause == "healthy"


def test_many_blocked_sessions_are_critical() -> None:
    blocked = tuple(session(100 + i, age=5, blocked_by=(7,)) for i in range(10))
    assert say(server_sample(0, (*blocked, ROOT))).severity is Severity.CRITICAL


def test_the_healthy_verdict_stays_the_same_when_numbers_move() -> None:
    assert say(server_sample(0, slots_used=12)) == say(server_sample(1, slots_used=13)) == HEALTHY


@pytest.mark.parametrize("failure", sorted(FULL))
def test_a_pooler_that_refuses_us_is_not_said_to_have_slots(failure: Failure) -> None:
    said = say(server_sample(), failed(0, failure, POOL))
    assert said.sentence.startswith("shop-pool: PgBouncer refuses ")
    assert "slot" not in f"{said.layer} {said.sentence} {said.advice}"


def test_a_pooler_s_verdict_is_that_of_its_system() -> None:
    members = ((POOL, window(QUIET)), (SHOP, window(server_sample(slots_used=97))))
    assert verdict(System(POOL, members, Rules())).cause == "slots_exhausted"


@pytest.mark.parametrize(
    ("used", "cause"), [(12, "not_judged"), (90, "slots_low"), (97, "slots_exhausted")]
)
def test_a_cause_that_raises_hides_no_other_and_is_not_called_healthy(
    used: int, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock_chain(system: System) -> Verdict | None:
        raise KeyError("x")

    causes = [lock_chain if made.__name__ == "lock_chain" else made for made in CAUSES]
    monkeypatch.setattr("alerts.verdict.CAUSES", causes)
    failures: list[str] = []
    system = System(SHOP, ((SHOP, window(server_sample(slots_used=used))),), Rules())
    said = verdict(system, lambda what, _: failures.append(what))
    assert said.cause == cause
    assert failures == ([] if cause == "slots_exhausted" else ["cause lock_chain"])


def test_every_cause_is_documented() -> None:
    page = Path("docs/verdict.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    seen = {row[3].partition("/")[2] for row in ROWS}
    assert seen | {"not_judged"} == documented  # that one needs a mistake of ours
    assert len(seen) == len(CAUSES) + 4  # waiters() knows four; and healthy
