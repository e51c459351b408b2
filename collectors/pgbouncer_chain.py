"""Who works for whom: a pooler's client, its server connection, the backend behind it.

Pure: the rows of SHOW CLIENTS and SHOW SERVERS of one process and one moment in, links out.
The two are separate answers, so a link counts only when both sides tell it. A server that
works for nobody keeps the application name of its last client; it is nobody's here.

Source: https://www.pgbouncer.org/usage.html#show-clients, #show-servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from collectors.dialects import Dialect
from collectors.pgbouncer_rows import Row, number, others
from model.samples import Link

MOST_LINKS = 1000  # of one process; those who wait come first, idle clients last

PoolKey = tuple[str, str]  # database and user


class LoginWaits:
    """How long clients have waited before their login is through.

    For these PgBouncer reports a wait of 0, and tells only to the second when they came.
    What is said here is never more than the truth: the time since we first saw them, or a
    second less than by the pooler's clock.
    """

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}  # client id -> monotonic, since when it waits
        self._oldest: dict[PoolKey, float] = {}

    def look(self, rows: Sequence[Row], speaks: Dialect, now: float) -> None:
        """Take in the rows of SHOW CLIENTS; *now* is monotonic."""
        if not speaks.client_times:
            return
        clock = pooler_clock(rows)
        seen: dict[str, float] = {}
        self._oldest = {}
        for row in others(rows, speaks):
            if row.get("state") != speaks.waiting_state or reported_wait(row) > 0:
                continue
            since = now
            connected = instant(row.get("connect_time"))
            if clock is not None and connected is not None:
                since -= max((clock - connected).total_seconds() - 1.0, 0.0)
            identity = client_id(row)
            seen[identity] = min(since, self._seen.get(identity, now))
            key = pool_of(row)
            self._oldest[key] = min(seen[identity], self._oldest.get(key, now))
        self._seen = seen

    def oldest(self, pool: PoolKey, waiting: int | None, now: float) -> float | None:
        """Seconds that the oldest client of *pool* has waited at login; None if none does."""
        if not waiting:
            self._oldest.pop(pool, None)
        since = self._oldest.get(pool)
        return None if since is None else max(now - since, 0.0)

    def of(self, row: Row, now: float) -> float:
        """Seconds that one waiting client has waited."""
        reported = reported_wait(row)
        return reported if reported > 0 else max(now - self._seen.get(client_id(row), now), 0.0)


def links(
    clients: Iterable[Row],
    servers: Iterable[Row],
    speaks: Dialect,
    waits: LoginWaits,
    now: float,
    *,
    process: str | None = None,
) -> tuple[Link, ...]:
    """One link for every client, those who wait first, at most MOST_LINKS."""
    by_ptr = {str(row.get("ptr")): row for row in servers}
    found = [
        _link(row, by_ptr, speaks, waits, now, process=process) for row in others(clients, speaks)
    ]
    found.sort(key=lambda link: (link.state != "waiting", link.backend_pid is None))
    return tuple(found[:MOST_LINKS])


def _link(
    row: Row,
    servers: Mapping[str, Row],
    speaks: Dialect,
    waits: LoginWaits,
    now: float,
    *,
    process: str | None,
) -> Link:
    state = str(row.get("state") or "unknown")
    waiting = state == speaks.waiting_state
    if waiting:
        state = "waiting"
    elif speaks.links and state == "active" and not row.get("link"):
        state = "idle"  # "active" means no more than "not waiting" before 1.25
    identity = client_id(row)
    database, user = pool_of(row)
    return Link(
        client=address(row),
        client_id=f"{process}/{identity}" if process else identity,
        application=str(row.get("application_name") or ""),
        database=database,
        user=user,
        state=state,
        wait_seconds=waits.of(row, now) if waiting and speaks.client_times else None,
        connected_at=instant(row.get("connect_time")),
        backend_pid=_backend(row, servers) if speaks.links else None,
        process=process,
    )


def _backend(client: Row, servers: Mapping[str, Row]) -> int | None:
    server = servers.get(str(client.get("link") or ""))
    if server is None or server.get("link") != client.get("ptr"):
        return None
    return number(server.get("remote_pid")) or None


def in_queue(rows: Iterable[Row], speaks: Dialect) -> dict[PoolKey, int]:
    """Clients in the queue by database and user."""
    counts: dict[PoolKey, int] = {}
    for row in others(rows, speaks):
        if row.get("state") == speaks.waiting_state:
            key = pool_of(row)
            counts[key] = counts.get(key, 0) + 1
    return counts


def client_id(row: Row) -> str:
    """What identifies a client as long as it is connected.

    Its id, which is never used again (PgBouncer 1.24), or PgCat's; else its place in memory,
    which is, together with when it connected.
    """
    own = row.get("id", row.get("client_id"))
    return str(own) if own is not None else f"{row.get('ptr')}@{row.get('connect_time')}"


def address(row: Row) -> str:
    """ "10.0.3.7:51512", "[::1]:51512", "local" for a Unix socket; "?" where not reported."""
    host = str(row.get("addr") or "?")
    if host.startswith("unix"):
        return "local"
    if host == "?":
        return host
    return f"[{host}]:{row.get('port')}" if ":" in host else f"{host}:{row.get('port')}"


def pool_of(row: Row) -> PoolKey:
    """Which pool a client belongs to."""
    return str(row.get("database")), str(row.get("user"))


def reported_wait(row: Row) -> float:
    """Seconds that a waiting client has waited, as reported: 0 at login."""
    return (number(row.get("wait")) or 0) + (number(row.get("wait_us")) or 0) / 1e6


def instant(text: object) -> datetime | None:
    """A time as the console writes it, to the second: "2030-01-01 00:00:00 UTC".

    >>> instant("2030-01-01 00:00:00 UTC")
    datetime.datetime(2030, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        return datetime.strptime(str(text), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None


def pooler_clock(rows: Iterable[Row]) -> datetime | None:
    """The pooler's clock: the newest request in its list is the one that asked for the list."""
    times = (instant(row.get("request_time")) for row in rows)
    return max((time for time in times if time is not None), default=None)
