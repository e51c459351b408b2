"""The one thread that writes to the store.

The event loop never waits for a disk: it hands over samples and decisions, in order, and
goes on. What waits is written together, so that a slow disk makes batches bigger and not
the queue longer. What the store does not take for long goes to a spool on disk, and from
there into the store, in order and once, as soon as it is back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from headroom.entries import Decided, Entry, from_bytes, to_bytes
from headroom.outbox import StoreOutbox, outbox_rows
from headroom.spool import Position, Spool
from model.config import StoreSettings
from model.samples import Sample
from store import alert_log, retention, rollup, runs
from store.append import Appender, spool_position
from store.database import NotKeepable, Store, StoreError

LAST_RESORT = 20_000  # entries in memory when the spool cannot be written either; some 400 MB
BATCH = 500  # entries that are taken from the spool at once
HEARTBEAT = 5.0  # seconds between two marks of "this run is alive"
ROLL_UP_EVERY = 10.0  # seconds
RETENTION_EVERY = 600.0  # seconds
GATHER = 0.1  # seconds in which the samples of many targets gather for one transaction
MANY = 20  # targets; fewer are written at once, so that charts follow at once
_RETRY = 1.0  # seconds between tries while the store is away

_log = logging.getLogger("headroom.store")


@dataclass(frozen=True, slots=True)
class WriterStats:
    """waiting: entries not in the store yet. dropped_total: lost, as neither store nor spool
    took them."""

    waiting: int
    spool_bytes: int
    dropped_total: int
    written_at: datetime | None


class Writer:
    """Keeps samples and decisions in the order they were handed over.

    committed: called, in the writer's thread, when the outbox has something new.
    targets:   how many there are; see MANY.
    """

    def __init__(
        self,
        store: Store,
        settings: StoreSettings,
        outbox: StoreOutbox,
        committed: Callable[[], None],
        *,
        targets: int = 1,
    ) -> None:
        self._store = store
        self._settings = settings
        self._outbox = outbox
        self._committed = committed
        self._queue: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._gather = GATHER if targets >= MANY else 0.0
        self._urgent = False  # a decision waits: somebody has to be told
        self._stopping = False
        self._written_at: datetime | None = None
        self._away = False
        self._dropped = 0
        self._appender = Appender(store)
        self._run_id = runs.begin(store, datetime.now(UTC))
        folder = Path(f"{store.path}.spool")
        self._spool = Spool(folder, settings.spool_limit, Position(*spool_position(store)))
        self._spooled = self._spool.entries()  # as stats() may see it, from any thread
        self._spool_bytes = self._spool.size()
        self._chores = [
            _Chore(HEARTBEAT, self._heartbeat),
            _Chore(ROLL_UP_EVERY, self._roll_up),
            _Chore(RETENTION_EVERY, self._forget),
        ]
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Hand over one sample or decision. Never blocks."""
        with self._changed:
            self._queue.append(entry)
            self._urgent = self._urgent or isinstance(entry, Decided)
            self._changed.notify()

    def stats(self) -> WriterStats:
        """How the writer does."""
        with self._changed:
            return WriterStats(
                len(self._queue) + self._spooled,
                self._spool_bytes,
                self._spool.dropped_total + self._dropped,
                self._written_at,
            )

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """Write or spool what waits, end the run, and return after *timeout* seconds at most."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            _log.error("the store did not take everything within %.1f s", timeout)

    def _work(self) -> None:
        while not self._stopping:
            try:
                self._round()
            except Exception:
                # Whatever it is, a monitor that no longer writes is worse.
                _log.exception("the writer stumbled and goes on")
                self._pause()
        try:
            self._finish()
        except Exception:
            _log.exception("the writer stumbled at the end")

    def _round(self) -> None:
        with self._changed:
            if not self._queue and not self._stopping and not self._spool.waiting:
                self._changed.wait(1.0)
            if self._gather and self._queue:
                self._changed.wait_for(lambda: self._urgent or self._stopping, self._gather)
            self._urgent = False
        if not self._write():
            self._spool_queue()
            self._pause()
            return
        now = time.monotonic()
        for chore in self._chores:
            if now >= chore.due_at and not self._busy():
                chore.due_at = now + chore.every
                self._try(chore.do)

    def _finish(self) -> None:
        """Everything into the store, or else into the spool; there is little time."""
        if self._away or self._spool.waiting or not self._write():
            self._spool_queue()
        if not self._away:
            self._try(self._end)

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, _RETRY)

    def _busy(self) -> bool:
        """Whether something waits to be written; chores can wait longer."""
        with self._changed:
            return bool(self._queue)

    # Writing

    def _write(self) -> bool:
        """Write what is spooled, or else the queue. False: the store is away."""
        with self._changed:
            batch = list(self._queue)
        try:
            if self._spool.waiting:
                self._replay()
            else:
                for part in _runs(batch):
                    self._keep(part, None)
                    with self._changed:
                        for _ in part:
                            self._queue.popleft()
        except StoreError as error:
            if not self._away:
                _log.error("the store cannot be written; samples wait: %s", error)
            self._away = True
            return False
        except OSError as error:
            _log.error("the spool cannot be read: %s", error)
            return False
        if self._away:
            _log.info("the store can be written again")
        self._away = False
        if batch:
            self._written_at = datetime.now(UTC)
        return True

    def _keep(self, part: Sequence[Entry], position: Position | None) -> None:
        """Write samples together, or one decision. Raises StoreError when the store is away.

        What the store can never take is dropped and said, so that it does not block the rest.
        """
        try:
            self._keep_all(part, position)
        except (NotKeepable, ValueError, TypeError, OverflowError) as error:
            if len(part) > 1:
                for entry in part:
                    self._keep([entry], position)
                return
            self._dropped += 1
            _log.error("something cannot be kept and is dropped: %s", error)

    def _keep_all(self, part: Sequence[Entry], position: Position | None) -> None:
        samples = [entry for entry in part if isinstance(entry, Sample)]
        if samples:
            self._appender.append(samples, position)
        for entry in part:
            if isinstance(entry, Decided):
                self._keep_decision(entry, position)

    def _keep_decision(self, entry: Decided, position: Position | None) -> None:
        decision, rows = entry.decision, outbox_rows(entry.decision)
        known = self._outbox.progress(rows)
        alert_log.record(
            self._store,
            decision.changed,
            rows,
            decision.verdicts,
            entry.at,
            progress=known,
            position=position,
        )
        for message_id, progress in self._outbox.release(rows).items():
            if progress != known.get(message_id):  # it was sent while we were writing
                alert_log.settle(self._store, message_id, progress)
        self._committed()

    def _replay(self) -> None:
        """Move the head of the spool into the store. Raises StoreError or OSError."""
        found = self._spool.peek(BATCH)
        entries: list[Entry] = []
        after: list[Position] = []
        for payload, position in found:
            try:
                entries.append(from_bytes(payload))
                after.append(position)
            except ValueError as error:
                _log.error("an entry of the spool cannot be read and is skipped: %s", error)
        done = 0
        for part in _runs(entries):
            done += len(part)
            self._keep(part, after[done - 1])
            self._spool.take(after[done - 1])
        if found:
            self._spool.take(found[-1].after)
        self._note_spool()
        if not self._spool.waiting:
            _log.info("the spool is empty again; everything is in the store")

    # While the store is away

    def _spool_queue(self) -> None:
        """Put what waits on disk, and its messages where the courier finds them."""
        with self._changed:
            aside = list(self._queue)
        rows = [row for e in aside if isinstance(e, Decided) for row in outbox_rows(e.decision)]
        if rows:
            self._outbox.hold(rows)
            self._committed()
        try:
            self._spool.put([to_bytes(entry) for entry in aside])
        except OSError as error:
            _log.error("the spool cannot be written, samples wait in memory: %s", error)
            with self._changed:
                self._drop_samples(len(self._queue) - LAST_RESORT)
        else:
            with self._changed:
                for _ in aside:
                    self._queue.popleft()
        self._note_spool()

    def _drop_samples(self, excess: int) -> None:
        """Neither store nor spool takes anything: the oldest samples go. Decisions stay."""
        if excess <= 0:
            return
        kept: deque[Entry] = deque()
        for entry in self._queue:
            if excess > 0 and isinstance(entry, Sample):
                excess -= 1
                self._dropped += 1
            else:
                kept.append(entry)
        self._queue = kept

    def _note_spool(self) -> None:
        with self._changed:
            self._spooled = self._spool.entries()
            self._spool_bytes = self._spool.size()

    # Chores

    def _heartbeat(self) -> None:
        runs.seen(self._store, self._run_id, datetime.now(UTC))

    def _roll_up(self) -> None:
        rollup.roll_up(self._store, datetime.now(UTC))

    def _forget(self) -> None:
        # Broken off when something waits to be written: an alert must not wait for a broom.
        gone = retention.forget(
            self._store, datetime.now(UTC), self._settings, keep_going=lambda: not self._busy()
        )
        if gone:
            _log.info("retention: %d old rows deleted", gone)

    def _end(self) -> None:
        at = datetime.now(UTC)
        self._appender.end_all(at)
        runs.end(self._store, self._run_id, at)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except StoreError as error:
            _log.error("a chore could not be done: %s", error)


@dataclass(slots=True)
class _Chore:
    """Something to do every so many seconds."""

    every: float
    do: Callable[[], object]
    due_at: float = 0.0


def _runs(entries: Sequence[Entry]) -> list[list[Entry]]:
    """*entries* cut so that each part is samples, or one decision; the order stays.

    Samples are one transaction; a decision is one of its own, for it has to be durable.
    """
    parts: list[list[Entry]] = []
    for entry in entries:
        both = parts and isinstance(entry, Sample) and isinstance(parts[-1][-1], Sample)
        if both:
            parts[-1].append(entry)
        else:
            parts.append([entry])
    return parts
