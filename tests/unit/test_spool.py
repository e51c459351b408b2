"""The spool: in order, once, bounded, and whole after a kill at any byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from headroom import spool as spool_module
from headroom.spool import Position, Spool


def payloads(spool: Spool, most: int = 100) -> list[bytes]:
    return [entry.payload for entry in spool.peek(most)]


def test_what_was_put_comes_out_in_order_and_stays_until_it_is_taken(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", 10_000)
    spool.put([b"a", b"b"])
    spool.put([b"c"])
    assert payloads(spool, 2) == [b"a", b"b"]
    assert payloads(spool) == [b"a", b"b", b"c"]
    spool.take(spool.peek(2)[-1].after)
    assert payloads(spool) == [b"c"]
    spool.take(spool.peek(1)[-1].after)
    assert not spool.waiting
    assert list((tmp_path / "s").iterdir()) == []


def test_the_next_process_goes_on_where_this_one_stopped_taking(tmp_path: Path) -> None:
    first = Spool(tmp_path / "s", 10_000)
    first.put([b"a", b"b", b"c"])
    taken = first.peek(1)[-1].after
    assert payloads(Spool(tmp_path / "s", 10_000, taken)) == [b"b", b"c"]
    assert payloads(Spool(tmp_path / "s", 10_000, Position(*taken))) == [b"b", b"c"]


def test_a_kill_at_any_byte_costs_the_torn_line_at_most(tmp_path: Path) -> None:
    Spool(tmp_path / "s", 10_000).put([b"first", b"second"])
    (segment,) = (tmp_path / "s").iterdir()
    whole = segment.read_bytes()
    first_line = whole.index(b"\n") + 1
    for cut in range(len(whole) + 1):
        segment.write_bytes(whole[:cut])
        spool = Spool(tmp_path / "s", 10_000)
        spool.put([b"third"])
        # A line that lacks nothing but its end is whole.
        expected = [b"first"] * (cut >= first_line - 1)
        expected += [b"second"] * (cut >= len(whole) - 1)
        expected += [b"third"]
        assert payloads(spool) == expected, cut
        for path in (tmp_path / "s").iterdir():
            path.unlink()


def test_when_it_is_full_the_oldest_goes_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT", 100)
    spool = Spool(tmp_path / "s", 500)
    for number in range(100):
        spool.put([b"%03d" % number])
    left = payloads(spool)
    assert spool.size() <= 500
    assert left == [b"%03d" % number for number in range(100 - len(left), 100)]
    assert spool.dropped_total == 100 - len(left)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    Spool(tmp_path / "s", 10_000).put([b"good", b"bad", b"fine"])
    (segment,) = (tmp_path / "s").iterdir()
    segment.write_bytes(segment.read_bytes().replace(b"bad", b"bax"))
    assert payloads(Spool(tmp_path / "s", 10_000)) == [b"good", b"fine"]


def test_a_spool_of_torn_lines_only_is_empty(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "00000001.spool").write_bytes(b"rubbish\n")
    spool = Spool(tmp_path / "s", 10_000)
    assert payloads(spool) == []
    assert not spool.waiting
    spool.put([b"a"])
    assert payloads(spool) == [b"a"]


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "s", 10_000)
    spool.put([b"a"])
    real_open = Path.open

    class Full:
        """A file that takes five bytes and then says that the disk is full."""

        def __init__(self, path: Path) -> None:
            self._file = real_open(path, "ab")

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, data: bytes) -> None:
            self._file.write(data[:5])
            raise OSError(28, "No space left on device")

    def open_full(path: Path, mode: str) -> object:
        return Full(path) if mode == "ab" else real_open(path, mode)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", open_full)
        with pytest.raises(OSError, match="No space"):
            spool.put([b"b", b"c"])
    spool.put([b"b", b"c"])
    assert payloads(spool) == [b"a", b"b", b"c"]
