"""The sessions of a server that has many, without reading all of them every second.

Sessions that do nothing and did nothing since the last look are as they were. So once all
were read, a look needs only those that work or changed, and the pids of all, to see who is
gone. docs/decisions/0005-many-sessions.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from collectors.applications import ApplicationNames
from collectors.postgresql_rows import Activity, Names, Row, activity, begun, session, waiters
from model.samples import Session

BEGINS = 500  # client backends from which not every row is read every second
ENDS = 400  # fewer than that, and every row is read again
READ_ALL_EVERY = 15.0  # seconds; repairs whatever the looks between have left out
_OVERLAP = timedelta(seconds=1)  # the server reads its clock after its backends


class Crowd:
    """What is known of each session of one server, from look to look.

    active:     whether there are so many that the cheap look should be used.
    incomplete: some sessions were counted and are not known yet.
    """

    def __init__(self, applications: ApplicationNames) -> None:
        self._applications = applications
        self._rows: dict[int, Row] = {}
        self._sessions: dict[int, Session] = {}
        self._since: datetime | None = None
        self.active = False
        self.incomplete = False

    def forget(self) -> None:
        """A new connection: read everything first."""
        self._rows.clear()
        self._sessions.clear()
        self.active = False

    @property
    def since(self) -> datetime:
        """From when on a change must be read; the server's clock."""
        assert self._since is not None, "everything was read before"
        return self._since - _OVERLAP

    def read_all(self, rows: Sequence[Row], names: Names) -> Activity:
        """Every row was read, by activity.sql."""
        self._applications.look(row.application or "" for row in rows if not row.is_ours)
        seen = activity(rows, names, self._applications.name)
        seen.folded_applications = self._applications.folded
        self._since = seen.clock
        self.incomplete = False
        self.active = len(rows) >= (ENDS if self.active else BEGINS) and not seen.hidden
        if self.active:
            self._sessions = {session.pid: session for session in seen.sessions}
            self._rows = {row.pid: row for row in rows if row.pid in self._sessions}
        elif self._rows:
            self.forget()
        return seen

    def read_some(self, answer: Sequence[Sequence[Any]], names: Names) -> Activity:
        """What activity_crowd.sql answered: totals are exact, idle sessions as last read."""
        hot = [Row(*columns) for *columns, pids in answer if pids is None]
        seen = begun(hot)
        there: set[int] = set()
        for *columns, pids in answer:
            if pids is not None and seen.count(Row(*columns), len(pids)):
                there.update(pids)
        for pid in self._rows.keys() - there:
            del self._rows[pid], self._sessions[pid]
        fresh = {row.pid: row for row in hot if row.pid in there}
        self._rows.update(fresh)
        self.incomplete = len(there) > len(self._rows)
        # Only rows that may be new or changed can bring new names.
        if self._applications.look(row.application or "" for row in self._rows.values()):
            fresh = self._rows  # other names are kept than before: every session is renamed
        for pid, row in fresh.items():
            self._sessions[pid] = session(row, names, self._applications.name)
        seen.sessions = list(self._sessions.values())
        seen.lock_waiters = waiters(hot)
        seen.leaders = {r.pid: r.leader_pid for r in hot if r.leader_pid not in (None, r.pid)}
        seen.folded_applications = self._applications.folded
        self._since = seen.clock
        # Gone at once when most have left; the next look then reads every row again.
        self.active = len(there) >= ENDS
        return seen
