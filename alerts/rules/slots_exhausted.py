"""slots_exhausted: no slot is left, be it a server's or a pooler's for clients, or it says so."""

from __future__ import annotations

from collections.abc import Iterator

from alerts.applications import by_application
from alerts.rules.refusals import clients_advice, clients_limit, product_of, refusal
from alerts.rules.slots_low import SHOWN, advice, group_culprit, group_words, largest_words
from alerts.view import FULL, View
from alerts.wording import counted, name, plain
from model.alerting import Finding, Severity
from model.samples import Pool, Sample

NAME = "slots_exhausted"


def can_judge(view: View) -> bool:
    """Whether the target answered, be it that it is full."""
    newest = view.newest
    if newest is None:
        return False
    if not newest.up:
        return newest.failure in FULL
    if view.target.is_pooler:
        return newest.pooler is not None
    return newest.server is not None and newest.server.slots_used is not None


def no_slot_left(view: View) -> Iterator[Finding]:
    """All slots are taken, or a poll was refused for that reason.

    From now on every new connection of an ordinary role fails with "sorry, too many clients
    already" or "remaining connection slots are reserved …" (SQLSTATE 53300). A monitor that
    never got in says so too: a full server and a dead one need different people.

    A pooler has a limit of clients instead (max_client_conn of PgBouncer, "no more connections
    allowed"). Its console is often exempt, so a full one may answer us and refuse all others:
    https://www.pgbouncer.org/config.html#max_client_conn.
    """
    newest = view.newest
    if newest is None:
        return
    if not newest.up:
        yield from _refused(view, newest)
        return
    if view.target.is_pooler:
        yield from _no_client_more(view, newest)
        return
    server = newest.server
    if server is None or server.slots_used is None or server.slots_used < server.ordinary_capacity:
        return
    users = by_application(view.sessions or ())
    yield Finding(
        rule=NAME,
        target=view.target.name,
        labels=(),
        severity=Severity.CRITICAL,
        value=float(server.slots_used),
        limit=float(server.ordinary_capacity),
        unit="slots",
        summary=(
            f"No slot is left: {server.slots_used} of {server.ordinary_capacity} are in use "
            f"(max_connections {server.max_connections}){largest_words(users)}; "
            "ordinary roles are refused"
        ),
        advice=advice(users),
        culprit=group_culprit(users),
        evidence=tuple(group_words(group) for group in users[:SHOWN]),
    )


def _no_client_more(view: View, newest: Sample) -> Iterator[Finding]:
    """A pooler that answers us has all the clients it admits; ours is one of them."""
    pooler = newest.pooler
    if pooler is None or not pooler.max_client_conn or pooler.used_clients is None:
        return
    if pooler.used_clients < pooler.max_client_conn:
        return
    kind = view.target.kind
    pools = sorted(newest.pools or (), key=lambda p: -(p.client_active + (p.client_waiting or 0)))
    yield Finding(
        rule=NAME,
        target=view.target.name,
        labels=(),
        severity=Severity.CRITICAL,
        value=float(pooler.used_clients),
        limit=float(pooler.max_client_conn),
        unit="clients",
        summary=(
            f"{product_of(kind)} admits no more clients: {pooler.used_clients} of "
            f"{pooler.max_client_conn} are connected ({clients_limit(kind)})"
        ),
        advice=clients_advice(kind),
        evidence=tuple(_pool_words(pool) for pool in pools[:SHOWN]),
    )


def _pool_words(pool: Pool) -> str:
    waiting = "" if pool.client_waiting is None else f", {pool.client_waiting} waiting"
    return (
        f"Pool {name(pool.database)}/{name(pool.user)} has "
        f"{counted(pool.client_active, 'active client')}{waiting}."
    )


def _refused(view: View, newest: Sample) -> Iterator[Finding]:
    meant = refusal(view.target, newest.failure)
    if meant is None:
        return
    refusals = 0
    for sample in reversed(view.window.samples):
        if sample.failure is not newest.failure:
            break
        refusals += 1
    evidence = [f"{counted(refusals, 'poll was', 'polls were')} refused in a row."]
    before = view.window.newest_up
    if before is not None and before.server is not None and before.server.slots_used is not None:
        age = round((newest.at - before.at).total_seconds())
        evidence.append(
            f"{age} s ago, when we last got in, {before.server.slots_used} of "
            f"{before.server.ordinary_capacity} slots were in use."
        )
    if view.target.is_pooler and newest.reason:
        evidence.append(f"The poll says: {plain(newest.reason, 300)}")
    groups = by_application(before.sessions or ()) if before else []
    evidence.extend(group_words(group) for group in groups[:SHOWN])
    yield Finding(
        rule=NAME,
        target=view.target.name,
        labels=(),
        severity=meant.severity,
        value=float(refusals),
        limit=1.0,
        unit="refusals",
        summary=meant.summary,
        advice=meant.advice,
        culprit=group_culprit(groups),
        evidence=tuple(evidence),
    )
