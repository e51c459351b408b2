"""Where rows begin and end, found by their keys: a step per key, however many rows there are.

SQLite finds the smallest `at` in one step when everything before it in the key is given, and
reads the whole table when it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, select

from store import tables
from store.tables import ROLLUPS

NAMES: dict[Table, tuple[Table, str]] = {
    tables.pool_sample: (tables.pool, "pool_id"),
    tables.pool_database_sample: (tables.database, "database_id"),
    tables.database_sample: (tables.database, "database_id"),
    tables.role_sample: (tables.role, "role_id"),
}
"""Of what a target has several: the table of their names, and the column with their number."""


def keys(connection: Connection, sample: Table) -> list[dict[str, int]]:
    """What stands before `at` in the keys of *sample*, of every thing that was ever seen."""
    if sample not in NAMES:
        found = connection.execute(select(tables.target.c.id)).scalars()
        return [{"target_id": number} for number in found]
    names, column = NAMES[sample]
    rows = connection.execute(select(names.c.target_id, names.c.id))
    return [{"target_id": row.target_id, column: row.id} for row in rows]


def oldest(
    connection: Connection,
    sample: Table,
    *,
    resolution: int = 0,
    where: Mapping[str, int] | None = None,
    since: datetime | None = None,
) -> datetime | None:
    """When the oldest row begins, of *sample* (0) or of its roll-ups of so many seconds.

    since: only rows from then on. where: target_id, and the number of a pool, database or
    role; of all when it is not given.
    """
    return _edge(connection, (sample, resolution), func.min, since, where or {})


def newest(
    connection: Connection,
    sample: Table,
    *,
    resolution: int = 0,
    where: Mapping[str, int] | None = None,
) -> datetime | None:
    """When the newest row begins."""
    return _edge(connection, (sample, resolution), func.max, None, where or {})


def _edge(
    connection: Connection,
    rows: tuple[Table, int],
    fold: Any,
    since: datetime | None,
    where: Mapping[str, int],
) -> datetime | None:
    sample, resolution = rows
    table = ROLLUPS[sample] if resolution else sample
    conditions: list[ColumnElement[bool]] = []
    if resolution:
        conditions.append(table.c.resolution == resolution)
    if since is not None:
        conditions.append(table.c.at >= since)
    names, column = NAMES.get(sample, (tables.target, "target_id"))
    if column in where:  # the key is complete
        same = [table.c[name] == value for name, value in where.items()]
        query = select(fold(table.c.at)).where(*same, *conditions)
    else:
        each = [table.c[column] == names.c.id]
        if column != "target_id":
            each.append(table.c.target_id == names.c.target_id)
        query = select(fold(select(fold(table.c.at)).where(*each, *conditions).scalar_subquery()))
        query = query.select_from(names)
        if "target_id" in where:
            query = query.where(names.c.target_id == where["target_id"])
    found: datetime | None = connection.execute(query).scalar()
    return found
