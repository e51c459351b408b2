"""Many sessions: totals stay exact, and nobody is said to be gone who is there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from collectors import crowd as crowds
from collectors.applications import OTHER, ApplicationNames
from collectors.crowd import Crowd
from collectors.postgresql_rows import Row
from model.samples import Session
from tests.unit.test_postgresql_parse import OURS, T0, Book, ago, row

NAMES = Book({5: "shop"}, {10: "app"})


def crowd(number: int = 600, names: ApplicationNames | None = None) -> Crowd:
    """A crowd that was read as a whole: pids from 2 on, all idle."""
    made = Crowd(names or ApplicationNames())
    made.read_all([row(OURS), *(row(pid) for pid in range(2, number + 2))], NAMES)
    return made


def hot(*rows: Row) -> list[tuple[Any, ...]]:
    """Rows as activity_crowd.sql has them, ours among them."""
    return [(*r, None) for r in (row(OURS, clock=T0 + timedelta(seconds=1)), *rows)]


def group(pids: range | list[int], **given: Any) -> tuple[Any, ...]:
    """A counted row."""
    nothing = {
        "is_ours": False, "application": None, "client_address": None,
        "client_port": None, "wait_event": None, "backend_start": None, "query_start": None,
        "clock": None, "in_recovery": None, "prepared_transactions": None,
        "oldest_prepared_at": None,
    }  # fmt: skip
    values = row(0, **nothing)._replace(pid=None, **given)
    return (*values, list(pids))


def by_pid(sessions: list[Session]) -> dict[int, Session]:
    return {session.pid: session for session in sessions}


@pytest.mark.parametrize(("number", "active"), [(498, False), (499, True), (2000, True)])
def test_it_is_one_from_500_backends_on(number: int, active: bool) -> None:
    assert crowd(number).active is active


def test_it_is_none_any_more_when_most_have_left() -> None:
    made = crowd()
    for number, active in ((450, True), (450, True), (350, False), (450, False)):
        made.read_all([row(OURS), *(row(pid) for pid in range(2, number + 2))], NAMES)
        assert made.active is active
    made = crowd()
    made.read_some([*hot(), group(range(2, 100))], NAMES)
    assert not made.active


def test_hidden_sessions_are_no_crowd() -> None:
    made = Crowd(ApplicationNames())
    made.read_all([row(OURS), *(row(n, backend_type=None) for n in range(2, 700))], NAMES)
    assert not made.active


def test_totals_are_exact_though_few_rows_are_read() -> None:
    seen = crowd().read_some(
        [
            *hot(row(2, state="active", wait_event_type="IO")),
            group(range(3, 500), state="idle"),
            group([2, *range(500, 520)], state="active", wait_event_type="IO", query_start=ago(8)),
            group([520, 521], state="active", wait_event_type=None),
            group(range(530, 540), state="active", wait_event_type="Lock"),
            group([600], state="idle in transaction", state_change=ago(40), xact_start=ago(50)),
            group([700, 701], backend_type="walsender"),
            group([800], backend_type="parallel worker", wait_event_type="Lock"),
        ],
        NAMES,
    )
    assert seen.states == {"idle": 497, "active": 33, "idle in transaction": 1}
    assert seen.waits == {"IO": 21, "CPU": 2, "Lock": 10}
    assert (seen.slots_used, seen.walsenders, seen.blocked) == (532, 2, 10)
    assert seen.by_database == {5: 532}
    assert (seen.longest_statement, seen.longest_transaction) == (9.0, 51.0)
    assert seen.longest_idle_in_transaction == 41.0


def test_sessions_that_were_not_read_stay_as_they_were_and_those_gone_are_gone() -> None:
    made = crowd()
    before = by_pid(made.read_some([*hot(), group(range(2, 602))], NAMES).sessions)
    assert len(before) == 600
    changed = row(7, state="active", statement="SELECT 1", state_change=T0)
    after = by_pid(
        made.read_some([*hot(changed), group([p for p in range(2, 602) if p != 9])], NAMES).sessions
    )
    assert before.keys() - after.keys() == {9}
    assert after[7].state == "active"
    assert all(after[pid] is before[pid] for pid in after if pid != 7)


def test_a_newcomer_is_known_in_the_look_that_first_counts_it() -> None:
    made = crowd()
    seen = made.read_some([*hot(row(9000)), group([*range(2, 602), 9000])], NAMES)
    assert 9000 in by_pid(seen.sessions)
    assert not made.incomplete


def test_newcomers_beyond_what_one_look_reads_are_asked_for_soon() -> None:
    made = crowd()
    seen = made.read_some([*hot(), group([*range(2, 602), 9000])], NAMES)
    assert made.incomplete
    assert seen.slots_used == 602
    assert len(seen.sessions) == 600


def test_changes_are_asked_for_from_the_last_look_on_with_some_overlap() -> None:
    made = crowd()
    assert made.since == T0 - crowds._OVERLAP
    made.read_some([*hot(), group(range(2, 602))], NAMES)
    assert made.since == T0 + timedelta(seconds=1) - crowds._OVERLAP


def test_a_reused_pid_is_another_session() -> None:
    made = crowd()
    seen = made.read_some([*hot(row(7, backend_start=T0)), group(range(2, 602))], NAMES)
    assert by_pid(seen.sessions)[7].backend_start == T0


def test_names_beyond_the_cap_are_folded_in_every_look_and_totals_stay_exact() -> None:
    names = ApplicationNames(most=10)
    made = Crowd(names)
    rows = [row(pid, application=f"job-{pid}") for pid in range(2, 602)]
    seen = made.read_all([row(OURS), *rows], NAMES)
    assert (seen.slots_used, seen.folded_applications) == (601, 590)
    kept = {session.application for session in seen.sessions}
    assert len(kept) == 11
    assert OTHER in kept
    seen = made.read_some([*hot(), group(range(2, 602))], NAMES)
    assert {session.application for session in seen.sessions} == kept
    assert (seen.slots_used, seen.folded_applications) == (601, 590)
