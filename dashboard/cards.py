"""The only place that makes HTML. Pure; everything that comes from outside is escaped.

Colours are classes of dashboard/views/page.py, so that both themes have their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from dashboard import words
from dashboard.panels import GREY, PANELS
from dashboard.shape import Figure, Health, PoolerLine, Status, System

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
STATE_COLOURS = {series.label: series.colour for series in PANELS["connections"].series}


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


def figure_row(found: Iterable[Figure], *, old: bool = False) -> str:
    """A row of numbers. old: greyed, because they are no longer true."""
    cells = "".join(
        f'<div class="hd-figure"><span>{text(one.label)}</span>'
        f'<strong class="hd-{one.status.value}">{text(one.value)}</strong>'
        f"<small>{text(one.note)}</small></div>"
        for one in found
    )
    name = "hd-figures hd-old" if old else "hd-figures"
    return f'<div class="{name}">{cells}</div>'


def card(system: System, *, said: bool = True) -> str:
    """One system of the overview, below its name. said: with its sentence."""
    sentence = f'<div class="hd-said">{text(system.health.sentence)}</div>' if said else ""
    old = " hd-old" if system.health.status in (Status.STALE, Status.WAITING) else ""
    return (
        f'<div class="hd-card{old}">'
        f'<div class="hd-top">{badge(system.health.status)}</div>'
        f'<div class="hd-meta">{text(meta(system))}</div>'
        f"{sentence}{_slots(system)}{_numbers(system)}"
        f"{_poolers(system)}{_alerts(system)}</div>"
    )


def meta(system: System) -> str:
    """What it is: product, version, role, age of its data."""
    product = "PostgreSQL" if system.kind == "postgresql" else "PgBouncer"
    parts = [f"{product} {system.version}" if system.version else product]
    if system.role:
        parts.append(system.role)
    if system.health.age_seconds is not None:
        parts.append(f"data {words.old(system.health.age_seconds)}")
    return " · ".join(parts)


def _slots(system: System) -> str:
    if system.kind != "postgresql":
        return ""
    used, capacity, most = system.slots_used, system.ordinary_capacity, system.max_connections
    if used is None or not capacity or not most:
        return '<div class="hd-slots"><span>connections</span><span>not known</span></div>'
    parts = system.states or {"connections": used}
    bar = "".join(
        f'<i style="width:{100 * number / most:.2f}%;background:{STATE_COLOURS.get(name, GREY)}"'
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
    pairs = []
    if system.poolers:
        pairs += [
            ("waiting", words.count(system.waiters)),
            ("oldest wait", words.age(system.oldest_wait_seconds)),
        ]
    if system.kind == "postgresql":
        pairs += [
            ("longest statement", words.age(system.longest_statement_seconds)),
            ("longest transaction", words.age(system.longest_transaction_seconds)),
        ]
    cells = "".join(f"<div><b>{text(v)}</b><span>{text(k)}</span></div>" for k, v in pairs)
    return f'<div class="hd-numbers">{cells}</div>'


def _poolers(system: System) -> str:
    if system.kind == "pgbouncer":
        return ""  # the card itself is about it
    return "".join(_pooler(line) for line in system.poolers)


def _pooler(line: PoolerLine) -> str:
    version = f"PgBouncer {line.version}" if line.version else "PgBouncer"
    parts = [f"{line.name}", version]
    if line.waiters is not None:
        parts.append(f"{words.plural(line.waiters, 'client')} waiting")
    if line.servers is not None:
        parts.append(f"{line.servers_busy} of {words.plural(line.servers, 'server')} busy")
    said = " · ".join(parts)
    return f'<div class="hd-pooler">{badge(line.health.status)} <span>{text(said)}</span></div>'


def _alerts(system: System) -> str:
    if not system.alerts:
        return ""
    items = "".join(
        f'<li class="hd-{alert.severity.value}">{text(alert.key.rule)}: '
        f"{text(alert.finding.summary)}</li>"
        for alert in system.alerts[:3]
    )
    more = len(system.alerts) - 3
    rest = f"<li>and {more} more</li>" if more > 0 else ""
    return f'<ul class="hd-alerts" title="firing alerts">{items}{rest}</ul>'
