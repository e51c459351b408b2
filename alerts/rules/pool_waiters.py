"""pool_waiters: clients wait for a server connection of a pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from alerts.holders import Holders, holders
from alerts.rules.limits import graded
from alerts.view import View, Window
from alerts.wording import age_of, counted, culprit, is_idle_in_transaction, name, seconds
from model.alerting import Finding, Labels, labels
from model.rules import PoolWaiters
from model.samples import Pool, Sample

NAME = "pool_waiters"
MARGIN = 0.02  # seconds after a limit is reached, so that the extra poll does not come just before


def can_judge(view: View) -> bool:
    """Whether the pooler has just told us its pools."""
    return view.answer is not None and view.answer.pools is not None


def clients_waiting_too_long(view: View, limits: PoolWaiters) -> Iterator[Finding]:
    """A client has queued for a server connection longer than the limits allow.

    A pooler that does not report its queue (Pgpool-II) has no waiters here.

    Every such client is a request that stands still while its timeout runs. PgBouncer's
    manual on maxwait: if it grows, the servers do not keep up, because they are overloaded
    or because the pool is too small (https://www.pgbouncer.org/usage.html#show-pools).
    """
    for pool, wait in waiting_pools(view.window):
        reached = graded(wait, limits.warning_seconds, limits.critical_seconds)
        if reached is None:
            continue
        severity, limit = reached
        assert view.answer is not None, "waiters are only seen in an answer"
        held = holders(pool, view.related_answers())
        cause = why(pool, view.answer)
        worst = held.worst if held else None
        yield Finding(
            rule=NAME,
            target=view.target.name,
            labels=_labels(pool),
            severity=severity,
            value=round(wait, 3),
            limit=limit,
            unit="s",
            summary=f"{waiting_words(pool, wait, limit)}; {cause.words}",
            advice=advice(cause, held),
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

    A pooler may not tell how long clients wait (Odyssey), and PgBouncer reports 0 for those
    whose login is not through. Where the collector could not find out either, we count
    ourselves, from the first poll that saw them.
    """
    newest = window.newest
    if newest is None or not newest.up:
        return
    for pool in newest.pools or ():
        if not pool.client_waiting or pool.database == "pgbouncer":
            continue
        wait = _reported_wait(pool)
        yield pool, wait if wait > 0 else _login_wait(window, pool, newest.at)


def _reported_wait(pool: Pool) -> float:
    """Seconds; 0 where the pooler does not say."""
    return pool.oldest_wait_seconds or pool.maxwait_seconds or 0.0


def _login_wait(window: Window, pool: Pool, at: datetime) -> float:
    def waits_at_login(sample: Sample) -> bool:
        return any(
            p.client_waiting and _reported_wait(p) <= 0
            for p in sample.pools or ()
            if (p.database, p.user, p.process) == (pool.database, pool.user, pool.process)
        )

    since = window.held_since(waits_at_login)
    return 0.0 if since is None else (at - since).total_seconds()


@dataclass(frozen=True, slots=True)
class Why:
    """Why the clients of a pool wait, as far as the pooler tells.

    cause:   "pool_paused", "pool_full", "pool_capped" or "pool_ramping", as docs/verdict.md
             has them.
    product: of the pooler.
    """

    cause: str
    words: str
    product: str


def why(pool: Pool, sample: Sample) -> Why:
    """Why the clients of *pool* wait, by what *sample* says of its pooler.

    A pool with fewer servers than it may open is not too small: something keeps the pooler
    from opening more.
    """
    pooler = sample.pooler
    product = pooler.product if pooler else "the pooler"
    database = next((d for d in sample.pool_databases or () if d.name == pool.database), None)
    if pooler is not None and pooler.paused:
        return Why("pool_paused", f"{product} is paused", product)
    if database is not None and database.paused:
        words = f"database {name(pool.database)} is paused on {product}"
        return Why("pool_paused", words, product)
    if is_full(pool) is not False:
        return Why("pool_full", _full_words(pool), product)
    only = f"only {open_servers(pool)} of {pool.pool_size} server connections are open"
    if database is not None and database.max_connections and database.current_connections:
        limit = database.max_connections
        if database.current_connections >= limit:
            words = (
                f"{only}: all {limit} that {product} may open to database "
                f"{name(pool.database)} are in use by its pools (max_db_connections)"
            )
            return Why("pool_capped", words, product)
    if pool.server_login:
        words = f"{only}, and {pool.server_login} more is being opened"
        return Why("pool_ramping", words, product)
    return Why(
        "pool_ramping",
        f"{only}: the pool is still growing, or the server refuses new connections",
        product,
    )


def is_full(pool: Pool) -> bool | None:
    """Whether all server connections that the pool may open are open; None not known."""
    return None if pool.pool_size is None else open_servers(pool) >= pool.pool_size


def open_servers(pool: Pool) -> int:
    """Server connections that are through their login."""
    return (
        pool.server_active + pool.server_idle + (pool.server_used or 0) + (pool.server_tested or 0)
    )


def waiting_words(pool: Pool, wait: float, limit: float | None = None) -> str:
    """ "24 clients wait for a connection to pool shop/app, the oldest for 6.1 s"."""
    clients = counted(pool.client_waiting or 0, "client waits", "clients wait")
    allowed = "" if limit is None else f" (limit {seconds(limit)})"
    return (
        f"{clients} for a connection to pool {pool_name(pool)}, "
        f"the oldest for {seconds(wait)}{allowed}"
    )


def pool_name(pool: Pool) -> str:
    """ "shop/app", with its process where there are several."""
    process = f" of process {name(pool.process)}" if pool.process else ""
    return f"{name(pool.database)}/{name(pool.user)}{process}"


def _labels(pool: Pool) -> Labels:
    if pool.process:
        return labels(database=pool.database, user=pool.user, process=pool.process)
    return labels(database=pool.database, user=pool.user)


def _full_words(pool: Pool) -> str:
    """How far the connections of a pool are in use that has opened all it may."""
    size = pool.pool_size
    if size is None:
        return f"{counted(pool.server_active, 'server connection')} in use"
    reserve = max(open_servers(pool) - size, 0) if pool.reserve_pool_size else 0
    reserved = f", {reserve} of the reserve of {pool.reserve_pool_size} included" if reserve else ""
    if pool.server_active >= size + reserve:
        if size + reserve == 1:
            return "its only server connection is in use"
        return f"all {size + reserve} server connections are in use{reserved}"
    return f"{pool.server_active} of {size + reserve} server connections are in use{reserved}"


_FIRST = {
    "pool_paused": "Run RESUME on {product}'s console if nobody needs the pause any more.",
    "pool_capped": (
        "Raise max_db_connections as far as the server's slots allow, or lower pool_size of "
        "pools that take more than they need; a bigger pool_size here does not help."
    ),
    "pool_ramping": (
        "Find out why {product} cannot open more: see its log for refused logins, compare "
        "server_login_retry, and check the server's free slots."
    ),
}


def advice(cause: Why, held: Holders | None) -> str:
    """What to do first about the waiters of a pool."""
    if cause.cause in _FIRST:
        return _FIRST[cause.cause].format(product=cause.product)
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
