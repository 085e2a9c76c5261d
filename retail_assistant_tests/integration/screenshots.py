"""Pictures of the running UI and of the report, for the documentation.

`python -m retail_assistant_tests.integration.screenshots FOLDER --dagster URL --report FILE`
takes them from servers that are up (`make ui`).
"""

import argparse
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

from retail_assistant_tests.integration import dagster_ui
from retail_assistant_tests.integration.browser import new_page

GRAPH_SIZE = (2800, 2400)
PAGE_SIZE = (1600, 1000)
REPORT_SIZE = (1280, 1800)
SETTLE_MS = 1_500
# Each of the graph's assets asks for its own state.
GRAPH_MS = 15_000
ZOOM_OUT = 195


def save_screenshots(page: Page, dagster: str, report: Path, folder: Path) -> list[Path]:
    """Save graph.png, partitions.png, comparison.png, accuracy.png and report.png to `folder`.

    The partition page shows a grounded job, the comparison its summary tables and its plot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shots = {
        "graph": _graph,
        "partitions": _partitions,
        "comparison": _comparison,
        "accuracy": _accuracy,
    }
    saved = []
    for name, show in shots.items():
        show(page, dagster)
        page.wait_for_timeout(SETTLE_MS)
        saved.append(folder / f"{name}.png")
        page.screenshot(path=saved[-1])
    saved.append(folder / "report.png")
    _save_report(page, report, saved[-1])
    return saved


def _graph(page: Page, dagster: str) -> None:
    _resize(page, *GRAPH_SIZE)
    dagster_ui.open_graph(page, dagster)
    hide = page.get_by_text("Hide navigation")
    if hide.is_visible():
        hide.click()
    dagster_ui.open_graph(page, dagster, expanded=True)
    page.wait_for_timeout(GRAPH_MS)
    # It fits one group into view, not all.
    page.mouse.move(GRAPH_SIZE[0] * 0.63, GRAPH_SIZE[1] * 0.5)
    page.keyboard.down("Control")
    page.mouse.wheel(0, ZOOM_OUT)
    page.keyboard.up("Control")
    page.mouse.move(0, 0)


def _partitions(page: Page, dagster: str) -> None:
    _resize(page, *PAGE_SIZE)
    jobs = dagster_ui.open_partitions(page, dagster, "adapter")
    shown = next((job for job in jobs if job.endswith("-grounded")), jobs[-1])
    dagster_ui.open_latest_metadata(page, dagster, "adapter", shown)


def _comparison(page: Page, dagster: str) -> None:
    dagster_ui.open_latest_metadata(page, dagster, "model_comparison")
    dagster_ui.open_markdown(page, "comparison")


def _accuracy(page: Page, dagster: str) -> None:
    dagster_ui.open_latest_metadata(page, dagster, "model_comparison")
    _loaded(dagster_ui.open_markdown(page, "accuracy").locator("img"))


def _save_report(page: Page, report: Path, path: Path) -> None:
    _resize(page, *REPORT_SIZE)
    page.goto(report.as_uri())
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=path)


def _resize(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})


def _loaded(image: Locator) -> None:
    expect(image).to_be_visible(timeout=dagster_ui.PAGE_MS)
    assert image.evaluate("image => image.naturalWidth") > 0


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dagster", default="http://127.0.0.1:3000")
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args()
    with sync_playwright() as playwright, new_page(playwright, []) as page:
        for path in save_screenshots(page, given.dagster, given.report.resolve(), given.folder):
            print(path)


if __name__ == "__main__":
    main()
