"""Courier: from the outbox to the channels. Send, then mark; retry; give up late.

One task per channel, so a channel that hangs holds up no other. In a channel one message
at a time. A message that failed waits for its next try outside the way of other alerts;
within an alert the outbox hands out only the first, so "resolved" never overtakes "firing".

A store that cannot be written stops nothing: what became of a message is kept in memory until
it is marked, the message is left alone meanwhile, and all others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Protocol

from alerts.notify.channels import Senders
from alerts.notify.errors import NotifyError
from alerts.pace import PER_SECOND, Pace
from model.alerting import Notice
from model.channels import Channel

log = logging.getLogger("headroom.alerts")

BATCH = 20  # messages asked for at once
FIRST_RETRY = 1.0  # seconds; doubled with every try
LONGEST_RETRY = 300.0  # seconds
LONGEST_WISH = 3600.0  # seconds of Retry-After that we follow
LONGEST_PAUSE = 60.0  # seconds that one 429 may stop its whole channel
IDLE = 30.0  # seconds between looks into an outbox in which nothing is known to wait
RETRY_LOOK = 1.0  # seconds between looks while something waits for its next try
GRACE = 2.0  # seconds that stop() gives a message that is on its way
TIMEOUT_MARGIN = 1.0  # seconds on top of a channel's own timeout, for its last clean-up


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message in the outbox, for one channel.

    attempts: how often it was tried before.
    """

    id: str
    notice: Notice
    attempts: int
    created_at: datetime


