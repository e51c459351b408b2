"""Evaluator: a sample in, a Decision out. In memory, without I/O and without a clock."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from alerts.link import iso, link_to
from alerts.notifying import channels_for, inhibited_by, reason_to_notify, worst_told
from alerts.rules.registry import BY_NAME, RULES, Rule, judge
from alerts.state import notice_id, resolve, step
from alerts.verdict import System, stale, verdict
from alerts.view import View, Window
from model.alerting import Alert, AlertKey, AlertState, Judgement, Notice, Reason, Verdict
from model.config import Config
from model.samples import Sample
from model.targets import Target

log = logging.getLogger("headroom.alerts")

REFRESH = timedelta(seconds=2)
"""How often a changed number alone, such as a growing wait, is worth writing a row."""
REPEAT_VERDICT = timedelta(seconds=60)
"""How often an unchanged verdict is handed out again, so that a lost row is made good."""
STALE_AFTER = timedelta(seconds=2)  # on top of the interval and the poll's deadline


@dataclass(frozen=True, slots=True)
class Decision:
    """What has to be kept and said after one sample or tick; all of it in one transaction.

    changed:    alerts whose stored row must change.
    notices:    channel name and message.
    verdicts:   target and its verdict, where it changed.
    look_again: target and in how many seconds an extra poll of it would tell more.
    """

    changed: tuple[Alert, ...] = ()
    notices: tuple[tuple[str, Notice], ...] = ()
    verdicts: tuple[tuple[str, Verdict], ...] = ()
    look_again: tuple[tuple[str, float], ...] = ()


class Evaluator:
    """Judges every sample by all rules and keeps the alerts.

    alerts: the pending and firing ones from the store. They go on where they were: the time
    in between counts as time without data, and nobody is told twice. Those whose target or
    rule is no longer configured end without a message, with the first decision.

    A rule that raises is a mistake of ours. It costs nobody else: its alerts on that target
    keep their state, as without data, and all other rules and the verdict go on.

    failures_total: how often a rule or a verdict's cause raised.
    """

    def __init__(self, config: Config, alerts: Iterable[Alert] = ()) -> None:
        self.failures_total = 0
        self._complained: set[tuple[str, str]] = set()
        self._config = config
        self._targets = {target.name: target for target in config.targets}
        self._windows = {name: Window() for name in self._targets}
        self._related = {name: tuple(self._relatives(name)) for name in self._targets}
        self._active: dict[str, dict[AlertKey, Alert]] = {name: {} for name in self._targets}
        self._written: dict[AlertKey, tuple[Alert, datetime]] = {}
        self._verdicts: dict[str, tuple[Verdict, datetime]] = {}
        self._dropped: list[Alert] = []
        for alert in alerts:
            if self._is_configured(alert.key):
                resumed = replace(alert, no_data_since=alert.no_data_since or alert.last_seen_at)
                self._active[alert.key.target][alert.key] = resumed
                self._written[alert.key] = (alert, alert.last_seen_at)
            else:
                self._dropped.append(alert)

    def alerts(self) -> list[Alert]:
        """Pending and firing alerts, sorted by rule, target and labels."""
        return sorted(self._all(), key=lambda alert: alert.key)

    def observe(self, sample: Sample) -> Decision:
        """Take the next sample of a target. Samples of unknown targets are ignored."""
        target = self._targets.get(sample.target)
        if target is None:
            return Decision()
        self._windows[sample.target].add(sample)
        view = self._view(target)
        ended: list[Alert] = []
        look_again: list[float] = []
        for rule in RULES:
            if target.kind not in rule.kinds or not self._config.rules.settings(rule.name).enabled:
                continue
            ended.extend(self._advance(self._judge(rule, view), sample.at))
            look_again.extend(self._next_look(rule, view, sample.at))
        verdicts = self._new_verdicts((sample.target, *self._related[sample.target]), sample.at)
        return self._decide(
            sample.target,
            [*ended, *self._drop(sample.at)],
            verdicts,
            sample.at,
            ((sample.target, min(look_again)),) if look_again else (),
        )

    def tick(self, at: datetime) -> Decision:
        """What time alone changes: reminders, keep_firing_for, and polls that have stopped.

        Call it about once a second.
        """
        changed: list[Alert] = self._drop(at)
        notices: list[tuple[str, Notice]] = []
        verdicts: list[tuple[str, Verdict]] = []
        for name, target in self._targets.items():
            newest = self._windows[name].newest
            ended: list[Alert] = []
            if newest is not None:
                patience = timedelta(seconds=target.interval + target.deadline_seconds)
                if at - newest.at > patience + STALE_AFTER:
                    self._lose_sight(name, newest.at)
                    verdicts.extend(self._keep_verdict(name, stale(name, iso(newest.at)), at))
                else:
                    ended = self._end_quiet(name, at)
            decision = self._decide(name, ended, [], at, ())
            changed.extend(decision.changed)
            notices.extend(decision.notices)
        return Decision(tuple(changed), tuple(notices), tuple(verdicts))

    def _judge(self, rule: Rule, view: View) -> Judgement:
        """What *rule* says; "not judged" if it raises."""
        try:
            return judge(rule, view, self._config.rules)
        except Exception as error:
            self._failed(view.target.name, f"rule {rule.name}", error)
            return Judgement(rule.name, view.target.name, judged=False)

    def _failed(self, target: str, what: str, error: Exception) -> None:
        """Count a mistake of ours; the log has it once for each rule and target."""
        self.failures_total += 1
        if (what, target) not in self._complained:
            self._complained.add((what, target))
            log.error("%s cannot judge %s (said once)", what, target, exc_info=error)

    def _all(self) -> Iterator[Alert]:
        for alerts in self._active.values():
            yield from list(alerts.values())  # a copy: /metrics asks from another thread

    def _is_configured(self, key: AlertKey) -> bool:
        target, rule = self._targets.get(key.target), BY_NAME.get(key.rule)
        if target is None or rule is None or target.kind not in rule.kinds:
            return False
        return self._config.rules.settings(key.rule).enabled

    def _relatives(self, name: str) -> Iterator[str]:
        """Of a pooler the servers it serves, of a server its poolers."""
        yield from self._targets[name].serves
        yield from (pooler.name for pooler in self._config.poolers_of(name))

    def _view(self, target: Target) -> View:
        related = {name: self._windows[name] for name in self._related[target.name]}
        return View(target, self._windows[target.name], related)

    def _advance(self, judgement: Judgement, at: datetime) -> list[Alert]:
        """Step the alerts of one rule on one target; returns those that ended."""
        active = self._active[judgement.target]
        settings = self._config.rules.settings(judgement.rule)
        findings = {finding.key: finding for finding in judgement.findings}
        known = [key for key in active if key.rule == judgement.rule]
        ended = []
        for key in dict.fromkeys((*known, *findings)):
            alert = step(
                active.get(key),
                findings.get(key),
                at,
                judged=judgement.judged,
                hold=settings.hold,
                keep_firing_for=settings.keep_firing_for,
            )
            if alert is None:
                continue
            if alert.state is AlertState.INACTIVE:
                del active[key]
                ended.append(alert)
            else:
                active[key] = alert
        return ended

    def _next_look(self, rule: Rule, view: View, at: datetime) -> Iterator[float]:
        """Moments before the next regular poll at which an extra one may make an alert fire."""
        settings = self._config.rules.settings(rule.name)
        soon = None
        try:
            soon = rule.next_look(view, self._config.rules) if rule.next_look else None
        except Exception as error:
            self._failed(view.target.name, f"rule {rule.name}", error)
        if soon is not None and soon < view.target.interval:
            yield soon
        for alert in self._active[view.target.name].values():
            if alert.key.rule != rule.name or alert.state is not AlertState.PENDING:
                continue
            if alert.no_data_since is None:
                left = settings.hold - (at - alert.since).total_seconds()
                if 0 < left < view.target.interval:
                    yield left

    def _end_quiet(self, target: str, at: datetime) -> list[Alert]:
        """Alerts whose keep_firing_for has run out between two polls."""
        active = self._active[target]
        ended = []
        for key, alert in list(active.items()):
            if alert.clear_since is None or alert.no_data_since is not None:
                continue
            keep = timedelta(seconds=self._config.rules.settings(key.rule).keep_firing_for)
            if at - alert.clear_since >= keep:
                del active[key]
                ended.append(resolve(alert, at))
        return ended

    def _lose_sight(self, target: str, since: datetime) -> None:
        active = self._active[target]
        for key, alert in active.items():
            if alert.no_data_since is None:
                active[key] = replace(alert, no_data_since=since)

    def _drop(self, at: datetime) -> list[Alert]:
        """Alerts that nobody wants any more, once."""
        dropped = [
            replace(alert, state=AlertState.INACTIVE, resolved_at=at) for alert in self._dropped
        ]
        self._dropped.clear()
        return dropped

    def _new_verdicts(self, names: Iterable[str], at: datetime) -> list[tuple[str, Verdict]]:
        found: list[tuple[str, Verdict]] = []
        for name in names:
            members = (name, *self._related[name])
            system = System(
                self._targets[name],
                tuple((self._targets[member], self._windows[member]) for member in members),
                self._config.rules,
            )
            said = verdict(system, partial(self._failed, name))
            found.extend(self._keep_verdict(name, said, at))
        return found

    def _keep_verdict(self, name: str, new: Verdict, at: datetime) -> list[tuple[str, Verdict]]:
        """The verdict, if it is worth a row: another cause at once, other numbers now and then."""
        before = self._verdicts.get(name)
        if before is not None:
            old, written_at = before
            same_kind = (new.cause, new.severity) == (old.cause, old.severity)
            wait = REPEAT_VERDICT if new == old else REFRESH
            if same_kind and at - written_at < wait:
                return []
        self._verdicts[name] = (new, at)
        return [(name, new)]

    def _decide(
        self,
        target: str,
        ended: list[Alert],
        verdicts: list[tuple[str, Verdict]],
        at: datetime,
        look_again: tuple[tuple[str, float], ...],
    ) -> Decision:
        notices: list[tuple[str, Notice]] = []
        changed: list[Alert] = []
        active = self._active[target]
        for alert in ended:
            self._written.pop(alert.key, None)
            if alert.key.target in self._targets and self._is_configured(alert.key):
                notices.extend(self._notices(alert, at)[1])
            changed.append(alert)
        for key, alert in list(active.items()):
            told, messages = self._notices(alert, at)
            notices.extend(messages)
            active[key] = told
            if self._is_worth_a_row(told, at):
                self._written[key] = (told, at)
                changed.append(told)
        return Decision(tuple(changed), tuple(notices), tuple(verdicts), look_again)

    def _notices(self, alert: Alert, at: datetime) -> tuple[Alert, list[tuple[str, Notice]]]:
        """*alert*, marked as told if it is, and the messages about it."""
        reason = reason_to_notify(alert, self._config.alerts.repeat_interval, at)
        if reason is None or inhibited_by(alert, self._active[alert.key.target].values()):
            return alert, []
        allowed = self._config.rules.settings(alert.key.rule).channels
        names = channels_for(alert, reason, allowed, self._config.channels)
        if not names:
            # Not marked as told: a channel that is added later, or that wants critical
            # alerts only, will then hear of it as of a new one.
            return alert, []
        notice = self._notice(alert, reason, at)
        told = replace(
            alert,
            notified_at=at,
            notified_severity=worst_told(alert),
            told=tuple(dict.fromkeys((*alert.told, *names))),
        )
        return told, [(name, notice) for name in names]

    def _notice(self, alert: Alert, reason: Reason, at: datetime) -> Notice:
        finding = alert.finding
        if alert.no_data_since is not None:
            line = f"Headroom has had no data on this since {iso(alert.no_data_since)}."
            finding = replace(finding, evidence=(line, *finding.evidence))
        present = self._verdicts.get(alert.key.target)
        return Notice(
            id=notice_id(alert, reason),
            alert_id=alert.id,
            reason=reason,
            at=at,
            finding=finding,
            since=alert.since,
            link=link_to(self._config.dashboard.url, alert.key.target, alert.since, at),
            resolved_at=alert.resolved_at,
            verdict=present[0].sentence if present else None,
        )

    def _is_worth_a_row(self, alert: Alert, at: datetime) -> bool:
        before = self._written.get(alert.key)
        if before is None:
            return True
        old, written_at = before
        if _essence(alert) != _essence(old):
            return True
        return _details(alert) != _details(old) and at - written_at >= REFRESH


def _essence(alert: Alert) -> tuple[object, ...]:
    """What must be in the store at once."""
    return (
        alert.id,
        alert.state,
        alert.severity,
        alert.since,
        alert.fired_at,
        alert.notified_at,
        alert.notified_severity,
        alert.told,
        alert.no_data_since is None,
    )


def _details(alert: Alert) -> tuple[object, ...]:
    """What may follow a little later."""
    return (alert.last_seen_at, alert.clear_since, alert.finding)
