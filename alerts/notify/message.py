"""What a message says: built once from a Notice, so that the channels only give it form.

Everything here is one-line plain text without control characters, but not escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from alerts.rules.registry import BY_NAME
from alerts.wording import STATEMENT_LIMIT, plain, seconds
from model.alerting import Culprit, Notice, Reason, Severity

EVIDENCE_LIMIT = 8  # lines
SENTENCE_LIMIT = 600  # characters of a summary, an advice or a line of evidence


@dataclass(frozen=True, slots=True)
class Message:
    """The parts of a message, in reading order.

    title:     "CRITICAL: clients wait for a pool on shop-pool (shop/app)".
    status:    why it is sent and how long it has lasted, in one sentence.
    facts:     label and value, such as ("Application", "checkout").
    statement: the masked statement of the worst offender, or None.
    """

    title: str
    status: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    statement: str | None
    advice: str
    evidence: tuple[str, ...]
    verdict: str | None
    link: str
    rule_page: str
    severity: Severity
    resolved: bool


def message(notice: Notice) -> Message:
    """The parts of the message about *notice*."""
    finding = notice.finding
    rule = BY_NAME.get(finding.rule)
    resolved = notice.reason is Reason.RESOLVED
    offender = finding.culprit
    statement = offender.statement if offender else None
    return Message(
        title=_title(notice, rule.title if rule else finding.rule),
        status=_status(notice),
        summary=plain(finding.summary, SENTENCE_LIMIT),
        facts=tuple(_facts(notice)),
        statement=plain(statement, STATEMENT_LIMIT) if statement else None,
        advice=plain(finding.advice, SENTENCE_LIMIT),
        evidence=tuple(plain(line, SENTENCE_LIMIT) for line in finding.evidence[:EVIDENCE_LIMIT]),
        verdict=plain(notice.verdict, SENTENCE_LIMIT) if notice.verdict else None,
        link=notice.link,
        rule_page=rule.page if rule else "docs/alerting.md",
        severity=finding.severity,
        resolved=resolved,
    )


def utc(at: datetime) -> str:
    """*at* as "2030-01-01 03:12:05 UTC"."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _title(notice: Notice, what: str) -> str:
    finding = notice.finding
    words = {Reason.RESOLVED: "RESOLVED", Reason.TEST: "TEST"}
    word = words.get(notice.reason, finding.severity.value.upper())
    where = "/".join(plain(value) for _, value in finding.labels)
    about = f" ({where})" if where else ""
    return plain(f"{word}: {what} on {finding.target}{about}", 200)


def _status(notice: Notice) -> str:
    lasted = seconds(((notice.resolved_at or notice.at) - notice.since).total_seconds())
    if notice.reason is Reason.TEST:
        return "This is a test message; nothing is wrong."
    if notice.reason is Reason.RESOLVED:
        ended = utc(notice.resolved_at or notice.at)
        return f"Resolved at {ended} after {lasted}. The last finding was:"
    severity = notice.finding.severity.value
    if notice.reason is Reason.WORSE:
        return f"Severity raised to {severity}, {lasted} after it began."
    if notice.reason is Reason.REMINDER:
        return f"Still firing ({severity}) after {lasted}."
    return f"Firing ({severity}) since {utc(notice.since)}."


def _facts(notice: Notice) -> list[tuple[str, str]]:
    finding = notice.finding
    facts = [("Target", finding.target)]
    facts += [(label.capitalize(), plain(value)) for label, value in finding.labels]
    facts += [
        ("Since", utc(notice.since)),
        ("Severity", finding.severity.value),
        ("Value", amount(finding.value, finding.unit)),
        ("Limit", amount(finding.limit, finding.unit)),
    ]
    if finding.culprit is not None:
        facts += _culprit_facts(finding.culprit)
    return facts


def _culprit_facts(offender: Culprit) -> list[tuple[str, str]]:
    age = offender.age_seconds
    named = (
        ("Application", offender.application),
        ("Role", offender.role),
        ("pid", None if offender.pid is None else str(offender.pid)),
        ("In database", offender.database),
        ("Client", offender.client),
        ("State", offender.state),
        ("For", None if age is None else seconds(age)),
    )
    return [(label, plain(value)) for label, value in named if value]


def amount(value: float, unit: str) -> str:
    """A number with its unit.

    >>> amount(0.934, "ratio"), amount(6.14, "s"), amount(27.0, "slots")
    ('93 %', '6.1 s', '27 slots')
    """
    if unit == "ratio":
        return f"{value:.0%}".replace("%", " %")
    if unit == "s":
        return seconds(value)
    return f"{value:g} {unit}"
