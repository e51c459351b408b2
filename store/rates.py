"""What counters say about a stretch of time: rates, and the time that one thing takes.

A step lies between the last rows of two buckets, and its point stands where its bucket begins.

A counter that fell was reset: PgBouncer forgets a database's counters when its last pool
dies, and all of them when it restarts. All counters of a row are reset together, so when
one fell, the step has no value. It does not say when it was reset; a restart that nobody
saw may only hide in a gap, so no rate is worked out across one.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Table,
    func,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.types import BigInteger

from store import tables
from store.kept import from_ms, to_ms
from store.rollup import rolled_until
from store.tables import ROLLUPS
from store.windows import Window, bucket_seconds, id_of, resolution_for, with_gaps

GAP = 2.5  # usual distances of two rows; further apart there is a gap between them

COUNTERS = (
    "xact_total",
    "query_total",
    "assignments_total",
    "xact_seconds_total",
    "wait_seconds_total",
)
COLUMNS = ("xact_per_second", "query_per_second", "service_seconds", "wait_seconds")

SERVER_COUNTERS = {
    "xact_commit_per_second": "xact_commit_total",
    "xact_rollback_per_second": "xact_rollback_total",
    "sessions_per_second": "sessions_total",
}

_BEFORE = 60_000  # ms; a row so long before the window may be the first point's predecessor

Row = RowMapping


def database_rates(
    connection: Connection, target: str, start: datetime, end: datetime, points: int
) -> Window:
    """Commits, rollbacks and new sessions per second, summed over the databases of a server.

    A counter that was reset (stats_reset changed, or it fell) gives no value for that step.
    """
    bucket = bucket_seconds(start, end, points)
    names = (*SERVER_COUNTERS.values(), "stats_reset_at")
    question = (tables.database_sample, id_of(connection, target), names)
    rows, bucket = _rows(connection, question, (start, end), bucket)
    sums: dict[int, dict[str, float]] = defaultdict(dict)
    # Databases are polled together, so their rows share the time and can be summed by it.
    for of_one in rows.values():
        for before, after in _neighbours(of_one, bucket):
            if before["stats_reset_at"] != after["stats_reset_at"]:
                continue
            seconds = (after["at"] - before["at"]) / 1000
            point = sums[after["x"]]
            for name, counter in SERVER_COUNTERS.items():
                grew = _grew(before, after, counter)
                if grew is not None and grew >= 0:
                    point[name] = point.get(name, 0.0) + grew / seconds
    steps = sorted((at, values) for at, values in sums.items() if at >= _first(start, bucket))
    newest = max((row[-1]["of"] for row in rows.values()), default=None)
    return _window(steps, tuple(SERVER_COUNTERS), bucket, newest if steps else None)


def pool_database_rates(
    connection: Connection, pooler: str, start: datetime, end: datetime, points: int
) -> dict[str, Window]:
    """Throughput and times of every database of a pooler, by its name.

    xact_per_second, query_per_second.
    service_seconds: how long a transaction keeps its server connection, on average. The
                     pooler's transaction time includes the time in its queue; here it does not.
    wait_seconds:    how long a client queued each time it was given a server connection
                     (PgBouncer before 1.23: for each transaction), on average. Who is still in
                     the queue is not in it.
    """
    found: dict[str, Window] = {}
    bucket = bucket_seconds(start, end, points)
    question = (tables.pool_database_sample, id_of(connection, pooler), COUNTERS)
    rows, bucket = _rows(connection, question, (start, end), bucket)
    for name, of_one in rows.items():
        steps = [
            (after["x"], _step(before, after))
            for before, after in _neighbours(of_one, bucket)
            if after["x"] >= _first(start, bucket)
        ]
        if steps:
            found[name] = _window(steps, COLUMNS, bucket, of_one[-1]["of"])
    return found


def _first(start: datetime, bucket: int) -> int:
    """Where the first point may be: the first bucket is shown whole."""
    return to_ms(start) if bucket == 1 else to_ms(start) // (bucket * 1000) * bucket * 1000


def _window(
    steps: Sequence[tuple[int, dict[str, float]]],
    columns: Sequence[str],
    bucket: int,
    newest: int | None,
) -> Window:
    return with_gaps(
        [at for at, _ in steps],
        {column: [values.get(column) for _, values in steps] for column in columns},
        float(bucket),
        newest,
    )


def _grew(before: Row, after: Row, counter: str) -> float | None:
    if before[counter] is None or after[counter] is None:
        return None
    return float(after[counter] - before[counter])


def _neighbours(rows: Sequence[Row], bucket: int) -> list[tuple[Row, Row]]:
    """Rows one usual distance apart, each with its predecessor."""
    pairs = list(itertools.pairwise(rows))
    distances = sorted(after["at"] - before["at"] for before, after in pairs)
    usual = max(distances[len(distances) // 2] if distances else 0, bucket * 1000)
    return [(a, b) for a, b in pairs if b["at"] - a["at"] <= GAP * usual]


def _step(before: Row, after: Row) -> dict[str, float]:
    """What happened between two rows; empty when nothing can be said."""
    grew = {name: value for name in COUNTERS if (value := _grew(before, after, name)) is not None}
    seconds = (after["at"] - before["at"]) / 1000
    if seconds <= 0 or any(value < 0 for value in grew.values()):
        return {}
    values: dict[str, float] = {}
    for name, column in (("xact_total", COLUMNS[0]), ("query_total", COLUMNS[1])):
        if name in grew:
            values[column] = grew[name] / seconds
    transactions, waited = grew.get("xact_total"), grew.get("wait_seconds_total")
    if waited is None:
        return values
    # Transactions are counted when they begin and timed when they end, so in a short step
    # the time in the queue may exceed the time of those that ended. Then nothing is known.
    served = grew.get("xact_seconds_total")
    if transactions and served is not None and served >= waited:
        values["service_seconds"] = (served - waited) / transactions
    given = grew.get("assignments_total", transactions)
    if given:
        values["wait_seconds"] = waited / given
    return values


def _rows(
    connection: Connection,
    question: tuple[Table, int, Sequence[str]],
    span: tuple[datetime, datetime],
    bucket: int,
) -> tuple[dict[str, list[Row]], int]:
    """The last row of every database and bucket, from one bucket before the window on, by the
    database's name; and the bucket, which is longer where only coarser roll-ups are left.

    question: the table, the target's number, the counters. A row's `at` is when its counters
    were read, `x` where its bucket begins.
    """
    (table, target_id, names), (start, end) = question, span
    resolution = resolution_for(connection, table, start, bucket, {"target_id": target_id})
    bucket = max(bucket, resolution)
    size = bucket * 1000
    # Earlier rows too, so that the first point has a predecessor.
    begin = from_ms((to_ms(start) - max(size, _BEFORE)) // size * size)
    rolled = max(rolled_until(connection, table, resolution), begin) if resolution else begin
    at = type_coerce(table.c.at, BigInteger)
    parts = [
        select(table.c.database_id, at.label("at"), at.label("of"), *_counters(table, names)).where(
            table.c.target_id == target_id, table.c.at >= rolled, table.c.at < end
        )
    ]
    if rolled > begin:
        rollup = ROLLUPS[table]
        at = type_coerce(rollup.c.at, BigInteger)
        parts.append(
            select(
                rollup.c.database_id,
                # A counter's last value in a minute is that of the minute's end.
                (at + resolution * 1000).label("at"),
                at.label("of"),
                *_counters(rollup, names),
            ).where(
                rollup.c.target_id == target_id,
                rollup.c.resolution == resolution,
                rollup.c.at >= begin,
                rollup.c.at < min(rolled, end),
            )
        )
    both = union_all(*parts).subquery()
    x = both.c.of - both.c.of % size if bucket > 1 else both.c.of
    newest_first = func.row_number().over(
        partition_by=[both.c.database_id, x], order_by=both.c.of.desc()
    )
    rows = select(both, x.label("x"), newest_first.label("newest_first")).subquery()
    database = tables.database
    found = connection.execute(
        select(database.c.name, rows)
        .join(database, database.c.id == rows.c.database_id)
        .where(rows.c.newest_first == 1)
        .order_by(rows.c.of)
    )
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in found.mappings():
        by_name[row["name"]].append(row)
    return by_name, bucket


def _counters(table: Table, names: Sequence[str]) -> list[ColumnElement[Any]]:
    raw = {"stats_reset_at": BigInteger}  # only compared; no time has to be made of it
    return [
        type_coerce(table.c[name], raw[name]).label(name) if name in raw else table.c[name]
        for name in names
    ]
