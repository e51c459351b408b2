"""What counters say about a stretch of time: rates, and the time that one thing takes.

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

from sqlalchemy import Connection, RowMapping, func, select, type_coerce, union_all
from sqlalchemy.types import BigInteger

from store import tables
from store.rollup import RESOLUTIONS, rolled_until
from store.tables import ROLLUPS, from_ms, to_ms
from store.windows import Window, bucket_seconds, id_of, with_gaps

GAP = 2.5  # usual distances of two rows; further apart there is a gap between them

COUNTERS = (
    "xact_total",
    "query_total",
    "assignments_total",
    "xact_seconds_total",
    "wait_seconds_total",
)
COLUMNS = ("xact_per_second", "query_per_second", "service_seconds", "wait_seconds")

Row = RowMapping


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
    by_database: dict[str, list[Row]] = defaultdict(list)
    for row in _rows(connection, pooler, start, end, bucket):
        by_database[row["name"]].append(row)
    for name, rows in by_database.items():
        steps = [
            (after["at"], _step(before, after))
            for before, after in _neighbours(rows, bucket)
            if after["at"] >= to_ms(start)
        ]
        if steps:
            found[name] = with_gaps(
                [at for at, _ in steps],
                {column: [values.get(column) for _, values in steps] for column in COLUMNS},
                float(bucket),
                steps[-1][0],
            )
    return found


def _neighbours(rows: Sequence[Row], bucket: int) -> list[tuple[Row, Row]]:
    """Rows one usual distance apart, each with its predecessor."""
    pairs = list(itertools.pairwise(rows))
    distances = sorted(after["at"] - before["at"] for before, after in pairs)
    usual = max(distances[len(distances) // 2] if distances else 0, bucket * 1000)
    return [(a, b) for a, b in pairs if b["at"] - a["at"] <= GAP * usual]


def _step(before: Row, after: Row) -> dict[str, float]:
    """What happened between two rows; empty when nothing can be said."""
    grew = {
        name: after[name] - before[name]
        for name in COUNTERS
        if after[name] is not None and before[name] is not None
    }
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
    connection: Connection, pooler: str, start: datetime, end: datetime, bucket: int
) -> Sequence[Row]:
    """The last row of every database and bucket, from one bucket before the window on."""
    table, names = tables.pool_database_sample, COUNTERS
    target_id = id_of(connection, pooler)
    resolution = max((size for size in RESOLUTIONS if size <= bucket), default=0)
    # One bucket more, so that the first point has a predecessor.
    begin = from_ms((to_ms(start) // (bucket * 1000) - 1) * bucket * 1000 - (bucket == 1) * 9000)
    rolled = max(rolled_until(connection, table, resolution), begin) if resolution else begin
    at = type_coerce(table.c.at, BigInteger)
    parts = [
        select(
            table.c.database_id, at.label("at"), at.label("of"), *(table.c[name] for name in names)
        ).where(table.c.target_id == target_id, table.c.at >= rolled, table.c.at < end)
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
                *(rollup.c[name] for name in names),
            ).where(
                rollup.c.target_id == target_id,
                rollup.c.resolution == resolution,
                rollup.c.at >= begin,
                rollup.c.at < min(rolled, end),
            )
        )
    both = union_all(*parts).subquery()
    slot = both.c.of // (bucket * 1000) if bucket > 1 else both.c.of
    newest_first = func.row_number().over(
        partition_by=[both.c.database_id, slot], order_by=both.c.of.desc()
    )
    rows = select(both, newest_first.label("newest_first")).subquery()
    database = tables.database
    found = connection.execute(
        select(database.c.name, rows)
        .join(database, database.c.id == rows.c.database_id)
        .where(rows.c.newest_first == 1)
        .order_by(rows.c.of)
    )
    return list(found.mappings())
