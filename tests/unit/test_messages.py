"""What the channels make of a notice: complete, within limits, harmless."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alerts
from alerts.notice_json import notice_from_json, notice_to_json
from alerts.notify import email, slack, webhook
from alerts.notify.message import message
from model.alerting import Culprit, Finding, Notice, Reason, Severity, labels
from model.channels import EmailChannel
from tests.alert_samples import finding, notice

MAIL = EmailChannel.model_validate(
    {
        "kind": "email",
        "name": "dba",
        "smtp_host": "mail.example.internal",
        "from": "Headroom <headroom@example.internal>",
        "to": ("dba@example.internal", "Second <b@example.internal>"),
    }
)
HOSTILE = (
    "<!channel> <https://evil.example|click>\r\nBcc: all@example.internal\u202e & co `x`\ud800\x00"
)


def hostile() -> Finding:
    return finding(
        summary=HOSTILE,
        advice=HOSTILE,
        evidence=(HOSTILE,) * 3,
        labels=labels(database=HOSTILE, user=HOSTILE),
        culprit=Culprit(1, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1.0, HOSTILE),
    )


def texts(payload: Any) -> list[str]:
    """Every text in a Slack payload."""
    if isinstance(payload, dict):
        own = [v for k, v in payload.items() if k == "text" and isinstance(v, str)]
        return own + [text for v in payload.values() for text in texts(v)]
    return [text for v in payload for text in texts(v)] if isinstance(payload, list) else []


def all_of(made: Notice) -> dict[str, str]:
    mail = email.render(made, MAIL)
    html = mail.get_body(("html",))
    plain = mail.get_body(("plain",))
    assert html is not None
    assert plain is not None
    return {
        "slack": "\n".join(texts(slack.render(made))),
        "slack fallback": slack.render(made)["text"],
        "text": plain.get_content(),
        "html": html.get_content(),
        "webhook": json.dumps(webhook.render(made), ensure_ascii=False),
    }


@pytest.mark.parametrize("channel", ["slack", "text", "html", "webhook"])
def test_a_message_says_all_that_one_needs(channel: str) -> None:
    text = all_of(notice())[channel]
    for needed in (
        "clients wait for a pool",
        "shop-pool",
        "24 clients wait for a connection to pool shop/app",
        "2030-01-01",
        "checkout",
        "app",
        "4711",
        "10.0.3.7:51512",
        "SELECT $1",
        "Fix the client of pid 4711.",
        "12 idle in transaction",
        "24 clients wait 6.1 s for pool shop/app.",
        "docs/rules/pool_waiters.md",
    ):
        assert needed in text, needed


@pytest.mark.parametrize("channel", ["slack", "slack fallback", "text", "html"])
def test_a_resolved_message_says_how_long_it_lasted(channel: str) -> None:
    text = all_of(notice(Reason.RESOLVED))[channel]
    assert "RESOLVED" in text
    assert "after 3 min 12 s" in text
    assert "Do first" not in text


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.FIRING, "Firing (warning) since 2030-01-01 00:00:00 UTC."),
        (Reason.WORSE, "Severity raised to warning, 7 s after it began."),
        (Reason.REMINDER, "Still firing (warning) after 7 s."),
        (Reason.TEST, "This is a test message; nothing is wrong."),
    ],
)
def test_a_message_says_why_it_is_sent(reason: Reason, words: str) -> None:
    assert message(notice(reason)).status == words


def test_hostile_names_call_nobody_in_slack() -> None:
    payload = slack.render(notice(made=hostile()))
    ours = re.compile(r"<!date\^\d+\^\{date_short_pretty\} \{time_secs\}\|[0-9: UTC-]+>")
    for text in texts(payload):
        rest = ours.sub("", text)
        assert "<" not in rest
        assert ">" not in rest
    code = next(text for text in texts(payload) if text.startswith("```"))
    assert code.count("`") == 6
    json.dumps(payload, ensure_ascii=False).encode("utf-8")


def test_hostile_names_add_no_header_and_no_markup_to_an_email() -> None:
    raw = email.render(notice(made=hostile()), MAIL).as_bytes()
    mail = message_from_bytes(raw, policy=default)
    assert mail["Bcc"] is None
    assert sorted(mail.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
         "Auto-Submitted", "X-Headroom-Reason", "MIME-Version", "Content-Type"]
    )  # fmt: skip
    html = mail.get_body(("html",))
    assert html is not None
    assert "<!channel>" not in html.get_content()
    assert "<https" not in html.get_content()


def test_an_email_is_threaded_by_its_alert() -> None:
    first, last = (
        email.render(notice(r, id=r.name), MAIL) for r in (Reason.FIRING, Reason.RESOLVED)
    )
    assert first["Message-ID"] == "<FIRING@example.internal>"
    assert first["References"] == last["References"] == "<alert-a1@example.internal>"
    assert last["In-Reply-To"] == "<alert-a1@example.internal>"


def within_limits(payload: dict[str, Any]) -> None:
    """Slack's documented limits."""
    assert 0 < len(payload["text"]) <= 3000
    assert len(payload["blocks"]) <= 50
    for block in payload["blocks"]:
        if block["type"] == "header":
            assert block["text"]["type"] == "plain_text"
            assert 0 < len(block["text"]["text"]) <= 150
        elif block["type"] == "section":
            assert len(block.get("fields", [])) <= 10
            for field in block.get("fields", []):
                assert 0 < len(field["text"]) <= 2000
            if "text" in block:
                assert 0 < len(block["text"]["text"]) <= 3000
        elif block["type"] == "actions":
            assert len(block["elements"][0]["url"]) <= 3000


SIZES = st.sampled_from([0, 1, 75, 149, 150, 151, 2999, 3000, 3001, 100_000])
PIECES = st.sampled_from(["a", "<", "&", "ü", "🔥", "`", "\n", "\ud800", " x"])
TEXT = st.builds(lambda piece, size: (piece * size)[:size], PIECES, SIZES)


@given(
    text=TEXT,
    name=TEXT,
    lines=st.lists(TEXT, max_size=40),
    link=TEXT,
    reason=st.sampled_from(Reason),
)
@settings(max_examples=150, deadline=None)
def test_no_size_breaks_a_channel_s_limits(
    text: str, name: str, lines: list[str], link: str, reason: Reason
) -> None:
    made = notice(
        reason,
        finding(
            Severity.CRITICAL,
            summary=text,
            advice=text,
            evidence=tuple(lines),
            labels=labels(database=name),
            culprit=Culprit(1, name, name, name, name, name, 1.0, text),
        ),
        link=f"http://localhost/{link.encode('ascii', 'replace').decode()}",
        verdict=text,
    )
    payload = slack.render(made)
    within_limits(payload)
    json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
    assert len(email.render(made, MAIL)["Subject"]) <= 200
    email.render(made, MAIL).as_bytes()
    json.dumps(webhook.render(made)).encode("ascii")


def test_the_webhook_s_fields_are_documented() -> None:
    page = Path("docs/webhook.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)`", page))
    assert set(webhook.render(notice())) <= documented


@pytest.mark.parametrize(
    "made", [notice(), notice(Reason.RESOLVED, finding(culprit=None)), notice(made=hostile())]
)
def test_a_notice_survives_the_outbox(made: Notice) -> None:
    assert notice_from_json(notice_to_json(made)) == made


def test_the_examples_in_docstrings_hold() -> None:
    tried = 0
    for module in pkgutil.walk_packages(alerts.__path__, "alerts."):
        result = doctest.testmod(importlib.import_module(module.name))
        assert result.failed == 0, module.name
        tried += result.attempted
    assert tried >= 10
