"""What a pooler's console says. Pure: rows by column name in, nouns out.

Columns are read by name and unknown ones are ignored, because every release adds some and
not always at the end. Counters come as numeric, times in microseconds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collectors.dialects import Dialect
from collectors.errors import NotThisKind
from model.samples import Failure, Pool, PoolDatabase, Pooler

Row = Mapping[str, Any]
_SHARD = re.compile(r"_shard_\d+_")  # PgCat's name for a server: "shop_shard_0_primary"


@dataclass(frozen=True, slots=True)
class DatabaseRow:
    """One row of SHOW DATABASES. None: not reported, or no limit.

    address: host and port of the server behind it; None for a Unix socket.
    """

    pool_size: int | None
    reserve_pool_size: int | None
    max_connections: int | None
    current_connections: int | None
    paused: bool | None
    disabled: bool | None
    address: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Server connections that pools may open.

    users: sizes given to users, which win; None is a size that cannot be told.
    """

    databases: Mapping[str, DatabaseRow]
    users: Mapping[str, int | None]
    default: int | None
    default_reserve: int | None

    def of(self, database: str, user: str) -> int | None:
        """The size of one pool; None is "no limit" or not known."""
        if user in self.users:
            return self.users[user]
        row = self.databases.get(database)
        return self.default if row is None else row.pool_size

    def reserve_of(self, database: str) -> int | None:
        """The reserve of one pool."""
        row = self.databases.get(database)
        return self.default_reserve if row is None else row.reserve_pool_size


def version(parameter: str) -> str:
    """ "1.25.2" from the parameter "1.25.2/bouncer"."""
    return parameter.partition("/")[0]


def others(rows: Iterable[Row], speaks: Dialect) -> list[Row]:
    """The rows that are not about the console itself."""
    return [row for row in rows if _value(row, "database") not in speaks.own_databases]


def pools(
    rows: Iterable[Row],
    sizes: Sizes,
    speaks: Dialect,
    *,
    waiting: Mapping[tuple[str, str], int] | None = None,
    process: str | None = None,
) -> tuple[Pool, ...]:
    """The rows of SHOW POOLS.

    waiting: clients in the queue by database and user, where POOLS does not count them.
    """
    found = []
    for row in others(rows, speaks):
        database, user = str(_value(row, "database")), str(_value(row, "user"))
        in_queue: int | None
        if speaks.waiters:
            in_queue = int(_value(row, "cl_waiting"))
        else:
            in_queue = None if waiting is None else waiting.get((database, user), 0)
        idle = sum(int(_value(row, column)) for column in speaks.idle_clients)
        found.append(
            Pool(
                database=database,
                user=user,
                client_active=int(_value(row, "cl_active")) + idle,
                client_waiting=in_queue,
                server_active=int(_value(row, "sv_active")),
                server_idle=int(_value(row, "sv_idle")),
                server_used=_phase(row, "sv_used", speaks),
                server_tested=_phase(row, "sv_tested", speaks),
                server_login=_phase(row, "sv_login", speaks),
                maxwait_seconds=(
                    int(_value(row, "maxwait")) + int(row.get("maxwait_us") or 0) / 1e6
                    if speaks.maxwait
                    else None
                ),
                pool_mode=row.get("pool_mode"),
                pool_size=sizes.of(database, user),
                reserve_pool_size=sizes.reserve_of(database),
                process=process,
            )
        )
    return tuple(found)


def pool_databases(
    rows: Iterable[Row], known: Mapping[str, DatabaseRow], speaks: Dialect
) -> tuple[PoolDatabase, ...]:
    """The rows of SHOW STATS, joined with those of SHOW DATABASES.

    A database has no row in STATS until it was used, and none after its last pool died; it
    is here nevertheless when it is paused or disabled. PgCat counts by server and user;
    these are summed.
    """
    found: dict[str, PoolDatabase] = {}
    for row in others(rows, speaks):
        name = str(_value(row, "database"))
        counters = _counters(row, speaks)
        before = found.get(name)
        if before is not None:
            counters = {
                column: None
                if value is None or getattr(before, column) is None
                else value + getattr(before, column)
                for column, value in counters.items()
            }
        found[name] = PoolDatabase(name=name, **counters, **_state(known.get(name)))
    for name, database in known.items():
        if name not in found and (database.paused or database.disabled):
            found[name] = PoolDatabase(name=name, **_state(database))
    return tuple(found.values())


def _counters(row: Row, speaks: Dialect) -> dict[str, Any]:
    given = row.get("total_server_assignment_count", row.get("server_assignment_count"))
    return {
        "xact_total": int(_value(row, "total_xact_count")),
        "query_total": int(_value(row, "total_query_count")),
        "xact_seconds_total": (
            int(_value(row, "total_xact_time")) / 1e6 if speaks.xact_time else None
        ),
        "query_seconds_total": int(_value(row, "total_query_time")) / speaks.query_time_unit,
        "wait_seconds_total": int(_value(row, "total_wait_time")) / 1e6,
        "received_bytes_total": int(_value(row, "total_received")),
        "sent_bytes_total": int(_value(row, "total_sent")),
        "assignments_total": None if given is None else int(given),
    }


