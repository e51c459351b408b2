"""A notice as JSON and back: what lies in the outbox."""

from __future__ import annotations

import json
from datetime import datetime

from model.alerting import Notice, Reason, finding_from_json, finding_to_json


def notice_to_json(notice: Notice) -> str:
    """*notice* as JSON text; times as ISO 8601 with their offset."""
    resolved_at = notice.resolved_at
    return json.dumps(
        {
            "id": notice.id,
            "alert_id": notice.alert_id,
            "reason": notice.reason.value,
            "at": notice.at.isoformat(),
            "since": notice.since.isoformat(),
            "resolved_at": None if resolved_at is None else resolved_at.isoformat(),
            "link": notice.link,
            "verdict": notice.verdict,
            "finding": finding_to_json(notice.finding),
        }
    )


def notice_from_json(text: str) -> Notice:
    """The inverse of notice_to_json. Raises ValueError, KeyError or TypeError."""
    data = json.loads(text)
    resolved_at = data["resolved_at"]
    return Notice(
        id=data["id"],
        alert_id=data["alert_id"],
        reason=Reason(data["reason"]),
        at=datetime.fromisoformat(data["at"]),
        finding=finding_from_json(data["finding"]),
        since=datetime.fromisoformat(data["since"]),
        link=data["link"],
        resolved_at=None if resolved_at is None else datetime.fromisoformat(resolved_at),
        verdict=data["verdict"],
    )
