"""Who waits for whom: edges from locks, and the tree that they make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.blocking import CONFLICTS, PREPARED, Lock, lock_waits, places, waiting
from model.samples import LockWait, Session

T0 = datetime(2030, 1, 1, tzinfo=UTC)
START = T0 - timedelta(hours=1)


def lock(pid: int | None, mode: str = "ExclusiveLock", **given: Any) -> Lock:
    values = {
        "tag": "orders",
        "lock_type": "relation",
        "database_oid": 5,
        "relation_oid": 16400,
        "mode": mode,
        "granted": False,
        "pid": pid,
        "waitstart": T0 - timedelta(seconds=10),
    }
    return Lock(**{**values, **given})


def held(pid: int | None, mode: str = "ExclusiveLock", **given: Any) -> Lock:
    return lock(pid, mode, granted=True, waitstart=None, **given)


def ago(seconds: float) -> datetime:
    return T0 - timedelta(seconds=seconds)


def session(pid: int) -> Session:
    return Session(
        pid, START, "shop", "app", "", None, "active", "Lock", "relation",
        START, START, START, None, 60.0, 30.0, 7.0, 7.0,
    )  # fmt: skip


def tree(*locks: Lock, told: Any = None, leaders: Any = None) -> dict[int, LockWait]:
    found = waiting(locks, leaders or {}, told)
    sessions = {pid: session(pid) for pid in found}
    return {wait.pid: wait for wait in lock_waits(found, sessions, {}, T0)}


def test_the_conflicts_are_symmetric_and_as_the_manual_has_them() -> None:
    assert len(CONFLICTS) == 8
    for mode, others in CONFLICTS.items():
        assert all(mode in CONFLICTS[other] for other in others)
    assert CONFLICTS["AccessShareLock"] == {"AccessExclusiveLock"}
    assert len(CONFLICTS["AccessExclusiveLock"]) == 8
    assert "ShareLock" not in CONFLICTS["ShareLock"]


def test_a_waiter_is_blocked_by_who_holds_a_lock_that_conflicts() -> None:
    waits = tree(held(1, "AccessShareLock"), held(2, "ExclusiveLock"), lock(3, "ShareLock"))
    assert waits[3].blocked_by == (2,)
    assert (waits[3].root, waits[3].depth, waits[3].soft) == (2, 1, False)
    assert (waits[3].lock_type, waits[3].mode, waits[3].wait_seconds) == (
        "relation",
        "ShareLock",
        10.0,
    )


def test_those_behind_a_waiter_wait_for_it_softly_and_the_root_is_the_holder() -> None:
    waits = tree(
        held(1, "AccessShareLock"),
        lock(2, "AccessExclusiveLock", waitstart=ago(9)),
        lock(3, "AccessShareLock", waitstart=ago(5)),
        lock(4, "AccessShareLock", waitstart=ago(4)),
    )
    assert [(w.pid, w.blocked_by, w.root, w.depth, w.soft) for w in waits.values()] == [
        (2, (1,), 1, 1, False),
        (3, (2,), 1, 2, True),
        (4, (2,), 1, 2, True),
    ]


def test_a_chain_has_depths() -> None:
    waits = tree(
        held(1, tag="a"), lock(2, tag="a"), held(2, tag="b"), lock(3, tag="b"),
        held(3, tag="c"), lock(4, tag="c"),
    )  # fmt: skip
    assert {pid: (w.root, w.depth) for pid, w in waits.items()} == {2: (1, 1), 3: (1, 2), 4: (1, 3)}


def test_a_prepared_transaction_is_pid_zero_and_a_root() -> None:
    waits = tree(held(None), lock(2))
    assert (waits[2].blocked_by, waits[2].root) == ((PREPARED,), PREPARED)


def test_a_cycle_has_no_root_and_ends() -> None:
    waits = tree(
        held(1, tag="a"), lock(2, tag="a"), held(2, tag="b"), lock(1, tag="b"),
        held(2, tag="c"), lock(3, tag="c"),
    )  # fmt: skip
    assert {pid: (w.root, w.depth) for pid, w in waits.items()} == dict.fromkeys(
        (1, 2, 3), (None, 0)
    )


def test_who_is_in_a_cycle_but_also_waits_for_a_root_has_that_root() -> None:
    assert places({1: (2,), 2: (1, 9)}) == {1: (9, 2), 2: (9, 1)}


def test_a_parallel_worker_waits_and_blocks_in_its_leaders_name() -> None:
    leaders = {11: 1, 12: 1, 21: 2}
    waits = tree(held(11), lock(21), lock(12), leaders=leaders)
    assert set(waits) == {2}  # a worker is never in the way of its own group
    assert waits[2].blocked_by == (1,)


def test_the_servers_own_word_wins_and_holders_come_before_those_ahead() -> None:
    locks = (held(1), lock(2, waitstart=ago(9)), lock(3, waitstart=ago(5)), lock(4))
    told = {2: [1], 3: [2, 1, 1], 4: [2, 3]}
    waits = tree(*locks, told=told)
    assert waits[3].blocked_by == (1,)
    assert (waits[4].blocked_by, waits[4].soft) == ((2, 3), True)


def test_a_hundred_waiters_of_one_row_name_a_hundred_blockers_and_not_five_thousand() -> None:
    locks = [held(1, "AccessShareLock")] + [
        lock(pid, "AccessExclusiveLock", waitstart=ago(200 - pid)) for pid in range(2, 102)
    ]
    waits = tree(*locks)
    assert sum(len(wait.blocked_by) for wait in waits.values()) == 100
    assert {wait.root for wait in waits.values()} == {1}


@pytest.mark.parametrize(
    ("waitstart", "seconds", "sentence"),
    [
        (ago(3), 3.0, "since the wait began"),
        (ago(-1), 0.0, "never negative"),
        (None, 7.0, "before 14, and in a wait's first moment: since the state changed"),
    ],
)
def test_how_long_a_wait_is(waitstart: datetime | None, seconds: float, sentence: str) -> None:
    assert tree(held(1), lock(2, waitstart=waitstart))[2].wait_seconds == seconds, sentence


def test_who_was_served_in_the_meantime_waits_for_nobody() -> None:
    assert tree(held(1), lock(2), told={2: []}) == {}
