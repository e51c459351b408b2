"""The only place that makes HTML. Pure; everything that comes from outside is escaped.

Colours are classes of dashboard/views/page.py, so that both themes have their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from dashboard import words
from dashboard.panels import GREY, PANELS, both_themes
from dashboard.shape import AlertLine, Figure, Health, PoolerLine, Status, System

# Icon and word: a status must not be told by its colour alone.
_ICONS = {
    Status.OK: "✓",
    Status.WAITING: "…",
    Status.WARNING: "!",
    Status.STALE: "◷",
    Status.CRITICAL: "✕",
    Status.DOWN: "✕",
}
_CLASSES = {Status.WAITING: "waiting"}
_COLOURS = {s.label: both_themes(s.colour) for s in PANELS["connections"].series}
_OTHER = both_themes(GREY)
_SHOWN_ALERTS = 3  # on a card


def text(value: str) -> str:
    """*value* as HTML text: escaped, and without marks that could disguise it."""
    return escape(words.visible(value), quote=True)


def badge(status: Status) -> str:
    """The status as icon and word."""
    name = _CLASSES.get(status, status.value)
    return (
        f'<span class="hd-badge hd-{name}"><span aria-hidden="true">{_ICONS[status]}</span> '
        f"{status.value}</span>"
    )


def banner(health: Health, asides: Iterable[str] = ()) -> str:
    """The verdict on top of a page, with what to do and why we say so."""
    aside = "".join(f'<span class="hd-aside">{text(one)}</span>' for one in asides)
    do = f'<div class="hd-do"><b>Do first</b> {text(health.advice)}</div>' if health.advice else ""
    status, sentence = health.status, health.sentence
    why = "".join(f"<span>{text(line)}</span>" for line in health.evidence)
    why = f'<div class="hd-facts">{why}</div>' if why else ""
    name = _CLASSES.get(status, status.value)
    return (
        f'<div class="hd-banner hd-edge-{name}" role="status"><div class="hd-line">{badge(status)}'
        f'<span class="hd-sentence">{text(sentence)}</span>{aside}</div>{do}{why}</div>'
    )


def figure_row(found: Iterable[Figure]) -> str:
    """A row of numbers. What is no longer true is greyed, and says so."""
    return f'<div class="hd-figures">{"".join(map(_figure, found))}</div>'


def _figure(one: Figure) -> str:
    name = "hd-figure hd-old" if one.old else "hd-figure"
    note = "as last seen" if one.old else one.note
    return (
        f'<div class="{name}"><span>{text(one.label)}</span>'
        f'<strong class="hd-{one.status.value}">{_mark(one.status)}{text(one.value)}</strong>'
        f"<small>{text(note)}</small></div>"
    )


def _mark(status: Status) -> str:
    """What tells a status beside its colour."""
    if status is Status.OK:
        return ""
    return f'<em role="img" aria-label="{status.value}">{_ICONS[status]}</em> '


def card(system: System, *, said: bool = True) -> str:
    """One system of the overview, below its name. said: with its sentence."""
    sentence = f'<div class="hd-said">{text(system.health.sentence)}</div>' if said else ""
    own = _old(_slots(system), system.old)
    return (
        '<div class="hd-card">'
        f'<div class="hd-top">{badge(system.health.status)}</div>'
        f'<div class="hd-meta">{text(meta(system))}</div>'
        f"{sentence}{own}{_numbers(system)}"
        f"{_poolers(system)}{_alerts(system)}</div>"
    )


def meta(system: System) -> str:
    """What it is: product, version, role, age of its data."""
    parts = [f"{system.product} {system.version}" if system.version else system.product]
    if system.role:
        parts.append(system.role)
    if system.age_seconds is not None:
        parts.append(f"data {words.old(system.age_seconds)}")
    return " · ".join(parts)


def _slots(system: System) -> str:
    if system.is_pooler:
        return ""
    used, capacity, most = system.slots_used, system.ordinary_capacity, system.max_connections
    if used is None or not capacity or not most:
        return '<div class="hd-slots"><span>connections</span><span>not known</span></div>'
    parts = system.states or {"connections": used}
    bar = "".join(
        f'<i style="width:{100 * number / most:.2f}%;background:{_COLOURS.get(name, _OTHER)}"'
        f' title="{text(name)}: {number}"></i>'
        for name, number in parts.items()
        if number > 0
    )
    reserved = 100 * (most - capacity) / most
    left = words.count(system.headroom)
    return (
        f'<div class="hd-slots"><span>connections <b>{words.count(used)}</b> of '
        f"{words.count(capacity)}</span><span><b>{left}</b> left</span></div>"
        f'<div class="hd-bar">{bar}<u style="width:{reserved:.2f}%"'
        f' title="reserved: {most - capacity}"></u></div>'
    )


def _numbers(system: System) -> str:
    found = []
    if system.poolers:
        old = any(line.old for line in system.poolers)
        found += [
            ("waiting", words.count(system.waiters), old),
            ("oldest wait", words.age(system.oldest_wait_seconds), old),
        ]
    if not system.is_pooler:
        found += [
            ("longest statement", words.age(system.longest_statement_seconds), system.old),
            ("longest transaction", words.age(system.longest_transaction_seconds), system.old),
        ]
    cells = "".join(
        _old(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>", old)
        for name, value, old in found
    )
    return f'<div class="hd-numbers">{cells}</div>'


def _old(html: str, old: bool) -> str:
    """*html*, greyed when it is no longer true."""
    return f'<div class="hd-old">{html}</div>' if old and html else html


def _poolers(system: System) -> str:
    if system.is_pooler:
        return ""  # the card itself is about it
    return "".join(_pooler(line) for line in system.poolers)


def _pooler(line: PoolerLine) -> str:
    version = f"{line.product} {line.version}" if line.version else line.product
    parts = [f"{line.name}", version]
    if line.waiters is not None:
        parts.append(f"{words.plural(line.waiters, 'client')} waiting")
    if line.servers is not None:
        parts.append(f"{line.servers_busy} of {words.plural(line.servers, 'server')} busy")
    said = " · ".join(parts)
    told = _old(f"<span>{text(said)}</span>", line.old)
    return f'<div class="hd-pooler">{badge(line.health.status)} {told}</div>'


def _alerts(system: System) -> str:
    if not system.alerts:
        return ""
    items = "".join(map(_alert, system.alerts[:_SHOWN_ALERTS]))
    more = len(system.alerts) - _SHOWN_ALERTS
    rest = f"<li>and {more} more</li>" if more > 0 else ""
    return f'<ul class="hd-alerts" title="firing alerts">{items}{rest}</ul>'


def _alert(line: AlertLine) -> str:
    said = text(f"{line.rule}: {line.summary}")
    if line.over_seconds is not None:
        return f'<li class="hd-over"><b>over for {words.whole(line.over_seconds)}</b> {said}</li>'
    return f'<li class="hd-{line.severity.value}"><b>{line.severity.value}</b> {said}</li>'
