"""The list of rules. A rule's name is that of its section in the configuration file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from alerts.rules import (
    idle_in_transaction,
    long_statement,
    pool_waiters,
    slots_exhausted,
    slots_low,
    target_down,
)
from alerts.view import View
from model.alerting import Finding, Judgement
from model.rules import Rules
from model.targets import POOLERS, Kind


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    title:     what it is about, for the first line of a message.
    kinds:     kinds of targets that it judges.
    can_judge: whether the samples allow an answer; if not, silence means nothing.
    find:      the findings; none is an answer too.
    next_look: seconds until an extra poll would tell more, or None.
    """

    name: str
    title: str
    kinds: tuple[Kind, ...]
    can_judge: Callable[[View], bool]
    find: Callable[[View, Rules], Iterable[Finding]]
    next_look: Callable[[View, Rules], float | None] | None = None

    @property
    def page(self) -> str:
        """The page that explains it, in the repository."""
        return f"docs/rules/{self.name}.md"


RULES: tuple[Rule, ...] = (
    Rule(
        target_down.NAME,
        "target does not answer",
        ("postgresql", *POOLERS),
        target_down.can_judge,
        lambda view, rules: target_down.no_answer(view, rules.target_down),
    ),
    Rule(
        slots_exhausted.NAME,
        "no slots left",
        ("postgresql", *POOLERS),
        slots_exhausted.can_judge,
        lambda view, _: slots_exhausted.no_slot_left(view),
    ),
    Rule(
        pool_waiters.NAME,
        "clients wait for a pool",
        POOLERS,
        pool_waiters.can_judge,
        lambda view, rules: pool_waiters.clients_waiting_too_long(view, rules.pool_waiters),
        lambda view, rules: pool_waiters.next_look(view, rules.pool_waiters),
    ),
    Rule(
        slots_low.NAME,
        "few slots left",
        ("postgresql",),
        slots_low.can_judge,
        lambda view, rules: slots_low.few_slots_left(view, rules.slots_low),
    ),
    Rule(
        idle_in_transaction.NAME,
        "session idle in transaction",
        ("postgresql",),
        idle_in_transaction.can_judge,
        lambda view, rules: idle_in_transaction.idle_too_long_in_transaction(
            view, rules.idle_in_transaction
        ),
    ),
    Rule(
        long_statement.NAME,
        "long-running statement",
        ("postgresql",),
        long_statement.can_judge,
        lambda view, rules: long_statement.statements_running_too_long(view, rules.long_statement),
    ),
)
"""All rules, the most urgent first."""

BY_NAME = {rule.name: rule for rule in RULES}


def judge(rule: Rule, view: View, rules: Rules) -> Judgement:
    """What *rule* says about the target of *view* right now."""
    if not rule.can_judge(view):
        return Judgement(rule.name, view.target.name, judged=False)
    severity = rules.settings(rule.name).severity
    findings = tuple(rule.find(view, rules))
    if severity is not None:
        findings = tuple(replace(finding, severity=severity) for finding in findings)
    return Judgement(rule.name, view.target.name, judged=True, findings=findings)
