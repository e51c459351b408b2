"""Courier: from the outbox to the channels. Send, then mark; retry; give up late.

One task per channel, so a channel that hangs holds up no other. In a channel one message
at a time. A message that failed waits for its next try outside the way of other alerts;
within an alert the outbox hands out only the first, so "resolved" never overtakes "firing".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from alerts.notify.channels import Senders
from alerts.notify.errors import NotifyError
from model.alerting import Notice
from model.channels import Channel

log = logging.getLogger("headroom.alerts")

BATCH = 20  # messages asked for at once
FIRST_RETRY = 1.0  # seconds; doubled with every try
LONGEST_RETRY = 300.0  # seconds
LONGEST_WISH = 3600.0  # seconds of Retry-After that we follow
LONGEST_PAUSE = 60.0  # seconds that one 429 may stop its whole channel
BURST = 5  # messages that a channel may send at once …
PER_SECOND = 1.0  # … and then this many a second: what Slack allows a webhook
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
    now:       the wall clock, read once at the top of each loop.
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
    ) -> None:
        self._outbox = outbox
        self._channels = tuple(channels)
        self._retry_for = timedelta(seconds=retry_for)
        self._send = send
        self._now = now
        self._chance = chance
        self._per_second = per_second
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
            chance=self._chance,
            per_second=self._per_second,
        )
        waker = self._wakers[channel.name]
        while not self._stopping:
            waker.clear()
            at = self._now()
            try:
                more = await run.round(at, lambda: self._stopping)
            except Exception:
                # The store, most likely. Nothing is lost: what is unmarked stays in the outbox.
                log.exception("cannot read or mark the outbox of channel %s", channel.name)
                more, run.waiting = False, True
            if more or self._stopping:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_LOOK if run.waiting else IDLE):
                    await waker.wait()


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
        chance: Callable[[], float],
        per_second: float,
    ) -> None:
        self.waiting = False
        self._outbox = outbox
        self._channel = channel
        self._send = send
        self._retry_for = retry_for
        self._chance = chance
        self._per_second = per_second
        self._allowance = float(BURST)
        self._refilled = asyncio.get_running_loop().time()
        self._paused_until = 0.0
        self._unmarked: dict[str, datetime] = {}
        self._retries: dict[str, datetime] = {}

    async def round(self, at: datetime, stopping: Callable[[], bool]) -> bool:
        """Try all that is due; True if there may be more at once."""
        if asyncio.get_running_loop().time() < self._paused_until:
            self.waiting = True
            return False
        for parcel_id, sent_at in list(self._unmarked.items()):
            await self._outbox.sent(parcel_id, sent_at)
            del self._unmarked[parcel_id]
        parcels = await self._outbox.due(self._channel.name, at, BATCH)
        for parcel in parcels:
            if stopping() or asyncio.get_running_loop().time() < self._paused_until:
                break
            await self._pace()
            await self._deliver(parcel, at)
        self._retries = {key: when for key, when in self._retries.items() if when > at}
        self.waiting = bool(self._retries)
        return bool(parcels)

    async def _pace(self) -> None:
        """Wait until the channel may be sent another message."""
        clock = asyncio.get_running_loop()
        now = clock.time()
        self._allowance = min(
            float(BURST), self._allowance + (now - self._refilled) * self._per_second
        )
        self._refilled = now
        if self._allowance < 1.0:
            await asyncio.sleep((1.0 - self._allowance) / self._per_second)
            self._allowance, self._refilled = 1.0, clock.time()
        self._allowance -= 1.0

    async def _deliver(self, parcel: Parcel, at: datetime) -> None:
        clock = asyncio.get_running_loop()
        t0 = clock.time()
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
        at += timedelta(seconds=clock.time() - t0)
        if error is None:
            # Remembered until it is marked: if the store fails now, it must not go out twice.
            self._unmarked[parcel.id] = at
            log.info("sent %s in try %d", self._named(parcel), parcel.attempts + 1)
            await self._outbox.sent(parcel.id, at)
            del self._unmarked[parcel.id]
            return
        await self._postpone(parcel, at, error)

    async def _postpone(self, parcel: Parcel, at: datetime, error: NotifyError) -> None:
        named, text = self._named(parcel), str(error)
        wait = timedelta(seconds=retry_delay(parcel.attempts, self._chance(), error.retry_after))
        if error.permanent or at + wait - parcel.created_at > self._retry_for:
            why = "refused for good" if error.permanent else "tried for too long"
            log.error("gave up %s, %s: %s", named, why, text)
            await self._outbox.dead(parcel.id, at, text)
            return
        if error.retry_after:
            pause = min(error.retry_after, LONGEST_PAUSE)
            self._paused_until = asyncio.get_running_loop().time() + pause
        log.warning(
            "cannot send %s in try %d, next in %.0f s: %s",
            named,
            parcel.attempts + 1,
            wait.total_seconds(),
            text,
        )
        self._retries[parcel.id] = at + wait
        await self._outbox.failed(parcel.id, at, text, at + wait)

    def _named(self, parcel: Parcel) -> str:
        notice = parcel.notice
        return (
            f"{notice.finding.rule} of {notice.finding.target} ({notice.reason.value}) "
            f"to channel {self._channel.name}"
        )
