"""What a failed connection or a failed statement means.

psycopg gives no SQLSTATE for a connection that was refused, so the message tells the
refusals apart. The texts are those of PostgreSQL 13 to 18 and PgBouncer 1.18 to 1.25; a
server speaks the language of its lc_messages, so the refusals for want of a slot are
also known in the languages PostgreSQL 15 is translated into. For words that are not known
startup_probe.py asks for the SQLSTATE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import psycopg
from psycopg import errors as pg

from collectors.errors import CollectError, error_for
from collectors.startup_probe import FirstWord
from model.samples import Failure

_LONGEST_WORDS = 300  # characters of a server's own words that we repeat

# The first rule that matches any line wins, so what explains most stands first: a list of
# attempts may hold "Connection refused" for one address and the real answer for another.
_RULES: tuple[tuple[str, Failure, str], ...] = (
    (r"too many clients already", Failure.SLOTS_EXHAUSTED, "every slot is taken"),
    (
        (
            r"remaining connection slots are reserved|pg_use_reserved_connections"
            r"|FATAL.*\bSUPERUSER\b"
        ),
        Failure.SLOTS_EXHAUSTED,
        "only reserved slots are left",
    ),
    (
        r"no more connections allowed",
        Failure.SLOTS_EXHAUSTED,
        "PgBouncer admits no more clients (max_client_conn)",
    ),
    (
        (
            r"tut mir leid, schon zu viele Verbindungen|ya tenemos demasiados clientes"
            r"|trop de clients sont déjà connectés|troppi client già connessi"
            r"|クライアント数が多すぎます|최대 동시 접속자 수를 초과했습니다"
            r"|уже слишком много клиентов|ledsen, för många klienter|вже забагато клієнтів"
            r"|已经有太多的客户|უკვე მეტისმეტად ბევრი კლიენტია"
        ),
        Failure.SLOTS_EXHAUSTED,
        "every slot is taken",
    ),
    (
        (
            r"die verbleibenden Verbindungen sind|las conexiones restantes están reservadas"
            r"|emplacements de connexions restants sont réservés"
            r"|rimanenti slot di connessione sono riservati|残りの接続スロット|남은 연결 슬롯은"
            r"|оставшиеся слоты подключений|resterande anslutningsslottar är reserverade"
            r"|слоти підключень, які залишились|已保留的连接位置"
        ),
        Failure.SLOTS_EXHAUSTED,
        "only reserved slots are left",
    ),
    (
        (
            r"too many connections for role|zu viele Verbindungen von Rolle"
            r"|demasiadas conexiones para el rol|trop de connexions pour le rôle"
            r"|troppe connessioni per il ruolo|слишком много подключений для роли"
        ),
        Failure.ROLE_LIMIT,
        "the role's CONNECTION LIMIT is reached; raise it with ALTER ROLE",
    ),
    (
        (
            r"too many connections for database|zu viele Verbindungen für Datenbank"
            r"|demasiadas conexiones para la base|trop de connexions pour la base"
            r"|troppe connessioni al database|слишком много подключений к БД"
        ),
        Failure.DATABASE_LIMIT,
        (
            "the database's CONNECTION LIMIT is reached; raise it with ALTER DATABASE, "
            "or connect to another database"
        ),
    ),
    (r"the database system is starting up", Failure.NOT_AVAILABLE, "the server is starting up"),
    (r"the database system is shutting down", Failure.NOT_AVAILABLE, "the server is shutting down"),
    (
        r"in recovery mode|not (yet )?accepting connections$|in hot standby mode",
        Failure.NOT_AVAILABLE,
        "the server does not accept connections yet",
    ),
    (
        r"server login has been failing|pgbouncer cannot connect to server|shutting down",
        Failure.NOT_AVAILABLE,
        "the pooler cannot serve",
    ),
    (
        r"no password supplied|fe_sendauth|no password",
        Failure.AUTHENTICATION,
        "a password is asked for and none is configured",
    ),
    (
        r"authentication failed|SASL|SCRAM|wrong password",
        Failure.AUTHENTICATION,
        "the login was refused; check the password or certificate",
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects|no authentication method",
        Failure.AUTHENTICATION,
        "pg_hba.conf does not admit us",
    ),
    (
        r'role ".*" does not exist|no such user|not permitted to log in',
        Failure.AUTHENTICATION,
        "the role does not exist or may not log in",
    ),
    (
        (
            r'database ".*" does not exist|no such database'
            r'|database ".*" is not currently accepting'
        ),
        Failure.AUTHENTICATION,
        "the database does not exist or admits nobody",
    ),
    (
        r"permission denied for database",
        Failure.PERMISSION,
        "the role lacks the CONNECT privilege; GRANT CONNECT ON DATABASE to it",
    ),
    (
        r"FATAL:\s+not allowed",
        Failure.PERMISSION,
        "PgBouncer does not let this user look; name it in stats_users and RELOAD",
    ),
    (
        (
            r"invalid response to SSL|expected authentication request|unsupported startup parameter"
            r"|unsupported (frontend )?protocol|invalid response from"
        ),
        Failure.PROTOCOL,
        "what answers there does not speak like this kind of target; check host and port",
    ),
    (
        r"certificate|SSL",
        Failure.AUTHENTICATION,
        "TLS could not be agreed; check sslmode and certificates",
    ),
    (
        r"could not translate host name|resolve host|[Nn]ame or service not known|name resolution",
        Failure.UNREACHABLE,
        "the host name cannot be resolved",
    ),
    (r"timeout expired|timed out", Failure.TIMEOUT, "no answer to the connection attempt"),
    (
        r"[Cc]onnection refused|No such file or directory",
        Failure.UNREACHABLE,
        "nothing listens there",
    ),
    (
        r"No route to host|[Nn]etwork is unreachable",
        Failure.UNREACHABLE,
        "there is no way to the host",
    ),
    (
        r"reset by peer|closed the connection|Broken pipe|terminating connection",
        Failure.UNREACHABLE,
        "the connection was cut",
    ),
)
_COMPILED = tuple((re.compile(rule), failure, words) for rule, failure, words in _RULES)

_ANSWERED = re.compile(r"\b(?:FATAL\w*|ERROR|PANIC|ВАЖНО|ФАТАЛЬНО)\b|致命|치명적|ფატალური")
"""A severity: the server itself spoke, in a language that we may not know."""

_PREFIX = re.compile(r"^.*?\b(?:FATAL|ERROR|PANIC):\s+|^(?:- host: .*?: )?connection failed: ")


def explain_connect(error: psycopg.Error, secrets: Iterable[str] = ()) -> CollectError:
    """Why a connection attempt failed."""
    failure, reason = classify(_without(str(error), secrets))
    return error_for(failure, reason)


def classify(message: str) -> tuple[Failure, str]:
    """The kind of trouble that a message of libpq tells of, and a reason in one line.

    >>> classify('connection failed: FATAL:  sorry, too many clients already')[1]
    'every slot is taken (sorry, too many clients already)'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no message"]
    for rule, failure, words in _COMPILED:
        for line in lines:
            if rule.search(line):
                return failure, f"{words} ({_own_words(line)})"
    if _ANSWERED.search(lines[0]):
        return Failure.NOT_AVAILABLE, f"the server refused us ({_own_words(lines[0])})"
    return Failure.UNREACHABLE, f"the connection failed ({_own_words(lines[0])})"


