"""The Courier over an outbox in memory: order, retries, no loss, nobody in the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from alerts.deliver import BATCH, Courier, Parcel
from alerts.notify.errors import NotifyError
from model.alerting import Notice
from model.channels import WebhookChannel
from tests.alert_samples import T0, notice
from tests.http_stand_in import Receiver

FAST = 1000.0  # messages a second; only the test of the pace is slower


@dataclass
class Row:
    parcel: Parcel
    channel: str
    next_attempt_at: datetime = T0
    error: str = ""
    state: str = "waiting"
    marked_at: datetime | None = None


@dataclass
class MemoryOutbox:
    """What the store's outbox promises, in a list.

    broken: calls that fail, by name; each once.
    luck:   asked before and after every call whether it fails there.
    """

    rows: list[Row] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    luck: Callable[[str], bool] = lambda _: False
    failures: int = 0

    def put(self, made: Notice, channel: str = "hook") -> None:
        self.rows.append(Row(Parcel(f"{made.id}:{channel}", made, 0, T0), channel))

    async def due(self, channel: str, at: datetime, limit: int) -> list[Parcel]:
        self._break("due")
        first: dict[str, Row] = {}
        for row in self.rows:
            if row.channel == channel and row.state == "waiting":
                first.setdefault(row.parcel.notice.alert_id, row)
        return [row.parcel for row in first.values() if row.next_attempt_at <= at][:limit]

    async def sent(self, parcel_id: str, at: datetime) -> None:
        self._break(f"sent {parcel_id}")
        row = self._row(parcel_id)
        row.state, row.marked_at = "sent", at
        self._break(f"sent {parcel_id}")

    async def failed(
        self, parcel_id: str, at: datetime, error: str, next_attempt_at: datetime
    ) -> None:
        self._break(f"failed {parcel_id}")
        row = self._row(parcel_id)
        row.parcel = replace(row.parcel, attempts=row.parcel.attempts + 1)
        row.error, row.next_attempt_at, row.marked_at = error, next_attempt_at, at
        self._break(f"failed {parcel_id}")

    async def dead(self, parcel_id: str, at: datetime, error: str) -> None:
        self._break(f"dead {parcel_id}")
        row = self._row(parcel_id)
        row.state, row.error, row.marked_at = "dead", error, at

    def states(self) -> dict[str, str]:
        return {row.parcel.notice.id: row.state for row in self.rows}

    def _row(self, parcel_id: str) -> Row:
        return next(row for row in self.rows if row.parcel.id == parcel_id)

    def _break(self, call: str) -> None:
        name = call.partition(" ")[0]
        if name in self.broken:
            self.broken.remove(name)
        elif not self.luck(call):
            return
        self.failures += 1
        raise OSError("disk full")


class Clock:
    """A wall clock that runs 100 times as fast as the loop's."""

    def __call__(self) -> datetime:
        loop = asyncio.get_running_loop()
        if not hasattr(self, "_start"):
            self._start = loop.time()
        return T0 + timedelta(seconds=100 * (loop.time() - self._start))


def channel(name: str = "hook", url: str = "http://127.0.0.1:9/", **more: Any) -> WebhookChannel:
    values = {"kind": "webhook", "name": name, "url": url, "timeout": "300ms"}
    return WebhookChannel.model_validate({**values, **more})


