"""The tables of a page say what the store says, as text that cannot disguise itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard.tables import (
    ages_in_words,
    alert_table,
    blocking_table,
    chain_table,
    group_table,
    pool_table,
    session_table,
)
from model.alerting import Severity
from model.targets import Target
from store.latest import SessionRow, TargetNow
from store.links import ChainRow, LinkRow
from store.locks import LockRow
from tests.filled_store import HOSTILE, alert

T0 = datetime(2030, 1, 1, tzinfo=UTC)
POOL = Target(name="shop-pool", kind="pgbouncer", serves=("shop",))


def seen_pools(*pools: dict[str, Any]) -> TargetNow:
    """A pooler that was just seen with *pools*."""
    return TargetNow(
        name="p",
        kind="pgbouncer",
        at=T0,
        up=True,
        failure=None,
        reason=None,
        degraded=None,
        poll_seconds=0.01,
        good_at=T0,
        version="1.18.0",
        role=None,
        columns={},
        pools=pools,
        verdict=None,
        verdict_at=None,
    )


def session(pid: int, **more: Any) -> SessionRow:
    values: dict[str, Any] = {
        "pid": pid,
        "backend_start": T0,
        "database": "shop",
        "role": "app",
        "application": "web",
        "client": "10.0.0.1:5000",
        "state": "active",
        "wait_event_type": None,
        "wait_event": None,
        "blocked_by": (),
        "statement": "SELECT $1",
        "session_seconds": 60.0,
        "xact_seconds": 5.0,
        "statement_seconds": 2.0,
        "state_seconds": 2.0,
        "started_at": T0,
        "ended_at": None,
    }
    return SessionRow(**(values | more))


def test_sessions_come_longest_first_and_idle_ones_only_on_request() -> None:
    rows = [
        session(1),
        session(2, state="idle", xact_seconds=None, statement_seconds=None, state_seconds=900.0),
        session(3, state="idle in transaction", statement_seconds=None, xact_seconds=192.0),
    ]
    assert list(session_table(rows, everyone=False)["pid"]) == [3, 1]
    assert list(session_table(rows, everyone=True)["pid"]) == [3, 1, 2]


def test_a_session_table_without_rows_has_its_columns() -> None:
    assert "statement" in session_table([], everyone=True).columns


def test_an_active_session_without_a_wait_event_is_on_cpu() -> None:
    rows = [session(1), session(2, wait_event_type="Lock", wait_event="tuple", blocked_by=(7, 8))]
    table = session_table(rows, everyone=True).set_index("pid")
    assert table.loc[1, "wait"] == "CPU"
    assert table.loc[2, "wait"] == "Lock: tuple"
    assert table.loc[2, "blocked by"] == "7, 8"


def test_a_pid_that_was_reused_is_another_session() -> None:
    rows = [session(1), session(1, backend_start=T0 + timedelta(seconds=1))]
    assert session_table(rows, everyone=True)["session"].nunique() == 2


def test_the_pools_of_a_pooler_leave_out_its_console() -> None:
    pool = {
        "user": "app",
        "client_waiting": 1,
        "maxwait_seconds": 0.1,
        "client_active": 1,
        "server_active": 1,
        "server_idle": 0,
        "pool_size": 2,
        "pool_mode": None,
    }
    pools = ({"database": "pgbouncer", **pool}, {"database": "shop", **pool})
    assert list(pool_table(POOL, seen_pools(*pools))["database"]) == ["shop"]


def test_alerts_say_what_to_do_first_and_the_newest_comes_first() -> None:
    found = [alert(T0 + timedelta(seconds=s), f"at {s}", Severity.WARNING, "shop") for s in (1, 9)]
    # Since when is what messages say too, not when the rule's patience ended.
    found = [replace(one, fired_at=one.since + timedelta(seconds=5)) for one in found]
    table = alert_table(found, T0 + timedelta(seconds=69))
    assert list(table["since"]) == [T0 + timedelta(seconds=9), T0 + timedelta(seconds=1)]
    assert list(table["what"]) == ["at 9", "at 1"]
    assert list(table["lasted"]) == ["1 min", "1 min 8 s"]


def test_an_alert_whose_trouble_is_over_says_so_and_comes_after_the_others() -> None:
    first, newer = (alert(T0 + timedelta(seconds=s), str(s), Severity.WARNING, "a") for s in (1, 2))
    ended = replace(newer, clear_since=T0 + timedelta(seconds=60))
    table = alert_table([ended, first], T0 + timedelta(seconds=69))
    assert list(table["state"]) == ["firing", "over for 9 s"]


def test_what_is_not_known_is_empty_and_ages_are_words() -> None:
    idle = session(2, state="idle", xact_seconds=None, statement_seconds=None, state_seconds=None)
    table = session_table([idle], everyone=True)
    shown = ages_in_words(table, "age", "transaction").to_html()
    assert "None" not in shown
    assert "nan" not in shown.replace(str(T0), "")
    assert table["transaction"].dtype == float
    busy = session_table([session(1, statement_seconds=192.0), idle], everyone=True)
    assert ">3 min 12 s<" in ages_in_words(busy, "age", "transaction").to_html()
    assert busy["bar"].tolist()[0] == 192.0
    assert busy["bar"].isna().tolist() == [False, True]  # what is idle for days has no bar


def test_pools_show_the_oldest_wait_at_login_and_their_process_where_there_are_several() -> None:
    pool = {
        "database": "shop",
        "user": "app",
        "client_waiting": None,
        "maxwait_seconds": 0.0,
        "oldest_wait_seconds": 6.1,
        "client_active": 1,
        "server_active": 1,
        "server_idle": 0,
        "pool_size": 2,
        "pool_mode": None,
        "process": "",
    }
    one = pool_table(POOL, seen_pools(pool))
    assert one["oldest wait"].tolist() == [6.1]
    assert one["clients waiting"].isna().all()
    assert ">–<" in ages_in_words(one, "oldest wait", unknown="–").to_html()
    assert "process" not in one.columns
    both = ({**pool, "process": "6432"}, {**pool, "process": "6433"})
    assert pool_table(POOL, seen_pools(*both))["process"].tolist() == ["6432", "6433"]
    console = {**pool, "database": "console"}
    odyssey = Target(name="p", kind="odyssey")
    assert pool_table(odyssey, seen_pools(console)).empty


def test_sessions_are_counted_by_database_role_and_application() -> None:
    rows = [
        session(1),
        session(2, state="idle"),
        session(3, state="idle in transaction (aborted)"),
        session(4, application=HOSTILE, state=None),
    ]
    table = group_table(rows)
    assert table.iloc[0].tolist() == ["shop", "app", "web", 3, 1, 1, 1, 0]
    assert table.iloc[1]["other"] == 1
    assert "\u202e" not in table.iloc[1]["application"]


def lock(pid: int, *blocked_by: int, root: int | None = 1, depth: int = 1, **more: Any) -> LockRow:
    values: dict[str, Any] = {"soft": False, "lock_type": "relation", "mode": "ShareLock"}
    values |= {"relation": "public.orders", "wait_seconds": 2.0}
    return LockRow(pid, blocked_by, root, depth, **(values | more))


@pytest.mark.parametrize(
    ("waits", "who"),
    [
        ([lock(2, 1), lock(3, 2, depth=2)], ["1", "└ 2", "    └ 3"]),
        ([lock(2, 1), lock(3, 1, 2)], ["1", "└ 2", "└ 3"]),  # behind both: drawn once
        ([lock(2, 0, root=0)], ["prepared transaction", "└ 2"]),
        # A deadlock that the server has not found yet.
        ([lock(2, 3, root=None), lock(3, 2, root=None)], ["2", "└ 3"]),
        ([lock(9, 8, root=8), lock(2, 1)], ["8", "└ 9", "1", "└ 2"]),
        ([], []),
    ],
)
def test_waits_are_a_tree_with_its_root_first(waits, who) -> None:
    assert blocking_table(waits, [])["who"].tolist() == who


def test_a_row_of_the_tree_says_for_what_and_how_long() -> None:
    root = session(1, state="idle in transaction", statement="UPDATE x")
    table = blocking_table([lock(2, 1, soft=True)], [root, session(2, application=HOSTILE)])
    assert table["state"].tolist() == ["idle in transaction", "active"]
    assert table.loc[1, "waits"] == 2.0
    assert table.loc[1, "for"] == "relation public.orders, ShareLock, queues behind a waiter"
    assert "\u202e" not in table.loc[1, "application"]


def test_a_chain_reads_from_the_client_to_what_blocks_its_backend() -> None:
    def link(client: str, state: str, wait: float | None, pid: int | None) -> LinkRow:
        return LinkRow(client, client, "checkout", "shop", "app", state, wait, T0, pid, None, T0)

    rows = [
        ChainRow(link("10.0.3.7:1", "waiting", 2.0, None), None),
        ChainRow(link("10.0.3.7:2", "active", None, 4711), session(4711, blocked_by=(4652,))),
        ChainRow(link("10.0.3.7:3", "active", None, None), None),
    ]
    table = chain_table(rows)
    assert table["client"].tolist() == ["10.0.3.7:1", "10.0.3.7:2"]
    assert table["pool"].tolist() == ["shop/app", "shop/app"]
    assert table.loc[0, "waits"] == 2.0
    assert (table.loc[1, "backend"], table.loc[1, "blocked by"]) == (4711, "4652")
