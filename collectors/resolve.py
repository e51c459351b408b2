"""Host names to addresses, without ever waiting for DNS longer than we want to.

libpq resolves names while it blocks, and psycopg does it in asyncio's shared threads: some
stalled lookups would stop every other target. Here each name is looked up in a daemon
thread of its own, at most one at a time per name, and the last good answer is kept for
the day the name server is gone, which is often the day the database is in trouble.
"""

from __future__ import annotations

import asyncio
import configparser
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from ipaddress import ip_address
from pathlib import Path

from collectors.errors import TargetUnreachable
from model.samples import Failure

FRESH_WAIT = 0.5  # seconds we wait for a fresh answer when an older one is known

Lookup = Callable[[str], list[str]]


def _lookup(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Resolver:
    """Looks names up, one daemon thread per name that is being looked up."""

    def __init__(self, lookup: Lookup = _lookup) -> None:
        self._lookup = lookup
        self._pending: dict[str, Future[list[str]]] = {}
        self._last_good: dict[str, list[str]] = {}

    async def addresses(self, host: str, timeout: float) -> list[str]:
        """The addresses of *host*, in the resolver's order. Raises TargetUnreachable."""
        known = self._last_good.get(host)
        pending = self._pending.get(host)
        if pending is None or pending.done():
            pending = self._start(host)
        wait = min(timeout, FRESH_WAIT) if known else timeout
        answer = asyncio.wrap_future(pending)
        # Looked at even when nobody waits for it any more, or asyncio would complain.
        answer.add_done_callback(lambda late: late.cancelled() or late.exception())
        await asyncio.wait({answer}, timeout=wait)
        if not answer.done():
            if known:
                return known
            raise TargetUnreachable(
                Failure.TIMEOUT, f'no answer when looking up the host name "{host}"'
            )
        error = answer.exception()
        if error is None:
            self._last_good[host] = answer.result()
        elif not known:
            raise TargetUnreachable(
                Failure.UNREACHABLE, f'the host name "{host}" cannot be resolved ({error})'
            ) from error
        return self._last_good[host]

    def _start(self, host: str) -> Future[list[str]]:
        future: Future[list[str]] = Future()
        future.set_running_or_notify_cancel()  # nobody can cancel it from here on

        def work() -> None:
            try:
                future.set_result(self._lookup(host))
            except (OSError, UnicodeError) as error:
                future.set_exception(error)

        self._pending[host] = future
        threading.Thread(target=work, name=f"resolve {host}", daemon=True).start()
        return future


RESOLVER = Resolver()


async def resolved(
    parameters: Mapping[str, str], timeout: float, resolver: Resolver = RESOLVER
) -> dict[str, str]:
    """`host`, `hostaddr` and `port` to add to *parameters*, one entry per address.

    Empty where there is no plain host name: addresses, Unix sockets and connection
    strings that give hostaddr are left to libpq, which does not block for them.
    Raises TargetUnreachable.
    """
    service = _service(parameters)

    def setting(name: str) -> str:
        # libpq's order: connection string, service file, environment.
        return parameters.get(name) or service.get(name) or os.environ.get(f"PG{name.upper()}", "")

    hosts = setting("host").split(",")
    if setting("hostaddr") or any(not h or h[0] in "/@" for h in hosts):
        return {}
    if all(_is_address(host) for host in hosts):
        return {}
    ports = (setting("port") or "5432").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    entries: list[tuple[str, str, str]] = []
    trouble: TargetUnreachable | None = None
    for host, port in zip(hosts, ports, strict=False):
        try:
            found = [host] if _is_address(host) else await resolver.addresses(host, timeout)
        except TargetUnreachable as error:
            trouble = error  # another host may do
            continue
        entries += [(host, address, port) for address in found]
    if not entries:
        raise trouble or TargetUnreachable(Failure.UNREACHABLE, "no host to connect to")
    names, addresses, numbers = zip(*entries, strict=True)
    return {"host": ",".join(names), "hostaddr": ",".join(addresses), "port": ",".join(numbers)}


def _service(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """The section of libpq's service file that the connection string asks for.

    https://www.postgresql.org/docs/current/libpq-pgservice.html
    """
    name = parameters.get("service") or os.environ.get("PGSERVICE")
    if not name:
        return {}
    given = parameters.get("servicefile") or os.environ.get("PGSERVICEFILE")
    files = [Path(given) if given else Path.home() / ".pg_service.conf"]
    if "PGSYSCONFDIR" in os.environ:
        files.append(Path(os.environ["PGSYSCONFDIR"]) / "pg_service.conf")
    for file in files:
        reader = configparser.ConfigParser(
            interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#",)
        )
        try:
            reader.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeError):
            continue  # libpq will say what is wrong with it
        if reader.has_section(name):
            return dict(reader.items(name))
    return {}


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
