"""How fast a channel may be sent messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

BURST = 5  # messages that a channel may send at once …
PER_SECOND = 1.0  # … and then this many a second: what Slack allows a webhook


class Pace:
    """A burst, then so many messages a second; and the pauses that a receiver asks for.

    timer: seconds that never jump. sleep: waits that many of them.
    """

    def __init__(
        self,
        per_second: float,
        timer: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._per_second = per_second
        self._timer = timer
        self._sleep = sleep
        self._allowance = float(BURST)
        self._refilled = timer()
        self._paused_until = self._refilled

    @property
    def paused(self) -> bool:
        """Whether the receiver has asked for a pause that is not over."""
        return self._timer() < self._paused_until

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._paused_until = self._timer() + seconds

    async def wait(self) -> None:
        """Wait until the channel may be sent another message."""
        now = self._timer()
        refilled = self._allowance + (now - self._refilled) * self._per_second
        self._allowance = min(float(BURST), refilled)
        self._refilled = now
        if self._allowance < 1.0:
            await self._sleep((1.0 - self._allowance) / self._per_second)
            self._allowance, self._refilled = 1.0, self._timer()
        self._allowance -= 1.0
