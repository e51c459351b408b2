"""Every target is polled at its interval, whatever a poll, a callback or the clock does."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from apscheduler.executors import base as apscheduler_executors
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers import base as apscheduler_base
from apscheduler.triggers.interval import IntervalTrigger

from collectors.schedule import Schedule, _phase
from model.samples import Failure, Sample
from model.targets import Target


class Scripted:
    """A collector that answers at once, hangs or raises, as it is told."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ats: list[datetime] = []
        self.times: list[float] = []
        self.hangs = False
        self.raises = False
        self.failure: Failure | None = None
        self.closed = False
        self.at_once = 0
        self.most_at_once = 0

    async def poll(self, at: datetime) -> Sample:
        self.ats.append(at)
        self.times.append(monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.hangs:
                await asyncio.sleep(3600)
            await asyncio.sleep(0.005)
        finally:
            self.at_once -= 1
        if self.raises:
            raise RuntimeError("a mistake")
        return Sample(
            target=self.target.name,
            kind=self.target.kind,
            at=at,
            poll_seconds=0.005,
            up=self.failure is None,
            failure=self.failure,
            reason=self.failure and f"it is {self.failure}",
        )

    async def close(self) -> None:
        self.closed = True


def target(name: str, interval: str = "200ms") -> Target:
    return Target(name=name, kind="postgresql", dsn="host=nowhere", interval=interval)


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "not within the deadline"
        await asyncio.sleep(0.01)


class Stage:
    """A schedule over scripted collectors, and what it handed on."""

    def __init__(self, targets: Sequence[Target], **given: Any) -> None:
        self.collectors: dict[str, Scripted] = {}
        self.samples: list[Sample] = []
        self.schedule = Schedule(
            targets, given.pop("on_sample", self.samples.append), make_collector=self.make, **given
        )

    def make(self, target: Target) -> Scripted:
        self.collectors[target.name] = Scripted(target)
        return self.collectors[target.name]

    def failures(self) -> list[Failure | None]:
        return [sample.failure for sample in self.samples]

    def of(self, name: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.target == name]


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[Stage]:
    await stage.schedule.start()
    try:
        yield stage
    finally:
        await stage.schedule.stop()


async def test_each_target_is_polled_at_its_interval() -> None:
    async with running(Stage([target("a"), target("b", "400ms")])) as stage:
        await until(lambda: len(stage.of("a")) >= 6)
        stats = stage.schedule.stats()
    assert 2 <= len(stage.of("b")) <= 4
    assert stats.polls_total["a"] >= 6
    assert stats.failures_total == {"a": 0, "b": 0}
    assert stats.missed_total == {"a": 0, "b": 0}
    assert 0.0 <= stats.lateness_seconds["a"] < 0.15


async def test_targets_start_at_different_moments_that_stay_the_same() -> None:
    names = [f"target-{number}" for number in range(20)]
    phases = [_phase(name, 1.0).total_seconds() for name in names]
    assert len(set(phases)) == 20
    assert all(0 <= phase < 1 for phase in phases)
    assert phases == [_phase(name, 1.0).total_seconds() for name in names]
    assert _phase("target-1", 3600.0) < timedelta(seconds=1)  # nobody waits an hour


async def test_a_poll_that_hangs_costs_its_own_target_only() -> None:
    stage = Stage([target("hung"), target("well")])
    stage.collectors["hung"].hangs = True
    async with running(stage):
        await until(lambda: len(stage.of("well")) >= 5)
        await until(lambda: stage.schedule.stats().missed_total["hung"] >= 2)
        assert stage.of("hung") == []
        assert stage.schedule.stats().missed_total["well"] == 0


async def test_stop_ends_soon_though_a_poll_hangs_and_closes_every_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage([target("hung"), target("well")])
    stage.collectors["hung"].hangs = True
    await stage.schedule.start()
    await until(lambda: stage.collectors["hung"].ats)
    t0 = monotonic()
    await stage.schedule.stop()
    assert monotonic() - t0 < 2.0
    assert all(collector.closed for collector in stage.collectors.values())
    # Nothing is left that could poll again.
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not stage.schedule._scheduler.running
    assert stage.schedule._scheduler.get_jobs() == []
    assert "Traceback" not in caplog.text


async def test_a_collector_that_raises_becomes_a_sample_and_one_complaint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage([target("broken")])
    stage.collectors["broken"].raises = True
    async with running(stage):
        await until(lambda: len(stage.samples) >= 3)
    assert {(s.up, s.failure) for s in stage.samples} == {(False, Failure.PROTOCOL)}
    assert caplog.text.count("said once") == 1
    assert "broken" in caplog.text


async def test_a_callback_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Sample] = []

    def careless(sample: Sample) -> None:
        seen.append(sample)
        raise ValueError("no room")

    async with running(Stage([target("a")], on_sample=careless)):
        await until(lambda: len(seen) >= 3)
    assert caplog.text.count("said once") == 1


