"""The store's outbox as the courier sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from alerts.evaluate import Decision
from headroom.outbox import StoreOutbox, outbox_rows
from model.alerting import Finding, Notice, Reason, Severity
from store import alert_log
from store.alert_log import OutboxRow
from store.database import Store

T0 = datetime(2030, 1, 1, tzinfo=UTC)
FINDING = Finding("target_down", "shop", (), Severity.CRITICAL, 3.0, 3.0, "s", "down", "look")
NOTICE = Notice("n1", "a1", Reason.FIRING, T0, FINDING, T0, "http://localhost:8501/target")


async def test_one_unreadable_message_does_not_keep_back_the_others(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path}/headroom.db") as store:
        store.migrate()
        broken = OutboxRow("broken", "a0", "hook", '{"not": "a notice"}', T0, T0)
        rows = [broken, *outbox_rows(Decision(notices=(("hook", NOTICE),)))]
        alert_log.record(store, [], rows, [], T0)
        outbox = StoreOutbox(store)
        assert [parcel.notice for parcel in await outbox.due("hook", T0, 10)] == [NOTICE]
        with store.read() as connection:
            assert alert_log.outbox_counts(connection)["dead"] == 1


async def test_what_was_sent_or_given_up_is_not_due_again(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path}/headroom.db") as store:
        store.migrate()
        alert_log.record(store, [], outbox_rows(Decision(notices=(("hook", NOTICE),))), [], T0)
        outbox = StoreOutbox(store)
        (parcel,) = await outbox.due("hook", T0, 10)
        await outbox.failed(parcel.id, T0, "503", T0.replace(minute=1))
        assert await outbox.due("hook", T0, 10) == []
        (again,) = await outbox.due("hook", T0.replace(minute=1), 10)
        assert again.attempts == 1
        await outbox.sent(parcel.id, T0)
        assert await outbox.due("hook", T0.replace(hour=1), 10) == []
