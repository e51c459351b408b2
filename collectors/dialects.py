"""What each pooler's console tells, by product and version.

PgBouncer's console was copied by others, and the copies fill columns with zeros that they
do not measure. What a flag here denies is "not known", never 0.

Sources: PgBouncer's admin.c and NEWS at 1.18 to 1.25; PgCat's src/admin.rs and
src/stats/pool.rs; Odyssey's sources/console.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from model.targets import Kind


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one console reports, and in which unit.

    product:          its name for people.
    own_databases:    the console itself, which it lists among its databases.
    maxwait:          POOLS.maxwait is the oldest wait.
    waiters:          POOLS.cl_waiting counts clients in the queue.
    waiting_state:    the state of a client in the queue, in CLIENTS.
    idle_clients:     POOLS columns beside cl_active that count clients without a server.
    server_phases:    POOLS columns among sv_used, sv_tested and sv_login that are measured.
    lists_apart:      LISTS counts idle clients and servers as free, not as used.
    login_clients:    LISTS.login_clients is measured.
    xact_time:        STATS measures the time of transactions.
    query_time_unit:  STATS' query times, parts of a second.
    client_times:     CLIENTS has connect_time and wait.
    links:            CLIENTS and SERVERS tell who works for whom, and the backend's pid.
    config:           SHOW CONFIG exists.
    state:            SHOW STATE exists.
    database_limits:  DATABASES.max_connections limits server connections.
    database_states:  DATABASES.paused is measured.
    user_sizes:       USERS.pool_size exists.
    repeats_sizes:    USERS repeats the last size given for the users that follow without one.
    zero_unlimited:   pool_size 0 is "no limit".
    sizes_per_server: DATABASES has one row a server, named after the pool: "shop_shard_0_…".
    """

    product: str
    own_databases: frozenset[str]
    maxwait: bool = True
    waiters: bool = True
    waiting_state: str = "waiting"
    idle_clients: tuple[str, ...] = ()
    server_phases: frozenset[str] = field(
        default_factory=lambda: frozenset({"sv_used", "sv_tested", "sv_login"})
    )
    lists_apart: bool = False
    login_clients: bool = True
    xact_time: bool = True
    query_time_unit: float = 1e6
    client_times: bool = True
    links: bool = True
    config: bool = True
    state: bool = False
    database_limits: bool = True
    database_states: bool = True
    user_sizes: bool = False
    repeats_sizes: bool = False
    zero_unlimited: bool = False
    sizes_per_server: bool = False


_PGCAT = Dialect(
    product="PgCat",
    own_databases=frozenset({"pgcat", "pgbouncer"}),
    idle_clients=("cl_idle",),
    server_phases=frozenset({"sv_tested", "sv_login"}),
    lists_apart=True,
    login_clients=False,
    xact_time=False,
    query_time_unit=1e3,
    client_times=False,
    links=False,
    database_limits=False,
    sizes_per_server=True,
)
_ODYSSEY = Dialect(
    product="Odyssey",
    own_databases=frozenset({"console"}),
    maxwait=False,
    # "Pending" clients, which this column counts, are idle; those in the queue are in no
    # column of POOLS, only in CLIENTS.
    waiters=False,
    waiting_state="queue",
    idle_clients=("cl_waiting",),
    server_phases=frozenset(),
    lists_apart=True,
    login_clients=False,
    client_times=False,
    links=False,
    config=False,
    database_limits=False,
    database_states=False,
    zero_unlimited=True,
)


def dialect(kind: Kind, version: str) -> Dialect:
    """What the console of *kind* in *version* reports."""
    if kind == "pgcat":
        return _PGCAT
    if kind == "odyssey":
        return _ODYSSEY
    numbers = version_pair(version)
    return Dialect(
        product="PgBouncer",
        own_databases=frozenset({"pgbouncer"}),
        state=numbers >= (1, 19),
        user_sizes=numbers >= (1, 23),
        repeats_sizes=(1, 23) <= numbers <= (1, 25),
        zero_unlimited=numbers >= (1, 24),
    )


def version_pair(text: str) -> tuple[int, int]:
    """The first two numbers of a version; (0, 0) when it has none.

    >>> version_pair("1.18.0"), version_pair("unknown")
    ((1, 18), (0, 0))
    """
    numbers = text.split(".")[:2]
    if len(numbers) == 2 and all(number.isdigit() for number in numbers):
        return int(numbers[0]), int(numbers[1])
    return 0, 0
