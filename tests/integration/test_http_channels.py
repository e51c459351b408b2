"""Slack and the webhook against a receiver that behaves well, badly, and not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from alerts.notify import slack, webhook
from alerts.notify.channels import Senders, send_test
from alerts.notify.errors import NotifyError
from alerts.notify.post import new_client, retry_after
from model.channels import SlackChannel, WebhookChannel
from tests.alert_samples import T0, notice
from tests.http_stand_in import Receiver


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with new_client() as made:
        yield made


@pytest.mark.parametrize("channel", [slack, webhook], ids=["slack", "webhook"])
@pytest.mark.parametrize(
    ("answer", "permanent", "wait", "words"),
    [
        ("400", True, None, "answered 400: no_such_thing"),
        ("404", True, None, "answered 404"),
        ("408", False, None, "answered 408"),
        ("429 Retry-After: 7", False, 7.0, "answered 429"),
        ("503", False, None, "answered 503"),
        ("503 Retry-After: soon", False, None, "answered 503"),
        ("302 Location: http://127.0.0.1:1/", False, None, "redirects are not followed"),
        ("rst", False, None, "connection failed"),
        ("hang", False, None, "no answer within 0.3 s"),
    ],
)
async def test_a_refusal_says_whether_another_try_helps(
    client: httpx.AsyncClient, channel: Any, answer: str, permanent: bool, wait: Any, words: str
) -> None:
    async with Receiver([answer], text="no_such_thing") as receiver:
        t0 = time.monotonic()
        with pytest.raises(NotifyError) as refused:
            await channel.send(notice(), receiver.url, client, 0.3)
        assert time.monotonic() - t0 < 2.0
        assert len(receiver.received) == 1
    assert (refused.value.permanent, refused.value.retry_after) == (permanent, wait)
    assert words in str(refused.value)
    assert "SECRET" not in str(refused.value)


async def test_nobody_listening_is_no_reason_to_give_up(client: httpx.AsyncClient) -> None:
    async with Receiver() as receiver:
        url = receiver.url
    with pytest.raises(NotifyError, match="cannot connect") as refused:
        await slack.send(notice(), url, client, 1.0)
    assert not refused.value.permanent
    assert "SECRET" not in str(refused.value)


async def test_a_message_without_end_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    async with Receiver(["503"], text="x" * 5_000_000) as receiver:
        with pytest.raises(NotifyError) as refused:
            await webhook.send(notice(), receiver.url, client, 2.0)
    assert len(str(refused.value)) < 600


async def test_the_webhook_s_key_is_the_notice_s_id(client: httpx.AsyncClient) -> None:
    async with Receiver() as receiver:
        await webhook.send(notice(id="abc"), receiver.url, client, 1.0)
        [got] = receiver.received
    assert got.headers["idempotency-key"] == got.body["id"] == "abc"
    assert got.headers["content-type"] == "application/json"
    assert got.body["culprit"]["pid"] == 4711


async def test_refused_blocks_are_sent_again_as_plain_text(client: httpx.AsyncClient) -> None:
    async with Receiver(["400", "200"], text="invalid_blocks") as receiver:
        await slack.send(notice(), receiver.url, client, 1.0)
        first, second = receiver.received
    assert first.body["blocks"]
    assert set(second.body) == {"text"}
    assert second.body["text"] == first.body["text"]


async def test_no_log_line_shows_the_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Receiver() as receiver:
        channel = SlackChannel.model_validate(
            {"kind": "slack", "name": "oncall", "webhook_url": receiver.url}
        )
        senders = Senders([channel])
        await senders.send("oncall", notice())
        await senders.close()
        assert len(receiver.received) == 1
    assert "SECRET" not in caplog.text
    assert "SECRET" not in repr(channel)


async def test_a_test_message_says_that_it_is_one() -> None:
    async with Receiver() as receiver:
        channel = WebhookChannel.model_validate(
            {"kind": "webhook", "name": "hook", "url": receiver.url}
        )
        await send_test(channel, "http://localhost:8501", T0)
        [got] = receiver.received
    assert (got.body["status"], got.body["title"][:5]) == ("test", "TEST:")


def test_retry_after_may_be_a_date() -> None:
    now = "Tue, 01 Jan 2030 00:00:00 GMT"
    then = "Tue, 01 Jan 2030 00:02:00 GMT"
    assert retry_after({"retry-after": then, "date": now}) == 120.0
    assert retry_after({"retry-after": now, "date": then}) == 0.0
    assert retry_after({"retry-after": then}) is None
