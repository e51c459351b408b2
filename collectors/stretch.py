"""How often a target is polled when its polls are expensive. Pure: costs in, an interval out."""

from __future__ import annotations

from collections import deque
from statistics import median

MOST = 0.2  # of the interval: a poll that takes more is too much, for the server and for us
WELL_BELOW = 0.1  # of the shorter interval: only then it is gone back to
LOOKS = 8  # polls that a judgement rests on; half of them may be outliers
LONGEST = 60.0  # seconds between polls, unless the target's own interval is longer


class Stretch:
    """Doubles the interval of a target until a poll takes no more than a fifth of it.

    interval: seconds between polls now.
    """

    def __init__(self, interval: float) -> None:
        self._wanted = interval
        self._costs: deque[float] = deque(maxlen=LOOKS)
        self.interval = interval

    def observe(self, seconds: float) -> bool:
        """A poll took *seconds*. Whether the interval changed."""
        self._costs.append(seconds)
        if len(self._costs) < LOOKS:
            return False
        cost = median(self._costs)
        longest = max(LONGEST, self._wanted)
        interval = self.interval
        while cost > MOST * interval and interval < longest:
            interval = min(interval * 2, longest)
        if interval == self.interval:
            shorter = max(interval / 2, self._wanted)
            if shorter < interval and cost < WELL_BELOW * shorter:
                interval = shorter
        if interval == self.interval:
            return False
        self.interval = interval
        self._costs.clear()
        return True

    def words(self, seconds: float) -> str | None:
        """What to say of a poll that took *seconds*; None while the interval is as wished."""
        if self.interval == self._wanted:
            return None
        return (
            f"polled every {self.interval:g} s instead of {self._wanted:g} s, because a poll "
            f"takes {seconds:.2f} s"
        )
