"""The one connection that is held to a target.

It is opened early and kept, because a monitor must still see when every slot is taken.
No call here takes longer than the deadline it is given, whatever the other side does: a
server-side timeout does not help against a stopped server, and cancelling a psycopg call
waits for up to ten seconds. So work runs as a task, and at the deadline the socket is
shut down under it, which ends the task at once.

A server in trouble keeps what we give up: a backend that waits for a locked catalog or is
stopped does not see its client go. So an attempt to connect outlives the polls that wait
for it, and while two connections of ours hang over there, no third one is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from collectors.backoff import Backoff
from collectors.connect_failures import (
    explain_connect,
    explain_first_word,
    explain_session,
    recognised,
)
from collectors.errors import (
    CollectError,
    NotPermitted,
    NotThisKind,
    NoWay,
    TargetUnreachable,
    error_for,
)
from collectors.left_behind import LeftBehind
from collectors.resolve import RESOLVER, Resolver, resolved
from collectors.startup_probe import first_word
from collectors.text import CLIENT_ENCODING, read_any_text
from model.samples import Failure
from model.targets import Target

APPLICATION_NAME = "headroom"
CONNECT_TIMEOUT = 75.0
"""Seconds that one attempt may take. Longer than the server's authentication_timeout (60 s),
so that the server gives up first and an attempt of ours never leaves a backend behind."""
LOOKUP_TIMEOUT = 5.0  # seconds for a host name; longer than a name server that works takes
PATIENCE_PER_HOST = 10.0  # seconds, where the connection string names several hosts
SOON = 1.5  # seconds; whoever cuts a new connection does so at once
INTRODUCTION = 5.0  # seconds at least for our first questions, over a slow line too
MOST_LEFT_BEHIND = 1  # connections that hang over there, beside the one that we use
MARGIN = 0.05  # of the deadline; a poll that hangs ends before the next one is due
_UNKNOWN_OPTION = re.compile(r'invalid (?:connection option|URI query parameter):? "(\w+)"')
_GRACE = 0.3  # seconds that a task gets to end after its socket was shut down

T = TypeVar("T")
Introduce = Callable[[AsyncConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Manner:
    """How to talk to a kind of target.

    prepare_threshold: 0 prepares each statement; None uses no prepared statements.
    overrides:         libpq parameters that win over the connection string.
    """

    prepare_threshold: int | None
    overrides: Mapping[str, str]


class HeldConnection:
    """Holds one connection to *target*; reconnects with back-off; one attempt at a time.

    introduce: asked once per connection, before it is used; raises CollectError when this
               is not the kind of target that was meant.
    """

    def __init__(
        self,
        target: Target,
        manner: Manner,
        introduce: Introduce,
        *,
        resolver: Resolver = RESOLVER,
        backoff: Backoff | None = None,
    ) -> None:
        self._target = target
        self._manner = manner
        self._introduce = introduce
        self._resolver = resolver
        self._backoff = backoff or Backoff()
        self._connection: AsyncConnection | None = None
        self._attempt: asyncio.Task[AsyncConnection] | None = None
        self._attempt_began = 0.0
        self._not_before = 0.0  # monotonic; when the next attempt may begin
        self._last_error: CollectError | None = None
        self._secrets: tuple[str, ...] = ()
        self._where: dict[str, str] = {}  # where the last attempt went to
        self._doing = ""  # what it waits for, in words
        self._left = LeftBehind()

    async def ask(self, work: Callable[[AsyncConnection], Awaitable[T]], deadline: float) -> T:
        """What *work* answers, before *deadline* (monotonic). Raises CollectError.

        A connection that turns out to have been closed is replaced once within the call.
        """
        fresh = False
        while True:
            held = self._connection
            connection = await self._connected(deadline)
            fresh = fresh or connection is not held
            try:
                answer = await self._in_time(work(connection), connection, deadline)
            except psycopg.Error as error:
                lost = connection.closed
                if lost:
                    await self._drop()
                if lost and not fresh:
                    continue
                failure = explain_session(error, self._secrets)
                if lost:
                    self._failed(failure)
                raise failure from error
            self._backoff.succeeded()
            self._last_error = None
            return answer

    async def close(self) -> None:
        """Close the connection and give up an attempt that is under way."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
            await asyncio.wait({attempt}, timeout=_GRACE)
            if attempt.done() and not attempt.cancelled() and attempt.exception() is None:
                await attempt.result().close()
        await self._drop()
        self._left.close()

    # The connection

    async def _connected(self, deadline: float) -> AsyncConnection:
        if self._connection is not None:
            if not self._connection.closed:
                return self._connection
            await self._drop()
        if self._attempt is None:
            wait = self._not_before - monotonic()
            if wait > 0 and self._last_error is not None:
                last = self._last_error
                raise error_for(last.failure, f"{last.reason}; next attempt in {ceil(wait)} s")
            if (hanging := self._left.count()) > MOST_LEFT_BEHIND:
                raise TargetUnreachable(
                    Failure.TIMEOUT,
                    f"{hanging} connections of ours hang on the server; "
                    "another one is opened when one of them ends",
                )
            self._attempt_began = monotonic()
            self._attempt = asyncio.create_task(self._open(), name=f"open {self._target.name}")
        attempt = self._attempt
        await asyncio.wait({attempt}, timeout=max(deadline - monotonic(), 0.0))
        waited = monotonic() - self._attempt_began
        if not attempt.done():
            raise TargetUnreachable(
                Failure.TIMEOUT, f"no answer to {self._doing} for {waited:.1f} s"
            )
        self._attempt = None
        try:
            self._connection = attempt.result()
        except CollectError as error:
            self._failed(error)
            raise
        except Exception as error:
            # A mistake of ours; it must not become an attempt per poll either.
            self._failed(NotThisKind(Failure.PROTOCOL, f"unexpected {type(error).__name__}"))
            raise
        if deadline - monotonic() < self._target.deadline_seconds / 2:
            # Too little time is left for a question. Asking now would cut the connection at
            # the deadline, in every poll again; the next poll finds it ready.
            raise TargetUnreachable(
                Failure.TIMEOUT, f"connecting took {waited:.1f} s; asking at the next poll"
            )
        return self._connection

    async def _open(self) -> AsyncConnection:
        """One attempt. Raises CollectError, and nothing else, within the connect timeout."""
        dial = asyncio.create_task(self._dial())
        try:
            await asyncio.wait({dial}, timeout=CONNECT_TIMEOUT)
        finally:
            if not dial.done():
                # Unlike a statement, a connection attempt is given up at once when cancelled.
                dial.cancel()
                dial.add_done_callback(_close_late)
        if not dial.done():
            raise TargetUnreachable(
                Failure.TIMEOUT,
                f"no answer to the connection attempt for {CONNECT_TIMEOUT:.0f} s",
            )
        try:
            connection = dial.result()
        except psycopg.Error as error:
            raise await self._explained(error) from error
        except OSError as error:
            raise TargetUnreachable(Failure.UNREACHABLE, f"{error}") from error
        deadline = monotonic() + max(self._target.deadline_seconds, INTRODUCTION)
        try:
            await self._in_time(self._introduce(connection), connection, deadline)
        except psycopg.Error as error:
            await connection.close()
            raise explain_session(error, self._secrets) from error
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _explained(self, error: psycopg.Error) -> CollectError:
        """Why the attempt failed. A refusal in words we do not know is looked into, once."""
        waited = monotonic() - self._attempt_began
        if waited > SOON and "closed the connection unexpectedly" in str(error):
            # So libpq says it too when the kernel gave up, or the server on our login.
            kind = NoWay if waited < PATIENCE_PER_HOST else TargetUnreachable
            words = f"no answer to the connection attempt for {waited:.1f} s"
            return kind(Failure.TIMEOUT, words)
        explained = explain_connect(error, self._secrets)
        if not recognised(str(error)):
            word = await first_word(self._where)
            if word is not None and word.sqlstate is not None:
                return explain_first_word(word, self._secrets) or explained
        return explained

    async def _dial(self) -> AsyncConnection:
        parameters = self._parameters()
        self._doing = "the look-up of the host name"
        where = await resolved(parameters, LOOKUP_TIMEOUT, self._resolver)
        self._doing = "the connection attempt"
        self._where = {**parameters, **where}
        merged: dict[str, Any] = dict(self._where)
        connection = await AsyncConnection.connect(
            "", autocommit=True, prepare_threshold=self._manner.prepare_threshold, **merged
        )
        read_any_text(connection)
        return connection

    def _parameters(self) -> dict[str, str]:
        """libpq parameters: ours as defaults, the user's, and what must be as it is."""
        dsn = self._target.dsn.get_secret_value() if self._target.dsn else ""
        try:
            given = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
        except psycopg.Error as error:
            # libpq quotes the part that it cannot read, and that part may be a password. So only
            # what looks like a slip of the pen in an option's name is repeated.
            unknown = _UNKNOWN_OPTION.search(str(error))
            known = [option.keyword.decode() for option in Conninfo.get_defaults()]
            close = get_close_matches(unknown[1], known, n=1, cutoff=0.8) if unknown else []
            what = f"; did you mean {close[0]!r}, not {unknown[1]!r}?" if unknown and close else ""
            raise NotPermitted(
                Failure.PROTOCOL,
                f"the connection string cannot be read{what}; check `dsn` of this target",
            ) from None
        self._secrets = tuple(
            value for key in ("password", "sslpassword") if (value := given.get(key))
        )
        seconds = ceil(self._target.deadline_seconds)
        several = "," in given.get("host", "") or "," in given.get("hostaddr", "")
        return {
            # A network that drops packets is noticed by the kernel too, in seconds.
            "keepalives": "1",
            "keepalives_idle": str(seconds),
            "keepalives_interval": "1",
            "keepalives_count": "2",
            "tcp_user_timeout": str(max(seconds, 2) * 1000),
            **given,
            "application_name": APPLICATION_NAME,
            "client_encoding": CLIENT_ENCODING,
            "connect_timeout": str(ceil(PATIENCE_PER_HOST if several else CONNECT_TIMEOUT)),
            **self._manner.overrides,
        }

    def _failed(self, error: CollectError) -> None:
        self._last_error = error
        failure = Failure.UNREACHABLE if isinstance(error, NoWay) else error.failure
        self._not_before = monotonic() + self._backoff.failed(failure)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    # The deadline

    async def _in_time(self, work: Awaitable[T], connection: AsyncConnection, deadline: float) -> T:
        """What *work* answers; at *deadline* the socket is shut down under it."""
        task = asyncio.create_task(_coroutine(work))
        try:
            await asyncio.wait({task}, timeout=max(deadline - monotonic(), 0.0))
        except asyncio.CancelledError:
            self._left.add(connection)
            task.add_done_callback(_forget)
            raise
        if task.done():
            return task.result()
        self._left.add(connection)
        await asyncio.wait({task}, timeout=_GRACE)
        task.add_done_callback(_forget)  # abandoned if it still runs; nobody waits for it
        if self._connection is connection:
            self._connection = None
            error = TargetUnreachable(
                Failure.TIMEOUT,
                f"no answer within {self._target.deadline_seconds:g} s; "
                "the connection was given up",
            )
            self._last_error = error
            self._not_before = monotonic() + self._backoff.cut()
        else:
            error = TargetUnreachable(Failure.TIMEOUT, "connected, but it answers no question")
        if task.done():
            await connection.close()
        raise error


async def _coroutine(work: Awaitable[T]) -> T:
    return await work


def _forget(task: asyncio.Task[Any]) -> None:
    """Take note of how an abandoned task ended, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()


def _close_late(task: asyncio.Task[AsyncConnection]) -> None:
    """Close a connection that came into being after its attempt was given up."""
    if not task.cancelled() and task.exception() is None:
        late = task.result()
        closing: Coroutine[Any, Any, None] = late.close()
        asyncio.get_running_loop().create_task(closing).add_done_callback(_forget)
