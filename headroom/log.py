"""One line an event, on standard error, in UTC, without secrets."""

from __future__ import annotations

import logging
import re
import time

# user:password@host in a URL, and password=… in a conninfo string or a query string.
_SECRETS = re.compile(
    r"(://[^:/@\s]*:)[^@\s]+(@)|(\bpassword\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE
)
_WEBHOOK = re.compile(r"(https?://hooks\.slack\.com/)\S+")


class _Redacting(logging.Formatter):
    """Formats a record, tracebacks included, and blackens what looks like a secret.

    Our own messages name no secrets; this guards against what libraries put into theirs.
    """

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def redact(text: str) -> str:
    """*text* without passwords and webhook paths.

    >>> redact("postgresql://app:s3cret@db/shop password='x y' ok")
    'postgresql://app:***@db/shop password=*** ok'
    """

    def hide(match: re.Match[str]) -> str:
        return f"{match[1] or match[3]}***{match[2] or ''}"

    return _WEBHOOK.sub(r"\1***", _SECRETS.sub(hide, text))


def configure(*, verbose: bool) -> None:
    """Log to standard error: INFO of ours, WARNING of libraries; *verbose* adds DEBUG of ours."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Redacting("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("headroom").setLevel(logging.DEBUG if verbose else logging.INFO)
