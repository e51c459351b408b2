"""Statements without what people put into them.

Literals become `?`, comments go, and statements that carry secrets or free text are
reduced to their first words, before a statement leaves the collector. The text may be cut
anywhere (track_activity_query_size), so a parser is of no use: this is a lexer in the
manner of PostgreSQL's scan.l that treats what it does not understand as a literal.

Whether a backslash escapes a quote in '…' depends on standard_conforming_strings of a
session we know nothing about. Where the two readings differ, the rest is masked.
"""

from __future__ import annotations

import re
from functools import lru_cache

HIDDEN = "(statement hidden: could not be masked)"

_LETTER = r"A-Za-z_\x80-\U0010ffff"
_TOKEN = re.compile(
    rf"""
      (?P<space>   [\ \t\n\r\f\v]++ | --[^\n\r]*+ )
    | (?P<comment> /\* )
    | (?P<literal> [eE]'(?:[^'\\]++|''|\\.)*+'           # backslashes always escape here
                 | (?:[bBxXnN]|[uU]&)?'(?:[^'\\]++|''|\\[^'])*+'
                 | \$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*+)?)\$.*?\$(?P=tag)\$
                 | (?:[0-9]|\.[0-9])(?:[eE][+-][0-9]|[{_LETTER}0-9.])*+ )
    | (?P<rest>    (?:[eEbBxXnN]|[uU]&)?'                # a string whose end we cannot tell
                 | (?:[uU]&)?"(?!(?:[^"]++|"")*+")         # a quoted name that is cut
                 | \$(?![0-9]) )                         # a dollar quote that is cut
    | (?P<name>    (?:[uU]&)?"(?:[^"]++|"")*+" )
    | (?P<word>    [{_LETTER}][{_LETTER}0-9$]*+ )
    | (?P<end>     ; )
    | (?P<sign>    \$[0-9]++ | [-+*/<>=~!@\#%^&|`?,()\[\].:] )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_LIST = re.compile(r"([(\[])\?(?: ?, ?\?)+ ?([)\]])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Statements shown with their names, keywords and operators. All others are reduced.
_SHOWN = frozenset(
    re.findall(
        r"\w+",
        """SELECT INSERT UPDATE DELETE MERGE WITH VALUES TABLE EXPLAIN ANALYZE ANALYSE VACUUM
    BEGIN START COMMIT END ROLLBACK ABORT SAVEPOINT RELEASE DECLARE FETCH MOVE CLOSE
    LOCK TRUNCATE REINDEX CLUSTER REFRESH CHECKPOINT EXECUTE DEALLOCATE CALL COPY""",
    )
)
_SHOWN_PAIRS = frozenset(
    {
        *((verb, what) for verb in ("CREATE", "ALTER", "DROP") for what in ("TABLE", "INDEX")),
        ("CREATE", "UNIQUE"),
        ("DROP", "VIEW"),
        ("DROP", "MATERIALIZED"),
    }
)
# The first words of a reduced statement that may be shown: keywords alone, never a name.
_TAG_WORDS = frozenset(
    re.findall(
        r"\w+",
        """CREATE ALTER DROP SET RESET SHOW DO COMMENT ON SECURITY LABEL GRANT REVOKE IMPORT LOAD
    DISCARD REASSIGN OWNED LISTEN UNLISTEN NOTIFY PREPARE COPY OR REPLACE TEMP TEMPORARY
    UNLOGGED ROLE USER GROUP MAPPING SERVER SUBSCRIPTION PUBLICATION DATABASE TABLESPACE
    FUNCTION PROCEDURE ROUTINE AGGREGATE TRIGGER EVENT RULE POLICY VIEW MATERIALIZED SCHEMA
    SEQUENCE TYPE DOMAIN EXTENSION LANGUAGE OPERATOR COLLATION CONVERSION CAST STATISTICS
    FOREIGN DATA WRAPPER DEFAULT PRIVILEGES SYSTEM LOCAL SESSION TRANSACTION AUTHORIZATION
    ALL TEXT SEARCH CONFIGURATION DICTIONARY PARSER TEMPLATE TABLE INDEX COLUMN TRANSFORM
    ACCESS METHOD LARGE OBJECT""",
    )
)


@lru_cache(maxsize=2048)
def mask(text: str) -> str:
    """*text* with literals as `?` and comments gone; fails closed.

    >>> mask("SELECT * FROM users WHERE email = 'a@b.c' -- for Bob")
    'SELECT * FROM users WHERE email = ?'
    >>> mask("ALTER ROLE app PASSWORD 'hunter2'")
    'ALTER ROLE …'
    """
    try:
        masked = "; ".join(_statements(text))
        return _CONTROL.sub(" ", _LIST.sub(r"\1?, …\2", masked))
    except Exception:
        return HIDDEN


def _statements(text: str) -> list[str]:
    """The statements of *text*, each masked."""
    finished: list[str] = []
    parts: list[str] = []
    words: list[str] = []  # the bare words of the statement, in upper case
    position, length = 0, len(text)
    while position < length:
        match = _TOKEN.match(text, position)
        if match is None:
            position += 1  # a character that belongs to no token is not shown
            continue
        position = match.end()
        kind = match.lastgroup
        if kind == "word":
            parts.append(match.group())
            words.append(match.group().upper())
        elif kind == "space":
            parts.append(" ")
        elif kind == "comment":
            position = _end_of_comment(text, position)
            parts.append(" ")
        elif kind == "literal":
            parts.append("?")
        elif kind == "rest":
            parts.append("?")
            break
        elif kind == "end":
            finished.append(_finish(parts, words))
            parts, words = [], []
        elif kind == "name":
            parts.append(match.group())
            words.append('"')  # takes the place of a word, and is none
        else:
            parts.append(match.group())
            if match.group()[0] == "$":
                words.append("$")
    finished.append(_finish(parts, words))
    return [statement for statement in finished if statement]


def _end_of_comment(text: str, position: int) -> int:
    """Where the comment that was opened before *position* ends. Comments nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, position)
        if edge is None:
            return len(text)
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
    return position


def _finish(parts: list[str], words: list[str]) -> str:
    """One statement: as it is, or only its first words where the rest may be a secret."""
    if not words:
        # No word at all: an empty statement, or a literal where a statement should be.
        return "?" if "?" in parts else ""
    shown = words[0] in _SHOWN or (words[0], words[1] if words[1:] else "") in _SHOWN_PAIRS
    if shown and not (words[0] == "COPY" and "PROGRAM" in words):
        return " ".join("".join(parts).split())
    tag: list[str] = []
    for word in words:
        if word not in _TAG_WORDS:
            break
        tag.append(word)
    return f"{' '.join(tag)} …" if tag else "?"
