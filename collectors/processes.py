"""Several processes of one pooler, told apart and summed. Pure.

With so_reuseport several PgBouncers share one port, and the kernel gives each connection to
one of them: one console shows one part of the truth. Limits are each process's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from collectors.pgbouncer_rows import longest_wait
from model.samples import Pool, PoolDatabase, Pooler
from model.targets import Target

_COUNTERS = (
    "xact_total",
    "query_total",
    "xact_seconds_total",
    "query_seconds_total",
    "wait_seconds_total",
    "received_bytes_total",
    "sent_bytes_total",
    "assignments_total",
)
Identity = tuple[str, ...]


def identity(settings: Mapping[str, str]) -> Identity:
    """What tells a process from others of the same port, from SHOW CONFIG."""
    return tuple(
        settings.get(key, "") for key in ("pidfile", "unix_socket_dir", "peer_id", "conffile")
    )


def reached_by(target: Target, given: SecretStr) -> Target:
    """*target* as it is reached with the libpq parameters *given* on top of its own."""
    dsn = target.dsn.get_secret_value() if target.dsn else ""
    try:
        parameters = {**conninfo_to_dict(dsn), **conninfo_to_dict(given.get_secret_value())}
        merged = make_conninfo("", **parameters)
    except psycopg.Error:
        merged = given.get_secret_value()  # connecting says that it cannot be read
    return target.model_copy(update={"dsn": SecretStr(merged)})


def label(given: SecretStr, number: int) -> str:
    """A short name for the process that *given* leads to: its socket folder, host or port.

    >>> label(SecretStr("host=/run/pgbouncer/1"), 1), label(SecretStr("port=6433"), 2)
    ('/run/pgbouncer/1', '6433')
    """
    try:
        parameters = conninfo_to_dict(given.get_secret_value())
    except psycopg.Error:
        return str(number)
    known = (parameters.get(key) for key in ("hostaddr", "host", "port"))
    return ":".join(str(value) for value in known if value) or str(number)


def database(given: SecretStr) -> str:
    """The database that the libpq parameters *given* name; empty for none."""
    try:
        return str(conninfo_to_dict(given.get_secret_value()).get("dbname") or "")
    except psycopg.Error:
        return ""


def summed(poolers: Sequence[Pooler], pools: Sequence[Pool]) -> Pooler:
    """Several processes as one; a sum is None as soon as one of its parts is not known.

    default_pool_size and query_wait_timeout_seconds are settings; they are those of the
    first process.
    """
    first = poolers[0]
    versions = sorted({pooler.version for pooler in poolers})
    paused = [pooler.paused for pooler in poolers]
    return replace(
        first,
        version=", ".join(versions),
        processes=len(poolers),
        used_clients=_sum([pooler.used_clients for pooler in poolers]),
        login_clients=_sum([pooler.login_clients for pooler in poolers]),
        used_servers=_sum([pooler.used_servers for pooler in poolers]),
        max_client_conn=_sum([pooler.max_client_conn for pooler in poolers]),
        max_db_connections=_sum([pooler.max_db_connections for pooler in poolers]),
        # One paused process is enough for clients to hang.
        paused=True if True in paused else None if None in paused else False,
        client_active=sum(pooler.client_active for pooler in poolers),
        client_waiting=_sum([pooler.client_waiting for pooler in poolers]),
        server_active=sum(pooler.server_active for pooler in poolers),
        server_idle=sum(pooler.server_idle for pooler in poolers),
        maxwait_seconds=longest_wait(pools),
    )


class Counters:
    """Counters of several processes as one.

    Each database's sum begins with what the processes had counted when they were first
    seen. From then on it grows by what each of them did between two polls that it answered,
    so a process that restarts, goes away or comes back is no jump.
    """

    def __init__(self) -> None:
        self._last: dict[str, dict[str, PoolDatabase]] = {}  # by process and database
        self._sums: dict[str, PoolDatabase] = {}
        self._begun = False

    def add(self, answers: Mapping[str, Sequence[PoolDatabase]]) -> tuple[PoolDatabase, ...]:
        """The sums after one more poll. *answers*: by process, those that answered."""
        parts: dict[str, list[PoolDatabase]] = {}
        for process, databases in answers.items():
            last = self._last.get(process)
            for now in databases:
                if last is not None:
                    # A row that was not there a poll ago has counted from zero since.
                    before = last.get(now.name, _ZERO)
                else:
                    # What a process did before we saw it has no moment.
                    before = now if self._begun else _ZERO
                so_far = self._sums.get(now.name, PoolDatabase(now.name))
                self._sums[now.name] = _grown(so_far, before, now)
                parts.setdefault(now.name, []).append(now)
        self._last = {
            process: {database.name: database for database in databases}
            for process, databases in answers.items()
        }
        self._begun = True
        return tuple(_with_state(self._sums[name], found) for name, found in parts.items())


_ZERO = PoolDatabase("", 0, 0, 0.0, 0.0, 0.0, 0, 0, 0)


def _grown(total: PoolDatabase, before: PoolDatabase, now: PoolDatabase) -> PoolDatabase:
    changes: dict[str, Any] = {}
    for name in _COUNTERS:
        value, past, so_far = (getattr(noun, name) for noun in (now, before, total))
        if value is not None:
            grew = value - past if past is not None and value >= past else value
            changes[name] = grew if so_far is None else so_far + grew
    return replace(total, **changes)


def _with_state(total: PoolDatabase, parts: Sequence[PoolDatabase]) -> PoolDatabase:
    paused, disabled = ([getattr(part, name) for part in parts] for name in ("paused", "disabled"))
    return replace(
        total,
        max_connections=_sum([part.max_connections for part in parts]),
        current_connections=_sum([part.current_connections for part in parts]),
        paused=True if True in paused else None if None in paused else False,
        disabled=True if True in disabled else None if None in disabled else False,
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
