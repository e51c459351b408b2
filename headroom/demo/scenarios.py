"""What the demo can play, in words: what goes wrong, and where to look.

troubles.py makes the trouble; both know a scenario by the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

TOUR = "tour"
HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario.

    what:    what the application does now, as one sentence.
    look_at: what to look at on the dashboard.
    seconds: how long the tour stays.
    look_at_direct: the same without a pooler, where it differs.
    """

    name: str
    what: str
    look_at: str
    seconds: float
    look_at_direct: str | None = None

    def hint(self, with_pooler: bool) -> str:
        """Where to look."""
        return self.look_at if with_pooler else self.look_at_direct or self.look_at


@dataclass(frozen=True, slots=True)
class Scene:
    """A scenario at its turn. seconds is None when it stays until the demo ends."""

    scenario: Scenario
    seconds: float | None


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            HEALTHY,
            "Three services share their pools, and every connection is given back.",
            "a few active connections, far below the capacity line; no waiters",
            25.0,
        ),
        Scenario(
            "small-pool",
            "A sale: checkouts hold a connection while they wait for a payment, "
            "and the pool has far fewer than there are customers.",
            "the waiters and the oldest wait of the pool, while the server has headroom",
            50.0,
            "four sessions idle in transaction; the queue is in the application's own pool",
        ),
        Scenario(
            "leak",
            "A bug in “invoices”: connections are taken, a transaction begins, "
            "nobody gives them back.",
            "idle in transaction climbs until the last slot is gone",
            60.0,
        ),
        Scenario(
            "slow",
            "A stocktaking locks the bestsellers and then computes for half a minute.",
            "the long-running statements and who waits for whom",
            42.0,
        ),
        Scenario(
            "churn",
            "“thumbnails” opens a connection for each request and closes it again.",
            "sessions a second on the server, with hardly any active",
            40.0,
        ),
        Scenario(
            "serverless",
            "Every few seconds 56 functions start at once, each with a connection of its own.",
            "bursts up to the capacity line; the last ones are refused",
            45.0,
        ),
    )
}
CHOICES = (TOUR, *SCENARIOS)

_FIRST_LOOK_SECONDS = 5.0  # of health before a chosen scenario, so that the charts show a before


def scenes(choice: str) -> Iterator[Scene]:
    """What plays for the command line's *choice*, in order; the tour never ends.

    >>> [scene.scenario.name for scene in scenes("leak")]
    ['healthy', 'leak']
    """
    healthy = SCENARIOS[HEALTHY]
    if choice == HEALTHY:
        yield Scene(healthy, None)
        return
    if choice != TOUR:
        yield Scene(healthy, _FIRST_LOOK_SECONDS)
        yield Scene(SCENARIOS[choice], None)
        return
    while True:
        for scenario in SCENARIOS.values():
            if scenario.name != HEALTHY:
                yield Scene(healthy, healthy.seconds)
                yield Scene(scenario, scenario.seconds)
