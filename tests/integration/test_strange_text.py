"""Text that no encoding knows, very long statements, and more application names than sense."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest

from collectors.applications import MOST_NAMES, OTHER
from headroom.demo.servers import Postgres
from tests.collecting import ask, collecting, poll
from tests.servers import with_roles

AT = datetime(2030, 1, 1, tzinfo=UTC)
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def server(server_folder: Callable[[str], Path]) -> Iterator[Postgres]:
    """A server that keeps a megabyte of each statement."""
    settings = {"max_connections": 330, "track_activity_query_size": MEGABYTE}
    with Postgres(server_folder("strange"), settings=settings) as running:
        yield with_roles(running)


async def test_statements_of_a_megabyte_are_cut_at_the_server(server: Postgres) -> None:
    with ExitStack() as stack:
        for number in range(100):
            dsn = server.dsn(user="app")
            connection = stack.enter_context(psycopg.connect(dsn, prepare_threshold=None))
            text = f"SELECT {number}, '{'x' * (MEGABYTE - 100)}', 'secret'"
            connection.execute(text.encode())
        async with collecting(server.dsn(user="headroom"), timeout="5s") as collector:
            first = await collector.poll(AT)
            before = psutil.Process().memory_info().rss
            samples = [await collector.poll(AT) for _ in range(5)]
            assert psutil.Process().memory_info().rss - before < 60e6
            for sample in (first, *samples):
                assert sample.up, sample
                statements = [s.statement for s in sample.sessions or () if s.statement]
                assert len(statements) == 100
                assert max(len(statement) for statement in statements) <= 4096
                assert not any("xxx" in statement for statement in statements)


async def test_hundreds_of_application_names_are_folded_and_everybody_is_counted(
    server: Postgres,
) -> None:
    with ExitStack() as stack:
        for number in range(300):
            dsn = server.dsn(user="app")
            stack.enter_context(psycopg.connect(dsn, application_name=f"job-{number}"))
        async with collecting(server.dsn(user="headroom")) as collector:
            sample = await poll(collector)
            assert sample.server is not None
            assert (sample.server.slots_used, sample.server.folded_applications) == (301, 100)
            names = [session.application for session in sample.sessions or ()]
            assert len(names) == 300
            assert len(set(names)) == MOST_NAMES + 1
            assert names.count(OTHER) == 100
            again = await poll(collector)
            assert [s.application for s in again.sessions or ()] == names


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1251", "EUC_JP"])
async def test_a_session_of_any_encoding_costs_no_poll(server: Postgres, encoding: str) -> None:
    name = f"enc_{encoding.lower()}"
    ask(
        server,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' "
        "LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    dsn = server.dsn(user="app", dbname=name)
    client = "latin1" if encoding in ("LATIN1", "SQL_ASCII") else encoding
    with psycopg.connect(dsn, client_encoding=client) as odd:
        raw = {"LATIN1": b"\xfc", "SQL_ASCII": b"\xff\xfe\xed\xa0\x80"}.get(encoding, b"\xb1\xb2")
        odd.execute(b'SELECT 1 AS "' + raw + b'"')
        for dbname in ("postgres", name):
            async with collecting(server.dsn(user="headroom", dbname=dbname)) as collector:
                sample = await poll(collector)
                assert sample.up, sample
                (seen,) = (s for s in sample.sessions or () if s.pid == odd.info.backend_pid)
                assert seen.statement is not None
                assert seen.statement.startswith('SELECT ? AS "')
                seen.statement.encode("utf-8")  # no lone surrogate, which a store would refuse
                assert "\0" not in seen.statement
