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
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

_FILE = "headroom_file"  # key in a kept connection's info: which file it has open
BUSY_TIMEOUT = 1.0  # seconds that a writer waits for another writer; then samples wait
_MIGRATIONS = Path(__file__).parent / "migrations"


class StoreError(Exception):
    """The store cannot be used now. The message says what to do next. Worth retrying."""


class NotKeepable(StoreError):  # noqa: N818  it says what is wrong, not that something is
    """The store works, but not with these values. Retrying will not help."""


class Store:
    """One open database. Every method of this package takes one.

    path: the SQLite file. Use as a context manager, or call close().
    """

    def __init__(self, url: str) -> None:
        self.url: URL = make_url(url)
        self.path = Path(self.url.database or "")
        self._engine = create_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT})
        self._file: tuple[int, int] | None = None  # device and inode that the engine has open
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
        self._follow_the_file()
        with self._said(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self, *, durable: bool) -> Iterator[Connection]:
        """One transaction. *durable*: on disk before it returns, even if power fails next.

        Raises StoreError; then nothing of it was kept.
        """
        self._follow_the_file()
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
        """A number that changes when another process has committed (SQLite's data_version).

        Raises StoreError when the file is another one now; then connect() again.
        """
        if connection.info.get(_FILE) != self._identity():
            raise StoreError(f"{self.path}: was moved away or replaced")
        value = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        connection.rollback()
        return int(value)

    def connect(self) -> Connection:
        """A connection to keep, for data_version. The caller closes it."""
        self._follow_the_file()
        connection = self._engine.connect()
        connection.info[_FILE] = self._identity()
        return connection

    def migrate(self) -> None:
        """Bring the schema to this version of Headroom. Raises StoreError if it is newer."""
        if not self.path.parent.is_dir():
            raise StoreError(
                f"{self.path}: the folder does not exist; create it or change [store] url"
            )
        config = AlembicConfig()
        config.set_main_option("script_location", str(_MIGRATIONS))
        self._follow_the_file()
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

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino)

    def _follow_the_file(self) -> None:
        """Let go of a file that was moved away or replaced, as our own advice may be."""
        now = self._identity()
        if self._file is not None and now != self._file:
            self._engine.dispose()
        self._file = now

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """The driver's errors in our words."""
        try:
            yield
        except (OperationalError, sqlite3.OperationalError) as error:
            raise StoreError(f"{self.path}: {_words(error)}") from error
        except (IntegrityError, DataError, ProgrammingError, InterfaceError) as error:
            raise NotKeepable(f"{self.path}: {_words(error)}") from error
        except (DatabaseError, sqlite3.Error) as error:
            advice = "move the file away to start a new one"
            raise StoreError(f"{self.path}: {_words(error)}; {advice}") from error


def _words(error: Exception) -> object:
    """The driver's own words, without the statement and its values."""
    return getattr(error, "orig", None) or error


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