def _state(row: DatabaseRow | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {
        "max_connections": row.max_connections,
        "current_connections": row.current_connections,
        "paused": row.paused,
        "disabled": row.disabled,
    }


def pooler(
    lists: Iterable[Row],
    of_pools: Iterable[Pool],
    speaks: Dialect,
    *,
    running: str,
    settings: Mapping[str, str],
    paused: bool | None,
) -> Pooler:
    """The process as a whole: SHOW LISTS, sums over its pools, and SHOW CONFIG.

    running: its version.
    """
    items = {str(_value(row, "list")): int(_value(row, "items")) for row in lists}
    free = {
        what: items.get(f"free_{what}", 0) if speaks.lists_apart else 0
        for what in ("clients", "servers")
    }
    everything = tuple(of_pools)
    return Pooler(
        version=running,
        product=speaks.product,
        used_clients=_item(items, "used_clients") + free["clients"],
        login_clients=_item(items, "login_clients") if speaks.login_clients else None,
        used_servers=_item(items, "used_servers") + free["servers"],
        max_client_conn=number(settings.get("max_client_conn")),
        default_pool_size=number(settings.get("default_pool_size")),
        max_db_connections=number(settings.get("max_db_connections")) or None,
        query_wait_timeout_seconds=decimal(settings.get("query_wait_timeout")),
        paused=paused,
        client_active=sum(pool.client_active for pool in everything),
        client_waiting=_sum(pool.client_waiting for pool in everything),
        server_active=sum(pool.server_active for pool in everything),
        server_idle=sum(pool.server_idle + (pool.server_used or 0) for pool in everything),
        maxwait_seconds=longest_wait(everything),
    )


def longest_wait(of_pools: Sequence[Pool]) -> float | None:
    """How long the oldest waiting client has waited; None where nobody tells."""
    known = [
        wait
        for pool in of_pools
        if (wait := _first(pool.oldest_wait_seconds, pool.maxwait_seconds)) is not None
    ]
    waiting = any(pool.client_waiting is None or pool.client_waiting > 0 for pool in of_pools)
    return max(known) if known else None if waiting else 0.0


def settings(rows: Iterable[Row]) -> dict[str, str]:
    """The rows of SHOW CONFIG."""
    return {str(_value(row, "key")): str(row.get("value") or "") for row in rows}


def databases(rows: Iterable[Row], speaks: Dialect) -> dict[str, DatabaseRow]:
    """The rows of SHOW DATABASES by the name that clients use.

    PgCat has a row for every server of a pool. Its sizes add up, and it is paused when they
    all are.
    """
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        name = str(_value(row, "name"))
        if name not in speaks.own_databases:
            name = _SHARD.split(name)[0] if speaks.sizes_per_server else name
            grouped[name].append(row)
    return {name: _database(group, speaks) for name, group in grouped.items()}


def _database(rows: list[Row], speaks: Dialect) -> DatabaseRow:
    row = rows[0]
    sizes = [number(row.get("pool_size")) for row in rows]
    size = sizes[0]
    if len(rows) > 1 and len({row.get("force_user") for row in rows} | {*sizes}) > 2:
        size = None  # PgCat and Odyssey have pools of several users under one name
    elif speaks.sizes_per_server:
        size = _sum(sizes)
    reserve = number(row.get("reserve_pool_size", row.get("reserve_pool")))
    host, port = row.get("host"), number(row.get("port"))
    limits, states = speaks.database_limits, speaks.database_states
    return DatabaseRow(
        pool_size=None if size == 0 and speaks.zero_unlimited else size,
        reserve_pool_size=reserve if limits else None,
        max_connections=(number(row.get("max_connections")) or None) if limits else None,
        current_connections=number(row.get("current_connections")) if limits else None,
        paused=all(_flag(row, "paused") for row in rows) if states else None,
        disabled=all(_flag(row, "disabled") for row in rows) if states else None,
        address=(
            (str(host).split(",")[0], port)
            if host and port and not str(host).startswith(("/", "@"))
            else None
        ),
    )


def user_sizes(rows: Iterable[Row], speaks: Dialect) -> dict[str, int | None]:
    """Pool sizes given to users, from SHOW USERS; None where the number cannot be believed.

    PgBouncer 1.23 to 1.25 repeats the last size for every user that follows without one of
    its own, so a size that equals the one before it may be either.
    """
    found: dict[str, int | None] = {}
    last: int | None = None
    for row in rows:
        size = number(row.get("pool_size"))
        if size is None or size < 0:
            continue
        unsure = speaks.repeats_sizes and size == last
        last = size
        found[str(_value(row, "name"))] = (
            None if unsure or (size == 0 and speaks.zero_unlimited) else size
        )
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


def decimal(text: object) -> float | None:
    """A number, or None where there is none."""
    try:
        return float(str(text))
    except ValueError:
        return None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None as soon as one of them is not known."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _flag(row: Row, column: str) -> bool:
    return str(row.get(column)) in {"1", "t", "yes"}


def _phase(row: Row, column: str, speaks: Dialect) -> int | None:
    return int(_value(row, column)) if column in speaks.server_phases else None


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
