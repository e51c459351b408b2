"""The live charts in a real browser, before a real dashboard, over a store that is fed."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.charts import BOARD, DRAWN, after_updates, newest, x_range, zoom
from tests.filled_store import BILLING, CONFIG, OTHERS, Filler, write_config
from tests.lab import wait_until

ROOT = Path(__file__).resolve().parents[2]
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.browser

# A second server, which never answers.
_HIDDEN = (
    "version role max_connections ordinary_capacity slots_used active idle idle_in_transaction "
    "idle_in_transaction_aborted other_states blocked wait_cpu wait_lock wait_lwlock wait_io "
    "wait_client wait_other longest_statement_seconds longest_transaction_seconds "
    "longest_idle_in_transaction_seconds"
)
_REFUSED = {"target_id": BILLING, "up": False, "failure": "unreachable", "reason": "refused"}
DOWN = dict.fromkeys(_HIDDEN.split()) | _REFUSED


class Dashboard:
    """A dashboard process that can be stopped and started again on its port."""

    def __init__(self, folder: Path, text: str = CONFIG) -> None:
        self.config = write_config(folder, text)
        self.log = folder / "dashboard.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "headroom", "dashboard", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], cwd=ROOT, stdout=log, stderr=log
            )
        wait_until(self.answers, 30, "the dashboard did not start")

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.url}/healthz", timeout=1).status == 200
        return False

    def stop(self) -> float:
        """Stop it as a service manager does; the seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
        return time.monotonic() - began


class Feeder:
    """Adds a sample a second, as `headroom run` does."""

    def __init__(self, folder: Path) -> None:
        self.filler = Filler(folder)
        now = datetime.now(UTC)
        self.filler.servers([(now - i * SECOND, {"active": 5}) for i in range(300, 0, -1)])
        self.filler.poolers([(now - i * SECOND, 0, 0.0) for i in range(300, 0, -1)])
        self.filler.target(BILLING, "billing", "postgresql")
        self.filler.servers([(now - i * SECOND, DOWN) for i in range(300, 0, -1)])
        self.stopped = threading.Event()
        self.silent = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.stopped.wait(1.0):
            if not self.silent.is_set():
                now = datetime.now(UTC)
                self.filler.server(now, active=5 + now.second % 5)
                self.filler.pooler(now, now.second % 3, 0.2)

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.filler.store.close()


@pytest.fixture(scope="module")
def feeder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Feeder]]:
    folder = tmp_path_factory.mktemp("live")
    running = Feeder(folder)
    yield folder, running
    running.stop()


@pytest.fixture(scope="module")
def dashboard(feeder: tuple[Path, Feeder]) -> Iterator[Dashboard]:
    running = Dashboard(feeder[0])
    yield running
    running.stop()


@pytest.fixture
def two_servers(feeder: tuple[Path, Feeder], tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard over the same store that knows both servers."""
    text = CONFIG.replace("headroom.db", str(feeder[0] / "headroom.db")) + OTHERS
    running = Dashboard(tmp_path, text)
    yield running
    running.stop()


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    """The page of the target "shop", drawn."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    opened = context.new_page()
    opened.goto(f"{dashboard.url}/target?target=shop")
    opened.wait_for_selector(DRAWN, timeout=30_000)
    yield opened
    context.close()


def test_charts_draw_and_move_with_every_sample(page: Page) -> None:
    for _ in range(3):
        before = newest(page)
        wait_until(lambda before=before: newest(page) > before, 3, "no new point")
        assert time.time() * 1000 - newest(page) < 1500
    for name in ("connections", "waiters", "statements", "oldest_wait", "waits"):
        panel = page.locator(f'[data-panel="{name}"]')
        assert panel.locator(".trace").count() > 0, name
        assert panel.locator(".hr-badge").inner_text() == "", name


def test_zoom_is_linked_survives_new_points_and_ends_with_a_double_click(page: Page) -> None:
    zoom(page)
    zoomed = x_range(page)
    assert x_range(page, "waiters") == zoomed
    before = newest(page)
    after_updates(page, 4)
    assert newest(page) > before
    assert x_range(page) == zoomed
    page.locator('[data-panel="waiters"] .nsewdrag').dblclick()
    page.wait_for_selector(f'{BOARD}[data-zoomed="false"]')
    wait_until(lambda: x_range(page)[1] > zoomed[1], 5, "it does not go back to live")
    assert x_range(page, "waiters") == x_range(page)


def test_what_was_hidden_in_the_legend_stays_hidden(page: Page) -> None:
    item = page.locator('[data-panel="connections"] .hr-item', has_text="idle in transaction")
    item.click()
    after_updates(page, 3)
    assert "hr-off" in (item.get_attribute("class") or "")
    visible = """document.querySelector('[data-panel="connections"] .js-plotly-plot')
        .data.find(t => t.name === "idle in transaction").visible"""
    assert page.evaluate(visible) is False


def test_a_chart_is_never_taken_down_to_be_updated(page: Page) -> None:
    page.evaluate(f"""() => {{
        window.taken = 0;
        const plot = document.querySelector('{DRAWN}').closest('.js-plotly-plot');
        window.plot = plot;
        const gone = node => node === plot || node.contains?.(plot)
            || node.classList?.contains('main-svg');
        const count = changes => changes.forEach(change => change.removedNodes.forEach(node => {{
            if (gone(node)) window.taken += 1;
        }}));
        new MutationObserver(count).observe(document.body, {{ childList: true, subtree: true }});
    }}""")
    after_updates(page, 4)
    assert page.evaluate("window.taken") == 0
    assert page.evaluate(f"document.querySelector('{DRAWN}').closest('.js-plotly-plot') === plot")


def test_the_pointer_shows_one_moment_on_every_panel(page: Page) -> None:
    box = page.locator('[data-panel="connections"] .nsewdrag').bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 30)
    page.wait_for_selector(".hr-tip", state="visible")
    tip = page.locator(".hr-tip").inner_text()
    assert "UTC" in tip
    assert "total" in tip
    assert page.locator(".hr-cross:visible").count() >= 5
    after_updates(page, 2)
    assert page.locator(".hr-tip").is_visible()