async def test_the_log_has_a_line_when_a_target_goes_and_one_when_it_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "headroom.collectors")
    stage = Stage([target("a")])
    collector = stage.collectors["a"]
    async with running(stage):
        await until(lambda: len(stage.samples) >= 2)
        for failure in (Failure.TIMEOUT, Failure.SLOTS_EXHAUSTED, None):
            collector.failure = failure
            await until(lambda failure=failure: stage.failures()[-3:] == [failure] * 3)
        stats = stage.schedule.stats()
    assert [
        record.getMessage() for record in caplog.records if record.name.startswith("headroom")
    ] == [
        "a: down: it is timeout",
        "a: down: it is slots_exhausted",
        "a: answers again",
    ]
    assert stats.failures_total["a"] >= 4


async def test_looking_again_polls_once_more_and_only_once() -> None:
    stage = Stage([target("a", "30s")])
    async with running(stage):
        await until(lambda: len(stage.samples) == 1)
        watch, planned = stage.schedule._watches["a"], set()
        for _ in range(5):
            stage.schedule.look_again("a", 0.05)
            planned.add(watch.extra)
        assert len(planned) == 1
        await until(lambda: len(stage.samples) == 2)
        assert watch.extra is None
        stage.schedule.look_again("a", 0.05)
        await until(lambda: len(stage.samples) == 3)
    assert stage.collectors["a"].most_at_once == 1


async def test_one_poll_at_a_time_though_we_look_again_all_the_time() -> None:
    stage = Stage([target("a")])
    async with running(stage):
        deadline = monotonic() + 1.0
        while monotonic() < deadline:
            stage.schedule.look_again("a", 0.0)
            await asyncio.sleep(0.002)
    assert stage.collectors["a"].most_at_once == 1
    ats = stage.collectors["a"].ats
    assert len(ats) > 20
    assert all(later - at >= timedelta(milliseconds=1) for at, later in itertools.pairwise(ats))


