"""Snapshots of sessions folded into episodes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from model.samples import Session
from store.episodes import LONGEST, Episode, Fold, same_session, session_identity
from store.episodes import fold as fold_any

T0 = datetime(2030, 1, 1, tzinfo=UTC)
SESSION = Session(
    pid=4711,
    backend_start=T0,
    database="shop",
    role="app",
    application="checkout",
    client="local",
    state="active",
    wait_event_type=None,
    wait_event=None,
    xact_start=T0,
    query_start=T0,
    state_change=T0,
    statement="SELECT ?",
    session_seconds=1.0,
    xact_seconds=1.0,
    statement_seconds=1.0,
    state_seconds=1.0,
)


def fold(
    before: dict[Any, Episode[Session]], snapshot: list[Session], at: datetime
) -> Fold[Any, Session]:
    return fold_any(before, snapshot, at, identity=session_identity, same=same_session)


LATER = T0 + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("change", "goes_on"),
    [
        ({}, True),  # nothing changed
        ({"wait_event_type": "Lock"}, True),  # waits are counted elsewhere
        ({"statement_seconds": 9.0}, True),  # it only became older
        ({"query_start": LATER}, False),  # the next statement
        ({"xact_start": LATER}, False),  # the next transaction
        ({"state": "idle in transaction"}, False),
        ({"blocked_by": (4652,)}, False),  # who blocks whom is looked for later
        ({"backend_start": LATER}, False),  # the pid was reused by somebody else
    ],
)
def test_an_episode_lasts_while_state_transaction_and_statement_do(
    change: dict[str, object], *, goes_on: bool
) -> None:
    before = fold({}, [SESSION], T0).open
    step = fold(before, [replace(SESSION, **change)], LATER)  # type: ignore[arg-type]
    assert (len(step.began), len(step.ended)) == ((0, 0) if goes_on else (1, 1))
    assert [episode.started_at for episode in step.open.values()] == [T0 if goes_on else LATER]


def test_an_idle_session_that_worked_between_two_polls_stays_one_episode() -> None:
    idle = replace(SESSION, state="idle", statement=None)
    step = fold(fold({}, [idle], T0).open, [replace(idle, state_change=LATER)], LATER)
    assert not step.began


def test_a_session_that_left_ends() -> None:
    step = fold(fold({}, [SESSION], T0).open, [], LATER)
    assert [episode.what.pid for episode in step.ended] == [4711]
    assert step.open == {}


def test_a_long_episode_is_cut_so_that_lookups_stay_short() -> None:
    step = fold(fold({}, [SESSION], T0).open, [SESSION], T0 + LONGEST)
    assert [episode.started_at for episode in step.began] == [T0 + LONGEST]
    assert len(step.ended) == 1


def test_a_pid_shown_twice_counts_once() -> None:
    assert len(fold({}, [SESSION, SESSION], T0).began) == 1
