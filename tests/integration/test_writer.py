"""The writer while the store is locked, and after it was: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alerts.evaluate import Decision
from headroom import writer as writer_module
from headroom.entries import Decided, from_bytes, to_bytes
from headroom.outbox import StoreOutbox
from headroom.writer import Writer
from model.alerting import Notice, Reason, Severity, Verdict
from model.config import StoreSettings
from model.samples import Failure, LockWait, Sample
from store import database
from store.alert_log import outbox_counts
from store.database import Store, StoreError
from store.export import export
from tests.lab import wait_until
from tests.unit.test_episodes import SESSION
from tests.unit.test_store import ALERT, FINDING, T0, seen

NOTICE = Notice("n1", "a1", Reason.FIRING, T0, FINDING, T0, "http://localhost:8501/")
DECIDED = Decided(
    Decision(
        changed=(ALERT,),
        notices=(("hook", NOTICE),),
        verdicts=(("shop", Verdict("pooler", "pool_full", "Full.", Severity.CRITICAL)),),
    ),
    T0,
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr(writer_module, "_RETRY", 0.05)
    with Store(f"sqlite:///{tmp_path}/headroom.db") as opened:
        opened.migrate()
        yield opened


class Locked:
    """Somebody else holds the store's write lock."""

    def __init__(self, store: Store) -> None:
        self._connection = sqlite3.connect(store.path, isolation_level=None)

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


def start(store: Store) -> tuple[Writer, StoreOutbox, threading.Event]:
    outbox, told = StoreOutbox(store), threading.Event()
    return Writer(store, StoreSettings(), outbox, told.set), outbox, told


def kept(store: Store, table: str = "servers") -> list[datetime]:
    with store.read() as connection:
        column = "at" if table == "servers" else "started_at"
        return [at.to_pydatetime() for at in export(connection, table, None, None, None)[column]]


def at(number: int) -> datetime:
    return T0 + timedelta(seconds=number)


def test_samples_wait_while_the_store_is_locked_and_come_in_order_and_once(store: Store) -> None:
    writer, _, _ = start(store)
    with Locked(store):
        for number in range(100):
            writer.put(replace(seen(number), sessions=(SESSION,)))
        wait_until(lambda: writer.stats().spool_bytes)
        assert writer.stats().waiting == 100
    wait_until(lambda: len(kept(store)) == 100)
    assert kept(store) == [at(number) for number in range(100)]
    assert kept(store, "sessions") == [T0]  # one episode, not one more for every replay
    wait_until(lambda: writer.stats().waiting == 0)
    writer.put(seen(100))
    wait_until(lambda: kept(store)[-1] == at(100))
    writer.stop(5)


def test_what_waited_at_the_end_is_there_after_the_next_start(store: Store) -> None:
    writer, _, _ = start(store)
    with Locked(store):
        for number in range(30):
            writer.put(seen(number))
        writer.put(DECIDED)
        wait_until(lambda: writer.stats().spool_bytes)
        writer.stop(5)
        assert kept(store) == []
    again, _, told = start(store)
    wait_until(told.is_set)
    assert kept(store) == [at(number) for number in range(30)]
    with store.read() as connection:
        assert outbox_counts(connection) == {"waiting": 1, "dead": 0, "sent": 0}
    again.stop(5)


def test_a_message_goes_out_while_the_store_is_locked_and_is_not_sent_again(store: Store) -> None:
    writer, outbox, told = start(store)
    writer.put(seen(0))
    with Locked(store):
        writer.put(DECIDED)
        assert told.wait(5)
        (parcel,) = asyncio.run(outbox.due("hook", T0, 10))
        assert parcel.notice == NOTICE
        asyncio.run(outbox.failed(parcel.id, at(0), "503", at(60)))
        assert asyncio.run(outbox.due("hook", at(59), 10)) == []
        (parcel,) = asyncio.run(outbox.due("hook", at(60), 10))
        assert parcel.attempts == 1  # so that the back-off grows
        asyncio.run(outbox.sent(parcel.id, at(61)))
        assert asyncio.run(outbox.due("hook", T0, 10)) == []
    wait_until(lambda: writer.stats().waiting == 0)
    writer.stop(5)
    with store.read() as connection:
        assert outbox_counts(connection) == {"waiting": 0, "dead": 0, "sent": 1}
    assert asyncio.run(outbox.due("hook", T0, 10)) == []


