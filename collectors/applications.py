"""Application names, capped. A name may hold a pid or a request id; then every poll brings
names never seen before, and whoever keeps them all runs out of memory first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MOST_NAMES = 200  # distinct application names of one target that are kept by name
OTHER = "__other__"


class ApplicationNames:
    """Which application names are kept: those seen most, and for long.

    folded: how many distinct names the last look counted as OTHER.
    """

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._kept: frozenset[str] | None = None  # None: all of them
        self.folded = 0

    def look(self, names: Iterable[str]) -> bool:
        """Take note of the names of one look; whether other names are kept than before.

        A name that is kept stays until it is gone or until another has twice as many
        sessions; otherwise names of the same size would take turns, and with each turn
        every session of them would look like a new one.
        """
        counts = Counter(names)
        before = self._kept
        if len(counts) <= self._most:
            self._kept = None
            self.folded = 0
            return before is not None
        held = before or frozenset()
        ranked = sorted(counts, key=lambda n: (-counts[n] * (2 if n in held else 1), n))
        self._kept = frozenset(ranked[: self._most])
        self.folded = len(counts) - self._most
        return self._kept != before

    def name(self, name: str) -> str:
        """*name*, or OTHER."""
        return name if self._kept is None or name in self._kept else OTHER
