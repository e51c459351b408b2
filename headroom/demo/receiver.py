"""A small stand-in for Slack: takes what Headroom sends to an incoming webhook and shows it.

Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (a POST of
JSON with "text" and "blocks"; the answer is "ok").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_MAX_BYTES = 1_000_000  # Slack itself takes less
_MAX_LINES = 15
_READ_SECONDS = 10


class Receiver:
    """An HTTP server on loopback that hands each message, as readable text, to *show*."""

    def __init__(self, show: Callable[[str], None], port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _READ_SECONDS

            def do_POST(self) -> None:
                try:
                    length = int(self.headers.get("Content-Length", ""))
                    if not 0 <= length <= _MAX_BYTES:
                        raise ValueError
                    text = readable(json.loads(self.rfile.read(length)))
                except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                    self._answer(400, b"invalid_payload")
                    return
                self._answer(200, b"ok")
                show(text)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing: what matters is shown."""

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def readable(payload: dict[str, Any]) -> str:
    """The message as lines of plain text: its text, then what its blocks add in short.

    That is the facts (fields of sections) which the text does not have, on one line, and
    the statement. Evidence, times and buttons stay out: the text has a link to them. So does
    all of it when the message says that something is over (✅).

    >>> print(readable({"text": "*Pool full* &amp; waiting\\nlimit 5 s", "blocks": [
    ...     {"type": "header", "text": {"text": "Pool full &amp; waiting"}},
    ...     {"type": "section", "fields": [{"text": "Limit\\n5 s"}, {"text": "pid\\n4711"}]},
    ...     {"type": "section", "text": {"text": "```SELECT a * ? * b```"}}]}))
    Pool full & waiting
    limit 5 s
    pid: 4711
    SELECT a * ? * b
    """
    lines = [_plain(line) for line in str(payload["text"]).splitlines()]
    if lines and lines[0].startswith("✅"):
        return "\n".join(lines[:_MAX_LINES])
    said = " ".join(lines)
    facts: list[str] = []
    statements: list[str] = []
    for block in payload.get("blocks") or ():
        for label, *value in (_lines(field) for field in block.get("fields") or ()):
            if value and " ".join(value) not in said:
                facts.append(f"{label}: {' '.join(value)}")
        text = block.get("text")
        if text and str(text.get("text", "")).startswith("```"):
            statements.append(" ".join(_lines(text)))
    lines += [" · ".join(facts), *statements]
    return "\n".join([line for line in lines if line][:_MAX_LINES])


def _lines(text: dict[str, Any]) -> list[str]:
    """A Block Kit text object as plain lines."""
    return [_plain(line) for line in str(text.get("text", "")).splitlines()]


def _plain(mrkdwn: str) -> str:
    """Slack's mrkdwn as plain text on one line."""
    text = re.sub(r"<([^|>]+)\|([^>]+)>", r"\2: \1", mrkdwn)
    text = re.sub(r"<(https?://[^>]+)>", r"\1", text)
    text = re.sub(r"(?<![\w*])\*(\S|\S[^*\n]*\S)\*(?![\w*])", r"\1", text)
    return " ".join(unescape(text.replace("```", " ").replace("`", "")).split())
