"""Slack, by an incoming webhook.

Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and
https://docs.slack.dev/reference/block-kit/blocks (limits). Names and statements come from
strangers: every field is escaped, in the fallback text too, so that `<!channel>` in an
application_name calls nobody.
"""

from __future__ import annotations

import json
from typing import Any

import httpx

from alerts.notify.errors import NotifyError
from alerts.notify.message import Message, message, utc
from alerts.notify.post import post
from model.alerting import Notice, Severity

HEADER_LIMIT = 150  # characters, plain_text
SECTION_LIMIT = 3000  # characters of a section's text
FIELD_LIMIT = 2000  # characters of one of a section's fields
FIELDS = 10  # fields of one section
BLOCKS = 50  # blocks of one message
TEXT_LIMIT = 3000  # characters of the fallback text; Slack itself would take 40,000
URL_LIMIT = 3000  # characters of a button's link
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escaped(text: str, limit: int) -> str:
    """*text* with Slack's three special characters escaped, at most *limit* long.

    The limit holds for the escaped text and never cuts an escape in two.

    >>> escaped("<!channel> & co", 100), escaped("<<<<", 9)
    ('&lt;!channel&gt; &amp; co', '&lt;&lt;…')
    """
    pieces: list[str] = []
    length = 0
    for character in text:
        piece = _ESCAPES.get(character, character)
        if length + len(piece) > limit:
            while length + 1 > limit:
                length -= len(pieces.pop())
            return "".join(pieces) + "…"
        pieces.append(piece)
        length += len(piece)
    return "".join(pieces)


def render(notice: Notice) -> dict[str, Any]:
    """The JSON body of the message about *notice*."""
    parts = message(notice)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(f"{_sign(parts)} {parts.title}", HEADER_LIMIT)},
        {"type": "section", "text": _plain(f"{parts.status}\n{parts.summary}.", SECTION_LIMIT)},
    ]
    facts = [_plain(f"{label}\n{value}", FIELD_LIMIT) for label, value in parts.facts]
    blocks += [
        {"type": "section", "fields": facts[start : start + FIELDS]}
        for start in range(0, len(facts), FIELDS)
    ]
    if parts.statement:
        # A backtick would end the code block; its look-alike does not.
        code = escaped(parts.statement.replace("`", "ˋ"), SECTION_LIMIT - 6)
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"```{code}```"}})
    if not parts.resolved:
        blocks.append(_section(f"Do first: {parts.advice}"))
    if parts.evidence:
        blocks.append(_section("\n".join(f"• {line}" for line in parts.evidence)))
    if parts.verdict:
        blocks.append(_section(f"Verdict: {parts.verdict}"))
    if len(parts.link) <= URL_LIMIT:
        button = {"type": "button", "text": _plain("Open dashboard", 75), "url": parts.link}
        blocks.append({"type": "actions", "elements": [button]})
    at = (
        f"<!date^{int(notice.at.timestamp())}^{{date_short_pretty}} {{time_secs}}|{utc(notice.at)}>"
    )
    context = f"{at} · {utc(notice.at)} · {notice.reason.value} · rule: {parts.rule_page}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": context}]})
    return {"text": _fallback(parts), "blocks": blocks[:BLOCKS]}


def _fallback(parts: Message) -> str:
    """What notifications and old clients show, and all that is left if blocks are refused."""
    lines = [f"{_sign(parts)} {parts.title}", parts.status, f"{parts.summary}."]
    if not parts.resolved:
        lines.append(f"Do first: {parts.advice}")
    lines.append(parts.link)
    return escaped("\n".join(lines), TEXT_LIMIT)


def _sign(parts: Message) -> str:
    if parts.resolved:
        return "✅"
    return "🔴" if parts.severity is Severity.CRITICAL else "🟠"


def _plain(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": escaped(text, limit), "emoji": False}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _plain(text, SECTION_LIMIT)}


async def send(notice: Notice, url: str, client: httpx.AsyncClient, timeout: float) -> None:
    """Tell Slack. Raises NotifyError.

    Should Slack refuse our blocks, the plain text alone is sent: a plain alert is better
    than none.
    """
    payload = render(notice)
    try:
        await post(client, url, _body(payload), timeout)
    except NotifyError as error:
        if "invalid_blocks" not in str(error):
            raise
        await post(client, url, _body({"text": payload["text"]}), timeout)


def _body(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
