"""Samples out: the window of a chart, folded to its width, with its gaps marked.

A bucket is as long as one point of the chart; buckets start at multiples of their length,
so a live chart can ask again for the last ones and replace them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    func,
    literal,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.types import BigInteger

from model.metrics import metrics_of
from store import spans, tables
from store.kept import from_ms, to_ms
from store.rollup import RESOLUTIONS, rolled_until, weighted_avg
from store.tables import ROLLUPS

if TYPE_CHECKING:
    import pandas as pd

# Bucket lengths in seconds that divide hours and days evenly.
_BUCKETS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_GAP = 2.5  # two points further apart than this many usual distances have a gap between them

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of samples, one list a column.

    at:      epoch milliseconds, ascending; the sample's own time, or its bucket's start.
    columns: as many values as `at`; None is "no value". A gap is one extra point of Nones.
    newest:  epoch milliseconds of the newest sample in it; None when there is none.
    """

    at: list[int]
    columns: dict[str, Values]
    resolution_seconds: float
    newest: int | None

    def frame(self) -> pd.DataFrame:
        """As a DataFrame, indexed by `at` (aware, UTC); attrs has resolution_seconds."""
        import pandas as pd  # noqa: PLC0415  `headroom run` must not pay for pandas

        index = pd.to_datetime(pd.Series(self.at, dtype="int64"), unit="ms", utc=True)
        frame = pd.DataFrame(
            self.columns, index=pd.DatetimeIndex(index, name="at"), dtype="float64"
        )
        frame.attrs["resolution_seconds"] = self.resolution_seconds
        return frame


@dataclass(frozen=True, slots=True)
class _Question:
    """Which rows, which columns, which time."""

    table: Table
    where: dict[str, int]  # key columns
    start: datetime
    end: datetime
    names: list[str]

    def rows_of(self, table: Table) -> list[ColumnElement[bool]]:
        """The condition on the key columns, in the sample table or its roll-up."""
        return [table.c[name] == value for name, value in self.where.items()]


def server_window(
    connection: Connection,
    target: str,
    start: datetime,
    end: datetime,
    points: int,
    *,
    columns: Sequence[str] | None = None,
) -> Window:
    """Samples of one PostgreSQL target, start <= at < end, in at most *points* or so."""
    return _of_target(
        connection, tables.server_sample, target, (start, end), points, columns=columns
    )


def pooler_window(
    connection: Connection,
    target: str,
    start: datetime,
    end: datetime,
    points: int,
    *,
    columns: Sequence[str] | None = None,
) -> Window:
    """Samples of one pooler as a whole."""
    return _of_target(
        connection, tables.pooler_sample, target, (start, end), points, columns=columns
    )


def pool_windows(
    connection: Connection,
    target: str,
    start: datetime,
    end: datetime,
    points: int,
    *,
    columns: Sequence[str] | None = None,
) -> dict[str, Window]:
    """Samples of every pool of one pooler, by pool_label()."""
    target_id = id_of(connection, target)
    pools = connection.execute(
        select(tables.pool)
        .where(tables.pool.c.target_id == target_id)
        .order_by(tables.pool.c.database, tables.pool.c.user, tables.pool.c.process)
    ).all()
    table = tables.pool_sample
    names = list(columns if columns is not None else metrics_of(table.name))
    windows = {}
    for pool in pools:
        where = {"target_id": target_id, "pool_id": pool.id}
        window = _window(connection, _Question(table, where, start, end, names), points)
        if window.at:
            windows[pool_label(pool.database, pool.user, pool.process)] = window
    return windows


def pool_label(database: str, user: str, process: str) -> str:
    """ "shop/app", or "shop/app @6433" where several pooler processes have that pool."""
    return f"{database}/{user} @{process}" if process else f"{database}/{user}"


def bucket_seconds(start: datetime, end: datetime, points: int) -> int:
    """How long a bucket is, so that the window has about *points* of them; 1 means raw samples."""
    wanted = (end - start).total_seconds() / max(points, 1)
    return next((size for size in _BUCKETS if size >= wanted), math.ceil(wanted / 86400) * 86400)


def id_of(connection: Connection, target: str) -> int:
    """The number of a target; -1, which no row has, for one that was never seen."""
    found = connection.execute(
        select(tables.target.c.id).where(tables.target.c.name == target)
    ).scalar()
    return -1 if found is None else int(found)


def _of_target(
    connection: Connection,
    table: Table,
    target: str,
    span: tuple[datetime, datetime],
    points: int,
    *,
    columns: Sequence[str] | None,
) -> Window:
    names = list(columns if columns is not None else metrics_of(table.name))
    where = {"target_id": id_of(connection, target)}
    return _window(connection, _Question(table, where, *span, names), points)


