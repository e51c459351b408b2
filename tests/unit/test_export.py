"""`headroom export`: chunk by chunk, and still one file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest

from headroom.cli import main
from headroom.commands.export import _WRITERS
from model.samples import Database
from store.append import Appender
from store.database import Store
from store.export import export_chunks
from tests.unit.test_store import T0, after, down, seen

BIG = 2**60 + 1  # a float would not tell it from its neighbours


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/headroom.db") as opened:
        opened.migrate()
        database = Database("=shop", -1, 3, BIG, 0, None, None, None, None, 0.5, None, T0)
        ups = [replace(seen(s), databases=(database,)) for s in range(5)]
        Appender(opened).append([*ups, down(5), down(6)])
        yield opened


def written(store: Store, table: str, format_: str, since: float = 0) -> bytes:
    file = BytesIO()
    with store.read() as connection:
        chunks = export_chunks(connection, table, None, after(since), None, rows=2)
        _WRITERS[format_](chunks, file)
    return file.getvalue()


def test_csv_has_one_header_and_no_formulas(store: Store) -> None:
    lines = written(store, "databases", "csv").decode().splitlines()
    assert [line.startswith("target,database,at") for line in lines] == [True] + [False] * 5
    assert all("'=shop" in line and str(BIG) in line for line in lines[1:])
    assert "2030-01-01T00:00:04.000000Z" in lines[5]


def test_json_is_one_array_with_exact_numbers(store: Store) -> None:
    rows = json.loads(written(store, "databases", "json"))
    assert [row["xact_commit_total"] for row in rows] == [BIG] * 5
    assert [row["sessions_total"] for row in rows] == [None] * 5
    assert rows[4]["at"] == "2030-01-01T00:00:04.000Z"
    assert json.loads(written(store, "databases", "json", since=99)) == []


def test_parquet_has_the_same_types_in_every_chunk(store: Store) -> None:
    """The first chunks have no reason at all, and the last no slots."""
    frame = pd.read_parquet(BytesIO(written(store, "servers", "parquet")))
    assert len(frame) == 7
    assert frame["reason"].fillna("").tolist()[4:] == ["", *["no answer in 1 s"] * 2]
    assert str(frame["at"].dtype) == "datetime64[us, UTC]"
    assert len(pd.read_parquet(BytesIO(written(store, "servers", "parquet", since=99)))) == 0


def test_no_file_is_made_when_there_is_no_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "headroom.toml"
    config.write_text('[[target]]\nname = "a"\nkind = "postgresql"\ndsn = "host=x"\n')
    out = tmp_path / "out.csv"
    arguments = ("export", "--config", str(config), "--table", "servers", "--output", str(out))
    assert main(arguments) == 1
    assert "no such store" in capsys.readouterr().err
    assert not out.exists()
