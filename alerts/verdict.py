"""The verdict: one sentence that says where the queue is. Pure; docs/verdict.md lists causes.

A system is a target with its relatives: a server and its poolers, or a pooler and its
servers. The causes are tried in the order of CAUSES; the first that holds is the verdict,
so the list runs from "nothing can be known" over "somebody waits" to "somebody might".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from alerts.blocking import chains
from alerts.holders import Holders, holders
from alerts.rules import pool_waiters, target_down
from alerts.rules.limits import graded
from alerts.rules.refusals import refusal
from alerts.rules.registry import BY_NAME
from alerts.view import FRESH, FULL, View, Window, visible_sessions
from alerts.wording import (
    age_of,
    counted,
    culprit,
    doing_words,
    is_idle_in_transaction,
    name,
    seconds,
    who,
)
from model.alerting import Finding, Severity, Verdict
from model.rules import Rules
from model.samples import LockWait, Sample, Session
from model.targets import Target

LOCK_WAIT = 1.0  # seconds; shorter lock waits are daily business
MANY_BLOCKED = 10  # sessions; from here on a lock chain is critical, as temBoard has it


@dataclass(frozen=True, slots=True)
class System:
    """What a verdict is about.

    focus:   the target whose verdict it is.
    members: the focus first, then its relatives, with their windows.
    """

    focus: Target
    members: tuple[tuple[Target, Window], ...]
    rules: Rules

    def up(self, *, poolers: bool) -> Iterator[tuple[Window, Sample]]:
        """Poolers or servers that have just answered; not failed or stale ones."""
        reference = self.members[0][1].newest
        for target, window in self.members:
            newest = window.newest
            if target.is_pooler != poolers or reference is None:
                continue
            if newest is None or not newest.up:
                continue
            if abs(reference.at - newest.at) <= FRESH:
                yield window, newest

    def findings(self, rule: str, *, poolers: bool = False) -> Iterator[Finding]:
        """What a rule finds at any server, or at any pooler, by its configured limits, be it
        enabled or not.
        """
        known = BY_NAME[rule]
        for window, sample in self.up(poolers=poolers):
            target = next(t for t, w in self.members if w is window and t.name == sample.target)
            view = View(target, window)
            if known.can_judge(view):
                yield from known.find(view, self.rules)


def verdict(system: System, failed: Callable[[str, Exception], None] | None = None) -> Verdict:
    """The verdict of *system*.

    failed: hears of a cause that raised, which is a mistake of ours; the next ones are tried.
    Without it such an error is raised.
    """
    complete = True
    for cause in CAUSES:
        try:
            found = cause(system)
        except Exception as error:
            if failed is None:
                raise
            failed(f"cause {cause.__name__}", error)
            complete = False
            continue
        if found is not None:
            return found
    return HEALTHY if complete else _not_judged(system.focus.name)


def _not_judged(target: str) -> Verdict:
    """Not "healthy": what could not be judged may be the trouble."""
    return Verdict(
        "unknown",
        "not_judged",
        f"Headroom cannot judge {target}, by a mistake of its own.",
        Severity.WARNING,
        (),
        "See Headroom's log and report what it says; the numbers are still collected.",
    )


def no_data(system: System) -> Verdict | None:
    """The target has not been polled yet."""
    if system.members[0][1].newest is not None:
        return None
    return Verdict("unknown", "no_data", f"No data from {system.focus.name} yet.", None)


def down(system: System) -> Verdict | None:
    """A member does not answer."""
    for target, window in system.members:
        newest = window.newest
        if newest is None or newest.up or newest.failure in FULL:
            continue
        limits = system.rules.target_down
        finding = next(target_down.no_answer(View(target, window), limits))
        words = target_down.FAILURES.get(newest.failure) if newest.failure else None
        does = words[0] if words else "does not answer"
        return Verdict(
            "target",
            "target_down",
            f"{target.name} {does}.",
            Severity.CRITICAL,
            (f"{finding.summary}.", *finding.evidence),
            finding.advice,
        )
    return None


def full_refused(system: System) -> Verdict | None:
    """A server or a pooler refuses our connection because something is full."""
    for target, window in system.members:
        newest = window.newest
        meant = refusal(target, newest.failure) if newest is not None and not newest.up else None
        if meant is None:
            continue
        # A product's name keeps its capital; "The server …" does not.
        words = meant.summary
        if not target.is_pooler:
            words = words[0].lower() + words[1:]
        layer = "pooler" if target.is_pooler else "server slots"
        sentence = f"{target.name}: {words}."
        return Verdict(layer, "full_refused", sentence, meant.severity, (), meant.advice)
    return None


def exhausted(system: System) -> Verdict | None:
    """All ordinary slots of a server are taken."""
    for finding in system.findings("slots_exhausted"):
        return _from_finding("server slots", "slots_exhausted", finding)
    return None


def waiters(system: System) -> Verdict | None:
    """Clients wait for a pool; and, where it can be seen, what its server connections do."""
    limits = system.rules.pool_waiters
    servers = [sample for _, sample in system.up(poolers=False)]
    waiting = [
        (wait, pool, sample)
        for window, sample in system.up(poolers=True)
        for pool, wait in pool_waiters.waiting_pools(window)
        if wait >= limits.warning_seconds
    ]
    if not waiting:
        return None
    wait, pool, answer = max(waiting, key=lambda entry: entry[0])
    held = holders(pool, servers)
    why = pool_waiters.why(pool, answer)
    clients = counted(pool.client_waiting or 0, "client waits", "clients wait")
    sentence = f"{clients} {seconds(wait)} for pool {pool_waiters.pool_name(pool)}: {why.words}"
    if why.cause == "pool_full" and held and held.worst:
        sentence += _held_words(held, held.worst)
    graded_as = graded(wait, limits.warning_seconds, limits.critical_seconds)
    offender = held.worst if held else None
    return Verdict(
        "pooler",
        why.cause,
        f"{sentence}.",
        graded_as[0] if graded_as else Severity.WARNING,
        held.sentences() if held else (),
        pool_waiters.advice(why, held),
        culprit(offender, age_of(offender)) if offender else None,
    )


def clients_refused(system: System) -> Verdict | None:
    """A pooler has all the clients it admits. Waiters come first: they are why clients pile up."""
    for finding in system.findings("slots_exhausted", poolers=True):
        return _from_finding("pooler", "clients_refused", finding)
    return None


def _held_words(held: Holders, worst: Session) -> str:
    idle, waiting = len(held.idle_in_transaction), len(held.waiting_for_locks)
    who_it_is = f"pid {worst.pid} (application {name(worst.application)})"
    blocked = held.blocked_by_worst
    if blocked:
        return (
            f", {waiting} of them waiting for locks; {who_it_is} blocks "
            f"{counted(blocked, 'session')} and {doing_words(worst)}"
        )
    if idle and is_idle_in_transaction(worst):
        quiet = seconds(worst.state_seconds or 0.0)
        return f", {idle} of them idle in transaction; {who_it_is} has done nothing for {quiet}"
    if worst.state == "active" and age_of(worst) >= 1.0:  # shorter statements are not the cause
        return f"; the oldest is {who_it_is}, which {doing_words(worst)}"
    return ""


def lock_chain(system: System) -> Verdict | None:
    """Sessions wait for locks; the one at the root is to blame."""
    for _, sample in system.up(poolers=False):
        sessions = visible_sessions(sample) or ()
        found = chains(sessions)
        by_pid = {s.pid: s for s in sessions}
        waits = {wait.pid: wait for wait in sample.lock_waits or ()}
        for root in found.roots():
            blocked = [by_pid[pid] for pid in found.blocked(root) if pid in by_pid]
            longest = max((_lock_wait(s, waits) for s in blocked), default=0.0)
            if longest < LOCK_WAIT:
                continue
            holder = by_pid.get(root)
            count = counted(len(blocked), "session waits", "sessions wait")
            if root == 0:
                whose = "a prepared transaction holds"
            elif holder is None:
                whose = f"pid {root} holds"
            else:
                whose = f"{who(holder)} holds; it {doing_words(holder)}"
            return Verdict(
                "locks",
                "lock_chain",
                f"{count} for {_locks(found.holds_up[root], waits)} that {whose}.",
                Severity.CRITICAL if len(blocked) >= MANY_BLOCKED else Severity.WARNING,
                (f"The longest wait lasts {seconds(longest)}.",),
                _lock_advice(root, holder),
                culprit(holder, age_of(holder)) if holder else None,
            )
    return None


def _lock_wait(session: Session, waits: Mapping[int, LockWait]) -> float:
    """Seconds that *session* has waited for its lock; of its statement where nobody says more."""
    wait = waits.get(session.pid)
    return wait.wait_seconds if wait is not None else session.statement_seconds or 0.0


def _locks(pids: Iterable[int], waits: Mapping[int, LockWait]) -> str:
    """ "locks on public.orders", if all who wait for the root itself wait for that table."""
    tables = {waits[pid].relation if pid in waits else None for pid in pids}
    table = tables.pop() if len(tables) == 1 else None
    return f"locks on {name(table)}" if table else "locks"


def _lock_advice(root: int, holder: Session | None) -> str:
    if root == 0:
        return "Commit or roll it back: SELECT gid, prepared, owner FROM pg_prepared_xacts;"
    client = f"application {name(holder.application)}" if holder else "its client"
    return f"Let {client} commit or roll back; or SELECT pg_terminate_backend({root});"


def slots_low(system: System) -> Verdict | None:
    """Few slots of a server are left."""
    for finding in system.findings("slots_low"):
        return _from_finding("server slots", "slots_low", finding)
    return None


def idle_in_transaction(system: System) -> Verdict | None:
    """A session holds a transaction open and does nothing; nobody waits for it yet."""
    for finding in system.findings("idle_in_transaction"):
        return _from_finding("statements", "idle_in_transaction", finding)
    return None


def long_statement(system: System) -> Verdict | None:
    """A statement runs for long; nobody waits for it yet."""
    for finding in system.findings("long_statement"):
        return _from_finding("statements", "long_statement", finding)
    return None


def hidden(system: System) -> Verdict | None:
    """A server answers, but our role may not see what its sessions do."""
    for _, sample in system.up(poolers=False):
        if sample.server is not None and sample.server.states is None:
            return Verdict(
                "unknown",
                "hidden",
                f"Headroom's role may not see the sessions of {sample.target}.",
                Severity.WARNING,
                (sample.degraded,) if sample.degraded else (),
                "GRANT pg_monitor to Headroom's role; `headroom check` prints the statement.",
            )
    return None


HEALTHY = Verdict("none", "healthy", "No queue: nobody waits, and slots are left.", None)
"""Without numbers on purpose: a verdict that stays the same is one row, not one a second."""

CAUSES: tuple[Callable[[System], Verdict | None], ...] = (
    no_data,
    down,
    full_refused,
    exhausted,
    waiters,
    clients_refused,
    lock_chain,
    slots_low,
    idle_in_transaction,
    long_statement,
    hidden,
)


def _from_finding(layer: str, cause: str, finding: Finding) -> Verdict:
    return Verdict(
        layer,
        cause,
        f"{finding.target}: {finding.summary}.",
        finding.severity,
        finding.evidence,
        finding.advice,
        finding.culprit,
    )


def stale(target: str, since: str) -> Verdict:
    """The polls have stopped; *since* says when."""
    return Verdict("unknown", "no_data", f"No data from {target} since {since}.", Severity.WARNING)
