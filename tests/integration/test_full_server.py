"""A server that is full is not down, and a monitor adds nothing to an outage."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from collectors import connect_failures
from collectors.schedule import Schedule
from collectors.startup_probe import FirstWord, first_word
from headroom.demo.servers import Postgres
from model.samples import Failure, Sample
from model.targets import Target
from tests.collecting import ask, collecting, ours, poll, poll_until, stopped, until
from tests.servers import binaries, children, filled, processes, with_roles


def full_settings(**more: str | int) -> dict[str, str | int]:
    return {
        "max_connections": 8,
        "superuser_reserved_connections": 1,
        "max_wal_senders": 2,
        "autovacuum": "off",
        **more,
    }


@pytest.fixture(scope="module")
def newest(server_folder: Callable[[str], Path]) -> Iterator[Postgres]:
    """PostgreSQL 18 with eight slots: one for superusers, two reserved, five ordinary."""
    settings = full_settings(reserved_connections=2)
    with Postgres(server_folder("full-18"), settings=settings) as server:
        with_roles(server)
        ask(server, "CREATE ROLE reserved LOGIN IN ROLE pg_monitor, pg_use_reserved_connections")
        ask(server, "CREATE ROLE few LOGIN CONNECTION LIMIT 0")
        ask(server, "CREATE DATABASE tight CONNECTION LIMIT 0")
        yield server


@pytest.fixture(scope="module")
def french(server_folder: Callable[[str], Path]) -> Iterator[Postgres]:
    """PostgreSQL 15 that speaks French."""
    where = binaries(15, server_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGUAGE", "fr")
        settings = full_settings(lc_messages="C.UTF-8")
        with Postgres(server_folder("full-15"), binaries=where, settings=settings) as server:
            if "existe" not in refusal_in_words(server):
                pytest.skip("this PostgreSQL 15 has no translations")
            yield with_roles(server)


def refusal_in_words(server: Postgres) -> str:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(server.dsn(user="nobody_at_all"))
    return str(refused.value)


async def test_a_role_with_reserved_connections_sees_a_server_that_was_full_before_it_came(
    newest: Postgres,
) -> None:
    with filled(newest):
        async with collecting(newest.dsn(user="reserved")) as collector:
            sample = await poll(collector)
            assert sample.up, sample
            assert sample.server is not None
            assert sample.server.headroom == 0
        async with collecting(newest.dsn(user="headroom")) as collector:
            sample = await poll(collector)
            assert (sample.up, sample.failure) == (False, Failure.SLOTS_EXHAUSTED)
            assert 'the "pg_use_reserved_connections" role' in (sample.reason or "")


async def test_a_client_that_is_logging_in_takes_a_slot_and_is_counted_since_18(
    newest: Postgres,
) -> None:
    async with collecting(newest.dsn(user="headroom")) as collector:
        assert (await poll(collector)).up
        hung = await hang_in_login(newest)
        try:
            samples = await poll_until(collector, lambda s: s.server.authenticating == 1)
            server = samples[-1].server
            assert server is not None
            assert (server.slots_used, server.states) == (2, {"starting": 1})
        finally:
            hung.close()


async def hang_in_login(server: Postgres) -> asyncio.StreamWriter:
    """A client that is asked for its password and says nothing more."""
    hba = server.data / "pg_hba.conf"
    if "slow" not in hba.read_text():
        ask(server, "CREATE ROLE slow LOGIN PASSWORD 'x'")
        hba.write_text("host all slow all scram-sha-256\n" + hba.read_text())
        ask(server, "SELECT pg_reload_conf()")
    while True:  # until the reload has reached the postmaster
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(startup("slow"))
        head = await reader.readexactly(9)
        if head[:1] == b"R" and head[8] != 0:
            return writer
        writer.close()
        await asyncio.sleep(0.05)


async def take_the_place_of(pid: int, server: Postgres) -> asyncio.StreamWriter:
    """One more login that hangs, as soon as the backend *pid* has gone."""

    async def gone() -> bool:
        return not any(p == pid for p in processes(server))

    await until(gone)
    return await hang_in_login(server)


def startup(user: str) -> bytes:
    body = b"\0\3\0\0user\0" + user.encode() + b"\0database\0postgres\0\0"
    return (len(body) + 4).to_bytes(4, "big") + body


async def test_before_18_refusals_below_the_limit_are_told_as_a_backlog_of_logins(
    french: Postgres,
) -> None:
    async with collecting(french.dsn(user="headroom")) as collector:
        assert (await poll(collector)).up
        (pid,) = ours(french)
        # Seven logins that hang, and ours: all eight slots, of which sessions have one.
        hung = [await hang_in_login(french) for _ in range(7)]
        try:
            assert (await poll(collector)).up  # the held connection goes on
            os.kill(pid, signal.SIGTERM)
            hung += [await take_the_place_of(pid, french)]
            samples = await poll_until(collector, lambda s: not s.up)
            assert samples[-1].failure is Failure.SLOTS_EXHAUSTED, samples[-1]
            assert "sessions held only 1 of 8 slots" in (samples[-1].reason or "")
            assert "still logging in (authentication backlog)" in (samples[-1].reason or "")
        finally:
            for writer in hung:
                writer.close()
        await poll_until(collector, lambda sample: sample.up, seconds=40)


def lead(server: Postgres, user: str = "app", dbname: str = "postgres") -> dict[str, str]:
    return {"host": "127.0.0.1", "port": str(server.port), "user": user, "dbname": dbname}


@pytest.mark.parametrize(
    ("user", "dbname", "sqlstate", "routine"),
    [
        ("app", "postgres", None, ""),
        ("few", "postgres", "53300", "InitializeSessionUserId"),
        ("app", "tight", "53300", "CheckMyDatabase"),
        ("app", "nowhere", "3D000", "InitPostgres"),
        ("stranger", "postgres", "28000", "InitializeSessionUserId"),
    ],
)
async def test_the_first_word_of_a_server_tells_each_refusal(
    newest: Postgres, user: str, dbname: str, sqlstate: str | None, routine: str
) -> None:
    word = await first_word(lead(newest, user, dbname))
    assert word is not None
    assert (word.sqlstate, word.routine) == (sqlstate, routine)


async def test_the_first_word_tells_a_full_server_from_one_with_reserved_slots(
    newest: Postgres,
) -> None:
    with filled(newest):
        word = await first_word(lead(newest))
        assert word is not None
        assert (word.sqlstate, word.routine) == ("53300", "InitPostgres")
        with filled(newest, "reserved"), filled(newest, "postgres"):
            word = await first_word(lead(newest))
            assert word is not None
            assert (word.sqlstate, word.routine) == ("53300", "InitProcess")
            assert await first_word({**lead(newest), "host": str(newest.folder)}) == word
            # A server that has no TLS says so in one byte, and is asked all the same.
            assert await first_word({**lead(newest), "sslmode": "require"}) == word


async def test_the_probe_ends_in_time_and_leaves_nothing_behind(newest: Postgres) -> None:
    with stopped(newest.pid):
        t0 = monotonic()
        assert await first_word(lead(newest), timeout=0.3) is None
        assert monotonic() - t0 < 0.6
    assert await first_word({"host": "127.0.0.1", "port": "1"}) is None
    assert await first_word({}) is None
    before = children(newest)
    for _ in range(20):
        assert await first_word(lead(newest)) == FirstWord(None)

    async def none_left() -> bool:
        return children(newest) <= before

    await until(none_left)


async def test_a_refusal_in_a_language_that_we_do_not_know_is_told_by_its_code(
    french: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    english = tuple(rule for rule in connect_failures._COMPILED if rule[0].pattern.isascii())
    english = tuple(rule for rule in english if "demasiad" not in rule[0].pattern)
    monkeypatch.setattr(connect_failures, "_COMPILED", english)
    async with collecting(french.dsn(user="headroom", dbname="nowhere")) as collector:
        sample = await poll(collector)
        assert sample.failure is Failure.AUTHENTICATION
        assert (sample.reason or "").startswith("the database does not exist (la base de")
    with filled(french):
        async with collecting(french.dsn(user="headroom")) as collector:
            sample = await poll(collector)
            assert sample.failure is Failure.SLOTS_EXHAUSTED, sample
            assert (sample.reason or "").startswith("only reserved slots are left (")
            assert "emplacements" in (sample.reason or "")


async def test_a_locked_pg_authid_gets_one_login_of_ours_and_leaves_the_others_alone(
    newest: Postgres, postgres: Postgres
) -> None:
    samples: list[Sample] = []
    targets = [
        Target(name=name, kind="postgresql", dsn=server.dsn(user="headroom"), interval="200ms")
        for name, server in (("locked", newest), ("other", postgres))
    ]
    schedule = Schedule(targets, samples.append)
    with psycopg.connect(newest.dsn()) as admin:
        before = children(newest)
        await schedule.start()
        try:

            async def both() -> bool:
                return {s.target for s in samples if s.up} == {"locked", "other"}

            await until(both)
            (pid,) = ours(newest)
            admin.execute("LOCK TABLE pg_catalog.pg_authid")
            held = len(samples)
            deadline = monotonic() + 3
            while monotonic() < deadline:  # the held connection needs no catalog
                await asyncio.sleep(0.1)
                assert children(newest) - before <= 2
            assert all(sample.up for sample in samples[held:])
            admin.execute("SELECT pg_terminate_backend(%s)", [pid])
            most, deadline = 0, monotonic() + 22
            while monotonic() < deadline:
                most = max(most, children(newest) - before)
                await asyncio.sleep(0.1)
            assert most == 1, "one login that waits, and never a second one"
            last = [sample for sample in samples if sample.target == "locked"][-1]
            assert (last.up, last.failure) == (False, Failure.TIMEOUT)
            assert "no answer to the connection attempt for" in (last.reason or "")
            stats = schedule.stats()
            assert stats.missed_total["other"] == 0
            assert all(sample.up for sample in samples if sample.target == "other")
            admin.rollback()

            async def back() -> bool:
                return [s for s in samples if s.target == "locked"][-1].up

            await until(back, seconds=3)
        finally:
            await schedule.stop()


async def test_while_two_connections_hang_no_third_one_is_opened(newest: Postgres) -> None:
    def pids() -> list[int]:
        rows = ask(newest, "SELECT pid FROM pg_stat_activity WHERE application_name = 'headroom'")
        return [pid for (pid,) in rows]

    async with collecting(newest.dsn(user="headroom")) as collector:
        assert (await poll(collector)).up
        (first,) = pids()
        with stopped(first):
            assert not (await poll(collector)).up
            await poll_until(collector, lambda s: s.up)
            (second,) = set(pids()) - {first}
            with stopped(second):
                deadline = monotonic() + 8
                while monotonic() < deadline:
                    sample = await poll(collector)
                    assert not sample.up
                    assert len(pids()) <= 2
                    await asyncio.sleep(0.2)
                assert "2 connections of ours hang on the server" in (sample.reason or "")
            await poll_until(collector, lambda s: s.up, seconds=20)

        async def one_left() -> bool:
            return len(pids()) == 1

        await until(one_left)


async def test_up_means_this_poll_and_a_pg_hba_that_shuts_us_out_is_named(
    newest: Postgres,
) -> None:
    hba = newest.data / "pg_hba.conf"
    before = hba.read_text()
    async with collecting(newest.dsn(user="headroom")) as collector:
        assert (await poll(collector)).up
        hba.write_text("host all headroom all reject\n" + before)
        try:
            ask(newest, "SELECT pg_reload_conf()")
            for pid in ours(newest):
                ask(newest, f"SELECT pg_terminate_backend({pid})")
            sample = (await poll_until(collector, lambda s: not s.up))[-1]
            assert sample.failure is Failure.AUTHENTICATION, sample
            assert "pg_hba.conf does not admit us" in (sample.reason or "")
            assert sample.server is None
        finally:
            hba.write_text(before)
            ask(newest, "SELECT pg_reload_conf()")
        await poll_until(collector, lambda s: s.up, seconds=40)


async def test_functions_that_somebody_planted_are_never_called(newest: Postgres) -> None:
    planted = "AS $$ BEGIN RAISE EXCEPTION 'called %', current_user; END $$ LANGUAGE plpgsql"
    ask(newest, "CREATE DATABASE planted")
    with psycopg.connect(newest.dsn(dbname="planted"), autocommit=True) as admin:
        for what in (
            "count() RETURNS int8", "left(text, int) RETURNS text", "host(inet) RETURNS text",
            "pg_is_in_recovery() RETURNS bool", "clock_timestamp() RETURNS timestamptz",
            "pg_stat_get_activity(int) RETURNS SETOF pg_stat_activity",
            "current_setting(text) RETURNS text",
        ):  # fmt: skip
            admin.execute(f"CREATE FUNCTION public.{what} {planted}".encode())
        admin.execute("ALTER DATABASE planted SET search_path = public, pg_catalog")
    async with collecting(newest.dsn(user="headroom", dbname="planted")) as collector:
        sample = await poll(collector)
        assert (sample.up, sample.degraded) == (True, None)
    ask(newest, "DROP DATABASE planted WITH (FORCE)")
