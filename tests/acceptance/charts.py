"""The live charts as a browser sees them."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.lab import wait_until

BOARD = ".hr-board"
DRAWN = '[data-panel="connections"] .js-plotly-plot .main-svg'


def newest(page: Page) -> int:
    """Epoch milliseconds of the newest point that is drawn."""
    script = """() => {
        const x = document.querySelector('[data-panel="connections"] .js-plotly-plot').data[0].x;
        return x[x.length - 1]; }"""
    return int(page.evaluate(script))


def x_range(page: Page, panel: str = "connections") -> list[float]:
    """What a chart's x axis shows, epoch milliseconds."""
    script = f"""document.querySelector('[data-panel="{panel}"] .js-plotly-plot')
        ._fullLayout.xaxis.range.map(Number)"""
    found: list[float] = page.evaluate(script)
    return found


def zoom(page: Page) -> None:
    """Drag over the middle of the first chart."""
    box = page.locator('[data-panel="connections"] .nsewdrag').bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=5)
    page.mouse.up()
    page.wait_for_selector(f'{BOARD}[data-zoomed="true"]')


def after_updates(page: Page, number: int) -> None:
    """Wait until the board has been updated *number* times more."""
    script = f"Number(document.querySelector('{BOARD}').dataset.updates)"
    seen = page.evaluate(script)
    wait_until(lambda: page.evaluate(script) >= seen + number, 15, "the chart does not move")
