"""The door: who may talk to the dashboard, and the headers that every answer carries.

An ASGI middleware in front of Streamlit. A page of another site must not open our
WebSocket or post to us (Origin), nor reach us by a name that is not ours and read what we
know (Host; that is how DNS rebinding works). Streamlit checks Origins too, but asks the
internet for its own address first, on the event loop: with no way out every request stalls.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_READ_ONLY = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'self'",
}


class Guard:
    """Refuses foreign Hosts (421) and Origins (403).

    url: where people open the dashboard ([dashboard] url).
    preload: what every page will need, as a Link header, so that browsers fetch it at once
    and not when Streamlit has come to it.
    """

    def __init__(self, app: ASGIApp, url: str, preload: str = "") -> None:
        self._app = app
        self._url = urlsplit(url)
        self._preload = preload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, with our headers, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        status, reason = self._refusal(scope)
        if status == 0:
            await self._app(scope, receive, self._with_headers(send))
        elif scope["type"] == "http":
            await PlainTextResponse(reason, status)(scope, receive, self._with_headers(send))
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})

    def _refusal(self, scope: Scope) -> tuple[int, str]:
        """The status to refuse with and why; (0, "") for a welcome request."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if scope["path"] != "/healthz" and not self._is_ours(host):
            return 421, (
                f"This name is not in the configuration: {host[:100]!r}. "
                'Set [dashboard] url = "http://…" to the address that people open.'
            )
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in _READ_ONLY
        if changes and origin is not None and _place(origin) not in (host, self._url.netloc):
            return 403, "This page belongs to another site."
        return 0, ""

    def _is_ours(self, host: str) -> bool:
        """Whether *host* names us: an address, this machine, or the configured name."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name in ("localhost", self._url.hostname):
            return True
        try:
            ip_address(name or "")
        except ValueError:
            return False
        return True

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._preload and headers.get("content-type", "").startswith("text/html"):
                    headers["Link"] = self._preload
            await send(message)

        return sending


def _place(origin: str) -> str | None:
    """Host and port of an Origin; None for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
