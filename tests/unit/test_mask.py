"""Nothing that people put into a statement leaves the collector."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collectors import mask as module
from collectors.mask import HIDDEN, mask

SECRET = "zq7hunter"  # stands in every statement where a person's text could stand
PART = "zq7"  # too much already

STATEMENTS = [
    ("SELECT * FROM users WHERE email = 'zq7hunter'", "SELECT * FROM users WHERE email = ?"),
    ("select 'it''s zq7hunter', 1", "select ?, ?"),
    (r"SELECT E'a\'zq7hunter', 2", "SELECT ?, ?"),
    (r"SELECT e'\\' || 'zq7hunter'", "SELECT ? || ?"),
    ("SELECT B'0101', X'zq7hunter', N'zq7hunter', U&'zq7hunter'", "SELECT ?, ?, ?, ?"),
    ("SELECT $$zq7hunter$$ || $a$ zq7hunter $b$ $$ $a$", "SELECT ? || ?"),
    ("SELECT $é$zq7hunter$é$", "SELECT ?"),
    ("SELECT /* zq7hunter /* nested */ zq7hunter */ 1", "SELECT ?"),
    ("SELECT 1 -- zq7hunter\nFROM t", "SELECT ? FROM t"),
    ("SELECT 1--zq7hunter\rFROM t", "SELECT ? FROM t"),
    ("SELECT a+/* zq7hunter */b@--zq7hunter\n c", "SELECT a+ b@ c"),
    ("ALTER ROLE app WITH PASSWORD 'zq7hunter'", "ALTER ROLE …"),
    ("create user zq7hunter password 'zq7hunter'", "CREATE USER …"),
    ("ALTER USER zq7hunter SET search_path = zq7hunter", "ALTER USER …"),
    (
        "CREATE SUBSCRIPTION s CONNECTION 'password=zq7hunter' PUBLICATION p",
        "CREATE SUBSCRIPTION …",
    ),
    ("CREATE USER MAPPING FOR a SERVER b OPTIONS (password 'zq7hunter')", "CREATE USER MAPPING …"),
    ("CREATE SERVER zq7hunter FOREIGN DATA WRAPPER w", "CREATE SERVER …"),
    ("COPY t FROM PROGRAM 'curl -u zq7hunter'", "COPY …"),
    (
        "COPY t (a, b) FROM STDIN WITH (DELIMITER 'zq7hunter')",
        "COPY t (a, b) FROM STDIN WITH (DELIMITER ?)",
    ),
    ("SET zq7hunter.token = zq7hunter", "SET …"),
    ("SET LOCAL zq7hunter TO 1", "SET LOCAL …"),
    ("COMMENT ON TABLE t IS 'zq7hunter'", "COMMENT ON TABLE …"),
    ("DO $$ BEGIN PERFORM 'zq7hunter'; END $$", "DO …"),
    ("DO LANGUAGE plpgsql 'zq7hunter'", "DO LANGUAGE …"),
    ("CREATE FUNCTION f() RETURNS int AS 'zq7hunter' LANGUAGE sql", "CREATE FUNCTION …"),
    ("NOTIFY zq7hunter, 'zq7hunter'", "NOTIFY …"),
    ("SELECT 1; ALTER ROLE a PASSWORD 'zq7hunter'; SELECT 2", "SELECT ?; ALTER ROLE …; SELECT ?"),
    ("zq7hunter", "?"),
    ("'zq7hunter'", "?"),
    ("-- zq7hunter", ""),
    ("EXPLAIN (ANALYZE) SELECT 'zq7hunter'", "EXPLAIN (ANALYZE) SELECT ?"),
    (
        "INSERT INTO t VALUES ('zq7hunter', 1, -2.5e-3), (0xFF, .5, 1_000)",
        "INSERT INTO t VALUES (?, ?, -?), (?, …)",
    ),
    ("SELECT date'zq7hunter', interval 'zq7hunter' day", "SELECT date?, interval ? day"),
    ("SELECT 1234zq7hunter", "SELECT ?"),
    ("/* zq7hunter */ SELECT 'zq7hunter'\n  'zq7hunter'", "SELECT ? ?"),
    ("PREPARE p AS SELECT 'zq7hunter'", "PREPARE …"),
]


@pytest.mark.parametrize(("statement", "masked"), STATEMENTS)
def test_a_statement_without_what_people_put_into_it(statement: str, masked: str) -> None:
    assert mask(statement) == masked


@pytest.mark.parametrize("statement", [statement for statement, _ in STATEMENTS])
def test_a_statement_cut_anywhere_shows_no_secret(statement: str) -> None:
    text = statement.encode()
    for length in range(len(text) + 1):
        cut = text[:length].decode(errors="ignore")
        assert PART not in mask(cut).lower(), cut


@pytest.mark.parametrize(
    ("statement", "masked"),
    [
        # standard_conforming_strings on: the literal ends after the backslash, and what
        # follows up to the next quote is SQL. Off: it goes on to that quote.
        (r"SELECT 'a\', zq7hunter, 'b'", "SELECT ?"),
        (r"SELECT 'a\' OR b = 'zq7hunter", "SELECT ?"),
        (r"SELECT 'a\'' || 'zq7hunter'", "SELECT ?"),
        (r"SELECT 'x' , N'a\' zq7hunter", "SELECT ? , ?"),
        # A pair of backslashes before the quote: both readings end here.
        (r"SELECT 'C:\\', 'zq7hunter', a", "SELECT ?, ?, a"),
        (r"SELECT 'C:\dir', a", "SELECT ?, a"),
        # The second line goes on in the lexer state of the first one, an E string.
        ("SELECT E'a'\n'b\\' zq7hunter'", "SELECT ? ?"),
    ],
)
def test_a_backslash_before_a_quote_leaks_under_neither_reading(
    statement: str, masked: str
) -> None:
    assert mask(statement) == masked


@pytest.mark.parametrize(
    ("statement", "masked"),
    [
        ('SELECT "Größe" FROM "my ""table"""', 'SELECT "Größe" FROM "my ""table"""'),
        ('SELECT "a, zq7hunter', "SELECT ?"),
        ('SELECT "a"" zq7hunter', "SELECT ?"),
        ("SELECT typee'zq7\\'", "SELECT typee?"),
        (
            "SELECT größe1, tbl2024.c3, $1, $12 FROM söder",
            "SELECT größe1, tbl2024.c3, $1, $12 FROM söder",
        ),
        ("SELECT a$b$c, 'x' FROM t", "SELECT a$b$c, ? FROM t"),
        ("SELECT $zq7hunter", "SELECT ?"),
        ("SELECT * FROM t WHERE id IN (1,2, 3)", "SELECT * FROM t WHERE id IN (?, …)"),
        ("SELECT ARRAY[1, 2]", "SELECT ARRAY[?, …]"),
        ("SELECT a -> 'k' ->> 'l' #> $1", "SELECT a -> ? ->> ? #> $1"),
        ("  SELECT\n\t 1  ", "SELECT ?"),
        (
            "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
            "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
        ),
        ("BEGIN", "BEGIN"),
        ("(SELECT 1) UNION (SELECT 2)", "(SELECT ?) UNION (SELECT ?)"),
        ("", ""),
        ("SELECT \x00\x1b[ m\u2028a\ufffd", "SELECT [ m a\ufffd"),
    ],
)
def test_names_keywords_and_parameters_stay(statement: str, masked: str) -> None:
    assert mask(statement) == masked


