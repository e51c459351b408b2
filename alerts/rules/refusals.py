"""What it means when a server or a pooler is full and refuses us, and what to do first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.alerting import Severity
from model.samples import Failure
from model.targets import Kind, Target


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way to be refused.

    summary: begins with a capital and has no full stop, so that it fits into a sentence.
    advice:  what to do first.
    """

    severity: Severity
    summary: str
    advice: str


_SERVER: Mapping[Failure, Refusal] = {
    Failure.SLOTS_EXHAUSTED: Refusal(
        Severity.CRITICAL,
        "The server refuses new connections because all its slots are taken",
        (
            "Free slots from a connection that is already open, or locally as a superuser, who has "
            "reserved slots: SELECT application_name, usename, state, count(*) "
            "FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC; then limit the pool of the "
            "largest. Grant Headroom pg_use_reserved_connections (PostgreSQL 16 and "
            "newer), so that it sees this itself."
        ),
    ),
    Failure.DATABASE_LIMIT: Refusal(
        Severity.CRITICAL,
        "The server refuses new connections because the database's CONNECTION LIMIT is reached",
        (
            "See who is connected to that database, then raise its limit "
            "(ALTER DATABASE … CONNECTION LIMIT …) or shrink the pools. "
            "Or let Headroom connect to another database, such as postgres."
        ),
    ),
    Failure.ROLE_LIMIT: Refusal(
        Severity.WARNING,
        (
            "The server refuses Headroom because its role's CONNECTION LIMIT is reached; "
            "nothing else can be seen until it gets in"
        ),
        (
            "See who else uses Headroom's role, or raise its limit: "
            "ALTER ROLE … CONNECTION LIMIT 3; (docs/permissions.md)."
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class _Product:
    """How a pooler counts clients. limit: its setting; more: how to admit more of them."""

    name: str
    limit: str
    more: str


_PRODUCTS: Mapping[Kind, _Product] = {
    "pgbouncer": _Product(
        "PgBouncer",
        "max_client_conn",
        (
            "See who they are with SHOW CLIENTS on its console; close what is idle, or raise "
            "max_client_conn (and the process's limit of open files) and RELOAD."
        ),
    ),
    "pgpool": _Product(
        "Pgpool-II",
        "num_init_children − reserved_connections",
        (
            "See who they are with SHOW POOL_PROCESSES; close what is idle "
            "(client_idle_limit), or raise num_init_children and restart it."
        ),
    ),
    "pgcat": _Product(
        "PgCat",
        "its limit of clients",
        "See who they are with SHOW CLIENTS on its console, and close what is idle.",
    ),
    "odyssey": _Product(
        "Odyssey",
        "client_max",
        (
            "See who they are with SHOW CLIENTS on its console; close what is idle, or raise "
            "client_max and reload it."
        ),
    ),
}


def product_of(kind: Kind) -> str:
    """The pooler's name for people."""
    return _PRODUCTS[kind].name


def clients_advice(kind: Kind) -> str:
    """What to do first about a pooler that has all the clients it admits."""
    return _PRODUCTS[kind].more


def clients_limit(kind: Kind) -> str:
    """The setting that says how many clients a pooler admits."""
    return _PRODUCTS[kind].limit


def refusal(target: Target, failure: Failure | None) -> Refusal | None:
    """What it means that *target* refused us with *failure*; None if it is not full."""
    if failure is None or failure not in _SERVER:
        return None
    return _pooler_refusal(target.kind, failure) if target.is_pooler else _SERVER[failure]


def _pooler_refusal(kind: Kind, failure: Failure) -> Refusal:
    """A pooler has no slots: it has clients. Some hand on what their server says."""
    product = _PRODUCTS[kind]
    if failure is Failure.SLOTS_EXHAUSTED:
        return Refusal(
            Severity.CRITICAL,
            f"{product.name} refuses new clients because it has all it admits ({product.limit})",
            product.more,
        )
    if failure is Failure.DATABASE_LIMIT:
        return Refusal(
            Severity.CRITICAL,
            f"{product.name} refuses new clients because the database's limit is reached",
            (
                f"See who is connected to that database through {product.name}, then raise its "
                f"limit, on {product.name} or on the server behind it "
                "(ALTER DATABASE … CONNECTION LIMIT …)."
            ),
        )
    return Refusal(
        Severity.WARNING,
        (
            f"{product.name} refuses Headroom because its user's limit is reached; "
            "nothing else can be seen until it gets in"
        ),
        (
            f"See who else uses Headroom's user, or raise its limit, on {product.name} or on "
            "the server behind it (ALTER ROLE … CONNECTION LIMIT 3;)."
        ),
    )
