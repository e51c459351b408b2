"""The words of alerting: severity, finding, alert, notice, verdict.

As Prometheus and Alertmanager use them: a *finding* is a rule's answer at one moment;
an *alert* is a finding over time (inactive → pending → firing → inactive); a *notice*
is one message about an alert, bound for one channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """How soon somebody has to look."""

    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return 2 if self is Severity.CRITICAL else 1


class AlertState(StrEnum):
    """Where an alert is. "Resolved" is the step from firing to inactive."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


Labels = tuple[tuple[str, str], ...]
"""What tells two alerts of one rule on one target apart, sorted by name; often empty."""


def labels(**named: str) -> Labels:
    """Labels in their one order.

    >>> labels(user="app", database="shop")
    (('database', 'shop'), ('user', 'app'))
    """
    return tuple(sorted(named.items()))


@dataclass(frozen=True, slots=True)
class Culprit:
    """The worst offender behind a finding: one session. None where unknown."""

    pid: int | None
    application: str | None
    role: str | None
    database: str | None
    client: str | None
    state: str | None
    age_seconds: float | None  # how long it has done what it is blamed for
    statement: str | None  # masked


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's answer at one moment, with evidence.

    summary:  one sentence with its numbers and units: what, where, how bad.
    advice:   what to do first.
    evidence: further sentences, most telling first.
    """

    rule: str
    target: str
    labels: Labels
    severity: Severity
    value: float
    limit: float
    unit: str  # of value and limit: "s", "slots", "clients", "ratio"
    summary: str
    advice: str
    culprit: Culprit | None = None
    evidence: tuple[str, ...] = ()

    @property
    def key(self) -> AlertKey:
        """Which alert this finding belongs to."""
        return AlertKey(self.rule, self.target, self.labels)


@dataclass(frozen=True, slots=True, order=True)
class AlertKey:
    """The identity of an alert over time."""

    rule: str
    target: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says about one target at one moment.

    judged: False when the samples did not allow an answer (no data, hidden, stale).
    Absence of data never resolves an alert, so this is not the same as no findings.
    """

    rule: str
    target: str
    judged: bool
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """A finding over time.

    id:           stable for one firing, from pending to resolved; new after that.
    since:        when the present stretch of findings began.
    fired_at:     when it began to fire; None while pending.
    last_seen_at: when its finding was last confirmed.
    told:         the channels that were told that it fires; they hear of its end.
    no_data_since: set while the rule cannot judge; the alert stays as it was.
    clear_since:  set while it fires although its finding is gone (keep_firing_for runs).
    """

    id: str
    key: AlertKey
    state: AlertState
    severity: Severity
    since: datetime
    last_seen_at: datetime
    finding: Finding
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    notified_at: datetime | None = None
    notified_severity: Severity | None = None
    told: tuple[str, ...] = ()
    no_data_since: datetime | None = None
    clear_since: datetime | None = None


class Reason(StrEnum):
    """Why somebody is told. It is stored, logged and printed in the message."""

    FIRING = "firing"
    WORSE = "severity raised"
    REMINDER = "still firing"
    RESOLVED = "resolved"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message about one alert, before a channel gives it its form.

    id:     idempotency key, the same in every try; a receiver can drop doubles by it.
    link:   the dashboard at that moment.
    """

    id: str
    alert_id: str
    reason: Reason
    at: datetime
    finding: Finding
    since: datetime
    link: str
    resolved_at: datetime | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one sentence that says where the queue is.

    layer:  "pooler", "server slots", "locks", "statements", "target", "none" or "unknown".
    cause:  a stable identifier, such as "pool_full" (docs/verdict.md lists them).
    """

    layer: str
    cause: str
    sentence: str
    severity: Severity | None
    evidence: tuple[str, ...] = ()
    advice: str | None = None
    culprit: Culprit | None = None


def finding_to_json(finding: Finding) -> dict[str, object]:
    """*finding* as plain JSON types."""
    culprit = finding.culprit
    return {
        "rule": finding.rule,
        "target": finding.target,
        "labels": dict(finding.labels),
        "severity": finding.severity.value,
        "value": finding.value,
        "limit": finding.limit,
        "unit": finding.unit,
        "summary": finding.summary,
        "advice": finding.advice,
        "evidence": list(finding.evidence),
        "culprit": None if culprit is None else culprit_to_json(culprit),
    }


def culprit_to_json(culprit: Culprit) -> dict[str, object]:
    """*culprit* as plain JSON types."""
    return {name: getattr(culprit, name) for name in Culprit.__dataclass_fields__}


def finding_from_json(data: Mapping[str, object]) -> Finding:
    """The inverse of finding_to_json. Raises KeyError, TypeError or ValueError."""
    culprit, named, evidence = data["culprit"], data["labels"], data["evidence"]
    assert isinstance(named, Mapping)
    assert isinstance(evidence, Iterable)
    assert culprit is None or isinstance(culprit, Mapping)
    return Finding(
        rule=str(data["rule"]),
        target=str(data["target"]),
        labels=labels(**{str(k): str(v) for k, v in named.items()}),
        severity=Severity(str(data["severity"])),
        value=float(str(data["value"])),
        limit=float(str(data["limit"])),
        unit=str(data["unit"]),
        summary=str(data["summary"]),
        advice=str(data["advice"]),
        evidence=tuple(str(line) for line in evidence),
        culprit=None if culprit is None else Culprit(**culprit),
    )
