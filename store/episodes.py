"""Snapshots folded into episodes: sessions, lock waits, links of clients to backends.

An episode is a stretch in which something stayed the same: of a session, its state,
transaction and statement. It is one row from beginning to end instead of one row a second.
`started_at <= t < ended_at` answers who was there at t.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from model.samples import Link, LockWait, Session

LONGEST = timedelta(hours=1)
"""An episode is cut after this long, so that a lookup of a past moment has a bounded range
to read. An idle session costs one row an hour."""

RESTATED = timedelta(seconds=5)
"""An idle session that worked between two polls goes on as the same episode, and its row is
told when its state last changed; but not when the row knows a change that is younger than
this, so that a busy pool does not have all its rows written in every poll."""

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Episode(Generic[T]):
    """One open episode of something, as it was when the episode began."""

    what: T
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Fold(Generic[K, T]):
    """What one more snapshot did to the open episodes."""

    open: dict[K, Episode[T]]
    began: tuple[Episode[T], ...]
    ended: tuple[Episode[T], ...]
    restated: tuple[Episode[T], ...] = ()  # those that go on, but their row has to be told


def never(_a: object, _b: object) -> bool:
    """What is known of it stays true."""
    return False


def fold(
    before: Mapping[K, Episode[T]],
    snapshot: Iterable[T],
    at: datetime,
    *,
    identity: Callable[[T], K],
    same: Callable[[T, T], bool],
    moved: Callable[[T, T], bool] = never,
) -> Fold[K, T]:
    """Add one *snapshot* taken at *at* to the episodes that were open *before* it.

    identity: whose episode it is; same: whether it goes on.
    moved: whether what is known of it is too old.
    """
    after: dict[K, Episode[T]] = {}
    began: list[Episode[T]] = []
    ended: list[Episode[T]] = []
    restated: list[Episode[T]] = []
    for item in snapshot:
        key = identity(item)
        if key in after:  # the server's view is not atomic; it may show a pid twice
            continue
        episode = before.get(key)
        if episode is not None and same(episode.what, item) and at - episode.started_at < LONGEST:
            if moved(episode.what, item):
                episode = Episode(item, episode.started_at)
                restated.append(episode)
            after[key] = episode
            continue
        if episode is not None:
            ended.append(episode)
        after[key] = Episode(item, at)
        began.append(after[key])
    ended.extend(episode for key, episode in before.items() if key not in after)
    return Fold(after, tuple(began), tuple(ended), tuple(restated))


def session_identity(session: Session) -> tuple[int, datetime]:
    """A pid alone is reused."""
    return (session.pid, session.backend_start)


def same_session(a: Session, b: Session) -> bool:
    """Whether nothing that makes an episode changed between two snapshots.

    An idle session is the same although it worked in between: what it did was shorter than
    a poll. Who is blocked by whom is part of it, since that is what is looked for later.
    """
    if a.state != b.state or a.application != b.application or a.role != b.role:
        return False
    if a.state == "idle":
        return True
    return (
        a.xact_start == b.xact_start
        and a.query_start == b.query_start
        and a.statement == b.statement
        and a.blocked_by == b.blocked_by
    )


def session_moved(known: Session, seen: Session) -> bool:
    """Whether the row of an episode that goes on has to be told when its state last changed.

    What a row says is younger than RESTATED, or it is true: see store.latest.sessions_at.
    """
    if seen.state_change is None or known.state_change == seen.state_change:
        return False
    if known.state_change is None:
        return True
    server_now = seen.state_change + timedelta(seconds=seen.state_seconds or 0.0)
    return server_now - known.state_change >= RESTATED


def wait_identity(wait: LockWait) -> tuple[int, datetime]:
    """A session waits for one lock at a time."""
    return (wait.pid, wait.backend_start)


def same_wait(a: LockWait, b: LockWait) -> bool:
    """Whether it is still the same wait: for the same lock, behind the same sessions."""
    return (a.lock_type, a.mode, a.relation, a.blocked_by, a.root) == (
        b.lock_type,
        b.mode,
        b.relation,
        b.blocked_by,
        b.root,
    )


def link_identity(link: Link) -> str:
    """The pooler's own name for its client."""
    return link.client_id


def same_link(a: Link, b: Link) -> bool:
    """Whether the client has the same state and the same backend."""
    return (a.state, a.backend_pid, a.application) == (b.state, b.backend_pid, b.application)