def test_nothing_is_asked_of_another_host_and_nothing_fails(
    browser: Browser, dashboard: Dashboard
) -> None:
    context = browser.new_context()
    page = context.new_page()
    hosts: set[str | None] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in ("/", "/target?target=shop", "/target?target=shop-pool"):
        page.goto(dashboard.url + path)
        page.wait_for_selector(f"{BOARD} .js-plotly-plot .main-svg")
        after_updates(page, 2)
    context.close()
    assert hosts - {None, ""} == {"127.0.0.1"}
    assert errors == []


def test_old_data_look_old(page: Page, feeder: tuple[Path, Feeder]) -> None:
    feeder[1].silent.set()
    try:
        page.wait_for_selector('[data-panel="connections"].hr-stale', timeout=20_000)
        badge = page.locator('[data-panel="connections"] .hr-badge').inner_text()
        assert badge.startswith("no data for")
        page.wait_for_selector("text=is “headroom run” running?", timeout=10_000)
    finally:
        feeder[1].silent.clear()
    page.wait_for_selector('[data-panel="connections"]:not(.hr-stale)', timeout=10_000)


def test_a_restart_of_the_dashboard_is_said_and_survived(page: Page, dashboard: Dashboard) -> None:
    page.evaluate(f"window.plot = document.querySelector('{DRAWN}').closest('.js-plotly-plot')")
    assert dashboard.stop() < 3, "it did not end at once with a browser connected"
    assert dashboard.process.returncode == 0
    page.wait_for_selector("text=connection to Headroom lost, retrying", timeout=10_000)
    before = newest(page)
    dashboard.start()
    wait_until(lambda: newest(page) > before, 20, "the chart did not recover")
    page.wait_for_selector('[data-panel="connections"]:not(.hr-stale)', timeout=10_000)


