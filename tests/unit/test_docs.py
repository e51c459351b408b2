"""Everything that can be set, seen or typed is in the documentation."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from headroom.cli import parser
from model.config import Config
from model.metrics import METRICS
from store.export import TABLES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands() -> list[str]:
    actions = parser()._subparsers._group_actions  # type: ignore[union-attr]
    return [name for action in actions for name in action.choices or ()]


@pytest.mark.parametrize("name", commands())
def test_every_command_is_documented(name: str) -> None:
    assert f"| `{name}` |" in (DOCS / "commands.md").read_text()


@pytest.mark.parametrize("name", commands())
def test_every_option_is_documented(name: str) -> None:
    action = parser()._subparsers._group_actions[0]  # type: ignore[union-attr]
    one: argparse.ArgumentParser = action.choices[name]  # type: ignore[index]
    options = {s for a in one._actions for s in a.option_strings if s.startswith("--")}
    text = (DOCS / "commands.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    # Above the table it says that every command but `demo` takes --config.
    everywhere = {"--help"} if name == "demo" else {"--help", "--config"}
    assert everywhere <= options
    assert set(re.findall(r"--[a-z-]+", row)) == options - everywhere


@pytest.mark.parametrize("name", list(type(Config().rules).model_fields))
def test_every_rule_has_a_page_with_its_limits(name: str) -> None:
    text = (DOCS / "rules" / f"{name}.md").read_text()
    for heading in ("## Means", "## Check", "## Do"):
        assert heading in text
    fields = type(Config().rules.settings(name)).model_fields
    for key, field in fields.items():
        if key not in {"enabled", "severity", "channels"}:
            assert f"`{field.alias or key}`" in text, key


def test_every_metric_is_documented_with_its_unit() -> None:
    text = (DOCS / "metrics.md").read_text()
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.unit} |" in text, metric.name


def test_every_metric_about_ourselves_is_documented() -> None:
    text = (DOCS / "metrics.md").read_text()
    source = (DOCS.parent / "headroom" / "api.py").read_text()
    names = re.findall(r'"(headroom_[a-z_]+)"', source)
    assert len(names) > 5
    assert [name for name in names if name not in text] == []


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_export_is_documented(table: str) -> None:
    assert f"`{table}`" in (DOCS / "commands.md").read_text()


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    links = [(page, link) for page in pages for link in _links(page)]
    assert [(p.name, link) for p, link in links if not (p.parent / link).exists()] == []


def _links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)#]+)", page.read_text())
    return [link for link in found if "://" not in link]
