"""Any table, any range, as DataFrames, names instead of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Float,
    Integer,
    Row,
    Select,
    Table,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.types import TypeEngine

from store import tables
from store.kept import Instant, ServerInstant

if TYPE_CHECKING:
    import pandas as pd

_BY_TARGET = {
    "servers": tables.server_sample,
    "poolers": tables.pooler_sample,
    "pools": tables.pool_sample,
    "pool_databases": tables.pool_database_sample,
    "databases": tables.database_sample,
    "roles": tables.role_sample,
    "sessions": tables.session,
    "lock_waits": tables.lock_wait,
    "links": tables.client_link,
    "verdicts": tables.verdict,
}
TABLES = (*_BY_TARGET, "alerts", "outbox")
"""What can be exported."""


def export(
    connection: Connection,
    table: str,
    target: str | None,
    since: datetime | None,
    until: datetime | None,
) -> pd.DataFrame:
    """Rows of *table* (one of TABLES) as one frame, oldest first; see export_chunks."""
    import pandas as pd  # noqa: PLC0415  `headroom run` must not pay for pandas

    chunks = list(export_chunks(connection, table, target, since, until))
    return chunks[0] if len(chunks) == 1 else pd.concat(chunks, ignore_index=True)


def export_chunks(
    connection: Connection,
    table: str,
    target: str | None,
    since: datetime | None,
    until: datetime | None,
    *,
    rows: int = 5_000,
) -> Iterator[pd.DataFrame]:
    """Rows of *table* (one of TABLES), oldest first, in frames of at most *rows*; at least one,
    which is empty when there is nothing. All have the same columns and types.

    Times are aware and UTC, in microseconds. Whole numbers are exact also where some are
    missing: Int64 and boolean, with pandas.NA. A session or alert belongs to a range when it
    overlaps it. Raises KeyError for an unknown table.
    """
    if table == "alerts":
        query = _alerts(target, since, until)
    elif table == "outbox":
        query = _outbox(since, until)
    else:
        query = _of_targets(_BY_TARGET[table], target, since, until)
    columns = {column.name: column.type for column in query.selected_columns}
    raw = query.with_only_columns(
        *(  # a time is made of its number for a whole column at once
            type_coerce(column, BigInteger).label(column.name) if _scale(column.type) else column
            for column in query.selected_columns
        ),
        maintain_column_froms=True,
    )
    result = connection.execution_options(stream_results=True).execute(raw)
    empty = True
    for some in result.partitions(rows):
        empty = False
        yield _frame(columns, some)
    if empty:
        yield _frame(columns, [])


def _scale(kind: TypeEngine[Any]) -> int:
    """How many microseconds the number of a time counts; 0: no time."""
    if isinstance(kind, Instant):
        return 1000
    return 1 if isinstance(kind, ServerInstant) else 0


def _frame(columns: Mapping[str, TypeEngine[Any]], rows: Sequence[Row[Any]]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  `headroom run` must not pay for pandas

    values = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return pd.DataFrame(
        {
            name: _series(kind, list(found))
            for (name, kind), found in zip(columns.items(), values, strict=True)
        }
    )


def _series(kind: TypeEngine[Any], values: list[Any]) -> pd.Series[Any]:
    import pandas as pd  # noqa: PLC0415  `headroom run` must not pay for pandas

    if scale := _scale(kind):
        whole = pd.Series([None if v is None else v * scale for v in values], dtype="Int64")
        return pd.to_datetime(whole, unit="us", utc=True).astype("datetime64[us, UTC]")
    if isinstance(kind, Boolean):
        return pd.Series(values, dtype="boolean")
    if isinstance(kind, Integer):
        return pd.Series(values, dtype="Int64")
    return pd.Series(values, dtype="float64" if isinstance(kind, Float) else "object")


def _of_targets(
    table: Table, target: str | None, since: datetime | None, until: datetime | None
) -> Select[Any]:
    hidden = {"target_id", "pool_id", "database_id", "role_id", "statement_id"}
    columns: list[ColumnElement[Any]] = [tables.target.c.name.label("target")]
    source = table.join(tables.target, tables.target.c.id == table.c.target_id)
    if "pool_id" in table.c:
        source = source.join(tables.pool, tables.pool.c.id == table.c.pool_id)
        columns += [tables.pool.c.database, tables.pool.c.user, tables.pool.c.process]
    if "database_id" in table.c:
        source = source.join(tables.database, tables.database.c.id == table.c.database_id)
        columns.append(tables.database.c.name.label("database"))
    if "role_id" in table.c:
        source = source.join(tables.role, tables.role.c.id == table.c.role_id)
        columns.append(tables.role.c.name.label("role"))
    columns += [column for column in table.c if column.name not in hidden]
    if "statement_id" in table.c:
        source = source.outerjoin(tables.statement, tables.statement.c.id == table.c.statement_id)
        columns.append(tables.statement.c.text.label("statement"))
    is_episode = "ended_at" in table.c
    start = table.c.started_at if is_episode else table.c.at
    query = select(*columns).select_from(source).order_by(start)
    if target is not None:
        query = query.where(tables.target.c.name == target)
    if since is not None and is_episode:
        query = query.where(or_(table.c.ended_at.is_(None), table.c.ended_at > since))
    elif since is not None:
        query = query.where(start >= since)
    return query if until is None else query.where(start < until)


def _alerts(target: str | None, since: datetime | None, until: datetime | None) -> Select[Any]:
    table = tables.alert
    query = select(table).order_by(table.c.since)
    if target is not None:
        query = query.where(table.c.target == target)
    if since is not None:
        query = query.where(or_(table.c.resolved_at.is_(None), table.c.resolved_at > since))
    return query if until is None else query.where(table.c.since < until)


def _outbox(since: datetime | None, until: datetime | None) -> Select[Any]:
    table = tables.outbox
    query = select(table).order_by(table.c.seq)
    if since is not None:
        query = query.where(table.c.created_at >= since)
    return query if until is None else query.where(table.c.created_at < until)