def _window(connection: Connection, question: _Question, points: int) -> Window:
    names = question.names
    bucket = bucket_seconds(question.start, question.end, points)
    resolution = resolution_for(connection, question.table, question.start, bucket, question.where)
    if resolution == 0 and bucket == 1:
        query = _raw(question)
    else:
        bucket = max(bucket, resolution)
        query = _folded(connection, question, bucket, resolution)
    rows = connection.execute(query).all()
    values: dict[str, Values] = {
        name: [row[i] for row in rows] for i, name in enumerate(names, start=2)
    }
    newest = rows[-1][1] if rows else None
    return with_gaps([row[0] for row in rows], values, float(bucket), newest)


def resolution_for(
    connection: Connection, table: Table, start: datetime, bucket: int, where: Mapping[str, int]
) -> int:
    """Which rows to read: 0 for samples, else the roll-ups of so many seconds.

    The coarsest that a bucket of *bucket* seconds can be made of; where its rows of the
    window's beginning have been forgotten, the next coarser one that still has them.
    where: the key, or its beginning.
    """
    fits = max((size for size in RESOLUTIONS if size <= bucket), default=0)
    samples = spans.oldest(connection, table, where=where)
    best, begins = fits, None
    for size in (size for size in (0, *RESOLUTIONS) if size >= fits):
        # What is not rolled up yet is read from the samples.
        found = spans.oldest(connection, table, resolution=size, where=where) if size else samples
        oldest = found or samples
        if oldest is None:
            continue
        if begins is None or oldest < begins - timedelta(seconds=size):
            best, begins = size, oldest
        if begins <= start:
            break
    return best


def _raw(question: _Question) -> Select[Any]:
    table = question.table
    at = type_coerce(table.c.at, BigInteger)
    inside = (table.c.at >= question.start, table.c.at < question.end)
    return (
        select(at, at, *(table.c[name] for name in question.names))
        .where(*question.rows_of(table), *inside)
        .order_by(at)
    )


def _folded(
    connection: Connection, question: _Question, bucket: int, resolution: int
) -> Select[Any]:
    """Buckets of so many seconds, made of roll-ups and, where there are none yet, of samples."""
    size = bucket * 1000
    table, names = question.table, question.names
    metrics = metrics_of(table.name)
    # The first bucket is read whole, although the window may begin inside it.
    begin, end = from_ms(to_ms(question.start) // size * size), question.end
    rolled = max(rolled_until(connection, table, resolution), begin) if resolution else begin
    up = type_coerce(table.c.up, BigInteger) if "up" in table.c else literal(1)
    both = [(name, part) for name in names for part in ("avg", "max")]
    parts = [
        select(
            type_coerce(table.c.at, BigInteger).label("at"),
            up.label("up"),
            *(table.c[name].label(f"{name}_{part}") for name, part in both),
        ).where(*question.rows_of(table), table.c.at >= rolled, table.c.at < end)
    ]
    if rolled > begin:
        rollup = ROLLUPS[table]
        last = {name for name in names if metrics[name].fold == "last"}
        columns = [
            rollup.c[name if name in last else f"{name}_{part}"].label(f"{name}_{part}")
            for name, part in both
        ]
        parts.append(
            select(
                type_coerce(rollup.c.at, BigInteger).label("at"),
                rollup.c.up.label("up"),
                *columns,
            ).where(
                *question.rows_of(rollup),
                rollup.c.resolution == resolution,
                rollup.c.at >= begin,
                rollup.c.at < min(rolled, end),
            )
        )
    rows = union_all(*parts).subquery()
    slot = rows.c.at - rows.c.at % size
    folded = [
        weighted_avg(rows.c[f"{name}_avg"], rows.c.up)
        if metrics[name].fold == "avg"
        else func.max(rows.c[f"{name}_max"])
        for name in names
    ]
    return select(slot, func.max(rows.c.at), *folded).group_by(slot).order_by(slot)


def with_gaps(
    at: list[int], columns: dict[str, Values], resolution: float, newest: int | None
) -> Window:
    """A window with a point of Nones where samples are missing: no line is drawn across."""
    steps = sorted(b - a for a, b in itertools.pairwise(at))
    usual = max(steps[len(steps) // 2] if steps else 0, int(resolution * 1000))
    holes = [i for i in range(1, len(at)) if at[i] - at[i - 1] > _GAP * usual]
    for i in reversed(holes):
        at.insert(i, at[i - 1] + usual)
        for values in columns.values():
            values.insert(i, None)
    return Window(at, columns, resolution, newest)
