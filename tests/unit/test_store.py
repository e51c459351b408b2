"""The store: what goes in comes out, folded to a chart's width, gaps marked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from model.alerting import (
    Alert,
    AlertState,
    Culprit,
    Finding,
    Severity,
    Verdict,
    labels,
)
from model.config import StoreSettings
from model.samples import Database, Failure, Link, LockWait, Pool, Pooler, Sample, Server
from store import alert_log, latest, rates, retention, runs, windows
from store.alert_log import OutboxRow
from store.append import Appender
from store.database import Store, StoreError
from store.export import TABLES, export, export_chunks
from store.kept import to_ms
from store.locks import lock_waits_at
from store.tables import metadata
from tests.unit.test_episodes import SESSION

T0 = datetime(2030, 1, 1, tzinfo=UTC)
SERVER = Server(
    version="18.6",
    version_num=180006,
    role="primary",
    started_at=T0,
    clock_skew_seconds=0.0,
    max_connections=30,
    superuser_reserved_connections=3,
    reserved_connections=2,
    slots_used=7,
    states={"active": 2, "idle": 3, "starting": 1},
    waits={"CPU": 1, "Lock": 1, "BufferPin": 2},
    longest_statement_seconds=1.5,
    longest_transaction_seconds=2.5,
    longest_idle_in_transaction_seconds=0.0,
    blocked=1,
)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def seen(seconds: float, *, slots_used: int = 7) -> Sample:
    server = replace(SERVER, slots_used=slots_used)
    return Sample("shop", "postgresql", after(seconds), 0.001, up=True, server=server)


def down(seconds: float) -> Sample:
    return Sample(
        "shop",
        "postgresql",
        after(seconds),
        1.0,
        up=False,
        failure=Failure.TIMEOUT,
        reason="no answer in 1 s",
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/headroom.db") as opened:
        opened.migrate()
        yield opened


def test_migrations_end_at_the_tables(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, metadata) == []


def test_a_newer_store_is_refused_with_the_reason(store: Store) -> None:
    with sqlite3.connect(store.path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StoreError, match="written by a newer Headroom"):
        store.migrate()


def test_a_reader_is_told_when_there_is_no_store(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path}/none.db") as store, pytest.raises(StoreError, match="run"):
        store.require_current()
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is no database at all" * 100)
    with Store(f"sqlite:///{tmp_path}/x.db") as store, pytest.raises(StoreError, match=r"x\.db"):
        store.migrate()


def test_a_window_has_the_samples_and_marks_the_gap(store: Store) -> None:
    appender = Appender(store)
    appender.append([seen(s, slots_used=s) for s in (0, 1, 2, 10, 11)])
    with store.read() as connection:
        window = windows.server_window(connection, "shop", T0, after(12), 600)
    assert window.columns["slots_used"] == [0, 1, 2, None, 10, 11]
    assert window.columns["ordinary_capacity"] == [25, 25, 25, None, 25, 25]
    assert window.at[0] == to_ms(T0)
    assert window.newest == to_ms(after(11))


def test_a_poll_that_failed_is_no_value_and_not_zero(store: Store) -> None:
    Appender(store).append([seen(0), down(1), seen(2)])
    with store.read() as connection:
        window = windows.server_window(connection, "shop", T0, after(3), 600)
        now = latest.target_now(connection, "shop")
    assert window.columns["active"] == [2, None, 2]
    assert now is not None
    assert now.up


def test_the_present_of_a_target_that_is_down_says_why_and_knows_nothing(store: Store) -> None:
    Appender(store).append([seen(0), down(1)])
    with store.read() as connection:
        now = latest.target_now(connection, "shop")
    assert now is not None
    assert (now.up, now.failure, now.reason) == (False, "timeout", "no answer in 1 s")
    assert (now.good_at, now.version) == (T0, "18.6")
    assert set(now.columns.values()) == {None}


def test_buckets_keep_the_peak_of_what_hurts_and_the_mean_of_the_rest(store: Store) -> None:
    samples = [seen(s, slots_used=20 if s == 33 else 7) for s in range(60)]
    Appender(store).append(samples)
    with store.read() as connection:
        window = windows.server_window(connection, "shop", T0, after(60), 6)
    assert window.resolution_seconds == 10
    assert window.columns["slots_used"] == [7, 7, 7, 20, 7, 7]
    assert window.columns["active"] == [2, 2, 2, 2, 2, 2]
    assert len(window.frame()) == 6
    assert str(window.frame().index.dtype).endswith(", UTC]")


def test_buckets_start_at_multiples_so_that_a_live_chart_can_replace_them(store: Store) -> None:
    Appender(store).append([seen(s) for s in range(60)])
    with store.read() as connection:
        window = windows.server_window(connection, "shop", after(13), after(60), 5)
    assert window.at[0] == to_ms(after(10))


def test_rates_come_from_counters_and_a_reset_is_no_rate(store: Store) -> None:
    def counted(seconds: float, commits: int, reset: datetime | None = None) -> Sample:
        database = Database("shop", -1, 3, commits, 0, commits, 0, 0, 0, 0.0, 0.0, reset)
        return replace(seen(seconds), databases=(database,))

    Appender(store).append(
        [
            counted(0, 0),
            counted(5, 50),
            counted(10, 100),
            counted(15, 500, T0),
            counted(20, 510, T0),
        ]
    )
    with store.read() as connection:
        window = rates.database_rates(connection, "shop", T0, after(30), 600)
    # The step into the reset has no value, although the counter did not fall.
    assert window.columns["xact_commit_per_second"] == [10.0, 10.0, 2.0]


def test_pools_have_a_window_each_and_a_present(store: Store) -> None:
    pool = Pool("shop", "app", 5, 3, 2, 0, 0, 0, 0, 1.25, "transaction", 2)
    pooler = Pooler("1.18.0", 8, 0, 2, 100, 2, None, 5, 3, 2, 0, 1.25)
    sample = Sample("pool", "pgbouncer", T0, 0.001, up=True, pooler=pooler, pools=(pool,))
    Appender(store).append([sample])
    with store.read() as connection:
        found = windows.pool_windows(connection, "pool", T0, after(1), 600)
        now = latest.target_now(connection, "pool")
    assert found["shop/app"].columns["client_waiting"] == [3]
    assert now is not None
    assert now.pools[0]["maxwait_seconds"] == 1.25
    assert now.columns["max_client_conn"] == 100


def test_sessions_of_a_past_moment_have_the_ages_of_that_moment(store: Store) -> None:
    appender = Appender(store)
    later = replace(SESSION, pid=4712, xact_start=after(2), query_start=after(2))
    appender.append([replace(seen(0), sessions=(SESSION,)), replace(seen(5), sessions=(later,))])
    with store.read() as connection:
        past = latest.sessions_at(connection, "shop", after(3))
        present = latest.sessions_at(connection, "shop", None)
    assert [(row.pid, row.statement_seconds, row.statement) for row in past] == [
        (4711, 3.0, "SELECT ?")
    ]
    assert [(row.pid, row.xact_seconds) for row in present] == [(4712, 3.0)]


def test_nobody_is_invented_for_a_time_when_nobody_looked(store: Store) -> None:
    appender = Appender(store)
    wait = LockWait(4711, T0, (9,), 9, 1, False, "tuple", None, None, 1.0)
    appender.append([replace(seen(s), sessions=(SESSION,), lock_waits=(wait,)) for s in (0, 1)])
    with store.read() as connection:
        assert len(latest.sessions_at(connection, "shop", after(5))) == 1
        assert latest.sessions_at(connection, "shop", after(60)) == []
        assert len(lock_waits_at(connection, "shop", after(5))) == 1
        assert lock_waits_at(connection, "shop", after(60)) == []


def test_a_store_that_was_moved_away_is_not_read_for_ever(store: Store) -> None:
    Appender(store).append([seen(0)])
    watching = store.connect()
    store.data_version(watching)
    with store.read() as connection:
        assert len(latest.targets_now(connection)) == 1
    for path in store.path.parent.glob("headroom.db*"):
        path.rename(path.with_name(f"old-{path.name}"))
    store.migrate()
    with pytest.raises(StoreError, match="moved away"):
        store.data_version(watching)
    watching.close()
    with store.read() as connection:
        assert latest.targets_now(connection) == []


def test_episodes_of_a_killed_run_end_where_it_last_looked(store: Store) -> None:
    Appender(store).append([replace(seen(0), sessions=(SESSION,)), seen(7)])
    Appender(store)  # the next run
    with store.read() as connection:
        ended = export(connection, "sessions", "shop", None, None)["ended_at"]
    assert list(ended) == [after(7.001)]  # it was there when that poll looked


def test_the_time_between_two_runs_is_a_gap_of_ours(store: Store) -> None:
    runs.seen(store, runs.begin(store, T0), after(60))  # then killed
    runs.begin(store, after(90))
    with store.read() as connection:
        assert latest.gaps(connection, T0, after(300)) == [(after(60), after(90))]


def test_the_time_since_the_last_run_stopped_is_a_gap_too(store: Store) -> None:
    runs.end(store, runs.begin(store, T0), after(60))
    with store.read() as connection:
        assert latest.gaps(connection, T0, after(300)) == [(after(60), after(300))]
        assert latest.gaps(connection, after(90), after(300)) == [(after(90), after(300))]
        assert latest.gaps(connection, T0, after(60)) == []


def test_as_last_seen_is_still_there_after_a_clean_stop(store: Store) -> None:
    appender = Appender(store)
    gone = replace(SESSION, pid=4712)
    appender.append(
        [replace(seen(0), sessions=(SESSION, gone)), replace(seen(1), sessions=(SESSION,))]
    )
    appender.end_all(after(1.5))
    with store.read() as connection:
        assert [row.pid for row in latest.sessions_at(connection, "shop", None)] == [4711]
        assert latest.sessions_at(connection, "shop", after(2)) == []


@pytest.mark.parametrize("how", ["seen again", "stopped", "killed"])
def test_who_left_in_an_outage_was_last_there_when_it_was_last_seen(store: Store, how: str) -> None:
    wait = LockWait(4711, T0, (4652,), 4652, 1, False, "relation", "ShareLock", None, 1.0)
    looked = replace(seen(5), sessions=(SESSION,), lock_waits=(wait,))
    pooler = Pooler("1.18.0", 3, 0, 1, 100, 20, None)
    client = Link("local", "1", "checkout", "shop", "app", "active", None, T0, 4711)
    pool = Sample("pool", "pgbouncer", T0, 0.001, up=True, pooler=pooler)
    appender = Appender(store)
    appender.append([looked, replace(pool, at=after(5), links=(client,))])
    for s in range(6, 60):
        no_pool = replace(pool, at=after(s), up=False, pooler=None)
        appender.append([down(s), no_pool])
    if how == "seen again":
        appender.append([replace(seen(60), sessions=(), lock_waits=())])
        appender.append([replace(pool, at=after(60), links=())])
    elif how == "stopped":
        appender.end_all(after(60))
    else:
        Appender(store)
    with store.read() as connection:
        for table in ("sessions", "lock_waits", "links"):
            ended = export(connection, table, None, None, None)["ended_at"]
            assert list(ended) == [after(5.001)], table
        found = latest.sessions_at(connection, "shop", None)
    assert len(found) == (0 if how == "seen again" else 1)


def test_an_idle_session_is_never_said_to_be_idle_for_longer_than_the_server_said(
    store: Store,
) -> None:
    """It works every 20 s at first, then in every second, then not at all."""
    appender = Appender(store)
    said: dict[int, float] = {}
    known = []
    changed_at = -600.5
    for s in range(180):
        if (s < 60 and s % 20 == 7) or 60 <= s < 100:
            changed_at = s - 0.25
        said[s] = s - changed_at
        idle = replace(
            SESSION,
            state="idle",
            statement=None,
            backend_start=after(-900),
            xact_start=None,
            state_change=after(changed_at),
            state_seconds=said[s],
        )
        appender.append([replace(seen(s), sessions=(idle,))])
        with store.read() as connection:
            (row,) = latest.sessions_at(connection, "shop", None)
        assert row.state_seconds is None or row.state_seconds == pytest.approx(said[s])
        known.append(row.state_seconds is not None)
    assert (known[0], known[6], known[8], known[59], known[99], known[179]) == (
        *(True, True, False, True, False, True),
    )
    with store.read() as connection:
        assert len(export(connection, "sessions", None, None, None)) == 1
        for s in range(180):
            (row,) = latest.sessions_at(connection, "shop", after(s))
            assert row.state_seconds is None or row.state_seconds <= said[s] + 0.001


def test_a_busy_pool_does_not_have_all_its_rows_written_in_every_poll(store: Store) -> None:
    appender = Appender(store)
    with store.write(durable=False) as connection:
        connection.exec_driver_sql("CREATE TABLE told (pid)")
        connection.exec_driver_sql(
            "CREATE TRIGGER tell AFTER UPDATE ON session BEGIN "
            "INSERT INTO told VALUES (new.pid); END"
        )
    for s in range(60):
        idle = tuple(
            replace(SESSION, pid=pid, state="idle", state_change=after(s), state_seconds=0.0)
            for pid in range(50)
        )
        appender.append([replace(seen(s), sessions=idle)])
    with store.read() as connection:
        told = connection.exec_driver_sql("SELECT count(*) FROM told").scalar_one()
    assert 0 < told <= 50 * 60 / 5


FINDING = Finding(
    rule="pool_waiters",
    target="pool",
    labels=labels(user="app", database="shop"),
    severity=Severity.CRITICAL,
    value=6.1,
    limit=5.0,
    unit="s",
    summary="3 clients wait",
    advice="look at pid 4711",
    culprit=Culprit(4711, "checkout", "app", "shop", None, "idle in transaction", 9.0, "SELECT ?"),
    evidence=("all 2 server connections are in use",),
)
ALERT = Alert(
    id="a1",
    key=FINDING.key,
    state=AlertState.FIRING,
    severity=Severity.CRITICAL,
    since=T0,
    last_seen_at=T0,
    finding=FINDING,
    fired_at=T0,
)


def message(number: int, alert: str = "a1") -> OutboxRow:
    return OutboxRow(f"n{number}", alert, "hook", "{}", T0, T0)


def test_an_alert_comes_back_as_it_was(store: Store) -> None:
    alert_log.record(store, [ALERT], [], [], T0)
    with store.read() as connection:
        assert latest.alerts_now(connection) == [ALERT]
        assert latest.alerts_between(connection, T0, after(9), "pool") == [ALERT]


def test_a_message_decided_twice_is_kept_once(store: Store) -> None:
    alert_log.record(store, [ALERT], [message(1)], [], T0)
    alert_log.record(store, [ALERT], [message(1)], [], T0)
    with store.read() as connection:
        assert alert_log.outbox_counts(connection) == {"waiting": 1, "dead": 0, "sent": 0}


def test_resolved_never_overtakes_firing_and_alerts_do_not_wait_for_each_other(
    store: Store,
) -> None:
    alert_log.record(store, [ALERT], [message(1), message(2), message(3, "other")], [], T0)

    def due(seconds: float) -> list[str]:
        with store.read() as connection:
            return [row.id for row in alert_log.due(connection, "hook", after(seconds), 10)]

    assert due(0) == ["n1", "n3"]
    alert_log.mark_failed(store, "n1", "503", after(60))
    assert due(1) == ["n3"]
    assert due(60) == ["n1", "n3"]
    alert_log.mark_sent(store, "n1", after(61))
    assert due(62) == ["n2", "n3"]
    alert_log.mark_dead(store, "n2", "410 Gone", after(63))
    assert due(64) == ["n3"]


def test_verdicts_are_kept_from_when_they_began(store: Store) -> None:
    Appender(store).append([seen(0)])
    calm = Verdict("none", "healthy", "No queue.", None)
    full = Verdict("server slots", "slots_exhausted", "Full.", Severity.CRITICAL, ("25 of 25",))
    alert_log.record(store, [], [], [("shop", calm)], T0)
    alert_log.record(store, [], [], [("shop", full)], after(10))
    with store.read() as connection:
        now = latest.target_now(connection, "shop")
        past = latest.verdicts_between(connection, "shop", after(5), after(20))
        first = latest.verdicts_between(connection, "shop", after(-9), after(5))
    assert now is not None
    assert (now.verdict, now.verdict_at) == (full, after(10))
    assert past == [(T0, calm), (after(10), full)]
    assert first == [(T0, calm)]  # also when none was in force at the beginning


def test_retention_forgets_the_old_and_keeps_what_goes_on(store: Store) -> None:
    appender = Appender(store)
    appender.append([replace(seen(0), sessions=(SESSION,)), seen(7199)])
    alert_log.record(store, [ALERT], [message(1)], [], T0)
    keep = StoreSettings(keep_samples="1m", keep_alerts="1h")  # type: ignore[arg-type]
    retention.forget(store, after(7200), keep)
    with store.read() as connection:
        assert len(export(connection, "servers", None, None, None)) == 1
        assert len(export(connection, "sessions", None, None, None)) == 1  # still open
        assert len(export(connection, "alerts", None, None, None)) == 1  # still firing
        assert alert_log.outbox_counts(connection)["waiting"] == 1


@pytest.mark.parametrize("table", TABLES)
def test_every_table_exports_with_names_instead_of_numbers(store: Store, table: str) -> None:
    Appender(store).append([replace(seen(0), sessions=(SESSION,))])
    with store.read() as connection:
        frame = export(connection, table, "shop", T0, after(1))
    assert not {"target_id", "pool_id", "database_id", "role_id", "statement_id"} & set(frame)


def test_an_export_comes_in_chunks_that_are_alike_and_its_numbers_are_exact(store: Store) -> None:
    big = 2**60 + 1  # a float would not tell it from its neighbours

    def counted(seconds: float, commits: int, sessions: int | None) -> Sample:
        database = Database(
            "shop", -1, 3, commits, 0, sessions, None, None, None, 0.5, None, after(0.000123)
        )
        return replace(seen(seconds), databases=(database,))

    samples = [counted(s, big + s, None if s < 3 else big) for s in range(5)]
    Appender(store).append([down(-1), *samples])
    with store.read() as connection:
        chunks = list(export_chunks(connection, "databases", None, None, None, rows=2))
        whole = export(connection, "databases", None, None, None)
        servers = export(connection, "servers", None, None, None)
        (nothing,) = export_chunks(connection, "databases", None, after(99), None)
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert all(list(chunk.dtypes) == list(whole.dtypes) for chunk in (*chunks, nothing))
    assert list(nothing.columns) == list(whole.columns)
    assert list(whole["xact_commit_total"]) == [big + s for s in range(5)]
    assert list(whole["sessions_total"].isna()) == [True] * 3 + [False] * 2
    assert list(whole["sessions_total"][3:]) == [big, big]
    assert list(whole["at"]) == [after(s) for s in range(5)]
    assert whole["stats_reset_at"][0] == after(0.000123)
    assert list(servers["max_connections"][1:]) == [30] * 5
    assert (str(servers["max_connections"].dtype), str(servers["up"].dtype)) == ("Int64", "boolean")


def test_a_failed_write_keeps_nothing_and_the_next_one_works(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    appender = Appender(store)
    monkeypatch.setattr("store.database.BUSY_TIMEOUT", 0.0)
    blocker = sqlite3.connect(store.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with Store(str(store.url)) as impatient:
        impatient_appender_failed = False
        appender._store = impatient
        try:
            appender.append([replace(seen(0), sessions=(SESSION,))])
        except StoreError:
            impatient_appender_failed = True
        assert impatient_appender_failed
        blocker.execute("ROLLBACK")
        blocker.close()
        appender.append([replace(seen(1), sessions=(SESSION,))])
    with store.read() as connection:
        assert len(export(connection, "servers", None, None, None)) == 1
        assert len(latest.sessions_at(connection, "shop", None)) == 1
