"""PgCat's and Odyssey's consoles: what they measure, and the zeros that they do not.

The rows are written by hand after PgCat 1.2's src/admin.rs and src/stats/pool.rs, and
Odyssey's sources/console.c.
"""

from __future__ import annotations

from typing import Any

from collectors import pgbouncer_chain as chain
from collectors import pgbouncer_rows as rows_of
from collectors.dialects import dialect

PGCAT, ODYSSEY = dialect("pgcat", "1.2.0"), dialect("odyssey", "1.5.0")
COUNTERS: dict[str, Any] = {
    "total_xact_count": 100,
    "total_query_count": 150,
    "total_received": 3000,
    "total_sent": 4000,
    "total_xact_time": 0,
    "total_query_time": 1500,
    "total_wait_time": 500000,
}
PGCAT_POOL: dict[str, Any] = {
    "database": "shop",
    "user": "app",
    "pool_mode": "transaction",
    "cl_idle": 4,
    "cl_active": 2,
    "cl_waiting": 1,
    "cl_cancel_req": 0,
    "sv_active": 2,
    "sv_idle": 1,
    "sv_used": 0,
    "sv_tested": 0,
    "sv_login": 0,
    "maxwait": 1,
    "maxwait_us": 500000,
}
PGCAT_DATABASES: list[dict[str, Any]] = [
    {
        "name": f"shop_shard_0_{role}",
        "host": f"10.0.0.{host}",
        "port": "5432",
        "database": "shop",
        "force_user": "app",
        "pool_size": 5,
        "reserve_pool": 0,
        "max_connections": 5,
        "current_connections": 2,
        "paused": 0,
        "disabled": 0,
    }
    for host, role in ((1, "primary"), (2, "replica_0"))
]
ODYSSEY_POOL: dict[str, Any] = {
    "database": "shop",
    "user": "app",
    "cl_active": 2,
    "cl_waiting": 7,  # "pending": connected, and idle
    "sv_active": 2,
    "sv_idle": 1,
    "sv_used": 0,
    "sv_tested": 0,
    "sv_login": 0,
    "maxwait": 0,
    "maxwait_us": 0,
    "pool_mode": "transaction",
}
LISTS = [
    {"list": name, "items": items}
    for name, items in {
        "free_clients": 4,
        "used_clients": 3,
        "login_clients": 0,
        "free_servers": 1,
        "used_servers": 2,
    }.items()
]


def sizes(rows: list[dict[str, Any]], speaks: Any) -> rows_of.Sizes:
    return rows_of.Sizes(rows_of.databases(rows, speaks), {}, None, None)


def test_a_pgcat_pool_counts_idle_clients_and_measures_its_waits() -> None:
    (pool,) = rows_of.pools([PGCAT_POOL], sizes(PGCAT_DATABASES, PGCAT), PGCAT)
    assert (pool.client_active, pool.client_waiting, pool.maxwait_seconds) == (6, 1, 1.5)
    assert pool.pool_size == 10  # five to each of two servers
    assert (pool.server_used, pool.server_tested, pool.server_login) == (None, 0, 0)
    assert pool.reserve_pool_size is None


def test_pgcat_pools_of_several_users_under_one_name_have_no_known_size() -> None:
    rows = [*PGCAT_DATABASES, {**PGCAT_DATABASES[0], "force_user": "jobs", "pool_size": 9}]
    (pool,) = rows_of.pools([PGCAT_POOL], sizes(rows, PGCAT), PGCAT)
    assert pool.pool_size is None


def test_pgcat_counts_by_server_and_user_and_its_times_have_two_units() -> None:
    rows = [
        {"instance": "shop_shard_0_primary", "database": "shop", "user": user, **COUNTERS}
        for user in ("app", "jobs")
    ]
    (database,) = rows_of.pool_databases(rows, {}, PGCAT)
    assert (database.xact_total, database.query_total) == (200, 300)
    assert database.query_seconds_total == 3.0  # milliseconds
    assert database.wait_seconds_total == 1.0  # microseconds
    assert database.xact_seconds_total is None  # never counted, so not 0
    assert database.assignments_total is None


def test_pgcat_lists_idle_clients_apart_and_logins_not_at_all() -> None:
    pooler = rows_of.pooler(LISTS, (), PGCAT, running="1.2.0", settings={}, paused=False)
    assert (pooler.used_clients, pooler.used_servers, pooler.login_clients) == (7, 3, None)
    assert (pooler.product, pooler.max_client_conn) == ("PgCat", None)


def test_pgcat_clients_have_no_address_and_no_backend() -> None:
    row = {
        "client_id": "0x0000002A",
        "database": "shop",
        "user": "app",
        "application_name": "checkout",
        "state": "waiting",
        "age_seconds": 5,
        "maxwait": 3,
    }
    (link,) = chain.links([row], [], PGCAT, chain.LoginWaits(), 1.0)
    assert (link.client, link.client_id, link.state) == ("?", "0x0000002A", "waiting")
    assert (link.backend_pid, link.wait_seconds, link.connected_at) == (None, None, None)


def test_odyssey_s_zeros_are_not_numbers() -> None:
    (pool,) = rows_of.pools([ODYSSEY_POOL], sizes([], ODYSSEY), ODYSSEY)
    assert pool.maxwait_seconds is None
    assert (pool.server_used, pool.server_tested, pool.server_login) == (None, None, None)
    assert pool.client_active == 9
    assert pool.client_waiting is None  # what the column counts does not wait
    pooler = rows_of.pooler(LISTS, [pool], ODYSSEY, running="1.5.0", settings={}, paused=None)
    assert (pooler.maxwait_seconds, pooler.client_waiting) == (None, None)


def test_odyssey_s_queue_is_in_its_list_of_clients() -> None:
    client = {
        "type": "C",
        "user": "app",
        "database": "shop",
        "addr": "10.0.3.7",
        "port": 5,
        "wait": 0,
        "wait_us": 0,
        "ptr": "c1",
        "link": "",
        "remote_pid": 0,
    }
    rows = [{**client, "state": state} for state in ("active", "pending", "queue", "queue")]
    waiting = chain.in_queue(rows, ODYSSEY)
    (pool,) = rows_of.pools([ODYSSEY_POOL], sizes([], ODYSSEY), ODYSSEY, waiting=waiting)
    assert pool.client_waiting == 2
    links = chain.links(rows, [{"ptr": "", "remote_pid": 0}], ODYSSEY, chain.LoginWaits(), 1.0)
    assert [link.state for link in links] == ["waiting", "waiting", "active", "pending"]
    assert {(link.backend_pid, link.wait_seconds) for link in links} == {(None, None)}


def test_odyssey_s_database_limits_are_about_clients() -> None:
    row = {
        "name": "shop",
        "host": "10.0.0.2",
        "port": 5432,
        "database": "shop",
        "force_user": "",
        "pool_size": 8,
        "reserve_pool": 0,
        "max_connections": 100,
        "current_connections": 9,
        "paused": 0,
        "disabled": 0,
    }
    database = rows_of.databases([row], ODYSSEY)["shop"]
    assert database.pool_size == 8
    assert (database.max_connections, database.current_connections) == (None, None)
    assert (database.paused, database.disabled, database.reserve_pool_size) == (None, None, None)
    differing = rows_of.databases([row, {**row, "pool_size": 3}], ODYSSEY)["shop"]
    assert differing.pool_size is None  # one row a rule, and no row says whose
