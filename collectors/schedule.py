"""When each target is polled, whatever the clock does.

APScheduler plans in wall-clock time, so a clock that is set back would leave us blind for
as long as the jump, and one that is set forward would make it catch up. A guard compares
both clocks four times a second and plans anew after a jump.

An error in APScheduler's own books ends its rounds without a word. The guard also looks
whether runs that are due begin, plans everything anew when they do not, and says so by
on_dead when that does not help: then only a new process does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from zlib import crc32

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_SUBMITTED
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from collectors.registry import Collector, collector_for
from collectors.stretch import Stretch
from model.durations import format_duration
from model.samples import Failure, Sample
from model.targets import Target

log = logging.getLogger("headroom.collectors")

GUARD_EVERY = 0.25  # seconds between looks at the clocks
JUMP = 1.0  # seconds by which the wall clock must part from the monotonic one to be a jump
SPREAD = 1.0  # seconds within which all targets are polled first; nobody waits a long interval
STOP_TIMEOUT = 1.0  # seconds that polls get to end, and again that connections get to close
OVERDUE = 1.0  # seconds after which a run that has not begun is overdue
OVERDUE_LOOKS = 4  # looks of the guard in a row; one alone may only mean that the loop was held up
_TICK = timedelta(milliseconds=1)  # samples are told apart by whole milliseconds


@dataclass(frozen=True, slots=True)
class ScheduleStats:
    """How well the schedule is kept, per target, since it began.

    polls_total:      polls that ended, whatever they said.
    failures_total:   those of them whose sample is not up.
    missed_total:     polls that were due and did not take place.
    lateness_seconds: how long after its time the last scheduled poll began.
    interval_seconds: how far apart its polls are now; longer than wished while they are costly.
    """

    polls_total: Mapping[str, int]
    failures_total: Mapping[str, int]
    missed_total: Mapping[str, int]
    lateness_seconds: Mapping[str, float]
    interval_seconds: Mapping[str, float]


@dataclass(slots=True)
class _Watch:
    """One target that is being polled."""

    target: Target
    collector: Collector
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one poll at a time
    stretch: Stretch = field(init=False)
    last_at: datetime | None = None
    last_monotonic: float = 0.0
    planned: datetime | None = None  # when the run that is about to begin was due
    last_planned: datetime | None = None  # when the last run was due that we know of
    extra: asyncio.TimerHandle | None = None  # the poll that look_again asked for
    down: Failure | None = None  # as the log has it
    complained: bool = False  # about a mistake of ours
    polls: int = 0
    failures: int = 0
    missed: int = 0
    lateness: float = 0.0

    def __post_init__(self) -> None:
        self.stretch = Stretch(self.target.interval)


class Schedule:
    """Polls every target at its interval and hands each sample to *on_sample*.

    on_sample is called in the event loop, for failed polls too. wall is the clock.
    on_dead is called once, in the event loop, when no poll begins any more and cannot be made
    to; its argument says why. Whoever runs us then has to start anew.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        on_sample: Callable[[Sample], None],
        *,
        make_collector: Callable[[Target], Collector] = collector_for,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_dead: Callable[[str], None] | None = None,
    ) -> None:
        self._on_sample = on_sample
        self._wall = wall
        self._on_dead = on_dead
        self._watches = {target.name: _Watch(target, make_collector(target)) for target in targets}
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._noted, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES)
        self._running: set[asyncio.Task[None]] = set()
        self._guard: asyncio.Task[None] | None = None
        self._overdue_looks = 0
        self._revived = False
        self.dead: str | None = None
        self._stopping = False

    async def start(self) -> None:
        """Begin to poll. Connects to nobody itself, so it never waits for a target."""
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._plan_all()
        self._scheduler.start()
        self._guard = asyncio.create_task(self._keep_guard(), name="schedule guard")
        self._guard.add_done_callback(self._guard_ended)

    async def stop(self) -> None:
        """Stop polling and close every connection, within some two seconds."""
        self._stopping = True
        if self._guard is not None:
            self._guard.cancel()
        for watch in self._watches.values():
            if watch.extra is not None:
                watch.extra.cancel()
        if self._scheduler.running:
            # Without jobs and before its shutdown, so that APScheduler has nothing to cancel.
            self._scheduler.remove_all_jobs()
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running, timeout=STOP_TIMEOUT)
            self._scheduler.shutdown(wait=False)
            await asyncio.sleep(0)  # it takes effect in the next turn of the loop
        closing = [asyncio.create_task(w.collector.close()) for w in self._watches.values()]
        if closing:
            await asyncio.wait(closing, timeout=STOP_TIMEOUT)

    def look_again(self, target: str, seconds: float) -> None:
        """Poll *target* once more in *seconds*; does nothing while such a poll is pending."""
        watch = self._watches[target]
        if watch.extra is None and not self._stopping:
            loop = asyncio.get_running_loop()
            watch.extra = loop.call_later(max(seconds, 0.0), self._start_extra, watch)

    def stats(self) -> ScheduleStats:
        """How well the schedule is kept."""
        watches = self._watches
        return ScheduleStats(
            polls_total={name: watch.polls for name, watch in watches.items()},
            failures_total={name: watch.failures for name, watch in watches.items()},
            missed_total={name: watch.missed for name, watch in watches.items()},
            lateness_seconds={name: watch.lateness for name, watch in watches.items()},
            interval_seconds={name: watch.stretch.interval for name, watch in watches.items()},
        )

    # Runs

    async def _scheduled(self, watch: _Watch) -> None:
        planned, watch.planned = watch.planned, None
        if planned is not None:
            watch.lateness = max((self._wall() - planned).total_seconds(), 0.0)
        await self._run(watch)

    def _start_extra(self, watch: _Watch) -> None:
        watch.extra = None
        if not self._stopping and not watch.turn.locked():
            # The task is held by _running from its first step on; until then by the loop.
            self._running.add(asyncio.create_task(self._run(watch)))

    async def _run(self, watch: _Watch) -> None:
        """One poll, whatever happens in it."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            async with watch.turn:
                await self._poll(watch)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._running.discard(task)

    async def _poll(self, watch: _Watch) -> None:
        at = self._now(watch)
        t0 = monotonic()
        try:
            sample = await watch.collector.poll(at)
        except Exception as error:
            # Collectors promise not to raise. If one does, its target is not seen, so say so.
            self._complain(watch, "the poll failed in an unforeseen way", error)
            sample = Sample(
                target=watch.target.name,
                kind=watch.target.kind,
                at=at,
                poll_seconds=monotonic() - t0,
                up=False,
                failure=Failure.PROTOCOL,
                reason=f"Headroom could not poll it ({type(error).__name__})",
            )
        watch.polls += 1
        watch.failures += not sample.up
        if sample.up:
            sample = self._stretched(watch, sample)
        self._log_change(watch, sample)
        try:
            self._on_sample(sample)
        except Exception as error:
            self._complain(watch, "its sample could not be taken in", error)

    def _stretched(self, watch: _Watch, sample: Sample) -> Sample:
        """The sample, and what it says of polls that are too expensive for their interval."""
        stretch, before = watch.stretch, watch.stretch.interval
        if stretch.observe(sample.poll_seconds):
            log.log(
                logging.WARNING if stretch.interval > before else logging.INFO,
                "%s: polled every %g s from now on; a poll takes %.2f s",
                watch.target.name,
                stretch.interval,
                sample.poll_seconds,
            )
            watch.last_planned = None
            self._plan(watch, self._wall() + timedelta(seconds=stretch.interval))
        words = stretch.words(sample.poll_seconds)
        if words is None:
            return sample
        return replace(sample, degraded="; ".join(filter(None, (sample.degraded, words))))

    def _now(self, watch: _Watch) -> datetime:
        """The wall clock, but strictly later than this target's last poll.

        After the clock was set back our time runs at half speed until the wall clock has
        caught up, so that durations stay positive and order stays order.
        """
        wall, now = self._wall(), monotonic()
        if watch.last_at is not None:
            slow = timedelta(seconds=(now - watch.last_monotonic) / 2)
            wall = max(wall, watch.last_at + max(slow, _TICK))
        watch.last_at, watch.last_monotonic = wall, now
        return wall

    def _log_change(self, watch: _Watch, sample: Sample) -> None:
        """A line when a target goes down, when the trouble changes, and when it is back."""
        if sample.up:
            if watch.down is not None:
                log.info("%s: answers again", watch.target.name)
            watch.down = None
        elif sample.failure != watch.down:
            log.warning("%s: down: %s", watch.target.name, sample.reason)
            watch.down = sample.failure

    def _complain(self, watch: _Watch, what: str, error: Exception) -> None:
        if not watch.complained:
            watch.complained = True
            log.error("%s: %s; said once per target", watch.target.name, what, exc_info=error)

    # The clock

    def _noted(self, event: Any) -> None:
        """APScheduler has started a run, or left one out because the last still runs."""
        watch = self._watches.get(event.job_id)
        if watch is None:
            return
        due: datetime = event.scheduled_run_times[-1]
        if event.code == EVENT_JOB_MAX_INSTANCES:
            watch.missed += 1
        else:
            watch.planned = due
        if watch.last_planned is not None:
            # Runs that fell due together are started as one; the others did not take place.
            apart = (due - watch.last_planned).total_seconds() / watch.stretch.interval
            watch.missed += max(round(apart) - 1, 0)
        watch.last_planned = due

    def _plan_all(self) -> None:
        now = self._wall()
        for name, watch in self._watches.items():
            watch.last_planned = None
            self._plan(watch, now + _phase(name, watch.stretch.interval))

    def _plan(self, watch: _Watch, first: datetime) -> None:
        """Poll a target from *first* on, at its interval."""
        interval = watch.stretch.interval
        self._scheduler.add_job(
            self._scheduled,
            IntervalTrigger(seconds=interval, start_date=first, timezone=UTC),
            args=[watch],
            id=watch.target.name,
            next_run_time=first,
            replace_existing=True,
        )

    async def _keep_guard(self) -> None:
        """Plan anew when the wall clock jumps, or when runs that are due do not begin."""
        apart = self._wall().timestamp() - monotonic()
        while True:
            await asyncio.sleep(GUARD_EVERY)
            now = self._wall()
            jump = now.timestamp() - monotonic() - apart
            if abs(jump) > JUMP:
                apart += jump
                direction = "forward" if jump > 0 else "back"
                log.warning("the clock was set %s by %s", direction, format_duration(abs(jump)))
                self._plan_all()
            elif self._stands_still(now):
                self._revive()

    def _stands_still(self, now: datetime) -> bool:
        """Whether a run has been overdue for several looks in a row, or is not planned."""
        jobs = self._scheduler.get_jobs()
        latest = now - timedelta(seconds=OVERDUE)
        overdue = len(jobs) < len(self._watches) or any(job.next_run_time < latest for job in jobs)
        self._overdue_looks = self._overdue_looks + 1 if overdue else 0
        if not overdue:
            self._revived = False
        return self._overdue_looks >= OVERDUE_LOOKS

    def _revive(self) -> None:
        """Plan everything anew; the second time in a row it is given up."""
        self._overdue_looks = 0
        if self._revived:
            raise RuntimeError("runs that are due do not begin, though planned anew")
        self._revived = True
        log.error("polls that are due do not begin; planning all of them anew")
        self._plan_all()
        self._scheduler.wakeup()

    def _guard_ended(self, guard: asyncio.Task[None]) -> None:
        """The guard has no end of its own, so an error ended it: nothing can be relied on."""
        if guard.cancelled() or self._stopping:
            return
        error = guard.exception()
        self.dead = f"the schedule is dead ({error!r})"
        log.critical("%s", self.dead, exc_info=error)
        if self._on_dead is not None:
            self._on_dead(self.dead)


def _phase(name: str, interval: float) -> timedelta:
    """Where in its interval a target is polled: the same after every start."""
    return timedelta(seconds=crc32(name.encode()) / 2**32 * min(interval, SPREAD))
