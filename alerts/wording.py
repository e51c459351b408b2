"""How names, numbers and sessions read in our sentences.

Names and statements come from the monitored side: anybody who may connect chooses them.
plain() makes them one harmless line; the channels escape what is special to them.
"""

from __future__ import annotations

import re
import unicodedata

from model.alerting import Culprit
from model.durations import format_duration
from model.samples import Session

NAME_LIMIT = 80  # characters; PostgreSQL cuts names at 63 bytes, PgBouncer does not
STATEMENT_LIMIT = 1000  # characters of a statement in a message
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.:/@ -]{1,63}")


def plain(text: str, limit: int = NAME_LIMIT) -> str:
    """*text* as one line without control characters, at most *limit* characters.

    Also out: format characters, which can hide or turn text, and lone surrogates, which
    no encoder takes.

    >>> plain("evil\\r\\nBcc: x"), plain("abcdef", 4)
    ('evil Bcc: x', 'abc…')
    """
    cut = text[: limit * 2 + 20]  # enough to fill the limit; the rest is never looked at
    if not (cut.isascii() and cut.isprintable()):
        cut = "".join(
            " " if unicodedata.category(character) in _UNWANTED else character for character in cut
        )
    words = " ".join(cut.split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


_UNWANTED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def name(text: str | None) -> str:
    """A name for a sentence; says so when there is none.

    >>> name("checkout"), name(""), name(None)
    ('checkout', '(none)', '(none)')
    """
    return plain(text or "") or "(none)"


def quoted(text: str | None) -> str | None:
    """*text* as an SQL literal for advice, or None where it is not plainly harmless.

    >>> quoted("web shop"), quoted("x'; DROP TABLE y; --")
    ("'web shop'", None)
    """
    return f"'{text}'" if text and _SAFE_NAME.fullmatch(text) else None


def seconds(value: float) -> str:
    """A duration as people say it.

    >>> seconds(0.5), seconds(6.14), seconds(60), seconds(0.02)
    ('0.5 s', '6.1 s', '1 min', '20 ms')
    """
    if 0.1 <= value < 9.95:
        return f"{round(value, 1):g} s"
    return format_duration(max(value, 0.0))


def counted(count: int, one: str, many: str | None = None) -> str:
    """*count* with its noun.

    >>> counted(1, "client"), counted(24, "client")
    ('1 client', '24 clients')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def age_of(session: Session) -> float:
    """Seconds for which *session* has held its connection for one thing."""
    ages = (session.xact_seconds, session.statement_seconds)
    known = [age for age in ages if age is not None]
    return max(known) if known else session.state_seconds or 0.0


def session_words(session: Session, *, doing: str | None = None) -> str:
    """One session in a sentence: who it is and what it does.

    "pid 4711 (application checkout, role app) has been idle in transaction for 3 min 12 s"
    """
    return f"{who(session)} {doing or doing_words(session)}"


def who(session: Session) -> str:
    """ "pid 4711 (application checkout, role app)"."""
    return f"pid {session.pid} (application {name(session.application)}, role {name(session.role)})"


def doing_words(session: Session) -> str:
    """What *session* does, and since when."""
    if is_idle_in_transaction(session):
        state = plain(session.state or "")
        return f"has been {state} for {seconds(session.state_seconds or 0.0)}"
    if session.state == "active":
        age = session.statement_seconds
        waiting = session.wait_event_type == "Lock"
        verb = "has waited for a lock" if waiting else "has run a statement"
        return verb + (f" for {seconds(age)}" if age is not None else "")
    age = session.state_seconds
    return f"is {name(session.state)}" + (f" for {seconds(age)}" if age is not None else "")


def is_idle_in_transaction(session: Session) -> bool:
    """Whether a transaction is open and nothing runs, aborted or not."""
    return session.state in ("idle in transaction", "idle in transaction (aborted)")


def culprit(session: Session, age_seconds: float | None) -> Culprit:
    """*session* as the worst offender of a finding."""
    return Culprit(
        pid=session.pid,
        application=session.application,
        role=session.role,
        database=session.database,
        client=session.client,
        state=session.state,
        age_seconds=age_seconds,
        statement=session.statement,
    )