class Outbox(Protocol):
    """Where messages lie until they are sent; kept by the store."""

    async def due(self, channel: str, at: datetime, limit: int) -> list[Parcel]:
        """Messages of *channel* to try now, oldest first; of an alert only the first unsent."""

    async def sent(self, parcel_id: str, at: datetime) -> None:
        """The receiver has it."""

    async def failed(
        self, parcel_id: str, at: datetime, error: str, next_attempt_at: datetime
    ) -> None:
        """It was refused; try again later."""

    async def dead(self, parcel_id: str, at: datetime, error: str) -> None:
        """It is given up."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def retry_delay(attempts: int, chance: float, wish: float | None = None) -> float:
    """Seconds until the next try after *attempts* failed ones before this.

    chance: 0 … 1, spreads the tries of many messages over half to all of the delay.
    wish:   what the receiver asked for; followed up to an hour.

    >>> [retry_delay(n, 1.0) for n in (0, 1, 2, 20)], retry_delay(0, 1.0, 30.0)
    ([1.0, 2.0, 4.0, 300.0], 30.0)
    """
    delay = min(FIRST_RETRY * 2.0 ** min(attempts, 20), LONGEST_RETRY) * (0.5 + chance / 2)
    return max(delay, min(wish or 0.0, LONGEST_WISH))


class Courier:
    """Sends what lies in the outbox.

    retry_for: seconds after which a message is given up (`alerts.retry_for`).
    send:      sends one notice by a channel's name; by default Senders.
    now:       the wall clock, read for each message.
    timer:     seconds that never jump, for the pace; sleep: waits that many of them.
    """

    def __init__(
        self,
        outbox: Outbox,
        channels: Sequence[Channel],
        retry_for: float = 86400.0,
        *,
        send: Callable[[str, Notice], Awaitable[None]] | None = None,
        now: Callable[[], datetime] = _utc_now,
        chance: Callable[[], float] = random.random,
        per_second: float = PER_SECOND,
        timer: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outbox = outbox
        self._channels = tuple(channels)
        self._retry_for = timedelta(seconds=retry_for)
        self._send = send
        self._now = now
        self._chance = chance
        self._pace = partial(Pace, per_second, timer, sleep)
        self._wakers = {channel.name: asyncio.Event() for channel in channels}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def wake(self) -> None:
        """Something was put into the outbox. Call it in the event loop, after the commit."""
        for waker in self._wakers.values():
            waker.set()

    async def run(self) -> None:
        """Deliver until cancelled or stopped."""
        senders = None if self._send else Senders(self._channels)
        send = self._send or (senders.send if senders else None)
        assert send is not None
        try:
            self._tasks = [
                asyncio.create_task(self._serve(channel, send), name=f"courier-{channel.name}")
                for channel in self._channels
            ]
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if senders is not None:
                await senders.close()

    async def stop(self) -> None:
        """Finish the message that is on its way, at most two seconds, and end run()."""
        self._stopping = True
        self.wake()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE)
            for task in late:
                task.cancel()

    async def _serve(
        self, channel: Channel, send: Callable[[str, Notice], Awaitable[None]]
    ) -> None:
        run = _Run(
            self._outbox,
            channel,
            send=send,
            retry_for=self._retry_for,
            now=self._now,
            chance=self._chance,
            pace=self._pace(),
        )
        waker = self._wakers[channel.name]
        while not self._stopping:
            waker.clear()
            try:
                more = await run.round(lambda: self._stopping)
            except Exception:
                # The store, most likely. Nothing is lost: it all stays in the outbox.
                log.exception("cannot read the outbox of channel %s", channel.name)
                more, run.waiting = False, True
            if more or self._stopping:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_LOOK if run.waiting else IDLE):
                    await waker.wait()
        await run.mark()


@dataclass(frozen=True, slots=True)
class _Fate:
    """What became of a message and is not marked in the outbox yet.

    mark:  the call that marks it.
    tries: how often it was tried by now.
    again: when it may be tried again; None if it is sent or given up.
    """

    mark: Callable[[], Awaitable[None]]
    tries: int
    again: datetime | None


class _Run:
    """The deliveries of one channel.

    waiting: something is known to need another look soon.
    """

    def __init__(
        self,
        outbox: Outbox,
        channel: Channel,
        *,
        send: Callable[[str, Notice], Awaitable[None]],
        retry_for: timedelta,
        now: Callable[[], datetime],
        chance: Callable[[], float],
        pace: Pace,
    ) -> None:
        self.waiting = False
        self._outbox = outbox
        self._channel = channel
        self._send = send
        self._retry_for = retry_for
        self._now = now
        self._chance = chance
        self._pace = pace
        self._unmarked: dict[str, _Fate] = {}
        self._retries: dict[str, datetime] = {}

    async def round(self, stopping: Callable[[], bool]) -> bool:
        """Try all that is due; True if there may be more at once. Raises what the outbox's
        due() raises.
        """
        await self.mark()
        if self._pace.paused:
            self.waiting = True
            return False
        at = self._now()
        tried = False
        # What cannot be marked may still be handed out: it must not take the place of others.
        limit = BATCH + len(self._unmarked)
        for parcel in await self._outbox.due(self._channel.name, at, limit):
            fate = self._unmarked.get(parcel.id)
            if fate is not None and (fate.again is None or fate.again > at):
                continue
            if stopping() or self._pace.paused:
                break
            await self._pace.wait()
            await self._deliver(parcel, parcel.attempts if fate is None else fate.tries)
            tried = True
        at = self._now()
        self._retries = {key: when for key, when in self._retries.items() if when > at}
        self.waiting = bool(self._retries or self._unmarked)
        return tried

    async def mark(self) -> None:
        """Mark what could not be marked before; each by itself, so that none stops another."""
        for parcel_id in list(self._unmarked):
            await self._try_to_mark(parcel_id)

    async def _settle(self, parcel: Parcel, fate: _Fate) -> None:
        """Keep what became of *parcel* and mark it. If that fails, it must not go out twice."""
        self._unmarked[parcel.id] = fate
        error = await self._try_to_mark(parcel.id)
        if error is not None:
            log.error("cannot mark %s in the outbox yet: %s", self._named(parcel), error)

    async def _try_to_mark(self, parcel_id: str) -> Exception | None:
        """Why it could not be marked; None if it is."""
        try:
            await self._unmarked[parcel_id].mark()
        except Exception as error:
            return error
        del self._unmarked[parcel_id]
        return None

    async def _deliver(self, parcel: Parcel, tries: int) -> None:
        """Try *parcel*, which was tried so often before, and keep what became of it."""
        error: NotifyError | None = None
        try:
            async with asyncio.timeout(self._channel.timeout + TIMEOUT_MARGIN):
                await self._send(self._channel.name, parcel.notice)
        except NotifyError as refused:
            error = refused
        except TimeoutError:
            error = NotifyError(f"no answer within {self._channel.timeout:g} s")
        except Exception as broken:  # a message that we cannot even form
            log.exception("cannot form message %s", parcel.notice.id)
            error = NotifyError(f"cannot form the message: {type(broken).__name__}", permanent=True)
        at = self._now()
        if error is None:
            log.info("sent %s in try %d", self._named(parcel), tries + 1)
            fate = _Fate(lambda: self._outbox.sent(parcel.id, at), tries + 1, None)
        else:
            fate = self._refused(parcel, tries, at, error)
        await self._settle(parcel, fate)

    def _refused(self, parcel: Parcel, tries: int, at: datetime, error: NotifyError) -> _Fate:
        """Whether and when *parcel*, which was refused at *at*, is tried again."""
        named, text = self._named(parcel), str(error)
        wait = timedelta(seconds=retry_delay(tries, self._chance(), error.retry_after))
        again = at + wait
        if error.permanent or again - parcel.created_at > self._retry_for:
            why = "refused for good" if error.permanent else "tried for too long"
            log.error("gave up %s, %s: %s", named, why, text)
            return _Fate(lambda: self._outbox.dead(parcel.id, at, text), tries + 1, None)
        if error.retry_after:
            self._pace.pause(min(error.retry_after, LONGEST_PAUSE))
        log.warning(
            "cannot send %s in try %d, next in %.0f s: %s",
            named,
            tries + 1,
            wait.total_seconds(),
            text,
        )
        self._retries[parcel.id] = again
        return _Fate(lambda: self._outbox.failed(parcel.id, at, text, again), tries + 1, again)

    def _named(self, parcel: Parcel) -> str:
        notice = parcel.notice
        return (
            f"{notice.finding.rule} of {notice.finding.target} ({notice.reason.value}) "
            f"to channel {self._channel.name}"
        )