@asynccontextmanager
async def running(courier: Courier) -> AsyncIterator[None]:
    task = asyncio.create_task(courier.run())
    try:
        yield
    finally:
        await courier.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 5.0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110  the outbox has no event to wait for
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for retries as often as the fast clock needs it."""
    monkeypatch.setattr("alerts.deliver.RETRY_LOOK", 0.01)


class Script:
    """A sender: what to raise for each notice id, try by try; None takes it."""

    def __init__(self, **answers: list[Exception | None]) -> None:
        self.answers = answers
        self.taken: list[str] = []
        self.tries: list[str] = []

    async def __call__(self, name: str, made: Notice) -> None:
        self.tries.append(made.id)
        answers = self.answers.get(made.id)
        if answers:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer is not None:
                raise answer
        self.taken.append(made.id)


def courier(outbox: MemoryOutbox, send: Any, **changed: Any) -> Courier:
    values: dict[str, Any] = {"now": Clock(), "per_second": FAST, "chance": lambda: 1.0}
    return Courier(outbox, [channel()], **{**values, **changed}, send=send)


async def test_within_an_alert_the_order_is_kept_whatever_fails() -> None:
    outbox, send = MemoryOutbox(), Script(first=[NotifyError("busy"), NotifyError("busy"), None])
    for name in ("first", "second", "third"):
        outbox.put(notice(id=name))
    async with running(courier(outbox, send)):
        await until(lambda: set(outbox.states().values()) == {"sent"})
    assert send.taken == ["first", "second", "third"]
    assert send.tries == ["first"] * 3 + ["second", "third"]


async def test_a_poison_message_holds_up_no_other_alert() -> None:
    outbox = MemoryOutbox()
    send = Script(poison=[ValueError("cannot be formed")], busy=[NotifyError("always busy")])
    outbox.put(notice(id="poison", alert_id="a"))
    outbox.put(notice(id="busy", alert_id="b"))
    for number in range(30):
        outbox.put(notice(id=f"n{number}", alert_id=f"c{number}"))
    async with running(courier(outbox, send)):
        await until(lambda: len(send.taken) == 30)
        await until(lambda: send.tries.count("busy") >= 3)
    assert send.tries.count("poison") == 1
    states = outbox.states()
    assert (states.pop("poison"), states.pop("busy")) == ("dead", "waiting")
    assert set(states.values()) == {"sent"}


async def test_after_a_refusal_for_good_the_alert_s_next_message_goes_out() -> None:
    outbox, send = MemoryOutbox(), Script(first=[NotifyError("gone", permanent=True)])
    outbox.put(notice(id="first"))
    outbox.put(notice(id="second"))
    async with running(courier(outbox, send)):
        await until(lambda: send.taken == ["second"])
    assert outbox.states()["first"] == "dead"
    assert send.tries.count("first") == 1


async def test_it_gives_up_after_retry_for() -> None:
    outbox, send = MemoryOutbox(), Script(n1=[NotifyError("busy")])
    outbox.put(notice())
    async with running(courier(outbox, send, retry_for=60.0)):
        await until(lambda: outbox.states()["n1"] == "dead")
    assert send.tries == ["n1"] * 6  # after 1, 3, 7, 15, 31 s; the next would be after 63 s


async def test_a_sent_message_that_cannot_be_marked_is_not_sent_again() -> None:
    outbox, send = MemoryOutbox(broken=["sent", "sent", "due"]), Script()
    outbox.put(notice())
    async with running(courier(outbox, send)):
        await until(lambda: outbox.states()["n1"] == "sent")
    assert send.tries == ["n1"]


async def test_a_message_that_was_put_in_later_goes_out_when_woken() -> None:
    outbox, send = MemoryOutbox(), Script()
    made = courier(outbox, send)
    async with running(made):
        await asyncio.sleep(0)
        outbox.put(notice())
        made.wake()
        async with asyncio.timeout(1.0):
            await until(lambda: bool(send.taken))


class Timer:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_five_go_at_once_and_then_one_a_turn() -> None:
    outbox, timer, times = MemoryOutbox(), Timer(), []

    async def send(name: str, made: Notice) -> None:
        times.append(timer.now - 1000.0)

    for number in range(8):
        outbox.put(notice(id=f"n{number}", alert_id=f"a{number}"))
    made = courier(outbox, send, per_second=4.0, timer=timer, sleep=timer.sleep)
    async with running(made):
        await until(lambda: len(times) == 8)
    assert times == [0.0] * 5 + [0.25, 0.5, 0.75]


async def test_each_message_is_marked_with_the_time_of_its_own() -> None:
    outbox, wall = MemoryOutbox(), [T0]

    async def send(name: str, made: Notice) -> None:
        wall[0] += timedelta(seconds=10)
        if made.id == "refused":
            raise NotifyError("busy")

    for name in ("first", "second", "refused"):
        outbox.put(notice(id=name, alert_id=name))
    async with running(courier(outbox, send, now=lambda: wall[0])):
        await until(lambda: all(row.marked_at for row in outbox.rows))
        marked = [row.marked_at - T0 for row in outbox.rows if row.marked_at]
        again = outbox.rows[2].next_attempt_at - T0
    assert [at.total_seconds() for at in marked] == [10.0, 20.0, 30.0]
    assert again.total_seconds() == 31.0


@pytest.mark.parametrize("seed", range(8))
async def test_an_outbox_that_fails_at_random_loses_and_doubles_nothing(seed: int) -> None:
    chance = random.Random(seed)
    outbox = MemoryOutbox(luck=lambda _: chance.random() < 0.3)
    taken: list[str] = []

    async def send(name: str, made: Notice) -> None:
        if chance.random() < 0.3:
            raise NotifyError("busy")
        taken.append(made.id)

    for number in range(40):
        outbox.put(notice(id=f"n{number:02}", alert_id=f"a{number % 30}"))
    async with running(courier(outbox, send)):
        await until(lambda: set(outbox.states().values()) == {"sent"})
    assert outbox.failures > 20
    assert sorted(taken) == sorted(outbox.states())
    for alert in range(30):
        mine = [name for name in taken if int(name[1:]) % 30 == alert]
        assert mine == sorted(mine)


@pytest.mark.parametrize("seed", range(4))
async def test_kills_and_a_failing_outbox_together_double_at_most_one_each(seed: int) -> None:
    chance = random.Random(seed)
    outbox = MemoryOutbox(luck=lambda _: chance.random() < 0.2)
    taken: list[str] = []

    async def send(name: str, made: Notice) -> None:
        taken.append(made.id)
        await asyncio.sleep(0.002)

    for number in range(60):
        outbox.put(notice(id=f"n{number:02}", alert_id=f"a{number % 20}"))
    kills = 0
    while "waiting" in outbox.states().values():
        task = asyncio.create_task(courier(outbox, send).run())
        await asyncio.sleep(0.03)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        kills += 1
    assert set(taken) == set(outbox.states())
    assert len(taken) - 60 <= kills + outbox.failures


async def test_messages_that_cannot_be_marked_keep_no_other_waiting() -> None:
    outbox = MemoryOutbox(luck=lambda call: "stuck" in call)
    send = Script(stuck00=[NotifyError("busy")], stuck01=[NotifyError("no", permanent=True)])
    for number in range(BATCH + 5):
        outbox.put(notice(id=f"stuck{number:02}", alert_id=f"s{number}"))
    for number in range(BATCH + 5):
        outbox.put(notice(id=f"free{number:02}", alert_id=f"f{number}"))
    async with running(courier(outbox, send)):
        await until(lambda: sum(name.startswith("free") for name in send.taken) == BATCH + 5)
        await until(lambda: send.tries.count("stuck00") >= 3)
        assert len(send.taken) == len(set(send.taken))
        assert send.tries.count("stuck01") == 1
        outbox.luck = lambda _: False
        await until(lambda: sum(s == "sent" for s in outbox.states().values()) == 2 * BATCH + 8)
    assert outbox.states()["stuck01"] == "dead"
    assert set(send.tries) == set(outbox.states())


async def test_tries_that_cannot_be_marked_still_come_less_and_less_often() -> None:
    outbox = MemoryOutbox(luck=lambda call: call.startswith("failed"))
    outbox.put(notice())
    async with running(courier(outbox, Script(n1=[NotifyError("busy")]), retry_for=60.0)):
        await until(lambda: outbox.states()["n1"] == "dead")
    assert outbox.failures >= 5
    assert outbox.rows[0].parcel.attempts == 0  # none of them was marked


async def test_what_could_not_be_marked_is_marked_when_it_stops() -> None:
    outbox, send = MemoryOutbox(luck=lambda call: call.startswith("sent")), Script()
    outbox.put(notice())
    async with running(courier(outbox, send)):
        await until(lambda: outbox.failures > 0)
        outbox.luck = lambda _: False
    assert outbox.states()["n1"] == "sent"
    assert send.tries == ["n1"]


async def test_a_channel_that_hangs_holds_up_no_other() -> None:
    outbox, arrived = MemoryOutbox(), []

    async def send(name: str, made: Notice) -> None:
        if name == "hangs":
            await asyncio.sleep(3600)
        arrived.append(name)

    outbox.put(notice(id="a"), "hangs")
    outbox.put(notice(id="b"), "works")
    made = Courier(outbox, [channel("hangs"), channel("works")], send=send, now=Clock())
    async with running(made):
        await until(lambda: arrived == ["works"])
        await until(lambda: outbox.rows[0].error == "no answer within 0.3 s")


async def test_nothing_is_lost_when_it_is_killed_and_started_again_and_again() -> None:
    outbox = MemoryOutbox()
    taken: list[str] = []

    async def send(name: str, made: Notice) -> None:
        taken.append(made.id)
        await asyncio.sleep(0.002)

    for number in range(60):
        outbox.put(notice(id=f"n{number:02}", alert_id=f"a{number % 6}"))
    kills = 0
    while "waiting" in outbox.states().values():
        task = asyncio.create_task(courier(outbox, send).run())
        await asyncio.sleep(0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        kills += 1
    assert set(taken) == set(outbox.states())
    assert len(taken) - 60 <= kills  # at most one double a kill
    assert kills > 1
    for alert in range(6):
        mine = [name for name in dict.fromkeys(taken) if int(name[1:]) % 6 == alert]
        assert mine == sorted(mine)


async def test_the_log_says_what_happened_without_the_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Receiver(["503", "200"], text="busy") as receiver:
        outbox = MemoryOutbox()
        outbox.put(notice())
        made = Courier(outbox, [channel(url=receiver.url)], now=Clock())
        async with running(made):
            await until(lambda: outbox.states()["n1"] == "sent")
        assert len(receiver.received) == 2
    lines = [r.getMessage() for r in caplog.records if r.name == "headroom.alerts"]
    failed, sent = lines
    words = r"cannot send pool_waiters of shop-pool \(firing\) to channel hook in try 1, next in "
    assert re.fullmatch(words + r"[01] s: answered 503: busy", failed)
    assert sent == "sent pool_waiters of shop-pool (firing) to channel hook in try 2"
    assert "SECRET" not in caplog.text


async def test_retry_after_pauses_the_channel_and_loses_nothing() -> None:
    async with Receiver(["429 Retry-After: 1", "200"]) as receiver:
        outbox = MemoryOutbox()
        for name in ("a", "b"):
            outbox.put(notice(id=name, alert_id=name))
        made = Courier(outbox, [channel(url=receiver.url)], now=Clock(), per_second=FAST)
        t0 = asyncio.get_running_loop().time()
        async with running(made):
            await until(lambda: len(receiver.received) == 1)
            await until(lambda: set(outbox.states().values()) == {"sent"})
        assert asyncio.get_running_loop().time() - t0 >= 1.0
        assert sorted(r.body["id"] for r in receiver.received) == ["a", "a", "b"]
