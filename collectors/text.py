"""Text from servers in any encoding.

A statement can hold bytes that are not valid in any encoding (SQL_ASCII databases hold
anything), and one such byte must not cost a poll. So the server converts nothing
(client_encoding SQL_ASCII) and we decode UTF-8 ourselves, bad bytes replaced by U+FFFD.
"""

from __future__ import annotations

from psycopg import AsyncConnection
from psycopg.adapt import Buffer, Loader
from psycopg.pq import Format

CLIENT_ENCODING = "SQL_ASCII"

_TYPES = (18, 19, 25, 705, 1042, 1043)  # oids of "char", name, text, unknown, bpchar, varchar


class ForgivingText(Loader):
    """Text as UTF-8 with what is not UTF-8 replaced."""

    format = Format.TEXT

    def load(self, data: Buffer) -> str:
        """The text of one value."""
        return str(data, "utf-8", "replace")


class ForgivingBinaryText(ForgivingText):
    """The same for results in binary format: the bytes are the same."""

    format = Format.BINARY


def read_any_text(connection: AsyncConnection) -> None:
    """Make *connection* read text of any encoding."""
    for oid in _TYPES:
        connection.adapters.register_loader(oid, ForgivingText)
        connection.adapters.register_loader(oid, ForgivingBinaryText)
