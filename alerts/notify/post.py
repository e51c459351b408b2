"""One HTTP POST, as Slack and the webhook need it.

No redirects: a message must not follow a receiver's whim to another host. The URL is a
secret: it is in no error, and httpx is kept from logging it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx

from alerts.notify.errors import NotifyError

ANSWER_LIMIT = 500  # bytes of an answer that are read; the rest is nobody's business
_TRY_AGAIN = frozenset({408, 425, 429})  # the other 4xx will be refused again


class _NoUrls(logging.Filter):
    """httpx logs every URL at INFO; a Slack webhook's URL is its password."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Warnings only."""
        return record.levelno >= logging.WARNING


logging.getLogger("httpx").addFilter(_NoUrls())


def new_client() -> httpx.AsyncClient:
    """The client that all HTTP channels share: TLS verified, no redirects."""
    return httpx.AsyncClient(follow_redirects=False, headers={"User-Agent": "headroom"})


async def post(
    client: httpx.AsyncClient,
    url: str,
    body: bytes,
    timeout: float,
    headers: Mapping[str, str] | None = None,
) -> None:
    """POST JSON and return once the receiver said 2xx.

    timeout: seconds for all of it. Raises NotifyError.
    """
    sent_headers = {"Content-Type": "application/json", **(headers or {})}
    try:
        async with (
            asyncio.timeout(timeout),
            client.stream(
                "POST", url, content=body, headers=sent_headers, timeout=timeout
            ) as answer,
        ):
            if answer.is_success:
                return
            text = await _beginning(answer)
    except TimeoutError:
        raise NotifyError(f"no answer within {timeout:g} s") from None
    except httpx.TimeoutException:
        raise NotifyError(f"no answer within {timeout:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        # The cause may repeat the URL, so it is neither chained nor quoted as it is.
        raise NotifyError(_words(error, url)) from None
    raise _refusal(answer, text)


async def _beginning(answer: httpx.Response) -> str:
    read = b""
    async for piece in answer.aiter_bytes():
        read += piece
        if len(read) >= ANSWER_LIMIT:
            break
    return " ".join(read[:ANSWER_LIMIT].decode("utf-8", "replace").split())


def _refusal(answer: httpx.Response, text: str) -> NotifyError:
    status = answer.status_code
    if 300 <= status < 400:
        # Retried: a login page in front of the receiver may go away again.
        return NotifyError(f"answered {status}, a redirect; redirects are not followed")
    permanent = 400 <= status < 500 and status not in _TRY_AGAIN
    said = f": {text}" if text.isprintable() and text else ""
    return NotifyError(f"answered {status}{said}", permanent, retry_after(answer.headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds in Retry-After; a date is taken relative to the receiver's own Date header."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        until, now = _date(value), _date(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return max((until - now).total_seconds(), 0.0)


def _date(text: str) -> datetime:
    return parsedate_to_datetime(text)


def _words(error: Exception, url: str) -> str:
    parts = httpx.URL(url) if not isinstance(error, httpx.InvalidURL) else None
    text = " ".join(str(error).split())
    for secret in (url, parts.path if parts and len(parts.path) > 1 else ""):
        if secret:
            text = text.replace(secret, "…")
    kind = "cannot connect" if isinstance(error, httpx.ConnectError) else "connection failed"
    return f"{kind}: {text or type(error).__name__}"