def test_a_port_that_is_taken_is_said_with_what_to_do(dashboard: Dashboard) -> None:
    command = [sys.executable, "-m", "headroom", "dashboard", "--config", str(dashboard.config)]
    second = subprocess.run(
        [*command, "--port", str(dashboard.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert "Give another port with --port" in second.stderr


def test_a_phone_shows_it_without_scrolling_sideways(
    browser: Browser, dashboard: Dashboard
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    for path in ("/", "/target?target=shop"):
        page.goto(dashboard.url + path)
        page.wait_for_selector(DRAWN)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        plot = page.locator('[data-panel="connections"]').bounding_box()
        assert plot is not None
        assert plot["x"] >= 0
        assert plot["x"] + plot["width"] <= 390
    context.close()


def choose_target(page: Page, name: str) -> None:
    page.locator('[data-testid="stSelectbox"]').first.click()
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_url(f"**target={name}*")


def test_another_target_shows_nothing_of_the_one_before(
    browser: Browser, two_servers: Dashboard
) -> None:
    page = browser.new_page()
    page.goto(f"{two_servers.url}/target?target=shop")
    page.wait_for_selector(DRAWN, timeout=30_000)
    panel = page.locator('[data-panel="connections"]')
    expect(panel.locator(".hr-note")).to_contain_text("ordinary capacity 97")
    page.evaluate("window.board = document.querySelector('.hr-board')")
    choose_target(page, "billing")
    expect(panel.locator(".hr-empty")).to_contain_text("no answer in this range", timeout=15_000)
    assert page.evaluate("document.querySelector('.hr-board') === window.board"), "made anew"
    expect(panel.locator(".hr-note")).not_to_contain_text("ordinary capacity")
    choose_target(page, "shop")
    expect(panel.locator(".hr-note")).to_contain_text("ordinary capacity 97", timeout=15_000)
    page.close()


def test_an_update_leaves_no_listener_behind(browser: Browser, dashboard: Dashboard) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("""window.listeners = 0;
        for (const [name, step] of [["addEventListener", 1], ["removeEventListener", -1]]) {
            const real = AbortSignal.prototype[name];
            AbortSignal.prototype[name] = function (...given) {
                window.listeners += step;
                return real.apply(this, given);
            };
        }""")
    page.goto(f"{dashboard.url}/target?target=shop")
    page.wait_for_selector(DRAWN, timeout=30_000)
    after_updates(page, 1)
    before = page.evaluate("window.listeners")
    after_updates(page, 6)
    assert page.evaluate("window.listeners") <= before + 1
    context.close()


def test_the_legend_is_used_with_the_keyboard_and_values_are_read_aloud(page: Page) -> None:
    panel = page.locator('[data-panel="connections"]')
    item = panel.get_by_role("button", name="idle in transaction")
    expect(item).to_have_attribute("aria-pressed", "true")
    item.focus()
    page.keyboard.press("Enter")
    expect(item).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Enter")
    expect(item).to_have_attribute("aria-pressed", "true")
    spoken = panel.locator(".js-plotly-plot").get_attribute("aria-label") or ""
    assert spoken.startswith("Connections by state, active ")
    assert "idle 20" in spoken


def test_a_range_that_has_not_ended_stands_still_and_fills(
    browser: Browser, dashboard: Dashboard
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    span = [(now + timedelta(minutes=m)).isoformat().replace("+00:00", "Z") for m in (-3, 3)]
    page = browser.new_page()
    page.goto(f"{dashboard.url}/target?target=shop&from={span[0]}&to={span[1]}")
    page.wait_for_selector(DRAWN, timeout=30_000)
    shown, before = x_range(page), newest(page)
    assert shown == [datetime.fromisoformat(at).timestamp() * 1000 for at in span]
    after_updates(page, 2)
    assert newest(page) > before
    assert x_range(page) == shown
    page.close()


def test_a_long_range_says_what_its_points_are(browser: Browser, dashboard: Dashboard) -> None:
    page = browser.new_page()
    page.goto(f"{dashboard.url}/target?target=shop&range=24h")
    page.wait_for_selector(DRAWN, timeout=30_000)
    detail = page.locator('[data-panel="statements"] .hr-detail')
    expect(detail).to_have_text("2 min peaks")
    panel = page.locator('[data-panel="connections"]')
    plot = panel.locator(".nsewdrag").bounding_box()
    assert plot is not None
    page.mouse.move(plot["x"] + plot["width"] - 3, plot["y"] + 30)
    expect(page.locator(".hr-tip")).to_contain_text("2 min averages")
    for value in panel.locator(".hr-item strong").all_inner_texts():
        assert re.fullmatch(r"–|\d+(\.\d)?", value), value
    page.close()


def test_the_legend_of_a_zoom_shows_the_values_at_its_end(page: Page) -> None:
    page.goto(f"{page.url}&range=5m")
    page.wait_for_selector(DRAWN, timeout=30_000)
    zoom(page)
    page.mouse.move(5, 5)
    end = x_range(page)[1]
    point = """([end]) => {
        const trace = document.querySelector('[data-panel="connections"] .js-plotly-plot').data[0];
        const away = trace.x.map(at => Math.abs(at - end));
        return trace.y[away.indexOf(Math.min(...away))]; }"""
    value = page.locator('[data-panel="connections"] .hr-item strong').first
    for _ in range(3):  # and it stays so while new points come in
        expect(value).to_have_text(str(page.evaluate(point, [end])))
        after_updates(page, 1)
