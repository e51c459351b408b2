"""The generic webhook: our own JSON, with names that stay (docs/webhook.md)."""

from __future__ import annotations

import json
from typing import Any

import httpx

from alerts.link import iso
from alerts.notify.message import message
from alerts.notify.post import post
from model.alerting import Notice, finding_to_json

VERSION = 1  # of the document; grows only when a field changes its meaning or goes


def render(notice: Notice) -> dict[str, Any]:
    """The JSON document of *notice*. Names and statements in it are as the server gave them."""
    parts = message(notice)
    resolved_at = notice.resolved_at
    return {
        "version": VERSION,
        "id": notice.id,
        "alert_id": notice.alert_id,
        "status": "test" if notice.reason.value == "test" else _status(parts.resolved),
        "reason": notice.reason.value,
        "title": parts.title,
        "at": iso(notice.at),
        "since": iso(notice.since),
        "resolved_at": None if resolved_at is None else iso(resolved_at),
        **finding_to_json(notice.finding),
        "verdict": notice.verdict,
        "link": notice.link,
        "docs": parts.rule_page,
    }


def _status(resolved: bool) -> str:
    return "resolved" if resolved else "firing"


async def send(notice: Notice, url: str, client: httpx.AsyncClient, timeout: float) -> None:
    """POST the document. Raises NotifyError."""
    body = json.dumps(render(notice)).encode("ascii")
    await post(client, url, body, timeout, {"Idempotency-Key": notice.id})
