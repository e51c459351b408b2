"""A store of 30 simulated days of 20 targets: how big it is, and how fast it answers.

Filled with SQL in the store's own tables and rolled up by the store's own code; samples at
full resolution for the seven days that are kept by default, roll-ups for all thirty.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Table

from bench.lab import quantile, report
from model.metrics import metrics_of
from store import latest, rollup, windows
from store.append import Appender
from store.database import Store
from store.kept import to_ms
from store.size import used_bytes
from store.tables import ROLLUPS, server_sample
from store.tables import pool_sample as pool_table
from tests.unit.test_episodes import SESSION
from tests.unit.test_store import seen

TARGETS = 20
RAW_DAYS, ALL_DAYS = 7, 30
END = datetime(2030, 1, 31, tzinfo=UTC)
_DAY = 86400


def main() -> None:
    """Build, measure and report."""
    folder = Path(tempfile.mkdtemp(prefix="headroom-bench-store-"))
    try:
        with Store(f"sqlite:///{folder}/headroom.db") as store:
            store.migrate()
            t0 = time.monotonic()
            _build(store)
            built = time.monotonic() - t0
            report("store", {**_measure(store), "building took": f"{built:.0f} s"})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build(store: Store) -> None:
    with store.write(durable=False) as connection:
        for number in range(1, TARGETS + 1):
            connection.exec_driver_sql(
                "INSERT INTO target (id, name, kind) VALUES (?, ?, 'postgresql')",
                (number, f"t{number}"),
            )
            connection.exec_driver_sql(
                'INSERT INTO pool (id, target_id, "database", "user") '
                "VALUES (?, ?, 'shop', 'app')",
                (number, number),
            )
    begin = END - timedelta(days=RAW_DAYS)
    for number in range(1, TARGETS + 1):
        with store.write(durable=False) as connection:
            _fill(connection, server_sample, number, begin, 1, RAW_DAYS * _DAY)
            _fill(connection, pool_table, number, begin, 1, RAW_DAYS * _DAY)
        print(f"  target {number} of {TARGETS}", end="\r", flush=True)
    older = END - timedelta(days=ALL_DAYS)
    minutes = (ALL_DAYS - RAW_DAYS) * 1440
    for number in range(1, TARGETS + 1):
        with store.write(durable=False) as connection:
            for table in (server_sample, pool_table):
                _fill_rollup(connection, table, number, older, 60, minutes)
                _fill_rollup(connection, table, number, older, 3600, minutes // 60)
    rollup.roll_up(store, END + timedelta(minutes=1))


def _fill(
    connection: Connection, table: Table, target: int, begin: datetime, step: int, rows: int
) -> None:
    """*rows* samples of one target, *step* seconds apart, as a server in daily use has them:
    limits that stay, a few sessions that come and go, and mostly nobody who waits."""
    fixed = {"target_id": str(target), "pool_id": str(target), "up": "1", "poll_seconds": "0.0021"}
    columns: list[str] = []
    values: list[str] = []
    for column in table.columns:
        if column.name == "at":
            value = f"{to_ms(begin)} + n * {step * 1000} + 137"
        elif column.name in fixed:
            value = fixed[column.name]
        elif column.name in metrics_of(table.name):
            value = _usual(column.name, f"abs((n * {7 + len(columns)} + {target}) % 97)")
        else:
            continue
        columns.append(f'"{column.name}"')
        values.append(value)
    _insert(connection, table, columns, values, rows)


def _usual(name: str, wave: str) -> str:
    """SQL for a believable value of a metric; *wave* goes up and down between 0 and 96."""
    if name in _LIMITS:
        return str(_LIMITS[name])
    if name in _BUSY:
        return f"{_BUSY[name]} + {wave} % 7"
    if name.endswith("seconds"):
        return f"CASE WHEN {wave} < 20 THEN round({wave} * 0.0137, 6) ELSE 0.0 END"
    return f"CASE WHEN {wave} < 10 THEN {wave} ELSE 0 END"


_LIMITS = {
    "max_connections": 200,
    "superuser_reserved_connections": 3,
    "reserved_connections": 0,
    "ordinary_capacity": 197,
    "pool_size": 20,
    "reserve_pool_size": 0,
}
_BUSY = {"slots_used": 60, "idle": 50, "active": 3, "client_active": 40, "server_active": 3}


def _fill_rollup(
    connection: Connection, table: Table, target: int, begin: datetime, size: int, rows: int
) -> None:
    target_rollup = ROLLUPS[table]
    fixed = {
        "target_id": str(target),
        "pool_id": str(target),
        "resolution": str(size),
        "at": f"{to_ms(begin)} + n * {size * 1000}",
        "polls": str(size),
        "up": str(size),
    }
    columns = [column.name for column in target_rollup.columns if column.name != "stats_reset_at"]
    values = [fixed.get(name, f"abs((n * {7 + i}) % 97)") for i, name in enumerate(columns)]
    _insert(connection, target_rollup, [f'"{name}"' for name in columns], values, rows)


def _insert(
    connection: Connection, table: Table, columns: list[str], values: list[str], rows: int
) -> None:
    connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({', '.join(columns)}) "
        f"WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {rows - 1}) "
        f"SELECT {', '.join(values)} FROM c"
    )


def _measure(store: Store) -> dict[str, object]:
    month = (END - timedelta(days=ALL_DAYS), END)
    states = ["active", "idle", "idle_in_transaction", "other_states", "ordinary_capacity"]
    with store.read() as connection:
        figures: dict[str, object] = {
            "targets, days": f"{TARGETS}, {ALL_DAYS}",
            "30 days of one pool, 600 points, ms": _median_ms(
                lambda: windows.pool_windows(connection, "t7", *month, 600)
            ),
            "30 days of connections by state, 600 points, ms": _median_ms(
                lambda: windows.server_window(connection, "t7", *month, 600, columns=states)
            ),
            "24 h of connections by state, 600 points, ms": _median_ms(
                lambda: windows.server_window(
                    connection, "t7", END - timedelta(days=1), END, 600, columns=states
                )
            ),
            "15 min of connections by state, 900 points, ms": _median_ms(
                lambda: windows.server_window(
                    connection, "t7", END - timedelta(minutes=15), END, 900, columns=states
                )
            ),
        }
    figures["sessions of one past second (20 busy, 80 idle), ms"] = _sessions(store)
    figures["insert of one sample, ms"] = _inserts(store)
    figures["store, GB"] = round(used_bytes(store) / 1e9, 2)
    figures["bytes a stored value, one target and pool over a day"] = _bytes_a_value()
    return figures


def _median_ms(call: Callable[[], object]) -> float:
    took = []
    for _ in range(7):
        t0 = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - t0))
    return round(quantile(took, 0.5), 1)


def _sessions(store: Store) -> float:
    """An hour of a busy target: 20 sessions with a new statement in every poll, 80 idle."""
    appender = Appender(store)
    begin = END - timedelta(hours=1)
    batch = []
    for second in range(3600):
        at = begin + timedelta(seconds=second)
        busy = [replace(SESSION, pid=pid, query_start=at, xact_start=at) for pid in range(20)]
        idle = [replace(SESSION, pid=pid, state="idle", statement=None) for pid in range(20, 100)]
        batch.append(replace(seen(0), target="t3", at=at, sessions=(*busy, *idle)))
        if len(batch) == 100:
            appender.append(batch)
            batch = []
    past = END - timedelta(seconds=7)
    with store.read() as connection:
        assert len(latest.sessions_at(connection, "t3", past)) == 100
        return _median_ms(lambda: latest.sessions_at(connection, "t3", past))


def _inserts(store: Store) -> float:
    appender = Appender(store)
    took = []
    for number in range(200):
        sample = replace(seen(0), target="t4", at=END + timedelta(seconds=number))
        t0 = time.perf_counter()
        appender.append([sample])
        took.append(1000 * (time.perf_counter() - t0))
    return round(quantile(took, 0.5), 2)


def _bytes_a_value() -> float:
    """One target with its pool, one day at 1 s with roll-ups, alone in a file."""
    folder = Path(tempfile.mkdtemp(prefix="headroom-bench-day-"))
    try:
        with Store(f"sqlite:///{folder}/headroom.db") as store:
            store.migrate()
            empty = used_bytes(store)
            with store.write(durable=False) as connection:
                connection.exec_driver_sql(
                    "INSERT INTO target (id, name, kind) VALUES (1, 't1', 'postgresql')"
                )
                begin = END - timedelta(days=1)
                _fill(connection, server_sample, 1, begin, 1, _DAY)
                _fill(connection, pool_table, 1, begin, 1, _DAY)
            rollup.roll_up(store, END + timedelta(minutes=1))
            values = sum(len(metrics_of(t.name)) for t in (server_sample, pool_table)) * _DAY
            return round((used_bytes(store) - empty) / values, 2)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
