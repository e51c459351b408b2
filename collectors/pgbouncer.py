"""One pooler with a console: who is served, who waits, and what its databases have done.

Usually that is one process. Several behind one port (so_reuseport) are asked one by one,
as `processes` of the target says, and summed. collectors/console.py says what it needs and
costs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic

from psycopg import AsyncConnection

from collectors import pgbouncer_rows as rows_of
from collectors import processes
from collectors.answer import answered
from collectors.cadence import Cadence
from collectors.canary import Canary
from collectors.connection import HeldConnection
from collectors.console import MANNER, Console, Seen, show
from collectors.errors import CollectError
from model.samples import Link, Pool, PoolDatabase, Pooler, Sample
from model.targets import Target

PROBE_EVERY = 60.0  # seconds between looks whether the port leads to other processes too
PROBES = 6  # connections at first; that all of them reach the same of two: 1 in 64
PAUSED_AFTER = 2.0  # seconds without an answer and without servers until that is a pause
REACHABLE_EVERY = 5.0  # seconds between looks whether the server behind the pooler answers
REACHABLE_TIMEOUT = 1.0  # seconds


class PgBouncerCollector:
    """Polls one pooler's admin console, or those of its processes, over held connections.

    consoles: one for each process.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.consoles = [
            Console(processes.reached_by(target, given), processes.label(given, number))
            for number, given in enumerate(target.processes, start=1)
        ] or [Console(target)]
        self._counters = processes.Counters()
        self._links: dict[str | None, tuple[Link, ...]] = {}
        self._canary: Canary | None = None
        if target.canary is not None:
            through = processes.reached_by(target, target.canary)
            self._canary = Canary(through, processes.database(target.canary))
        self._no_servers_since: float | None = None
        self._reachable: bool | None = None
        self._reachable_cadence = Cadence(REACHABLE_EVERY, REACHABLE_EVERY)
        self._several: bool = False
        self._probe_cadence = Cadence(PROBE_EVERY, PROBE_EVERY)
        self._aside: set[asyncio.Task[None]] = set()  # looks that no poll waits for

    @property
    def version(self) -> str:
        """ "1.18.0"; empty until it was connected to."""
        return self.consoles[0].version

    async def poll(self, at: datetime) -> Sample:
        """Ask once. Never raises; ends by the target's deadline and half a second."""
        return await answered(self._target, at, self._fill)

    async def close(self) -> None:
        """Close the connections and give up what runs beside the polls."""
        for task in self._aside:
            task.cancel()
        if self._aside:
            await asyncio.wait(self._aside, timeout=1.0)
        if self._canary is not None:
            await self._canary.close()
        await asyncio.gather(*(console.held.close() for console in self.consoles))

    async def _fill(self, sample: Sample, deadline: float) -> Sample:
        answers = await asyncio.gather(
            *(console.held.ask(console.look, deadline) for console in self.consoles),
            return_exceptions=True,
        )
        seen: dict[Console, Seen] = {}
        errors: dict[Console, CollectError] = {}
        for console, answer in zip(self.consoles, answers, strict=True):
            if isinstance(answer, Seen):
                seen[console] = answer
            elif isinstance(answer, CollectError):
                errors[console] = answer
            else:
                raise answer
        if not seen:
            raise next(iter(errors.values()))
        pools = tuple(pool for one in seen.values() for pool in one.pools)
        pooler, degraded = await self._watch(self._whole(seen, pools), pools)
        doubles = self._doubles(list(seen))
        missing = [f"process {c.process} does not answer: {e.reason}" for c, e in errors.items()]
        return replace(
            sample,
            up=True,
            degraded="; ".join([*missing, *doubles, *degraded]) or None,
            pooler=pooler,
            pools=pools,
            pool_databases=self._databases(seen),
            links=self._latest_links(seen),
        )

    # Several processes

    def _whole(self, seen: Mapping[Console, Seen], pools: Sequence[Pool]) -> Pooler:
        if len(self.consoles) == 1:
            (one,) = seen.values()
            return one.pooler
        return processes.summed([one.pooler for one in seen.values()], pools)

    def _databases(self, seen: Mapping[Console, Seen]) -> tuple[PoolDatabase, ...]:
        if len(self.consoles) == 1:
            (one,) = seen.values()
            return one.databases
        return self._counters.add({str(c.process): one.databases for c, one in seen.items()})

    def _latest_links(self, seen: Mapping[Console, Seen]) -> tuple[Link, ...] | None:
        """All processes' links, as soon as one of them has news; None without news."""
        news = {c.process: one.links for c, one in seen.items() if one.links is not None}
        known = {c.process: self._links.get(c.process, ()) for c in seen}
        self._links = {**known, **news}
        return tuple(link for links in self._links.values() for link in links) if news else None

    def _doubles(self, consoles: Sequence[Console]) -> list[str]:
        """What is said when two `processes` lead to the same process."""
        by_identity: dict[processes.Identity, Console] = {}
        found = []
        for console in consoles:
            who = processes.identity(console.settings)
            if any(who) and who in by_identity and len(self.consoles) > 1:
                found.append(
                    f"processes {by_identity[who].process} and {console.process} are the same "
                    "one and are counted twice; check `processes` of this target"
                )
            by_identity.setdefault(who, console)
        return found

    # Beside the polls

    async def _watch(self, pooler: Pooler, pools: Sequence[Pool]) -> tuple[Pooler, list[str]]:
        """*pooler* with what is found out beside the polls, and what cannot be seen."""
        now = monotonic()
        degraded: list[str] = []
        console = self.consoles[0]
        if len(self.consoles) == 1 and console.settings.get("so_reuseport") == "1":
            if self._probe_cadence.due(now):
                self._probe_cadence.asked(now)
                self._begin(self._probe(console))
            if self._several:
                degraded.append(
                    "this port leads to several PgBouncer processes (so_reuseport), and only "
                    "one of them is seen; give each one's own socket or port in `processes`"
                )
        if self._canary is not None:
            pooler = self._with_canary(self._canary, pooler, pools, now)
            if self._canary.trouble:
                degraded.append(f"the canary got no answer: {self._canary.trouble}")
        return pooler, degraded

    def _begin(self, look: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(look)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _probe(self, console: Console) -> None:
        """Whether another connection to the same port reaches another process."""
        here = processes.identity(console.settings)

        async def who(connection: AsyncConnection) -> processes.Identity:
            return processes.identity(rows_of.settings(await show(connection, "CONFIG")))

        for _ in range(1 if self._several else PROBES):
            held = HeldConnection(self._target, MANNER, _nothing_to_check)
            try:
                there = await held.ask(who, monotonic() + self._target.deadline_seconds)
            except CollectError:
                return  # the polls say what is wrong
            finally:
                await held.close()
            if there != here:
                self._several = True
                return

    def _with_canary(
        self, canary: Canary, pooler: Pooler, pools: Sequence[Pool], now: float
    ) -> Pooler:
        mine = [pool for pool in pools if pool.database == canary.database]
        stuck = any(pool.client_waiting and not _servers(pool) for pool in pools)
        canary.look(now, keep=all(p.pool_mode != "session" for p in mine), urgent=stuck)
        if any(_servers(pool) for pool in pools):
            self._no_servers_since = None
        elif self._no_servers_since is None:
            self._no_servers_since = now
        paused = pooler.paused
        if paused is None and canary.answered:
            paused = False
        elif paused is None and self._looks_paused(canary, now):
            paused = self._reachable or None
        return replace(pooler, canary_seconds=canary.seconds(now), paused=paused)

    def _looks_paused(self, canary: Canary, now: float) -> bool:
        """No answer, no server connection, no attempt to open one: a pause, or no server.

        To tell the two apart we knock at the server's door; the pooler's clients would
        also hang if nobody listened there.
        """
        if (
            canary.unanswered(now) < PAUSED_AFTER
            or self._no_servers_since is None
            or now - self._no_servers_since < PAUSED_AFTER
            or len(self.consoles) > 1
        ):
            self._reachable = None
            self._reachable_cadence.begin()
            return False
        console = self.consoles[0]
        if now - console.backends_at > canary.unanswered(now):
            return False  # the server may be another one by now
        row = console.backends.get(canary.database)
        if row is not None and row.address is not None and self._reachable_cadence.due(now):
            self._reachable_cadence.asked(now)
            self._begin(self._knock(*row.address))
        return True

    async def _knock(self, host: str, port: int) -> None:
        """Whether somebody listens there. Nothing is sent, so no slot is taken."""
        try:
            async with asyncio.timeout(REACHABLE_TIMEOUT):
                _, writer = await asyncio.open_connection(host, port)
        except OSError:  # includes a timeout
            self._reachable = False
            return
        self._reachable = True
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _servers(pool: Pool) -> int:
    """Server connections of *pool*, those that are being opened included."""
    parts = (pool.server_used, pool.server_tested, pool.server_login)
    return pool.server_active + pool.server_idle + sum(part or 0 for part in parts)


async def _nothing_to_check(connection: AsyncConnection) -> None:
    """The held connection has been introduced already."""
