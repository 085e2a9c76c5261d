"""Pictures of the chat page for the documentation.

`python -m retail_assistant_tests.serving.page.screenshots FOLDER` takes them of a page that quotes
the embedded catalog; with `--url`, of a server that is up.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.router import page_router
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.integration.browser import new_page
from retail_assistant_tests.serving.page.shop import QuotingAssistant, free_port, serving

QUESTIONS = ("Do you have formal shirts for women?", "Tell me about the Grinook shirt (67e9e228)")
DESKTOP, PHONE = (1100, 960), (390, 844)
COLOURS = 128
ANSWER_MS = 120_000


def save_screenshots(page: Page, url: str, folder: Path) -> list[Path]:
    """Save chat-desktop.png, chat-phone.png and chat-dark.png to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _conversation(page, url, folder / "chat-desktop.png", DESKTOP, QUESTIONS[:1], "light"),
        _conversation(page, url, folder / "chat-phone.png", PHONE, QUESTIONS[:1], "light"),
        _conversation(page, url, folder / "chat-dark.png", DESKTOP, QUESTIONS, "dark"),
    ]


def _conversation(
    page: Page, url: str, path: Path, size: tuple[int, int], questions: tuple[str, ...], scheme: str
) -> Path:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(url)
    for number, question in enumerate(questions, 1):
        page.get_by_label("Your question").fill(question)
        page.keyboard.press("Enter")
        expect(page.locator(".exchange details")).to_have_count(number, timeout=ANSWER_MS)
    page.mouse.click(2, size[1] // 2)
    page.screenshot(path=path)
    # A page has few colours; the file gets a third as large.
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    return path


def _sample_shop() -> FastAPI:
    app = FastAPI()
    app.include_router(
        page_router(
            QuotingAssistant(assortment_of().to_dicts()),
            ServingSettings(shop_name="Marigold & Co."),
            pictures={}.get,
            on_feedback=lambda _answer_id, _verdict: None,
            on_turn=lambda *_turn, keep: None,
            examples=lambda: ["Do you have formal shirts for women?", "Show me women's hoops"],
        )
    )
    return app


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", help="of a server that is up; default: a shop of this script")
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.url or stack.enter_context(serving(_sample_shop(), free_port()))
        page = stack.enter_context(new_page(stack.enter_context(sync_playwright()), []))
        for path in save_screenshots(page, url, given.folder):
            print(path)


if __name__ == "__main__":
    main()
