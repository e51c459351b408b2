"""What the rows of PostgreSQL's statistics say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors import postgresql_rows as rows_of
from collectors.postgresql_rows import Row, activity
from collectors.session_time import SessionTime
from collectors.sql import FOLDER, sql

T0 = datetime(2030, 1, 1, tzinfo=UTC)
OURS = 1


def ago(seconds: float) -> datetime:
    return T0 - timedelta(seconds=seconds)


class Book:
    """Names that are known."""

    def __init__(self, databases: dict[int, Any], roles: dict[int, Any]) -> None:
        self._databases, self._roles = databases, roles

    def database(self, oid: int | None) -> str | None:
        return self._databases.get(oid) if oid else None

    def role(self, oid: int | None) -> str | None:
        return self._roles.get(oid) if oid else None


def row(pid: int, **given: Any) -> Row:
    values: dict[str, Any] = {
        "pid": pid,
        "is_ours": pid == OURS,
        "database_oid": 5,
        "role_oid": 10,
        "backend_type": "client backend",
        "application": "shop",
        "client_address": "10.0.0.1",
        "client_port": 4000 + pid,
        "state": "idle",
        "wait_event_type": "Client",
        "wait_event": "ClientRead",
        "backend_start": ago(60),
        "xact_start": None,
        "query_start": ago(30),
        "state_change": ago(20),
        "leader_pid": None,
        "statement": None,
        "clock": T0,
        "in_recovery": False,
        "prepared_transactions": 2,
        "oldest_prepared_at": ago(90),
    }
    return Row(**{**values, **given})


def look(*rows: Row, **given: Any) -> rows_of.Activity:
    ours = row(OURS, state="active")
    names = Book(given.get("databases", {5: "shop"}), given.get("roles", {10: "app"}))
    return activity((ours, *rows), names)


IDENTITY = rows_of.identity((OURS, 180006, "18.6 (Debian 18.6-1)", ago(3600), 30, 3, 2, "headroom"))


def test_our_own_session_takes_a_slot_and_is_nowhere_else() -> None:
    seen = look()
    assert seen.slots_used == 1
    assert (seen.states, seen.waits, seen.sessions) == ({}, {}, [])
    assert seen.longest_statement == 0.0


def test_only_client_backends_take_slots() -> None:
    seen = look(row(2), row(3, backend_type="walsender"))
    assert (seen.slots_used, seen.walsenders, len(seen.sessions)) == (2, 1, 1)


def test_states_are_counted_as_the_server_names_them() -> None:
    seen = look(
        row(2),
        row(3, state="idle in transaction"),
        row(4, state="starting"),
        row(5, state="disabled"),
        row(6, state=None),
    )
    assert seen.states == {
        "idle": 1,
        "idle in transaction": 1,
        "starting": 1,
        "disabled": 1,
        "unknown": 1,
    }


def test_waits_are_counted_for_active_sessions_only() -> None:
    seen = look(
        row(2, state="active", wait_event_type=None),
        row(3, state="active", wait_event_type="Lock"),
        row(4, state="idle"),
    )
    assert seen.waits == {"CPU": 1, "Lock": 1}


@pytest.mark.parametrize(
    ("state", "statement", "transaction", "idle_in_transaction"),
    [
        ("active", 30.0, 50.0, 0.0),
        ("idle in transaction", 0.0, 50.0, 20.0),
        ("idle in transaction (aborted)", 0.0, 50.0, 20.0),
        ("idle", 0.0, 50.0, 0.0),
    ],
)
def test_each_age_has_its_own_beginning(
    state: str, statement: float, transaction: float, idle_in_transaction: float
) -> None:
    seen = look(row(2, state=state, xact_start=ago(50)))
    assert seen.longest_statement == statement
    assert seen.longest_transaction == transaction
    assert seen.longest_idle_in_transaction == idle_in_transaction


def test_an_age_is_never_negative() -> None:
    seen = look(row(2, state="active", query_start=ago(-1), xact_start=ago(-1)))
    session = seen.sessions[0]
    assert (session.statement_seconds, session.xact_seconds) == (0.0, 0.0)


def test_a_session_says_who_and_from_where_and_its_statement_is_masked() -> None:
    session = look(row(2, state="active", statement="SELECT 'secret'")).sessions[0]
    assert (session.database, session.role, session.application) == ("shop", "app", "shop")
    assert session.client == "10.0.0.1:4002"
    assert session.statement == "SELECT ?"


def test_a_name_that_is_not_known_is_none() -> None:
    session = look(row(2), databases={}, roles={10: None}).sessions[0]
    assert (session.database, session.role) == (None, None)


def test_those_who_wait_for_a_lock_come_in_the_order_of_their_patience() -> None:
    seen = look(
        row(2, state="active", wait_event_type="Lock", state_change=ago(1)),
        row(3, state="active", wait_event_type="Lock", state_change=ago(9)),
        row(4, state="active", wait_event_type="Lock", state_change=None),
    )
    assert (seen.lock_waiters, seen.blocked) == ([3, 2, 4], 3)


def test_a_parallel_worker_waits_for_its_leader_and_is_counted_nowhere() -> None:
    worker = {"backend_type": "parallel worker", "leader_pid": 2, "wait_event_type": "Lock"}
    seen = look(row(2, state="active", wait_event_type="IPC"), row(3, state="active", **worker))
    assert (seen.lock_waiters, seen.leaders) == ([3], {3: 2})
    assert (seen.slots_used, len(seen.sessions), seen.states) == (2, 1, {"active": 1})


def test_connections_are_counted_as_the_limits_of_databases_and_roles_count_them() -> None:
    seen = look(
        row(2, database_oid=6),
        row(3, role_oid=11),
        row(4, backend_type="walsender"),
        row(5, state="starting", database_oid=None, role_oid=None),
    )
    assert seen.by_database == {5: 2, 6: 1}  # ours takes a place like any other
    assert seen.by_role == {10: 2, 11: 1}
    assert seen.authenticating == 1
    roles = rows_of.limited_roles([(10, "app", 3), (12, "idle", 5)], seen)
    assert roles is not None
    assert [(r.name, r.connection_limit, r.connections) for r in roles] == [
        ("app", 3, 2),
        ("idle", 5, 0),
    ]


def test_who_logs_in_is_known_since_18_only() -> None:
    seen = look(row(2, state="starting"))
    assert rows_of.server(IDENTITY, seen, T0).authenticating == 1
    old = rows_of.identity((OURS, 170010, "17.10", ago(3600), 30, 3, 2, "headroom"))
    assert rows_of.server(old, seen, T0).authenticating is None


def test_a_prepared_transaction_has_an_age() -> None:
    assert rows_of.server(IDENTITY, look(), T0).oldest_prepared_seconds == 90.0
    none = activity((row(OURS, prepared_transactions=0, oldest_prepared_at=None),), Book({}, {}))
    assert rows_of.server(IDENTITY, none, T0).oldest_prepared_seconds == 0.0


def test_what_is_hidden_is_none_and_never_zero() -> None:
    seen = look(row(2, backend_type=None, state=None, backend_start=None))
    server = rows_of.server(IDENTITY, seen, T0)
    assert seen.hidden == 1
    for name in ("slots_used", "states", "waits", "blocked", "walsenders", "headroom"):
        assert getattr(server, name) is None, name
    for name in ("statement", "transaction", "idle_in_transaction"):
        assert getattr(server, f"longest_{name}_seconds") is None, name
    assert server.ordinary_capacity == 25  # what is known stays known


def test_the_server_as_a_whole() -> None:
    server = rows_of.server(IDENTITY, look(row(2)), T0 + timedelta(seconds=1.5))
    assert (server.version, server.version_num, server.role) == ("18.6", 180006, "primary")
    assert server.clock_skew_seconds == -1.5
    assert (server.slots_used, server.headroom, server.prepared_transactions) == (2, 23, 2)
    standby = rows_of.server(
        IDENTITY,
        activity((row(OURS, in_recovery=True),), Book({}, {})),
        T0,
    )
    assert standby.role == "standby"


def test_counters_of_a_database_are_in_seconds_and_unknown_before_14() -> None:
    new, old = rows_of.databases(
        [
            (5, "shop", -1, 3, 10, 1, 5, 0, 1, 2, 9000.0, 1500.0, 250.0, T0),
            (6, "old", 20, 1, 4, 0, None, None, None, None, None, None, None, None),
        ],
        look(row(2)),
        SessionTime(),
    )
    assert (new.connections, old.connections) == (2, 0)
    assert (new.session_seconds_total, old.session_seconds_total) == (0.0, None)
    assert (new.active_seconds_total, new.idle_in_transaction_seconds_total) == (1.5, 0.25)
    assert (new.sessions_total, new.sessions_killed_total) == (5, 2)
    assert (old.sessions_total, old.active_seconds_total, old.connection_limit) == (None, None, 20)


@pytest.mark.parametrize(
    ("limit", "used", "left", "sentence"),
    [
        (-1, 5, None, "no limit"),
        (-2, 0, None, "left over from a failed DROP DATABASE: no limit either"),
        (0, 0, 0, "admits superusers only"),
        (5, 3, 2, "the rest"),
        (5, 7, 0, "the limit was lowered"),
        (5, None, None, "hidden"),
    ],
)
def test_a_database_has_a_headroom_of_its_own(
    limit: int, used: int | None, left: int | None, sentence: str
) -> None:
    counters = (5, "shop", limit, 3, 10, 1, *[None] * 8)
    (database,) = rows_of.databases([counters], look(), SessionTime())
    assert replace(database, connections=used).headroom == left, sentence


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("headroom", 'GRANT pg_monitor TO "headroom";'),
        ('odd"; DROP', 'GRANT pg_monitor TO "odd""; DROP";'),
    ],
)
def test_the_grant_can_be_copied_for_any_role(role: str, statement: str) -> None:
    assert rows_of.grant(role) == statement


def test_the_newest_question_that_the_server_can_run_is_picked() -> None:
    assert b"sessions_abandoned" not in sql("databases", 130023)
    assert b"sessions_abandoned" in sql("databases", 140000)
    assert b"sessions_abandoned" in sql("databases", 180006)


@pytest.mark.parametrize("name", sorted({f.stem.partition("_1")[0] for f in FOLDER.glob("*.sql")}))
def test_every_question_is_sent_as_one_line_without_its_comments(name: str) -> None:
    for version in (130000, 180000):
        text = sql(name, version)
        assert b"--" not in text
        assert b"\n" not in text
        assert text.startswith((b"SELECT ", b"WITH "))
