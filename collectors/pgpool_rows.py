"""What Pgpool-II says. Pure: rows of text by column name in, nouns out.

Every child process serves one client at a time and keeps up to max_pool connections to each
backend. Clients that find no free child queue in the operating system, which tells nobody:
how many wait and for how long is not reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collectors.errors import NotThisKind
from collectors.pgbouncer_rows import number
from model.samples import Failure, Link, Pool, Pooler

PRODUCT = "Pgpool-II"
FREE = "Wait for connection"  # the status of a child that serves nobody

Row = Mapping[str, Any]


def version(rows: Sequence[Row]) -> str:
    """ "4.3.5" from "4.3.5 (tamahomeboshi)"."""
    return str(_value(rows[0], "pool_version")).split(" ")[0] if rows else ""


def pooler(
    processes: Sequence[Row],
    of_pools: Iterable[Pool] | None,
    *,
    running: str,
    settings: Mapping[str, str],
) -> Pooler:
    """Pgpool-II as a whole, from SHOW POOL_PROCESSES.

    of_pools: None when it was not time to ask for them.
    settings: SHOW POOL_STATUS.
    """
    pools = None if of_pools is None else tuple(of_pools)
    busy = sum(1 for row in processes if _value(row, "status") != FREE)
    children = number(settings.get("num_init_children")) or len(processes)
    return Pooler(
        version=running,
        product=PRODUCT,
        used_clients=busy,
        login_clients=None,
        used_servers=(
            None if pools is None else sum(pool.server_active + pool.server_idle for pool in pools)
        ),
        # Clients beyond this are refused where reserved_connections is set, else they queue.
        max_client_conn=children - (number(settings.get("reserved_connections")) or 0),
        default_pool_size=None,
        paused=None,
        client_active=busy,
        client_waiting=None,
        server_active=0 if pools is None else sum(pool.server_active for pool in pools),
        server_idle=0 if pools is None else sum(pool.server_idle for pool in pools),
        maxwait_seconds=None,
    )


def pools(rows: Iterable[Row]) -> tuple[Pool, ...]:
    """SHOW POOL_POOLS by database and user: who is connected, and what is kept for others.

    One row a child, slot and backend; an empty slot has no database. A slot counts once for
    each backend among the servers, and once among the clients.
    """
    clients: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    active: dict[tuple[str, str], int] = defaultdict(int)
    idle: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        key = str(_value(row, "database")), str(_value(row, "username"))
        if not key[0] or not number(_value(row, "pool_backendpid")):
            continue
        clients[key]  # a pool is one even while nobody is connected
        if _connected(row):
            clients[key].add((str(row.get("pool_pid")), str(row.get("pool_id"))))
            active[key] += 1
        else:
            idle[key] += 1
    return tuple(
        Pool(
            database=database,
            user=user,
            client_active=len(connected),
            client_waiting=None,
            server_active=active[database, user],
            server_idle=idle[database, user],
            server_used=None,
            server_tested=None,
            server_login=None,
            maxwait_seconds=None,
            pool_mode="session",
            pool_size=None,  # any child may serve any pool; the limit is that of the children
        )
        for (database, user), connected in sorted(clients.items())
    )


def links(rows: Iterable[Row]) -> tuple[Link, ...]:
    """Who works for whom: one link for every connected slot and backend."""
    return tuple(
        Link(
            client=_client(row),
            client_id=f"{row.get('pool_pid')}/{row.get('pool_id')}/{row.get('backend_id')}",
            application="",
            database=str(row.get("database")),
            user=str(row.get("username")),
            state=str(row.get("status") or "connected").lower(),
            wait_seconds=None,
            connected_at=None,  # told without a time zone
            backend_pid=number(row.get("pool_backendpid")) or None,
        )
        for row in rows
        if row.get("database") and _connected(row)
    )


def unwell(rows: Iterable[Row]) -> list[str]:
    """Backends that Pgpool-II does not use, from SHOW POOL_NODES, in words."""
    return [
        f"backend {row.get('node_id')} ({row.get('hostname')}:{row.get('port')}) is "
        f"{row.get('status')}"
        for row in rows
        if _value(row, "status") not in ("up", "waiting")
    ]


def _client(row: Row) -> str:
    """The client's address (4.4 and newer), or the child that serves it."""
    host, port = row.get("client_host"), row.get("client_port")
    if host:
        return f"{host}:{port}" if port else str(host)
    return f"child {row.get('pool_pid')}"


def _connected(row: Row) -> bool:
    return str(_value(row, "pool_connected")) == "1"


def _value(row: Row, column: str) -> Any:
    if column not in row:
        raise NotThisKind(
            Failure.PROTOCOL,
            f'Pgpool-II has no "{column}" to show; Headroom is tested with version 4.3',
        )
    return row[column]
