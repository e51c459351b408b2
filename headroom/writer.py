"""The one thread that writes to the store.

The event loop never waits for a disk: it hands over samples and decisions, in order, and
goes on. What waits is written together, so that a slow disk makes batches bigger and not
the queue longer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from alerts.evaluate import Decision
from headroom.outbox import outbox_rows
from model.samples import Sample
from store import alert_log, retention, runs
from store.append import Appender
from store.database import Store, StoreError

LIMIT = 50_000  # samples that wait at most while the store is away; some 200 MB
HEARTBEAT = 5.0  # seconds between two marks of "this run is alive"
RETENTION_EVERY = 600.0  # seconds
_RETRY = 1.0  # seconds between tries while the store is away

_log = logging.getLogger("headroom.store")


@dataclass(frozen=True, slots=True)
class WriterStats:
    """waiting: entries not written yet. dropped_total: lost because too many waited."""

    waiting: int
    dropped_total: int
    written_at: datetime | None


class Writer:
    """Keeps samples and decisions in the order they were handed over.

    committed: called, in the writer's thread, after a decision is on disk.
    """

    def __init__(
        self,
        store: Store,
        *,
        keep_samples: timedelta,
        keep_alerts: timedelta,
        committed: Callable[[], None],
    ) -> None:
        self._store = store
        self._keep = (keep_samples, keep_alerts)
        self._committed = committed
        self._queue: deque[Sample | tuple[Decision, datetime]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._dropped = 0
        self._written_at: datetime | None = None
        self._away = False
        self._appender = Appender(store)
        self._run_id = runs.begin(store, datetime.now(UTC))
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, entry: Sample | tuple[Decision, datetime]) -> None:
        """Hand over one sample, or one decision and its time. Never blocks."""
        with self._changed:
            if len(self._queue) >= LIMIT:
                self._drop_oldest_sample()
            self._queue.append(entry)
            self._changed.notify()

    def stats(self) -> WriterStats:
        """How the writer does."""
        with self._changed:
            return WriterStats(len(self._queue), self._dropped, self._written_at)

    def stop(self, timeout: float) -> None:
        """Write what waits, end the run, and return; give up after *timeout* seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            _log.error(
                "the store did not take everything in %.1f s; %d entries are lost",
                timeout,
                len(self._queue),
            )

    def _drop_oldest_sample(self) -> None:
        for entry in self._queue:
            if isinstance(entry, Sample):  # decisions are never dropped
                self._queue.remove(entry)
                self._dropped += 1
                return

    def _work(self) -> None:
        seen = tidied = time.monotonic()
        while True:
            with self._changed:
                if not self._queue and not self._stopping:
                    self._changed.wait(HEARTBEAT)
                batch = list(self._queue)
                stopping = self._stopping
            if batch and not self._write(batch):
                if stopping:
                    return
                time.sleep(_RETRY)
                continue
            if stopping and not batch:
                self._try(self._end)
                return
            now = time.monotonic()
            if now - seen >= HEARTBEAT:
                seen = now
                self._try(lambda: runs.seen(self._store, self._run_id, datetime.now(UTC)))
            if now - tidied >= RETENTION_EVERY:
                tidied = now
                self._try(self._forget)

    def _end(self) -> None:
        at = datetime.now(UTC)
        self._appender.end_all(at)
        runs.end(self._store, self._run_id, at)

    def _forget(self) -> None:
        gone = retention.forget(self._store, datetime.now(UTC), *self._keep)
        if gone:
            _log.info("retention: %d old rows deleted", gone)

    def _write(self, batch: list[Sample | tuple[Decision, datetime]]) -> bool:
        """Write *batch* from the queue's head; True when all of it is kept."""
        position = 0
        try:
            while position < len(batch):
                entry = batch[position]
                if isinstance(entry, Sample):
                    end = position
                    while end < len(batch) and isinstance(batch[end], Sample):
                        end += 1
                    self._appender.append([e for e in batch[position:end] if isinstance(e, Sample)])
                else:
                    end = position + 1
                    decision, at = entry
                    alert_log.record(
                        self._store, decision.changed, outbox_rows(decision), decision.verdicts, at
                    )
                    self._committed()
                with self._changed:
                    for written in batch[position:end]:
                        # Not popleft: the oldest may have been dropped meanwhile.
                        if self._queue and self._queue[0] is written:
                            self._queue.popleft()
                position = end
        except StoreError as error:
            if not self._away:
                _log.error("the store cannot be written, samples wait in memory: %s", error)
            self._away = True
            return False
        if self._away:
            _log.info("the store can be written again; nothing is waiting")
        self._away = False
        self._written_at = datetime.now(UTC)
        return True

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except StoreError as error:
            _log.error("%s", error)
