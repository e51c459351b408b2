"""Who blocks whom, from the pids in Session.blocked_by.

Source: https://www.postgresql.org/docs/current/functions-info.html (pg_blocking_pids).
A pid may be 0: a prepared transaction, which has no session. Chains may be cyclic for a
moment (before the deadlock check) and are walked safely.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model.samples import Session


@dataclass(frozen=True, slots=True)
class Chains:
    """The lock waits of one moment.

    waits_for: pid → pids it waits for.  holds_up: pid → pids that wait for it directly.
    """

    waits_for: dict[int, tuple[int, ...]]
    holds_up: dict[int, list[int]]

    def blocked(self, pid: int) -> set[int]:
        """All sessions that wait for *pid*, directly or behind others."""
        found: set[int] = set()
        todo = [pid]
        while todo:
            for waiter in self.holds_up.get(todo.pop(), ()):
                if waiter not in found and waiter != pid:
                    found.add(waiter)
                    todo.append(waiter)
        return found

    def roots(self) -> list[int]:
        """Pids that block and do not wait themselves, the worst first.

        Only they can be blamed: a waiter in the middle is held up too.
        """
        roots = [pid for pid in self.holds_up if pid not in self.waits_for]
        return sorted(roots, key=lambda pid: (-len(self.blocked(pid)), pid))

    def root_of(self, pid: int) -> int | None:
        """A root that *pid* waits for; None if it does not wait or only waits in a circle."""
        seen = {pid}
        todo = list(self.waits_for.get(pid, ()))
        while todo:
            other = todo.pop()
            if other in seen:
                continue
            seen.add(other)
            if other not in self.waits_for:
                return other
            todo.extend(self.waits_for[other])
        return None


def chains(sessions: Iterable[Session]) -> Chains:
    """The lock waits among *sessions*."""
    waits_for = {s.pid: s.blocked_by for s in sessions if s.blocked_by}
    holds_up: dict[int, list[int]] = {}
    for waiter, blockers in waits_for.items():
        for blocker in set(blockers):
            holds_up.setdefault(blocker, []).append(waiter)
    return Chains(waits_for, holds_up)
