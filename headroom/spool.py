"""A bounded file queue for what the store does not take right now.

Segments of lines, each a checksum and a payload. Whole lines survive a kill at any moment;
a torn last line is skipped. When the bound is reached, the oldest segment is dropped and
counted: the newest samples are worth most.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SEGMENT = 4_000_000  # bytes; what is dropped at once when the bound is reached

_log = logging.getLogger("headroom.store")


class Position(NamedTuple):
    """A place in the spool: everything before it has been taken."""

    segment: int
    offset: int  # bytes


START = Position(0, 0)


class Entry(NamedTuple):
    """One payload, and the position after it."""

    payload: bytes
    after: Position


class Spool:
    """The queue in *folder*, at most *limit* bytes of it.

    taken: where an earlier process stopped taking. Not safe for several threads.
    """

    def __init__(self, folder: Path, limit: int, taken: Position = START) -> None:
        self._folder = folder
        self._limit = limit
        self._taken = taken
        self._counts: dict[int, int] = {}  # segment -> entries that were put there
        self.dropped_total = 0
        for path in folder.glob("*.spool") if folder.is_dir() else ():
            if path.stem.isdecimal():
                self._counts[int(path.stem)] = path.read_bytes().count(b"\n")
        self._forget_taken()

    @property
    def waiting(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._counts)

    def entries(self) -> int:
        """How many entries wait, at most: those of a half-taken segment all count."""
        return sum(self._counts.values())

    def size(self) -> int:
        """Bytes on disk."""
        self._miss()
        return sum(self._path(segment).stat().st_size for segment in self._counts)

    def put(self, payloads: Iterable[bytes]) -> None:
        """Add *payloads* at the end. Raises OSError."""
        lines = [b"%08x %s\n" % (zlib.crc32(payload), payload) for payload in payloads]
        if not lines:
            return
        self._miss()
        self._folder.mkdir(exist_ok=True)
        segment = max(self._counts, default=self._taken.segment + 1)
        if segment in self._counts and self._path(segment).stat().st_size >= SEGMENT:
            segment += 1
        path = self._path(segment)
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                if before and not self._ends_whole(segment):
                    file.write(b"\n")  # the torn line of a killed process must not swallow ours
                file.write(b"".join(lines))
        except OSError:  # a full disk takes a part; whoever tries again must not double it
            with contextlib.suppress(OSError):
                os.truncate(path, before)
                if not before:
                    path.unlink()
            raise
        self._counts[segment] = self._counts.get(segment, 0) + len(lines)
        while len(self._counts) > 1 and self.size() > self._limit:
            self._drop_oldest()

    def peek(self, most: int) -> list[Entry]:
        """The oldest entries, *most* of them, which stay until take()."""
        self._miss()
        found: list[Entry] = []
        for segment in sorted(self._counts):
            start = self._taken.offset if segment == self._taken.segment else 0
            with self._path(segment).open("rb") as file:
                file.seek(start)
                for line in file:
                    start += len(line)
                    payload = _checked(line)
                    if payload is None:
                        _log.warning("the spool has a torn line; it is skipped")
                        continue
                    found.append(Entry(payload, Position(segment, start)))
                    if len(found) == most:
                        return found
        if not found:  # only torn lines were left
            self.take(Position(max(self._counts, default=0) + 1, 0))
        return found

    def take(self, position: Position) -> None:
        """Everything before *position* is safe elsewhere."""
        self._taken = position
        self._forget_taken()

    def _forget_taken(self) -> None:
        for segment in sorted(self._counts):
            done = segment < self._taken.segment or (
                segment == self._taken.segment
                and self._path(segment).stat().st_size <= self._taken.offset
            )
            if done:
                self._path(segment).unlink()
                del self._counts[segment]

    def _miss(self) -> None:
        """Somebody may have deleted segments: then they are lost, and the rest goes on."""
        for segment in [s for s in self._counts if not self._path(s).exists()]:
            lost = self._counts.pop(segment)
            self.dropped_total += lost
            _log.error("a segment of the spool is gone: %d entries are lost", lost)

    def _drop_oldest(self) -> None:
        segment = min(self._counts)
        self._path(segment).unlink()
        dropped = self._counts.pop(segment)
        self.dropped_total += dropped
        _log.error("the spool is full: the oldest %d entries are lost", dropped)

    def _ends_whole(self, segment: int) -> bool:
        with self._path(segment).open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:08d}.spool"


def _checked(line: bytes) -> bytes | None:
    """The payload of a line, or None when it is torn."""
    checksum, _, payload = line.removesuffix(b"\n").partition(b" ")
    whole = line.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(payload)
    return payload if whole else None
