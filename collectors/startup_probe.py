"""Asks a server for its first word, without logging in.

psycopg gives no SQLSTATE for a connection that was refused, and a server speaks the language
of its lc_messages. The first message of the wire protocol holds the SQLSTATE and the name of
the routine that refused, which are the same in every language.
https://www.postgresql.org/docs/current/protocol-error-fields.html

Where a password is asked for, the probe hangs up: what is refused after the login, such as
a role's CONNECTION LIMIT, it cannot see. Then it says that logins are accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from collectors.text import CLIENT_ENCODING

PROBE_TIMEOUT = 1.0  # seconds; a server that refuses does so at once
_PROTOCOL = 196608  # 3.0
_SSL_REQUEST = 80877103
_LONGEST = 65536  # bytes of one message; a refusal is a few hundred


@dataclass(frozen=True, slots=True)
class FirstWord:
    """What a server says to a newcomer.

    sqlstate: None when it accepts logins.
    routine:  the function of the server that refused; "" when not told.
    words:    the message, in the server's language.
    """

    sqlstate: str | None
    routine: str = ""
    words: str = ""


async def first_word(
    parameters: Mapping[str, str], timeout: float = PROBE_TIMEOUT
) -> FirstWord | None:
    """The first word of the server that libpq's *parameters* lead to.

    None when it says nothing in time or nothing that we understand. The connection is
    closed at once, so that nothing of ours stays behind on a server in trouble.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _ask(parameters)
    except (OSError, EOFError, ValueError, TimeoutError, struct.error):
        return None


async def _ask(parameters: Mapping[str, str]) -> FirstWord | None:
    host = (parameters.get("hostaddr") or parameters.get("host") or "").split(",")[0]
    port = int((parameters.get("port") or "5432").split(",")[0])
    if not host:
        return None  # libpq looks in places of its own
    if host.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
    else:
        reader, writer = await asyncio.open_connection(host, port)
    try:
        if not host.startswith("/") and _wants_tls(parameters):
            writer.write(struct.pack("!ii", 8, _SSL_REQUEST))
            if await reader.readexactly(1) == b"S":
                # Not verified: nothing secret is said, and the answer is only an explanation.
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                await writer.start_tls(context)
        writer.write(_startup_message(parameters))
        return await _first_answer(reader)
    finally:
        with contextlib.suppress(OSError):
            writer.transport.abort()


def _wants_tls(parameters: Mapping[str, str]) -> bool:
    return parameters.get("sslmode", "prefer") in ("require", "verify-ca", "verify-full")


def _startup_message(parameters: Mapping[str, str]) -> bytes:
    user = parameters.get("user") or "headroom"
    said = {
        "user": user,
        "database": parameters.get("dbname") or user,
        "application_name": parameters.get("application_name") or "headroom",
        "client_encoding": CLIENT_ENCODING,
    }
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in said.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, _PROTOCOL) + body


async def _first_answer(reader: asyncio.StreamReader) -> FirstWord | None:
    """The first message that tells whether we are let in."""
    while True:
        kind = await reader.readexactly(1)
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        if not 4 <= length <= _LONGEST:
            return None
        body = await reader.readexactly(length - 4)
        if kind == b"E":
            return refusal(body)
        if kind == b"R" and body[:4] == b"\0\0\0\0":
            continue  # no password is asked for; the next message may still be a refusal
        if kind in (b"R", b"Z", b"v"):
            return FirstWord(None)
        if kind not in (b"S", b"K", b"N"):
            return None


def refusal(body: bytes) -> FirstWord:
    r"""The fields of an ErrorResponse.

    >>> refusal(b"SFATAL\0C53300\0Mzu viele\0RInitProcess\0\0")
    FirstWord(sqlstate='53300', routine='InitProcess', words='zu viele')
    """
    fields = {f[:1]: f[1:].decode("utf-8", "replace") for f in body.split(b"\0") if f}
    return FirstWord(fields.get(b"C", ""), fields.get(b"R", ""), fields.get(b"M", ""))