def recognised(message: str) -> bool:
    """Whether the words of a failed attempt are known; if not, only the server spoke."""
    lines = message.splitlines()
    known = any(rule.search(line) for rule, _, _ in _COMPILED for line in lines)
    return known or not any(_ANSWERED.search(line) for line in lines)


_STATES: dict[str, tuple[Failure, str]] = {
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    "53300": (Failure.SLOTS_EXHAUSTED, "every slot is taken"),
    "57P03": (Failure.NOT_AVAILABLE, "the server does not accept connections yet"),
    "28P01": (Failure.AUTHENTICATION, "the login was refused; check the password or certificate"),
    "28000": (Failure.AUTHENTICATION, "pg_hba.conf or the role does not admit us"),
    "3D000": (Failure.AUTHENTICATION, "the database does not exist"),
    "42501": (
        Failure.PERMISSION,
        "the role lacks the CONNECT privilege; GRANT CONNECT ON DATABASE to it",
    ),
}
_ROUTINES: dict[str, tuple[Failure, str]] = {
    # Four limits share the SQLSTATE 53300; who refused tells them apart.
    "InitPostgres": (Failure.SLOTS_EXHAUSTED, "only reserved slots are left"),
    "InitializeSessionUserId": (
        Failure.ROLE_LIMIT,
        "the role's CONNECTION LIMIT is reached; raise it with ALTER ROLE",
    ),
    "CheckMyDatabase": (
        Failure.DATABASE_LIMIT,
        (
            "the database's CONNECTION LIMIT is reached; raise it with ALTER DATABASE, "
            "or connect to another database"
        ),
    ),
}


def explain_first_word(word: FirstWord, secrets: Iterable[str] = ()) -> CollectError | None:
    """What a refusal means by its SQLSTATE, in whatever language; None when not known."""
    known = _STATES.get(word.sqlstate or "")
    if word.sqlstate == "53300":
        known = _ROUTINES.get(word.routine, known)
    if known is None:
        return None
    failure, words = known
    return error_for(failure, f"{words} ({_own_words(_without(word.words, secrets))})")


def explain_session(error: psycopg.Error, secrets: Iterable[str] = ()) -> CollectError:
    """Why a statement failed on a connection that had been open; SQLSTATE is known here."""
    words = _own_words(_without(str(error), secrets).strip().partition("\n")[0] or "no message")
    if isinstance(error, pg.QueryCanceled):
        return error_for(Failure.TIMEOUT, f"the server took too long to answer ({words})")
    if isinstance(error, pg.LockNotAvailable):
        return error_for(Failure.TIMEOUT, f"a catalog is locked ({words})")
    if isinstance(error, pg.InsufficientPrivilege):
        return error_for(Failure.PERMISSION, f"the role may not ask this ({words})")
    if isinstance(error, (pg.AdminShutdown, pg.CrashShutdown, pg.IdleSessionTimeout)):
        return error_for(Failure.UNREACHABLE, f"the connection was cut ({words})")
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return error_for(Failure.UNREACHABLE, f"the connection was lost ({words})")
    return error_for(Failure.PROTOCOL, f"the question was refused ({words})")


def _own_words(line: str) -> str:
    """The server's own words: no prefix of libpq, no control characters, not too long."""
    words = _PREFIX.sub("", line, count=1)
    printable = "".join(c if c.isprintable() else " " for c in words).strip()
    return printable if len(printable) <= _LONGEST_WORDS else printable[:_LONGEST_WORDS] + "…"


def _without(message: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        if secret:
            message = message.replace(secret, "***")
    return message
