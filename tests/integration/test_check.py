"""The check says what is missing, and the exact statement that mends it."""

from __future__ import annotations

import pytest

from collectors.check import check
from headroom.demo.servers import PgBouncer, Postgres
from tests.collecting import target


async def remarks(dsn: str, kind: str = "postgresql") -> list[tuple[str, str, str]]:
    found = await check(target(dsn, kind))
    return [(remark.level, remark.text, remark.fix or "") for remark in found]


async def test_a_role_with_pg_monitor_needs_nothing(postgres: Postgres) -> None:
    found = await remarks(postgres.dsn(user="headroom", dbname="shop"))
    assert {level for level, _, _ in found} == {"ok"}
    texts = " ".join(text for _, text, _ in found)
    assert "PostgreSQL 18" in texts
    assert "read-only" in texts
    # Advice, not a fault: a reserved connection lets us in when the server is full.
    assert any("GRANT pg_use_reserved_connections" in fix for _, _, fix in found)


@pytest.mark.parametrize(
    ("user", "level", "fix"),
    [
        ("nobody_special", "error", 'GRANT pg_monitor TO "nobody_special";'),
        ("postgres", "warning", "CREATE ROLE headroom LOGIN"),
        ("stranger", "error", "check user, password, database and pg_hba.conf"),
    ],
)
async def test_what_is_wrong_with_a_role_is_said_with_its_fix(
    postgres: Postgres, user: str, level: str, fix: str
) -> None:
    found = await remarks(postgres.dsn(user=user))
    assert [what for what, _, mends in found if fix in mends] == [level]


async def test_a_target_of_the_wrong_kind_is_said_in_words(
    postgres: Postgres, pgbouncer: PgBouncer
) -> None:
    ((level, text, _),) = await remarks(postgres.dsn(), "pgbouncer")
    assert (level, 'kind = "postgresql"' in text) == ("error", True)
    ((level, text, _),) = await remarks(pgbouncer.dsn())
    assert (level, 'kind = "pgbouncer"' in text) == ("error", True)


async def test_a_pooler_that_answers_needs_nothing(pgbouncer: PgBouncer) -> None:
    found = await remarks(pgbouncer.dsn(), "pgbouncer")
    assert {level for level, _, _ in found} == {"ok"}


async def test_nobody_there_is_an_error_with_what_to_look_at() -> None:
    ((level, text, fix),) = await remarks("host=127.0.0.1 port=1 user=x dbname=x")
    assert level == "error"
    assert "nothing listens there" in text
    assert "host and port" in fix
