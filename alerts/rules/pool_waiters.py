"""pool_waiters: clients wait for a server connection of a pool."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from alerts.holders import Holders, holders
from alerts.rules.limits import graded
from alerts.view import View, Window
from alerts.wording import age_of, counted, culprit, is_idle_in_transaction, name, seconds
from model.alerting import Finding, labels
from model.rules import PoolWaiters
from model.samples import Pool, Pooler, Sample

NAME = "pool_waiters"
MARGIN = 0.02  # seconds after a limit is reached, so that the extra poll does not come just before


def can_judge(view: View) -> bool:
    """Whether the pooler has just told us its pools."""
    return view.answer is not None and view.answer.pools is not None


def clients_waiting_too_long(view: View, limits: PoolWaiters) -> Iterator[Finding]:
    """A client has queued for a server connection longer than the limits allow.

    Every such client is a request that stands still while its timeout runs. PgBouncer's
    manual on maxwait: if it grows, the servers do not keep up, because they are overloaded
    or because the pool is too small (https://www.pgbouncer.org/usage.html#show-pools).
    """
    for pool, wait in waiting_pools(view.window):
        reached = graded(wait, limits.warning_seconds, limits.critical_seconds)
        if reached is None:
            continue
        severity, limit = reached
        held = holders(pool, view.related_answers())
        pooler = view.answer.pooler if view.answer else None
        worst = held.worst if held else None
        yield Finding(
            rule=NAME,
            target=view.target.name,
            labels=labels(database=pool.database, user=pool.user),
            severity=severity,
            value=round(wait, 3),
            limit=limit,
            unit="s",
            summary=f"{waiting_words(pool, wait, limit)}; {occupancy_words(pool, pooler)}",
            advice=advice(pool, pooler, held),
            culprit=culprit(worst, age_of(worst)) if worst else None,
            evidence=held.sentences() if held else (),
        )


def next_look(view: View, limits: PoolWaiters) -> float | None:
    """Seconds until a wait that is still short reaches the first limit; None if nobody waits.

    Without it an alert would wait for the next poll, up to a second longer.
    """
    left = [
        limits.warning_seconds - wait
        for _, wait in waiting_pools(view.window)
        if wait < limits.warning_seconds
    ]
    return min(left) + MARGIN if left else None


def waiting_pools(window: Window) -> Iterator[tuple[Pool, float]]:
    """Pools with waiters right now, and how many seconds the oldest has waited.

    PgBouncer reports maxwait 0 for a client that waits before its login is through, as
    all do while no server connection can be opened at all. For these we count ourselves,
    from the first poll that saw them.
    """
    newest = window.newest
    if newest is None or not newest.up:
        return
    for pool in newest.pools or ():
        if pool.client_waiting <= 0 or pool.database == "pgbouncer":
            continue
        wait = _reported_wait(pool)
        yield pool, wait if wait > 0 else _login_wait(window, pool, newest.at)


def _reported_wait(pool: Pool) -> float:
    """Seconds; 0 where the pooler does not say."""
    return pool.oldest_wait_seconds or pool.maxwait_seconds or 0.0


def _login_wait(window: Window, pool: Pool, at: datetime) -> float:
    def waits_at_login(sample: Sample) -> bool:
        return any(
            p.client_waiting > 0 and _reported_wait(p) <= 0
            for p in sample.pools or ()
            if p.database == pool.database and p.user == pool.user
        )

    since = window.held_since(waits_at_login)
    return 0.0 if since is None else (at - since).total_seconds()


def is_full(pool: Pool) -> bool | None:
    """Whether all server connections that the pool may open are open; None not known."""
    return None if pool.pool_size is None else open_servers(pool) >= pool.pool_size


def open_servers(pool: Pool) -> int:
    """Server connections that are through their login."""
    return pool.server_active + pool.server_idle + pool.server_used + pool.server_tested


def waiting_words(pool: Pool, wait: float, limit: float | None = None) -> str:
    """ "24 clients wait for a connection to pool shop/app, the oldest for 6.1 s"."""
    clients = counted(pool.client_waiting, "client waits", "clients wait")
    allowed = "" if limit is None else f" (limit {seconds(limit)})"
    return (
        f"{clients} for a connection to pool {pool_name(pool)}, "
        f"the oldest for {seconds(wait)}{allowed}"
    )


def pool_name(pool: Pool) -> str:
    """ "shop/app"."""
    return f"{name(pool.database)}/{name(pool.user)}"


def occupancy_words(pool: Pool, pooler: Pooler | None) -> str:
    """How far the pool's server connections are used up."""
    if pooler is not None and pooler.paused:
        return "PgBouncer is paused"
    if pool.pool_size is None:
        return f"{counted(pool.server_active, 'server connection')} in use"
    if is_full(pool):
        size = pool.pool_size
        if pool.server_active >= size:
            if size == 1:
                return "its only server connection is in use"
            return f"all {size} server connections are in use"
        return f"{pool.server_active} of {size} server connections are in use"
    return (
        f"only {open_servers(pool)} of {pool.pool_size} server connections are open: "
        "the pool is still growing, or the server refuses new connections"
    )


def advice(pool: Pool, pooler: Pooler | None, held: Holders | None) -> str:
    """What to do first about the waiters of *pool*."""
    if pooler is not None and pooler.paused:
        return "Run RESUME on PgBouncer's console if nobody needs the pause any more."
    if is_full(pool) is False:
        return (
            "Find out why PgBouncer cannot open more: see its log for refused logins, compare "
            "max_db_connections and server_login_retry, and check the server's free slots."
        )
    worst = held.worst if held else None
    if held is None or worst is None:
        return (
            "See on the server what this pool's sessions do before you raise pool_size: "
            "SELECT pid, state, now() - xact_start AS age, wait_event_type FROM pg_stat_activity "
            "ORDER BY xact_start;"
        )
    client = f"application {name(worst.application)}"
    if held.blocked_by_worst:
        return (
            f"End what pid {worst.pid} ({client}) does: it blocks "
            f"{counted(held.blocked_by_worst, 'session')}. Let its client commit or roll back; "
            f"as a last resort SELECT pg_terminate_backend({worst.pid});"
        )
    if is_idle_in_transaction(worst):
        return (
            f"Fix the client of pid {worst.pid} ({client}): it took a connection and does "
            "nothing. Commit before slow work, give connections back, and set "
            "idle_in_transaction_session_timeout. Restart that client to free them now."
        )
    return (
        f"Look at the statement of pid {worst.pid} ({client}) first. If all statements are "
        "short, the pool is too small: raise pool_size as far as the server's slots allow."
    )
