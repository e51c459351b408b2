"""The database itself: open, migrate, close.

Two durabilities, as measured in docs/decisions/0003-durability.md: samples may lose the
last moments when the machine loses power; alerts, outbox and audit may not.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, OperationalError

BUSY_TIMEOUT = 5.0  # seconds that a writer waits for another writer
_MIGRATIONS = Path(__file__).parent / "migrations"


class StoreError(Exception):
    """The store cannot be used. The message says what to do next."""


class Store:
    """One open database. Every method of this package takes one.

    path: the SQLite file. Use as a context manager, or call close().
    """

    def __init__(self, url: str) -> None:
        self.url: URL = make_url(url)
        self.path = Path(self.url.database or "")
        self._engine = create_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT})
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the store. Raises StoreError."""
        with self._said(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self, *, durable: bool) -> Iterator[Connection]:
        """One transaction. *durable*: on disk before it returns, even if power fails next.

        Raises StoreError; then nothing of it was kept.
        """
        with self._said(), self._engine.connect() as connection:
            # On the raw connection: SQLAlchemy would begin a transaction first, and inside one
            # this setting does not change.
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with connection.execution_options(headroom_write=True).begin():
                yield connection

    def give_back(self, pages: int = 2_000) -> None:
        """Return free pages to the file system, a few at a time. Raises StoreError."""
        with self._said(), self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def data_version(self, connection: Connection) -> int:
        """A number that changes when another process has committed (SQLite's data_version)."""
        value = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        connection.rollback()
        return int(value)

    def connect(self) -> Connection:
        """A connection to keep, for data_version. The caller closes it."""
        return self._engine.connect()

    def migrate(self) -> None:
        """Bring the schema to this version of Headroom. Raises StoreError if it is newer."""
        if not self.path.parent.is_dir():
            raise StoreError(
                f"{self.path}: the folder does not exist; create it or change [store] url"
            )
        config = AlembicConfig()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with self._said(), self._engine.connect() as connection:
            self._refuse_newer(connection, ScriptDirectory.from_config(config))
            connection.rollback()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()

    def require_current(self) -> None:
        """For readers, who do not migrate. Raises StoreError if there is nothing to read."""
        if not self.path.exists():
            raise StoreError(f"{self.path}: no such store yet; `headroom run` creates it")
        config = AlembicConfig()
        config.set_main_option("script_location", str(_MIGRATIONS))
        script = ScriptDirectory.from_config(config)
        with self._said(), self._engine.connect() as connection:
            self._refuse_newer(connection, script)
            found = MigrationContext.configure(connection).get_current_revision()
            if found != script.get_current_head():
                raise StoreError(
                    f"{self.path}: is of an older version; "
                    "start `headroom run` once to bring it up to date"
                )

    def _refuse_newer(self, connection: Connection, script: ScriptDirectory) -> None:
        found = MigrationContext.configure(connection).get_current_revision()
        if found is None:
            return
        try:
            script.get_revision(found)
        except CommandError as error:
            raise StoreError(
                f"{self.path}: was written by a newer Headroom (schema {found}); "
                "upgrade Headroom, or give another file in [store] url"
            ) from error

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """The driver's errors in our words."""
        try:
            yield
        except OperationalError as error:
            raise StoreError(f"{self.path}: {error.orig}") from error
        except DatabaseError as error:
            raise StoreError(
                f"{self.path}: {error.orig}; move the file away to start a new one"
            ) from error


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    """Settings of one connection. Transactions are begun by us (see _begin)."""
    connection.isolation_level = None
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # counts for a new file only
    connection.execute("PRAGMA journal_mode=WAL")  # readers never wait for the writer
    connection.execute("PRAGMA cache_size=-16000")  # 16 MB


def _begin(connection: Connection) -> None:
    """Take the write lock at once in a writer, so that two writers queue instead of failing."""
    mode = "IMMEDIATE" if connection.get_execution_options().get("headroom_write") else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {mode}")
