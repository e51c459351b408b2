"""What a refusal means, from the words of the server: PostgreSQL 13 to 18, PgBouncer 1.18+."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg

from collectors.backoff import Backoff
from collectors.connect_failures import classify, explain_connect, explain_session
from collectors.errors import NotPermitted, NotThisKind, TargetFull, TargetUnreachable
from model.samples import Failure

AT = 'connection failed: connection to server at "10.0.0.7", port 5432 failed: '


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ("FATAL:  sorry, too many clients already", Failure.SLOTS_EXHAUSTED),
        (
            (
                "FATAL:  remaining connection slots are reserved for non-replication superuser"
                " connections"
            ),
            Failure.SLOTS_EXHAUSTED,
        ),
        (
            (
                "FATAL:  remaining connection slots are reserved for roles with privileges of the"
                ' "pg_use_reserved_connections" role'
            ),
            Failure.SLOTS_EXHAUSTED,
        ),
        (
            (
                "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER"
                " attribute"
            ),
            Failure.SLOTS_EXHAUSTED,
        ),
        ("FATAL:  tut mir leid, schon zu viele Verbindungen", Failure.SLOTS_EXHAUSTED),
        ("ВАЖНО:  извините, уже слишком много клиентов", Failure.SLOTS_EXHAUSTED),
        ("FATAL:  現在クライアント数が多すぎます", Failure.SLOTS_EXHAUSTED),
        ("FATAL:  no more connections allowed (max_client_conn)", Failure.SLOTS_EXHAUSTED),
        ('FATAL:  too many connections for role "headroom"', Failure.ROLE_LIMIT),
        ('FATAL:  too many connections for database "shop"', Failure.DATABASE_LIMIT),
        ("FATAL:  the database system is starting up", Failure.NOT_AVAILABLE),
        ("FATAL:  the database system is shutting down", Failure.NOT_AVAILABLE),
        ("FATAL:  the database system is in recovery mode", Failure.NOT_AVAILABLE),
        (
            (
                "FATAL:  the database system is not yet accepting connections\n"
                "DETAIL:  Consistent recovery state has not been yet reached."
            ),
            Failure.NOT_AVAILABLE,
        ),
        ("FATAL:  the database system is not accepting connections", Failure.NOT_AVAILABLE),
        (
            "FATAL:  server login has been failing, try again later (server_login_retry)",
            Failure.NOT_AVAILABLE,
        ),
        ("FATAL:  pgbouncer is shutting down", Failure.NOT_AVAILABLE),
        ('FATAL:  password authentication failed for user "headroom"', Failure.AUTHENTICATION),
        ("fe_sendauth: no password supplied", Failure.AUTHENTICATION),
        (
            (
                'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "headroom",'
                ' database "shop", no encryption'
            ),
            Failure.AUTHENTICATION,
        ),
        ('FATAL:  role "headroom" does not exist', Failure.AUTHENTICATION),
        ('FATAL:  role "headroom" is not permitted to log in', Failure.AUTHENTICATION),
        ('FATAL:  database "shop" does not exist', Failure.AUTHENTICATION),
        ('FATAL:  database "shop" is not currently accepting connections', Failure.AUTHENTICATION),
        ("FATAL:  no such user: headroom", Failure.AUTHENTICATION),
        ("FATAL:  no such database: shop", Failure.AUTHENTICATION),
        ("server does not support SSL, but SSL was required", Failure.AUTHENTICATION),
        (
            (
                'FATAL:  permission denied for database "shop"\n'
                "DETAIL:  User does not have CONNECT privilege."
            ),
            Failure.PERMISSION,
        ),
        ("FATAL:  not allowed", Failure.PERMISSION),
        ("received invalid response to SSL negotiation: H", Failure.PROTOCOL),
        ("expected authentication request from server, but received H", Failure.PROTOCOL),
        ("FATAL:  unsupported startup parameter: options", Failure.PROTOCOL),
        (
            (
                "Connection refused\n\tIs the server running on that host and accepting TCP/IP"
                " connections?"
            ),
            Failure.UNREACHABLE,
        ),
        ("No route to host", Failure.UNREACHABLE),
        ("server closed the connection unexpectedly", Failure.UNREACHABLE),
        ("timeout expired", Failure.TIMEOUT),
        ("FATAL:  qualcosa che non conosciamo", Failure.NOT_AVAILABLE),
        ("something nobody has seen", Failure.UNREACHABLE),
    ],
)
def test_a_refusal_is_told_by_the_words_of_the_server(words: str, failure: Failure) -> None:
    found, reason = classify(AT + words)
    assert found is failure
    assert "\n" not in reason
    assert words.splitlines()[0].removeprefix("FATAL:  ") in reason


def test_the_most_telling_of_several_attempts_is_the_reason() -> None:
    failure, reason = classify(
        "connection failed: FATAL:  sorry, too many clients already\n"
        "Multiple connection attempts failed. All failures were:\n"
        "- host: 'db', port: '5432', hostaddr: '::1': connection failed: connection to server"
        ' at "::1", port 5432 failed: Connection refused\n'
        "- host: 'db', port: '5432', hostaddr: '127.0.0.1': connection failed: FATAL:  sorry,"
        " too many clients already"
    )
    assert failure is Failure.SLOTS_EXHAUSTED
    assert reason == "every slot is taken (sorry, too many clients already)"


def test_a_password_never_shows_even_when_the_server_repeats_it() -> None:
    error = psycopg.OperationalError(AT + 'FATAL:  role "hunter2" does not exist')
    assert "hunter2" not in str(explain_connect(error, ["hunter2"]))


def test_long_and_hostile_words_become_one_short_line() -> None:
    _, reason = classify("FATAL:  \x1b[31m" + "x" * 5000)
    assert len(reason) < 400
    assert reason.isprintable()


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (pg.QueryCanceled("canceling statement due to statement timeout"), Failure.TIMEOUT),
        (pg.LockNotAvailable("canceling statement due to lock timeout"), Failure.TIMEOUT),
        (pg.InsufficientPrivilege("permission denied for view x"), Failure.PERMISSION),
        (pg.AdminShutdown("terminating connection"), Failure.UNREACHABLE),
        (psycopg.OperationalError("server closed the connection"), Failure.UNREACHABLE),
        (pg.SyntaxError("syntax error"), Failure.PROTOCOL),
    ],
)
def test_a_failed_statement_is_told_by_its_class(error: psycopg.Error, failure: Failure) -> None:
    assert explain_session(error).failure is failure


@pytest.mark.parametrize(
    ("words", "kind", "retry"),
    [
        ("FATAL:  sorry, too many clients already", TargetFull, True),
        ("Connection refused", TargetUnreachable, True),
        ('FATAL:  role "x" does not exist', NotPermitted, False),
        ("received invalid response to SSL negotiation: H", NotThisKind, False),
    ],
)
def test_the_class_answers_whether_to_try_again(words: str, kind: type, retry: bool) -> None:
    error = explain_connect(psycopg.OperationalError(words))
    assert type(error) is kind
    assert error.worth_retrying is retry


def longest(low: float, high: float) -> float:
    return high


@pytest.mark.parametrize(
    ("failures", "delays"),
    [
        ([Failure.TIMEOUT] * 7, [1, 2, 4, 8, 16, 30, 30]),
        ([Failure.AUTHENTICATION] * 6, [1, 2, 4, 8, 16, 30]),
        ([Failure.SLOTS_EXHAUSTED] * 7, [1, 2, 4, 8, 16, 30, 30]),  # each costs a process
        ([Failure.UNREACHABLE] * 4, [1, 2, 2, 2]),  # nobody listens: asking costs nothing
        ([Failure.UNREACHABLE] * 10 + [Failure.NOT_AVAILABLE], [1] + [2] * 10),
    ],
)
def test_the_longest_delays_between_attempts(failures: list[Failure], delays: list[float]) -> None:
    backoff = Backoff(longest)
    assert [backoff.failed(failure) for failure in failures] == delays


def test_a_connection_that_is_cut_is_replaced_at_once_but_only_the_first_time() -> None:
    backoff = Backoff(longest)
    assert [backoff.cut(), backoff.cut(), backoff.cut()] == [0, 2, 4]
    backoff.succeeded()
    assert backoff.cut() == 0


def test_jitter_is_full() -> None:
    assert Backoff(lambda low, high: low).failed(Failure.TIMEOUT) == 0