class Clock:
    """A wall clock that can be set. The scheduler reads it as well."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + clock.ahead

    monkeypatch.setattr(apscheduler_base, "datetime", Shifted)
    monkeypatch.setattr(apscheduler_executors, "datetime", Shifted)
    return clock


@pytest.mark.parametrize(
    "jump",
    [timedelta(seconds=-30), timedelta(hours=-1), timedelta(hours=1), timedelta(days=1)],
    ids=["back 30 s", "back 1 h", "forward 1 h", "forward 1 d"],
)
async def test_a_clock_that_is_set_leaves_no_gap_and_time_goes_on(
    clock: Clock, jump: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Stage([target("a", "500ms")], wall=clock)) as stage:
        await until(lambda: len(stage.samples) >= 2)
        clock.ahead = jump
        jumped = monotonic()
        count = len(stage.samples)
        await until(lambda: len(stage.samples) >= count + 4)
    collector = stage.collectors["a"]
    after = [time for time in collector.times if time >= jumped]
    assert after[0] - jumped < 1.5
    assert max(b - a for a, b in itertools.pairwise(after)) < 1.0
    assert collector.ats == sorted(set(collector.ats))
    assert "the clock was set" in caplog.text
    if jump > timedelta():
        assert collector.ats[-1] - collector.ats[0] >= jump


async def test_a_second_without_the_loop_is_counted_as_missed() -> None:
    stage = Stage([target("a")])
    async with running(stage):
        await until(lambda: len(stage.samples) >= 2)
        stop = monotonic() + 1.0
        while monotonic() < stop:  # nothing else runs: the loop itself is held up
            pass
        count = len(stage.samples)
        await until(lambda: len(stage.samples) >= count + 2)
        assert 3 <= stage.schedule.stats().missed_total["a"] <= 6


class Slow(Scripted):
    """Says how long its polls took, as it is told."""

    cost = 0.0

    async def poll(self, at: datetime) -> Sample:
        return replace(await super().poll(at), poll_seconds=self.cost)


async def test_polls_that_cost_too_much_come_less_often_and_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "headroom.collectors")
    stage = Stage([target("a")])
    collector = Slow(target("a"))
    stage.schedule._watches["a"].collector = collector
    collector.cost = 0.15
    async with running(stage):
        await until(lambda: stage.samples and stage.samples[-1].degraded)
        assert stage.samples[-1].degraded == (
            "polled every 0.8 s instead of 0.2 s, because a poll takes 0.15 s"
        )
        assert stage.schedule.stats().interval_seconds["a"] == 0.8
        count = len(collector.times)
        await until(lambda: len(collector.times) == count + 2)
        assert collector.times[-1] - collector.times[-2] > 0.6
        assert stage.schedule.stats().missed_total["a"] == 0
        collector.cost = 0.001
        await until(lambda: stage.schedule.stats().interval_seconds["a"] == 0.2, 20)
        await until(lambda: stage.samples[-1].degraded is None)
    assert "polled every 0.8 s from now on" in caplog.text
    assert "polled every 0.2 s from now on" in caplog.text


class Breaking(IntervalTrigger):
    """A trigger whose arithmetic goes wrong, as APScheduler's did at changes of the clock."""

    breaks = True

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> Any:
        if self.breaks:
            raise OverflowError("date value out of range")
        return super().get_next_fire_time(previous, now)


async def test_a_scheduler_that_died_without_a_word_is_planned_anew_within_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage([target("a"), target("b")])
    async with running(stage):
        await until(lambda: len(stage.of("b")) >= 2)
        job = stage.schedule._scheduler.get_job("a")
        assert job is not None
        job.trigger = Breaking(seconds=0.2, timezone=UTC)
        await until(lambda: "date value out of range" in caplog.text)
        count, t0 = len(stage.of("b")), monotonic()
        await until(lambda: len(stage.of("b")) >= count + 3)
        assert monotonic() - t0 < 5.0
        assert stage.schedule.dead is None
    assert "planning all of them anew" in caplog.text


async def test_a_scheduler_that_cannot_be_revived_is_reported_within_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    stage = Stage([target("a")], on_dead=said.append)
    async with running(stage):
        await until(lambda: len(stage.samples) >= 2)
        t0 = monotonic()

        def broken(*_: object) -> None:
            raise RuntimeError("the job store is gone")

        monkeypatch.setattr(MemoryJobStore, "update_job", broken)
        await until(lambda: said)
        assert monotonic() - t0 < 5.0
    assert len(said) == 1
    assert stage.schedule.dead == said[0]


async def test_a_guard_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    stage = Stage([target("a")], on_dead=said.append)
    async with running(stage):
        await until(lambda: stage.samples)
        monkeypatch.setattr(stage.schedule._scheduler, "get_jobs", None)
        await until(lambda: said)
    assert "TypeError" in said[0]
