"""Who waits for whom, as a tree. Pure: rows of locks.sql in, LockWaits out.

A *hard* block is a lock that somebody holds; a *soft* one is somebody ahead in the queue
whose request conflicts, and who is innocent: the holder in front of both is the one to
look at. Roots are those who are in the way and wait for nobody.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from model.samples import LockWait, Session

PREPARED = 0  # the "pid" of a prepared transaction

_CONFLICTS: dict[str, str] = {
    # https://www.postgresql.org/docs/current/explicit-locking.html, table 13.2
    "AccessShareLock": "AccessExclusive",
    "RowShareLock": "Exclusive AccessExclusive",
    "RowExclusiveLock": "Share ShareRowExclusive Exclusive AccessExclusive",
    "ShareUpdateExclusiveLock": (
        "ShareUpdateExclusive Share ShareRowExclusive Exclusive AccessExclusive"
    ),
    "ShareLock": ("RowExclusive ShareUpdateExclusive ShareRowExclusive Exclusive AccessExclusive"),
    "ShareRowExclusiveLock": (
        "RowExclusive ShareUpdateExclusive Share ShareRowExclusive Exclusive AccessExclusive"
    ),
    "ExclusiveLock": (
        "RowShare RowExclusive ShareUpdateExclusive Share ShareRowExclusive Exclusive"
        " AccessExclusive"
    ),
    "AccessExclusiveLock": (
        "AccessShare RowShare RowExclusive ShareUpdateExclusive Share ShareRowExclusive"
        " Exclusive AccessExclusive"
    ),
}
CONFLICTS: dict[str, frozenset[str]] = {
    mode: frozenset(f"{other}Lock" for other in others.split())
    for mode, others in _CONFLICTS.items()
}


class Lock(NamedTuple):
    """One row of locks.sql, in its order."""

    tag: str
    lock_type: str
    database_oid: int | None
    relation_oid: int | None
    mode: str
    granted: bool
    pid: int | None  # None: a prepared transaction
    waitstart: datetime | None  # since 14, and not in a wait's first moment


@dataclass(frozen=True, slots=True)
class Waiting:
    """One session that waits, before its place in the tree is known."""

    pid: int
    lock: Lock
    hard: tuple[int, ...]  # who holds what it waits for
    soft: tuple[int, ...]  # who is ahead in the queue; only where nobody holds it

    @property
    def blocked_by(self) -> tuple[int, ...]:
        """Those to look at: the holders, else those ahead."""
        return self.hard or self.soft


def waiting(
    locks: Iterable[Lock],
    leaders: Mapping[int, int],
    told: Mapping[int, Sequence[int]] | None = None,
) -> dict[int, Waiting]:
    """Every session that waits, by pid. A parallel worker waits on behalf of its leader.

    told: what pg_blocking_pids said, for those that it was asked about. Without it the
          edges follow from the locks. Of those ahead in a queue only the first is named: a
          hundred waiters of one lock would otherwise name five thousand.
    """

    def who(pid: int | None) -> int:
        return PREPARED if pid is None else leaders.get(pid, pid)

    held: dict[str, list[Lock]] = defaultdict(list)
    queues: dict[str, list[Lock]] = defaultdict(list)
    for lock in locks:
        (held if lock.granted else queues)[lock.tag].append(lock)
    found: dict[int, Waiting] = {}
    for tag, queue in queues.items():
        queue.sort(key=lambda lock: (lock.waitstart is None, lock.waitstart, lock.pid or 0))
        for position, lock in enumerate(queue):
            pid = who(lock.pid)
            if pid in found and found[pid].hard:
                continue  # several workers of one leader wait; one tells enough
            conflicts = CONFLICTS.get(lock.mode, frozenset())
            hard = _others(pid, (who(h.pid) for h in held[tag] if h.mode in conflicts))
            soft: tuple[int, ...] = ()
            if told is not None and lock.pid is not None and lock.pid in told:
                named = _others(pid, (who(blocker) for blocker in told[lock.pid]))
                # Who holds it is known from another moment than who is in the way.
                hard = tuple(blocker for blocker in named if blocker in hard)
                soft = () if hard else named
            elif not hard:
                ahead = (who(a.pid) for a in queue[:position] if a.mode in conflicts)
                soft = _others(pid, ahead)[:1]
            found[pid] = Waiting(pid, lock, hard, soft)
    return found


def _others(pid: int, pids: Iterable[int]) -> tuple[int, ...]:
    """*pids* without *pid*, each once, in order."""
    return tuple(dict.fromkeys(other for other in pids if other != pid))


def places(blocked_by: Mapping[int, Sequence[int]]) -> dict[int, tuple[int | None, int]]:
    """The root of each waiter and its distance from it; (None, 0) in or behind a cycle.

    Walked from the roots outwards, so a cycle is never entered and each waiter gets the
    nearest root.

    >>> places({2: (1,), 3: (2,), 8: (9,), 9: (8,)})
    {2: (1, 1), 3: (1, 2), 8: (None, 0), 9: (None, 0)}
    """
    behind: dict[int, list[int]] = defaultdict(list)
    for pid, blockers in blocked_by.items():
        for blocker in blockers:
            behind[blocker].append(pid)
    found: dict[int, tuple[int | None, int]] = {}
    line = deque((root, root, 0) for root in sorted(behind.keys() - blocked_by.keys()))
    while line:
        root, pid, depth = line.popleft()
        for waiter in behind.get(pid, ()):
            if waiter not in found:
                found[waiter] = (root, depth + 1)
                line.append((root, waiter, depth + 1))
    return {pid: found.get(pid, (None, 0)) for pid in blocked_by}


def lock_waits(
    found: Mapping[int, Waiting],
    sessions: Mapping[int, Session],
    relations: Mapping[int, str],
    clock: datetime,
) -> tuple[LockWait, ...]:
    """The tree, those nearest to a root first.

    sessions: by pid; who is not in it (an autovacuum worker that waits) has no LockWait.
    relations: the name of each waiter's table, by the waiter's pid.
    clock:    the server's.
    """
    place = places({pid: waiter.blocked_by for pid, waiter in found.items()})
    waits = []
    for pid, waiter in found.items():
        session = sessions.get(pid)
        if session is None or not waiter.blocked_by:
            continue  # unknown, or served in the meantime
        since = waiter.lock.waitstart
        seconds = session.state_seconds if since is None else (clock - since).total_seconds()
        root, depth = place[pid]
        waits.append(
            LockWait(
                pid=pid,
                backend_start=session.backend_start,
                blocked_by=waiter.blocked_by,
                root=root,
                depth=depth,
                soft=not waiter.hard,
                lock_type=waiter.lock.lock_type,
                mode=waiter.lock.mode,
                relation=relations.get(pid),
                wait_seconds=max(seconds or 0.0, 0.0),
            )
        )
    return tuple(sorted(waits, key=lambda wait: (wait.depth, -wait.wait_seconds, wait.pid)))
