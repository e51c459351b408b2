"""What a rule may look at: a target's window of samples, and those of related targets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from model.samples import Failure, Sample, Session
from model.targets import Target

WINDOW = timedelta(seconds=120)  # how much is kept in memory per target
FRESH = timedelta(seconds=10)  # a related target's sample older than this explains nothing
OWN_APPLICATION = "headroom"  # application_name of our own connections
FULL = frozenset({Failure.SLOTS_EXHAUSTED, Failure.ROLE_LIMIT, Failure.DATABASE_LIMIT})
"""Failures of a server that answers, but has no slot for us: full, not down."""


class Window:
    """The last samples of one target, newest last.

    Only the newest answer keeps its sessions, links and other long lists: no rule looks at
    older ones, and 120 s of them for hundreds of targets would not fit into memory.

    newest:        the last sample, up or not.
    newest_up:     the last sample that is up; with its sessions.
    answered_at:   when the target last answered, be it "I am full"; None if it never did.
    watched_since: when the first sample came.
    """

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque()
        self.newest: Sample | None = None
        self.newest_up: Sample | None = None
        self.answered_at: datetime | None = None
        self.watched_since: datetime | None = None

    def add(self, sample: Sample) -> None:
        """Take the next sample and forget those that are too old."""
        if self.samples:
            self.samples[-1] = _without_rows(self.samples[-1])
        self.samples.append(sample)
        self.newest = sample
        if sample.up:
            self.newest_up = sample
        if sample.up or sample.failure in FULL:
            self.answered_at = sample.at
        if self.watched_since is None:
            self.watched_since = sample.at
        oldest = sample.at - WINDOW
        while self.samples[0].at < oldest:
            self.samples.popleft()

    def held_since(self, condition: Callable[[Sample], bool]) -> datetime | None:
        """When *condition* began to hold without a break until now; None if it does not hold.

        Failed polls prove nothing: they neither break the stretch nor begin it. A stretch
        longer than the window counts from the window's first sample.
        """
        since: datetime | None = None
        for sample in reversed(self.samples):
            if not sample.up:
                continue
            if not condition(sample):
                break
            since = sample.at
        return since


_ROWS = ("sessions", "databases", "roles", "lock_waits", "pool_databases", "links")
"""The parts of a sample that grow with what is connected. Pools stay: held_since() asks them."""


def _without_rows(sample: Sample) -> Sample:
    if all(getattr(sample, part) is None for part in _ROWS):
        return sample
    return replace(
        sample,
        sessions=None,
        databases=None,
        roles=None,
        lock_waits=None,
        pool_databases=None,
        links=None,
    )


@dataclass(frozen=True, slots=True)
class View:
    """All that a rule may know about one target at one moment.

    related: of a pooler the servers it serves, of a server its poolers; by name.
    """

    target: Target
    window: Window
    related: Mapping[str, Window] = field(default_factory=dict)

    @property
    def newest(self) -> Sample | None:
        """The last sample, up or not."""
        return self.window.newest

    @property
    def answer(self) -> Sample | None:
        """The last sample if it is up, else None: what holds right now."""
        newest = self.window.newest
        return newest if newest is not None and newest.up else None

    @property
    def sessions(self) -> tuple[Session, ...] | None:
        """Client sessions right now, without our own; None where unknown or hidden."""
        return None if self.answer is None else visible_sessions(self.answer)

    def related_answers(self) -> list[Sample]:
        """The newest answers of the related targets, as far as they are fresh and up."""
        newest = self.window.newest
        found = []
        for window in self.related.values():
            other = window.newest
            if newest and other and other.up and abs(newest.at - other.at) <= FRESH:
                found.append(other)
        return found


def visible_sessions(sample: Sample) -> tuple[Session, ...] | None:
    """The sessions of *sample* without our own; None where they are unknown or hidden.

    A role without pg_monitor sees other sessions without their state: that is not "idle".
    """
    if sample.sessions is None:
        return None
    others = tuple(s for s in sample.sessions if s.application != OWN_APPLICATION)
    hidden = sample.server is not None and sample.server.states is None
    if hidden and all(s.state is None for s in others):
        return None
    return others
