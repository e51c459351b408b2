"""`headroom run`: poll, store, judge, tell, in one asyncio process.

collectors ──sample──▶ evaluator ──decision──▶ writer (store) ──▶ courier (channels)
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from alerts.deliver import Courier
from alerts.evaluate import Decision, Evaluator
from collectors.schedule import Schedule
from headroom.entries import Decided, Entry
from headroom.outbox import StoreOutbox
from headroom.writer import Writer, WriterStats
from model.alerting import Alert, AlertState
from model.config import Config
from model.samples import Sample
from store import alert_log
from store.database import Store, StoreError
from store.size import StoreSize, store_size

TICK = 1.0  # seconds between two looks at what time alone changes (reminders, keep_firing_for)
STOP_WITHIN = 3.0  # seconds that the writer gets for what waits; the process exits in 5

_log = logging.getLogger("headroom.run")


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the whole cycle works: poll → judge → store.

    problems: in words; empty when healthy.
    """

    problems: tuple[str, ...]
    started_at: datetime
    last_sample_at: datetime | None
    writer: WriterStats


class Engine:
    """Everything that `headroom run` runs, for one configuration and one store."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config = config
        self.store = store
        self.latest: dict[str, Sample] = {}
        self.schedule = Schedule(config.targets, self._on_sample, on_dead=self._fail)
        with store.read() as connection:
            restored = alert_log.active_alerts(connection)
        self._evaluator = Evaluator(config, restored)
        self._outbox = StoreOutbox(store)
        self._courier = Courier(self._outbox, config.channels, retry_for=config.alerts.retry_for)
        self._writer: Writer | None = None
        self._started_at = datetime.now(UTC)
        self._observe_seconds = 0.0
        self._judging_failures = 0
        self.failed: str | None = None  # why we cannot go on, in words
        self._stop: asyncio.Event | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Run until *stop* is set; then stop in order: polls, writer, courier.

        Sets *stop* itself, and `failed`, when a part of us died: whoever runs us starts anew.
        """
        self._stop = stop
        loop = asyncio.get_running_loop()

        def wake_courier() -> None:
            loop.call_soon_threadsafe(self._courier.wake)

        self._writer = Writer(
            self.store,
            self.config.store,
            self._outbox,
            wake_courier,
            targets=len(self.config.targets),
        )
        courier = asyncio.create_task(self._courier.run())
        if self.config.channels:
            courier.add_done_callback(lambda _: self._fail("the courier has ended"))
        ticking = asyncio.create_task(self._tick())
        try:
            await self.schedule.start()
            await stop.wait()
        finally:
            ticking.cancel()
            await self.schedule.stop()
            await asyncio.to_thread(self._writer.stop, STOP_WITHIN)
            await self._courier.stop()
            await asyncio.gather(courier, ticking, return_exceptions=True)

    def alerts(self) -> list[Alert]:
        """Pending and firing alerts."""
        return self._evaluator.alerts()

    def firing(self) -> int:
        """How many alerts fire."""
        return sum(1 for alert in self.alerts() if alert.state is AlertState.FIRING)

    def health(self, now: datetime) -> Health:
        """How the cycle does at *now*."""
        assert self._writer is not None
        written = self._writer.stats()
        problems = []
        newest = max((sample.at for sample in self.latest.values()), default=None)
        intervals = self.schedule.stats().interval_seconds
        for target in self.config.targets:
            seen = self.latest.get(target.name)
            interval = intervals[target.name]
            patience = timedelta(seconds=10.0 + 2 * interval + target.deadline_seconds)
            if now - (seen.at if seen else self._started_at) > patience:
                problems.append(f"{target.name} was not polled lately")
        if not self._writer.alive:
            problems.append("the writer has died")
        if written.waiting and now - (written.written_at or self._started_at) > timedelta(
            seconds=10
        ):
            problems.append(f"the store takes nothing; {written.waiting} entries wait")
        if self.judging_failures_total:
            problems.append(f"judging failed {self.judging_failures_total} times; see the log")
        return Health(tuple(problems), self._started_at, newest, written)

    def store_size(self) -> StoreSize:
        """How big the store is and will be. Raises StoreError."""
        keep = self.config.store
        return store_size(self.store, keep.keep_samples, keep.max_size)

    @property
    def judging_failures_total(self) -> int:
        """How often a rule, a verdict or a whole judgement failed."""
        return self._judging_failures + self._evaluator.failures_total

    @property
    def observe_seconds_total(self) -> float:
        """CPU time spent on judging, in seconds since the start."""
        return self._observe_seconds

    def _on_sample(self, sample: Sample) -> None:
        self.latest[sample.target] = sample
        self._put(sample)
        t0 = time.perf_counter()
        try:
            decision = self._evaluator.observe(sample)
        except Exception:
            self._judging_failures += 1
            _log.exception("%s: judging a sample failed", sample.target)
            return
        finally:
            self._observe_seconds += time.perf_counter() - t0
        self._act(decision, sample.at)

    def _fail(self, why: str) -> None:
        if self._stop is not None and not self._stop.is_set():
            _log.error("%s; stopping, so that the service manager starts us anew", why)
            self.failed = why
            self._stop.set()

    def _act(self, decision: Decision, at: datetime) -> None:
        if decision.changed or decision.notices or decision.verdicts:
            self._put(Decided(decision, at))
        for target, seconds in decision.look_again:
            self.schedule.look_again(target, seconds)

    def _put(self, entry: Entry) -> None:
        assert self._writer is not None
        self._writer.put(entry)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            at = datetime.now(UTC)
            try:
                self._act(self._evaluator.tick(at), at)
            except Exception:
                self._judging_failures += 1
                _log.exception("judging failed; the next look is in %.0f s", TICK)


@contextmanager
def only_one(store: Store) -> Iterator[None]:
    """Hold the store for this process alone. Raises StoreError when another `run` has it.

    The lock is the kernel's: it is gone with the process, however that ends.
    """
    path = store.path.with_name(store.path.name + ".lock")
    try:
        lock = path.open("w")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{store.path}: another `headroom run` writes here; stop it first, "
                "or give this one another [store] url"
            ) from None
        yield
