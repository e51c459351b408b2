"""One line an event, on standard error, in UTC, without secrets."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable

# user:password@host in a URL (the password may hold an @), and password=… or password: … in a
# conninfo string, a query string, the environment or a dict.
_SECRETS = re.compile(
    r"(://[^:/@\s]*:)[^\s/]+(@)|(password['\"]?\s*[=:]\s*)('(?:[^'\\]|\\.)*'|[^\s&,}]+)",
    re.IGNORECASE,
)
_WEBHOOK = re.compile(r"(https?://hooks\.slack\.com/)\S+")


class _Redacting(logging.Formatter):
    """Formats a record, tracebacks included, and blackens what looks like a secret.

    Our own messages name no secrets; this guards against what libraries put into theirs.
    """

    converter = staticmethod(time.gmtime)
    secrets: tuple[str, ...] = ()

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self.secrets)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """*text* without *secrets*, passwords and webhook paths.

    >>> redact("postgresql://app:s3cret@db/shop password='x y' ok")
    'postgresql://app:***@db/shop password=*** ok'
    """

    def hide(match: re.Match[str]) -> str:
        return f"{match[1] or match[3]}***{match[2] or ''}"

    for secret in secrets:
        text = text.replace(secret, "***")
    return _WEBHOOK.sub(r"\1***", _SECRETS.sub(hide, text))


def configure(*, verbose: bool, secrets: tuple[str, ...] = ()) -> None:
    """Log to standard error: INFO of ours, WARNING of libraries; *verbose* adds DEBUG of ours.

    secrets: texts that are blackened wherever they occur.
    """
    handler = logging.StreamHandler()
    formatter = _Redacting(
        "%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.secrets = secrets
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("headroom").setLevel(logging.DEBUG if verbose else logging.INFO)
