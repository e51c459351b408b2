"""Picks the sender by the kind of channel."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import datetime

import httpx

from alerts.notify import slack, webhook
from alerts.notify.email import EmailSender
from alerts.notify.errors import NotifyError
from alerts.notify.post import new_client
from model.alerting import Culprit, Finding, Notice, Reason, Severity, labels
from model.channels import Channel, EmailChannel, SlackChannel


class Senders:
    """The configured channels, ready to send.

    client: shared by the HTTP channels; ours, and closed by close(), unless one is given.
    tls:    TLS settings for mail servers; None verifies by the system's certificates.
    """

    def __init__(
        self,
        channels: Iterable[Channel],
        client: httpx.AsyncClient | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._channels = {channel.name: channel for channel in channels}
        self._own_client = client is None
        self._client = client or new_client()
        self._mail = {
            name: EmailSender(channel, tls)
            for name, channel in self._channels.items()
            if isinstance(channel, EmailChannel)
        }

    async def send(self, name: str, notice: Notice) -> None:
        """Send *notice* by the channel *name*. Raises NotifyError; KeyError if there is none."""
        channel = self._channels[name]
        if isinstance(channel, EmailChannel):
            await self._mail[name].send(notice)
        elif isinstance(channel, SlackChannel):
            url = _given(channel.webhook_url)
            await slack.send(notice, url, self._client, channel.timeout)
        else:
            url = _given(channel.url)
            await webhook.send(notice, url, self._client, channel.timeout)

    async def close(self) -> None:
        """Close what we opened."""
        if self._own_client:
            await self._client.aclose()


def _given(secret: object) -> str:
    """The URL, which the configuration has made sure of."""
    reveal = getattr(secret, "get_secret_value", None)
    if reveal is None:
        raise NotifyError("the channel has no URL", permanent=True)
    return str(reveal())


async def send_test(channel: Channel, dashboard: str, at: datetime) -> None:
    """Send one test message by *channel*, as `headroom notify-test` does. Raises NotifyError."""
    senders = Senders([channel])
    try:
        await senders.send(channel.name, test_notice(dashboard, at))
    finally:
        await senders.close()


def test_notice(dashboard: str, at: datetime) -> Notice:
    """A notice that shows what a real one looks like, and says that it is none."""
    finding = Finding(
        rule="pool_waiters",
        target="example-pool",
        labels=labels(database="shop", user="app"),
        severity=Severity.WARNING,
        value=6.1,
        limit=0.5,
        unit="s",
        summary=(
            "This is an example: 24 clients wait for a connection to pool shop/app, the oldest "
            "for 6.1 s (limit 0.5 s); all 20 server connections are in use"
        ),
        advice="Nothing: this message only proves that the channel works.",
        culprit=Culprit(
            4711, "checkout", "app", "shop", "10.0.3.7:51512", "idle in transaction", 192.0,
            "UPDATE cart SET total = $1 WHERE id = $2",
        ),
    )  # fmt: skip
    stamp = f"{int(at.timestamp() * 1000):x}"
    return Notice(f"test-{stamp}", f"test-{stamp}", Reason.TEST, at, finding, at, dashboard)