def test_what_cannot_be_masked_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_statements", lambda text: 1 / 0)
    assert module.mask.__wrapped__("SELECT 'zq7hunter'") == HIDDEN


_TEXT = st.text(alphabet=st.sampled_from("ab '\"\\$;-/*\n\té1.(e"), max_size=12)


def _quoted(text: str) -> str:
    return "'" + (text + SECRET + text).replace("'", "''") + "'"


def _escaped(text: str) -> str:
    body = (text + SECRET + text).replace("\\", "\\\\").replace("'", "\\'")
    return f"E'{body}'"


def _dollar(text: str) -> str:
    return f"$q${text.replace('$', '')}{SECRET}{text.replace('$', '')}$q$"


def _comment(text: str) -> str:
    body = text.replace("*/", "").replace("/*", "").strip("*/")
    return f"/* {body} {SECRET} */"


_PIECE = st.one_of(
    *(st.builds(make, _TEXT) for make in (_quoted, _escaped, _dollar, _comment)),
    st.sampled_from(["SELECT", "a", '"b c"', "=", "||", "(", ")", ",", ";", "$1", "ALTER ROLE"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_PIECE, max_size=8), st.integers(min_value=0, max_value=400))
@example(["SELECT", "'a\\zq7hunter'"], 400)
def test_no_literal_survives_in_any_mixture_cut_anywhere(pieces: list[str], length: int) -> None:
    # A space between them: two quotes that touch would be one doubled quote.
    assert PART not in mask(" ".join(pieces)[:length]).lower()


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_masked_to_one_line_that_can_be_stored(text: str) -> None:
    masked = mask(text)
    assert masked != HIDDEN
    assert "\n" not in masked
    assert "\x00" not in masked
    masked.encode()  # no lone surrogate
