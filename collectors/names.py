"""The names behind oids: roles and databases. Joined here, so that the poll itself needs no
catalog and a locked one cannot blind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from psycopg import AsyncConnection

from collectors.asked import ASK_AGAIN, REFUSED, Asked
from collectors.postgresql_rows import Row
from collectors.sql import sql

FORGET = 600.0  # seconds; roles and databases are renamed now and then


class NameBook:
    """The names of roles and databases that one server told."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._databases: dict[int, str | None] = {}
        self._roles: dict[int, str | None] = {}
        self._forget_at = 0.0  # monotonic

    def database(self, oid: int | None) -> str | None:
        """The name of a database; None when it has none."""
        return self._databases.get(oid) if oid else None

    def role(self, oid: int | None) -> str | None:
        """The name of a role; None when it has none."""
        return self._roles.get(oid) if oid else None

    def forget(self) -> None:
        """Ask for every name again."""
        self._forget_at = 0.0

    async def learn(
        self, connection: AsyncConnection, version_num: int, rows: Iterable[Row]
    ) -> None:
        """Ask for the names of roles and databases that appeared since."""
        now = monotonic()
        if now >= self._forget_at:
            self._forget_at = now + FORGET
            self._databases.clear()
            self._roles.clear()
        databases = {row.database_oid for row in rows if row.database_oid}
        roles = {row.role_oid for row in rows if row.role_oid}
        databases -= self._databases.keys()
        roles -= self._roles.keys()
        if not (databases or roles) or not self._asked.may("names"):
            return
        cursor = connection.cursor(binary=True)
        try:
            await cursor.execute(sql("names", version_num), (sorted(databases), sorted(roles)))
            found = await cursor.fetchall()
        except REFUSED as error:
            what = "the names of new roles and databases"
            self._asked.refused("names", what, error, ASK_AGAIN)
            return
        self._asked.answered("names")
        # Dropped since: known to have no name, so that it is not asked for every second.
        self._databases.update(dict.fromkeys(databases))
        self._roles.update(dict.fromkeys(roles))
        for kind, oid, name in found:
            (self._databases if kind == "database" else self._roles)[oid] = name
