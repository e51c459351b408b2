"""What PgBouncer's console says, from the columns of 1.18 and of 1.24 and 1.25."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from collectors import pgbouncer_rows as rows_of
from collectors.dialects import dialect, version_pair
from collectors.errors import NotThisKind
from model.samples import Failure, Pool

POOL_118: dict[str, Any] = {
    "database": "shop",
    "user": "app",
    "cl_active": 5,
    "cl_waiting": 3,
    "cl_active_cancel_req": 0,
    "cl_waiting_cancel_req": 0,
    "sv_active": 2,
    "sv_active_cancel": 0,
    "sv_being_canceled": 0,
    "sv_idle": 1,
    "sv_used": 4,
    "sv_tested": 0,
    "sv_login": 1,
    "maxwait": 6,
    "maxwait_us": 250000,
    "pool_mode": "transaction",
}
POOL_125 = {**POOL_118, "load_balance_hosts": "round-robin"}
CONSOLE = {**POOL_118, "database": "pgbouncer", "user": "pgbouncer", "cl_active": 1}

_COUNTERS: dict[str, Any] = {
    "total_xact_count": Decimal(100),
    "total_query_count": Decimal(150),
    "total_received": Decimal(2**53 + 1),
    "total_sent": Decimal(4000),
    "total_xact_time": Decimal(2500000),
    "total_query_time": Decimal(1500000),
    "total_wait_time": Decimal(500000),
    "avg_xact_count": Decimal(1),
}
STATS_118: dict[str, Any] = {"database": "shop", **_COUNTERS}
STATS_125: dict[str, Any] = {
    "database": "shop",
    "total_server_assignment_count": Decimal(90),  # stands first since 1.23
    **_COUNTERS,
    "total_client_parse_count": Decimal(0),
    "total_server_parse_count": Decimal(0),
    "total_bind_count": Decimal(0),
}
DATABASE_118: dict[str, Any] = {"name": "shop", "pool_size": 2, "reserve_pool": 3, "paused": 0}
DATABASE_125: dict[str, Any] = {
    "name": "shop",
    "pool_size": 2,
    "server_lifetime": None,
    "reserve_pool_size": 4,
    "max_client_connections": 0,
    "current_client_connections": 5,
}
LISTS: list[dict[str, Any]] = [
    {"list": "used_clients", "items": 9},
    {"list": "login_clients", "items": 1},
    {"list": "used_servers", "items": 3},
    {"list": "peers", "items": 0},
]


ONE_18 = dialect("pgbouncer", "1.18.0")
VERSIONS = [f"1.{minor}.0" for minor in range(18, 26)]


def sizes(size: int | None = 2, reserve: int | None = 0, **users: int | None) -> rows_of.Sizes:
    row = rows_of.DatabaseRow(size, reserve, None, None, None, None, None)
    return rows_of.Sizes({"shop": row}, users, 20, 5)


@pytest.mark.parametrize("row", [POOL_118, POOL_125], ids=["1.18", "1.25"])
def test_a_pool_is_read_by_the_names_of_its_columns(row: dict[str, Any]) -> None:
    assert rows_of.pools([row, CONSOLE], sizes(), ONE_18) == (
        Pool(
            database="shop",
            user="app",
            client_active=5,
            client_waiting=3,
            server_active=2,
            server_idle=1,
            server_used=4,
            server_tested=0,
            server_login=1,
            maxwait_seconds=6.25,
            pool_mode="transaction",
            pool_size=2,
            reserve_pool_size=0,
        ),
    )


@pytest.mark.parametrize(
    ("known", "size", "reserve"),
    [
        (rows_of.Sizes({}, {}, 20, 5), 20, 5),  # of the configuration
        (sizes(8, 2), 8, 2),  # of the database
        (sizes(8, 2, app=3), 3, 2),  # of the user, which wins
        (sizes(8, 2, app=None), None, 2),  # of the user, and cannot be told
        (sizes(8, 2, jobs=3), 8, 2),  # of somebody else
    ],
)
def test_the_size_of_a_pool_is_its_user_s_then_its_database_s_then_the_default(
    known: rows_of.Sizes, size: int | None, reserve: int | None
) -> None:
    (pool,) = rows_of.pools([POOL_118], known, ONE_18)
    assert (pool.pool_size, pool.reserve_pool_size) == (size, reserve)


@pytest.mark.parametrize("row", [STATS_118, STATS_125], ids=["1.18", "1.25"])
def test_counters_are_whole_numbers_and_times_are_seconds(row: dict[str, Any]) -> None:
    (database,) = rows_of.pool_databases([row, {**row, "database": "pgbouncer"}], {}, ONE_18)
    assert (database.name, database.xact_total, database.query_total) == ("shop", 100, 150)
    assert database.xact_seconds_total == 2.5
    assert database.query_seconds_total == 1.5
    assert database.wait_seconds_total == 0.5
    assert database.received_bytes_total == 2**53 + 1  # more than a float can hold
    assert isinstance(database.xact_total, int)
    assert database.assignments_total == (90 if "total_server_assignment_count" in row else None)


def test_the_pooler_sums_its_pools_and_takes_the_longest_wait() -> None:
    second = {**POOL_118, "user": "jobs", "maxwait": 1, "cl_waiting": 1}
    pools = rows_of.pools([POOL_118, second], sizes(), ONE_18)
    pools = (pools[0], replace(pools[1], oldest_wait_seconds=7.5))  # at login
    settings = {
        "max_client_conn": "100",
        "default_pool_size": "20",
        "max_db_connections": "0",
        "query_wait_timeout": "120",
    }
    pooler = rows_of.pooler(LISTS, pools, ONE_18, running="1.18.0", settings=settings, paused=None)
    assert (pooler.used_clients, pooler.login_clients, pooler.used_servers) == (9, 1, 3)
    assert (pooler.max_client_conn, pooler.default_pool_size) == (100, 20)
    assert pooler.max_db_connections is None  # 0 is no limit
    assert pooler.query_wait_timeout_seconds == 120.0
    assert (pooler.client_active, pooler.client_waiting) == (10, 4)
    assert (pooler.server_active, pooler.server_idle) == (4, 10)  # sv_used is ready too
    assert pooler.maxwait_seconds == 7.5
    assert (pooler.product, pooler.paused) == ("PgBouncer", None)


@pytest.mark.parametrize(
    ("row", "running", "size", "reserve"),
    [
        (DATABASE_118, "1.18.0", 2, 3),
        (DATABASE_125, "1.25.2", 2, 4),
        ({**DATABASE_118, "pool_size": 0}, "1.18.0", 0, 3),
        ({**DATABASE_125, "pool_size": 0}, "1.24.0", None, 4),  # no limit since 1.24
    ],
)
def test_the_size_of_a_database_is_what_its_version_means(
    row: dict[str, Any], running: str, size: int | None, reserve: int
) -> None:
    found = rows_of.databases([row, {**row, "name": "pgbouncer"}], dialect("pgbouncer", running))
    assert set(found) == {"shop"}
    assert (found["shop"].pool_size, found["shop"].reserve_pool_size) == (size, reserve)


def test_a_database_says_its_limit_and_whether_it_is_held() -> None:
    row = {**DATABASE_118, "max_connections": 7, "current_connections": 6, "paused": 1}
    found = rows_of.databases([{**row, "host": "10.0.0.2", "port": 5432}], ONE_18)["shop"]
    assert (found.max_connections, found.current_connections) == (7, 6)
    assert (found.paused, found.disabled) == (True, False)
    assert found.address == ("10.0.0.2", 5432)
    unlimited = rows_of.databases([{**row, "max_connections": 0, "host": None}], ONE_18)["shop"]
    assert (unlimited.max_connections, unlimited.address) == (None, None)


def test_a_paused_database_is_seen_although_it_has_no_counters() -> None:
    known = rows_of.databases(
        [{**DATABASE_118, "paused": 1}, {**DATABASE_118, "name": "b"}], ONE_18
    )
    (shop,) = rows_of.pool_databases([], known, ONE_18)
    assert (shop.name, shop.paused, shop.xact_total) == ("shop", True, None)


USERS: list[dict[str, Any]] = [
    {"name": "a", "pool_mode": None, "pool_size": ""},
    {"name": "b", "pool_mode": None, "pool_size": "        7"},
    {"name": "c", "pool_mode": None, "pool_size": "        7"},  # its own, or b's repeated
    {"name": "d", "pool_mode": None, "pool_size": "        9"},
]


@pytest.mark.parametrize(
    ("running", "users"),
    [
        ("1.23.1", {"b": 7, "c": None, "d": 9}),
        ("1.25.2", {"b": 7, "c": None, "d": 9}),
        ("1.26.0", {"b": 7, "c": 7, "d": 9}),
    ],
)
def test_a_user_s_size_is_believed_where_it_cannot_be_somebody_else_s(
    running: str, users: dict[str, int | None]
) -> None:
    assert rows_of.user_sizes(USERS, dialect("pgbouncer", running)) == users


def test_users_without_sizes_are_as_in_1_18() -> None:
    assert rows_of.user_sizes([{"name": "a", "pool_mode": None}], ONE_18) == {}


@pytest.mark.parametrize("running", VERSIONS)
def test_each_version_says_what_it_can(running: str) -> None:
    minor = int(running.split(".")[1])
    speaks = dialect("pgbouncer", running)
    assert speaks.state is (minor >= 19)
    assert speaks.user_sizes is (minor >= 23)
    assert speaks.repeats_sizes is (minor >= 23)
    assert speaks.zero_unlimited is (minor >= 24)
    assert speaks.links
    assert speaks.maxwait


@pytest.mark.parametrize(
    ("state", "paused"),
    [
        ({"active": "yes", "paused": "no", "suspended": "no"}, False),
        ({"active": "no", "paused": "yes", "suspended": "no"}, True),
        ({"active": "no", "paused": "no", "suspended": "yes"}, True),
    ],
)
def test_a_pooler_says_whether_it_is_paused(state: dict[str, str], paused: bool) -> None:
    rows = [{"key": key, "value": value} for key, value in state.items()]
    assert rows_of.paused(rows) is paused


@pytest.mark.parametrize(
    ("parameter", "text", "pair"),
    [
        ("1.18.0/bouncer", "1.18.0", (1, 18)),
        ("1.25.2/bouncer", "1.25.2", (1, 25)),
        ("1.26.0dev/bouncer", "1.26.0dev", (1, 26)),
        ("odd/bouncer", "odd", (0, 0)),
    ],
)
def test_the_version_comes_from_the_greeting(
    parameter: str, text: str, pair: tuple[int, int]
) -> None:
    assert rows_of.version(parameter) == text
    assert version_pair(text) == pair


@pytest.mark.parametrize("missing", ["cl_waiting", "maxwait", "database"])
def test_a_console_without_a_column_is_not_pgbouncer(missing: str) -> None:
    row = {name: value for name, value in POOL_118.items() if name != missing}
    with pytest.raises(NotThisKind, match=missing) as caught:
        rows_of.pools([row], sizes(), ONE_18)
    assert caught.value.failure is Failure.PROTOCOL


def test_a_list_that_is_missing_is_named() -> None:
    with pytest.raises(NotThisKind, match="login_clients"):
        rows_of.pooler(
            [row for row in LISTS if row["list"] != "login_clients"],
            (),
            ONE_18,
            running="1.18.0",
            settings={},
            paused=None,
        )
