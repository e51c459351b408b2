"""A small stand-in for Slack: takes what Headroom sends to an incoming webhook and shows it.

Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (a POST of
JSON with "text" and "blocks"; the answer is "ok").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_MAX_BYTES = 1_000_000  # Slack itself takes less
_MAX_FACTS = 12
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
                except (ValueError, TypeError, AttributeError, RecursionError):
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
    """The message as lines of plain text: its text, then the facts of its blocks.

    >>> print(readable({"text": "*Pool full* &amp; waiting", "blocks": [{"type": "section",
    ...     "fields": [{"type": "mrkdwn", "text": "*Limit*\\\\n5 s"}]}]}))
    Pool full & waiting
    Limit 5 s
    """
    lines = [_plain(str(payload["text"]))]
    blocks = list(payload.get("blocks") or ())
    for attachment in payload.get("attachments") or ():
        blocks += attachment.get("blocks") or ()
    for line in (line for block in blocks for line in _lines_of(block)):
        # The fallback text repeats what the blocks say; once is enough on a terminal.
        if line and not any(line in said for said in lines) and len(lines) <= _MAX_FACTS:
            lines.append(line)
    return "\n".join(lines)


def _lines_of(block: dict[str, Any]) -> Iterator[str]:
    for part in (block.get("text"), *(block.get("fields") or ()), *(block.get("elements") or ())):
        if isinstance(part, str):
            yield _plain(part)
        elif isinstance(part, dict):
            text = part.get("text")
            if isinstance(text, dict):
                text = text.get("text")  # a button's label
            if part.get("url"):
                yield f"{_plain(str(text))}: {part['url']}"
            elif part.get("elements"):
                yield from _lines_of(part)
            elif text is not None:
                yield _plain(str(text))


def _plain(mrkdwn: str) -> str:
    """Slack's mrkdwn as plain text on one line."""
    text = re.sub(r"<([^|>]+)\|([^>]+)>", r"\2: \1", mrkdwn)
    text = re.sub(r"<(https?://[^>]+)>", r"\1", text)
    text = re.sub(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])", r"\1", text)
    return " ".join(unescape(text.replace("```", " ").replace("`", "")).split())
