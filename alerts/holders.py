"""Who holds a pool's server connections, as the server sees it.

PgBouncer's console cannot tell: a client that is idle in transaction looks active there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from alerts.blocking import Chains, chains
from alerts.view import visible_sessions
from alerts.wording import (
    age_of,
    counted,
    is_idle_in_transaction,
    seconds,
    session_words,
)
from model.samples import Pool, Sample, Session


@dataclass(frozen=True, slots=True)
class Holders:
    """The sessions that hold a pool's server connections.

    worst: the one that costs most, its age times the connections it holds up; it may be a
    session outside the pool that blocks those inside.
    """

    active: tuple[Session, ...]
    idle_in_transaction: tuple[Session, ...]
    waiting_for_locks: tuple[Session, ...]
    worst: Session | None
    chains: Chains

    @property
    def blocked_by_worst(self) -> int:
        """How many sessions wait for locks of the worst one."""
        return 0 if self.worst is None else len(self.chains.blocked(self.worst.pid))

    def sentences(self) -> tuple[str, ...]:
        """What holds the connections, for evidence."""
        if self.worst is None:
            return ()
        parts = [
            counted(len(group), label, label)
            for group, label in (
                (self.idle_in_transaction, "idle in transaction"),
                (self.active, "active"),
            )
            if group
        ]
        lines = [f"The pool's sessions on the server: {', '.join(parts)}."] if parts else []
        if self.waiting_for_locks:
            waiting = counted(len(self.waiting_for_locks), "of them waits", "of them wait")
            lines.append(f"{waiting} for a lock.")
        words = session_words(self.worst)
        blocked = self.blocked_by_worst
        if blocked:
            words += f" and blocks {counted(blocked, 'session')}"
        lines.append(f"The worst: {words}; its transaction is {seconds(age_of(self.worst))} old.")
        return tuple(lines)


def holders(pool: Pool, servers: Iterable[Sample]) -> Holders | None:
    """Who holds the connections of *pool* on its *servers*; None where that cannot be seen.

    PgBouncer's database name may be an alias. Then nothing on the server matches it, and
    the pool's user alone has to do.
    """
    everyone = [s for server in servers for s in visible_sessions(server) or ()]
    members = [s for s in everyone if s.database == pool.database]
    members = [s for s in members if s.role == pool.user] or members
    members = members or [s for s in everyone if s.role == pool.user]
    if not members:
        return None
    found = chains(everyone)
    idle = tuple(s for s in members if is_idle_in_transaction(s))
    active = tuple(s for s in members if s.state == "active")
    busy = [*idle, *active]
    by_pid = {s.pid: s for s in everyone}
    roots = {found.root_of(s.pid) for s in busy} - {None, 0}
    suspects = [*busy, *(by_pid[pid] for pid in roots if pid in by_pid)]
    # Someone who waits for a lock is a victim; blame whoever it waits for.
    suspects = [s for s in suspects if s.pid not in found.waits_for] or suspects
    worst = max(
        suspects,
        key=lambda s: (age_of(s) * (1 + len(found.blocked(s.pid))), -s.pid),
        default=None,
    )
    waiting = tuple(s for s in active if s.wait_event_type == "Lock" or s.blocked_by)
    return Holders(active, idle, waiting, worst, found)