def test_what_is_given_up_meanwhile_is_not_marked_as_sent(store: Store) -> None:
    writer, outbox, told = start(store)
    with Locked(store):
        writer.put(DECIDED)
        assert told.wait(5)
        (parcel,) = asyncio.run(outbox.due("hook", T0, 10))
        asyncio.run(outbox.dead(parcel.id, at(1), "410 Gone"))
    wait_until(lambda: writer.stats().waiting == 0)
    writer.stop(5)
    with store.read() as connection:
        assert outbox_counts(connection) == {"waiting": 0, "dead": 1, "sent": 0}


def test_resolved_does_not_overtake_a_firing_that_waits_in_the_store(store: Store) -> None:
    writer, outbox, _ = start(store)
    writer.put(DECIDED)
    wait_until(lambda: asyncio.run(outbox.due("hook", T0, 10)))
    asyncio.run(outbox.failed(f"{NOTICE.id}:hook", T0, "503", at(600)))
    assert asyncio.run(outbox.due("hook", at(1), 10)) == []
    resolved = replace(NOTICE, id="n2", reason=Reason.RESOLVED, at=at(2))
    with Locked(store):
        writer.put(Decided(Decision(notices=(("hook", resolved),)), at(2)))
        wait_until(lambda: outbox._held)
        assert asyncio.run(outbox.due("hook", at(3), 10)) == []
    writer.stop(5)


def test_a_message_that_is_in_the_store_is_not_held_when_a_later_write_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, outbox, _ = start(store)
    failing = threading.Event()

    def append(*_: object) -> None:
        failing.set()
        raise StoreError("away")

    with writer._changed:  # one batch: the decision, then a sample that fails
        monkeypatch.setattr(writer._appender, "append", append)
        writer._queue.extend([DECIDED, seen(1)])
        writer._changed.notify()
    assert failing.wait(5)
    wait_until(lambda: writer.stats().spool_bytes)
    assert outbox._held == {}
    monkeypatch.undo()
    writer.stop(5)


def test_what_the_store_can_never_take_is_dropped_and_the_rest_is_kept(store: Store) -> None:
    writer, _, _ = start(store)
    poison = replace(seen(1), target=None)
    for sample in (seen(0), poison, seen(2)):
        writer.put(sample)  # type: ignore[arg-type]
    wait_until(lambda: len(kept(store)) == 2)
    assert kept(store) == [at(0), at(2)]
    assert writer.stats().dropped_total == 1
    writer.stop(5)


def test_a_spool_that_vanishes_does_not_end_the_writer(store: Store) -> None:
    writer, _, _ = start(store)
    with Locked(store):
        for number in range(5):
            writer.put(seen(number))
        wait_until(lambda: writer.stats().spool_bytes)
        shutil.rmtree(f"{store.path}.spool")
    wait_until(lambda: writer.alive)
    writer.put(seen(9))
    wait_until(lambda: at(9) in kept(store), 20)
    writer.stop(5)


def test_an_unwritable_spool_costs_samples_only_at_the_last_resort(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "LAST_RESORT", 50)
    Path(f"{store.path}.spool").write_text("a file where the folder should be")
    writer, _, _ = start(store)
    with Locked(store):
        writer.put(DECIDED)
        for number in range(100):
            writer.put(seen(number))
        wait_until(lambda: writer.stats().dropped_total == 51)
    wait_until(lambda: writer.stats().waiting == 0)
    assert kept(store) == [at(number) for number in range(51, 100)]
    with store.read() as connection:
        assert outbox_counts(connection)["waiting"] == 1  # a decision is never dropped
    writer.stop(5)


def test_every_part_of_an_entry_survives_the_spool() -> None:
    wait = LockWait(4712, T0, (4711, 0), 4711, 1, False, "tuple", "ExclusiveLock", "public.a", 1.5)
    sample = replace(seen(0), sessions=(SESSION,), lock_waits=(wait,))
    assert from_bytes(to_bytes(sample)) == sample
    failed = Sample("x", "pgbouncer", T0, 1.0, up=False, failure=Failure.TIMEOUT, reason="ü\n")
    assert from_bytes(to_bytes(failed)) == failed
    assert b"\n" not in to_bytes(failed)
    assert from_bytes(to_bytes(DECIDED)) == DECIDED


def test_the_run_is_ended_when_the_writer_stops(store: Store) -> None:
    writer, _, _ = start(store)
    began = datetime.now(UTC)
    writer.stop(5)
    with store.read() as connection:
        stopped = connection.exec_driver_sql("SELECT stopped_at FROM run").scalar_one()
    assert stopped >= began.timestamp() * 1000 - 1
