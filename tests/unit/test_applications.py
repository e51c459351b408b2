"""Application names are capped, and the names that are kept stay the same."""

from __future__ import annotations

from collectors.applications import MOST_NAMES, OTHER, ApplicationNames


def test_up_to_the_cap_every_name_is_kept() -> None:
    names = ApplicationNames()
    names.look(f"app-{number}" for number in range(MOST_NAMES))
    assert names.name("app-7") == "app-7"
    assert names.folded == 0


def test_five_thousand_names_become_two_hundred_and_one_and_none_is_lost() -> None:
    names = ApplicationNames()
    seen = [f"worker-{number}" for number in range(5000)] + ["shop"] * 50
    names.look(seen)
    shown = [names.name(name) for name in seen]
    assert len(set(shown)) == MOST_NAMES + 1
    assert len(shown) == 5050
    assert shown.count("shop") == 50  # seen most
    assert names.folded == 5001 - MOST_NAMES


def test_the_names_that_are_kept_do_not_take_turns() -> None:
    names = ApplicationNames(most=2)
    assert names.look(["a", "b", "c", "d"])
    assert (names.name("a"), names.name("b"), names.name("c")) == ("a", "b", OTHER)
    assert not names.look(["a", "b", "c", "c", "d"])
    assert names.look(["a", "b", "c", "c", "c", "d"])  # three to one: c is seen more
    assert names.name("c") == "c"
    assert names.look(["b", "c", "d"])  # a is gone, and its place is free
    assert names.name("b") == "b"


def test_when_names_become_few_again_all_are_kept() -> None:
    names = ApplicationNames(most=2)
    names.look(["a", "b", "c"])
    assert names.look(["a", "c"])
    assert (names.name("c"), names.folded) == ("c", 0)
    assert not names.look(["a", "c"])
