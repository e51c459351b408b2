"""Stores in every situation, and the pages over them as a reader sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from streamlit.testing.v1 import AppTest

from model.alerting import Severity
from tests.filled_store import HOSTILE, Filler

APP = Path(__file__).resolve().parents[1] / "dashboard" / "app.py"
TARGET = "from dashboard.views import target\ntarget.show()\n"
SECOND = timedelta(seconds=1)


def now() -> datetime:
    return datetime.now(UTC)


def healthy(folder: Path) -> Filler:
    """Two minutes of calm."""
    filler = Filler(folder)
    filler.servers([(now() - i * SECOND, {}) for i in range(120, 0, -1)])
    filler.poolers([(now() - i * SECOND, 0, 0.0) for i in range(120, 0, -1)])
    filler.session(1, now() - 2 * SECOND)
    filler.verdict(now() - timedelta(minutes=1), "Nobody waits.", None)
    filler.store.close()
    return filler


def on_fire(folder: Path) -> Filler:
    """A full pool behind an idle transaction, with names that try to be more than names."""
    filler = healthy(folder)
    filler.pooler(now(), 24, 6.1)
    filler.server(now(), slots_used=95, longest_statement_seconds=171.0, blocked=3)
    filler.session(2, now() - 192 * SECOND, state="idle in transaction", application=HOSTILE)
    filler.session(3, now() - 171 * SECOND, blocked_by="2", wait_event_type="Lock", role=HOSTILE)
    filler.verdict(now(), f"24 clients wait behind {HOSTILE}", Severity.CRITICAL)
    filler.alert(now() - 9 * SECOND, f"24 clients wait {HOSTILE}", Severity.CRITICAL)
    filler.store.close()
    return filler


def down(folder: Path) -> Filler:
    filler = healthy(folder)
    filler.server_down(now(), "connection refused")
    filler.store.close()
    return filler


def stale(folder: Path) -> Filler:
    filler = Filler(folder)
    filler.server(now() - timedelta(minutes=3))
    filler.pooler(now() - timedelta(minutes=3))
    filler.store.close()
    return filler


def migrated(folder: Path) -> Filler:
    """`headroom run` has started, and no poll has come back yet."""
    filler = Filler(folder)
    filler.store.close()
    return filler


def overview() -> AppTest:
    return AppTest.from_file(str(APP), default_timeout=20).run()


def target(**params: str) -> AppTest:
    page = AppTest.from_string(TARGET, default_timeout=20)
    for name, value in params.items():
        page.query_params[name.rstrip("_")] = value
    return page.run()


def said(page: AppTest) -> str:
    """All HTML and text of a page, as people read it."""
    parts = [element.proto.body for element in page.get("html")]
    for kind in ("info", "warning", "error", "code", "caption", "text", "markdown"):
        parts += [element.value for element in page.get(kind)]
    return "\n".join(parts).replace("\\", "")


def moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
