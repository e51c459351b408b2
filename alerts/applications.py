"""Which application holds connections, where its instances have names of their own.

A function or a worker is often "fn-1001-ab12", with a number or an id of its own: counted by
name, the one that takes all slots looks like many that take one each. Names that differ in
such parts alone are one group: "fn-*". A name that stands alone stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from alerts.wording import counted, name
from model.samples import Session

_WORD = re.compile(r"[^\W_]+")  # letters and digits; all else separates
_DIGITS_AT_END = re.compile(r"\d+$")
_HEX = re.compile(r"[0-9a-fA-F]{4,}")
_RUN_OF_STARS = re.compile(r"\*(?:(?:[^\w*]|_)*\*)+")


@dataclass(frozen=True, slots=True)
class Group:
    """The sessions of one application, or of several whose names differ in ids alone.

    name:     the application's name, or what its instances have in common, such as "fn-*".
    names:    how many names there are.
    """

    name: str
    names: int
    sessions: tuple[Session, ...]

    @property
    def words(self) -> str:
        """ "application checkout" or "applications fn-*"."""
        return f"{'application' if self.names == 1 else 'applications'} {name(self.name)}"

    @property
    def connections(self) -> str:
        """ "56 connections of applications fn-*"."""
        return f"{counted(len(self.sessions), 'connection')} of {self.words}"


def by_application(sessions: Iterable[Session]) -> list[Group]:
    """*sessions* grouped by application, the largest group first."""
    groups: dict[str, list[Session]] = {}
    for session in sessions:
        groups.setdefault(stem(session.application), []).append(session)
    made = []
    for common, members in groups.items():
        names = {session.application for session in members}
        shown = common if len(names) > 1 else members[0].application
        made.append(Group(shown, len(names), tuple(members)))
    return sorted(made, key=lambda group: (-len(group.sessions), group.name))


def stem(application: str) -> str:
    """*application* with a star for every part that looks like a number or an id.

    An id is a word of digits, or of four or more hex digits, at least one of them a digit;
    behind another id, letters alone are enough. Digits at the end of a word count as well.

    >>> stem("fn-1001-ab12"), stem("fn-1001-beef"), stem("web02"), stem("worker.7@10.0.0.3:5123")
    ('fn-*', 'fn-*', 'web*', 'worker.*')
    >>> stem("checkout"), stem("PostgreSQL JDBC Driver"), stem("cafe-app")
    ('checkout', 'PostgreSQL JDBC Driver', 'cafe-app')
    """
    after_id = False

    def starred(found: re.Match[str]) -> str:
        nonlocal after_id
        word = found.group()
        is_hex = _HEX.fullmatch(word) is not None
        after_id = word.isdigit() or (is_hex and (after_id or any(c.isdigit() for c in word)))
        return "*" if after_id else _DIGITS_AT_END.sub("*", word)

    return _RUN_OF_STARS.sub("*", _WORD.sub(starred, application))
