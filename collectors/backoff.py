"""When to try again. A monitor that retries hard makes an outage worse."""

from __future__ import annotations

import random
from collections.abc import Callable

from model.samples import Failure

FIRST = 1.0  # seconds; a database that restarts is seen again within two one-second polls
LONGEST = 30.0  # seconds between attempts that may leave a process behind on the server

# Attempts that cost the server next to nothing may come more often, so that we are back
# soon: nobody listens, or the postmaster itself says no.
_LONGEST: dict[Failure, float] = {
    Failure.UNREACHABLE: 2.0,
    Failure.NOT_AVAILABLE: 2.0,
}


class Backoff:
    """Doubling delays with full jitter, from FIRST up to what the failure deserves.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._failures = 0

    def failed(self, failure: Failure) -> float:
        """One more failure in a row. The seconds to wait before the next attempt."""
        self._failures += 1
        longest = min(_LONGEST.get(failure, LONGEST), FIRST * 2.0 ** (self._failures - 1))
        return self._uniform(0.0, longest)

    def cut(self) -> float:
        """A connection that had answered stopped answering. The first time, try at once."""
        if self._failures == 0:
            self._failures = 1
            return 0.0
        return self.failed(Failure.TIMEOUT)

    def succeeded(self) -> None:
        """The target answered: the next failure is a first one."""
        self._failures = 0
