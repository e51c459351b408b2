"""What PgBouncer's admin console says. Pure: rows by column name in, nouns out.

Columns are read by name and unknown ones are ignored, because every release adds some and
not always at the end. Counters come as numeric, times in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from collectors.errors import NotThisKind
from model.samples import Failure, Pool, PoolDatabase, Pooler

ADMIN = "pgbouncer"  # the console shows itself as a database; it is no pool of anybody

Row = Mapping[str, Any]
UNLIMITED_ZERO_SINCE = (1, 24)  # pool_size 0 means "no limit" from this version on


def version(parameter: str) -> str:
    """ "1.25.2" from the parameter "1.25.2/bouncer"."""
    return parameter.partition("/")[0]


def version_pair(text: str) -> tuple[int, int]:
    """The first two numbers of a version; (0, 0) when it has none.

    >>> version_pair("1.18.0"), version_pair("unknown")
    ((1, 18), (0, 0))
    """
    numbers = text.split(".")[:2]
    if len(numbers) == 2 and all(number.isdigit() for number in numbers):
        return int(numbers[0]), int(numbers[1])
    return 0, 0


def pools(
    rows: Iterable[Row], sizes: Mapping[str, int | None], default_size: int | None
) -> tuple[Pool, ...]:
    """The rows of SHOW POOLS. *sizes* are those of SHOW DATABASES."""
    return tuple(
        Pool(
            database=str(_value(row, "database")),
            user=str(_value(row, "user")),
            client_active=int(_value(row, "cl_active")),
            client_waiting=int(_value(row, "cl_waiting")),
            server_active=int(_value(row, "sv_active")),
            server_idle=int(_value(row, "sv_idle")),
            server_used=int(_value(row, "sv_used")),
            server_tested=int(_value(row, "sv_tested")),
            server_login=int(_value(row, "sv_login")),
            maxwait_seconds=int(_value(row, "maxwait")) + int(row.get("maxwait_us") or 0) / 1e6,
            pool_mode=row.get("pool_mode"),
            pool_size=sizes.get(str(row["database"]), default_size),
        )
        for row in rows
        if row.get("database") != ADMIN
    )


def pool_databases(rows: Iterable[Row]) -> tuple[PoolDatabase, ...]:
    """The rows of SHOW STATS."""
    return tuple(
        PoolDatabase(
            name=str(_value(row, "database")),
            xact_total=int(_value(row, "total_xact_count")),
            query_total=int(_value(row, "total_query_count")),
            xact_seconds_total=int(_value(row, "total_xact_time")) / 1e6,
            query_seconds_total=int(_value(row, "total_query_time")) / 1e6,
            wait_seconds_total=int(_value(row, "total_wait_time")) / 1e6,
            received_bytes_total=int(_value(row, "total_received")),
            sent_bytes_total=int(_value(row, "total_sent")),
        )
        for row in rows
        if row.get("database") != ADMIN
    )


def pooler(
    lists: Iterable[Row],
    of_pools: Iterable[Pool],
    *,
    running: str,
    settings: Mapping[str, str],
    paused: bool | None,
) -> Pooler:
    """The process as a whole: SHOW LISTS, sums over its pools, and SHOW CONFIG.

    running: its version.
    """
    items = {str(_value(row, "list")): int(_value(row, "items")) for row in lists}
    whole = Pooler(
        version=running,
        used_clients=_item(items, "used_clients"),
        login_clients=_item(items, "login_clients"),
        used_servers=_item(items, "used_servers"),
        max_client_conn=number(settings.get("max_client_conn")),
        default_pool_size=number(settings.get("default_pool_size")),
        paused=paused,
    )
    for pool in of_pools:
        whole = replace(
            whole,
            client_active=whole.client_active + pool.client_active,
            client_waiting=whole.client_waiting + pool.client_waiting,
            server_active=whole.server_active + pool.server_active,
            server_idle=whole.server_idle + pool.server_idle + pool.server_used,
            maxwait_seconds=max(whole.maxwait_seconds or 0.0, pool.maxwait_seconds or 0.0),
        )
    return whole


def settings(rows: Iterable[Row]) -> dict[str, str]:
    """The rows of SHOW CONFIG."""
    return {str(_value(row, "key")): str(row.get("value") or "") for row in rows}


def sizes(rows: Iterable[Row], running: str) -> dict[str, int | None]:
    """Server connections that a pool of each database may open, from SHOW DATABASES.

    None is "no limit". A size given to a user is not seen here (SHOW USERS of 1.23 to
    1.25.2 repeats the last one for all users that follow).
    """
    found: dict[str, int | None] = {}
    for row in rows:
        size = number(row.get("pool_size"))
        unlimited = size == 0 and version_pair(running) >= UNLIMITED_ZERO_SINCE
        found[str(_value(row, "name"))] = None if unlimited else size
    return found


def paused(rows: Iterable[Row]) -> bool:
    """Whether SHOW STATE (1.19 and newer) says that everything is paused or suspended."""
    state = {str(_value(row, "key")): row.get("value") for row in rows}
    return "yes" in {state.get("paused"), state.get("suspended")}


def number(text: object) -> int | None:
    """A whole number, or None where there is none."""
    try:
        return int(str(text))
    except ValueError:
        return None


def _item(items: Mapping[str, int], name: str) -> int:
    if name not in items:
        raise _unlike("SHOW LISTS", name)
    return items[name]


def _value(row: Row, column: str) -> Any:
    if column not in row:
        raise _unlike("the console", column)
    return row[column]


def _unlike(what: str, column: str) -> NotThisKind:
    return NotThisKind(
        Failure.PROTOCOL,
        f'{what} has no "{column}": this does not answer like PgBouncer; check host and port',
    )
