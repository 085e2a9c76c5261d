"""The page in a real browser, served by a real server."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI, HTTPException
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.router import page_router
from retail_assistant.serving.turns import ModelAwayError
from retail_assistant_tests.serving.page.shop import (
    EARLIER,
    HOSTILE,
    QuotingAssistant,
    free_port,
    serving,
)

pytestmark = pytest.mark.slow

TITLE = "Marigold & Co.: shopping assistant"
SHIRT = "a formal women's shirt"
SHIRT_NAME = "Grinook Formal Women's Shirt"
SHIRT_ID = "67e9e228992a7ce3ebc7227697ebfacf"
EXAMPLE = "Show me women's hoops"


def picture() -> bytes:
    """A small JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (128, 96), (180, 150, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


class Server:
    """The page's server; can be stopped, and started again at the same address."""

    def __init__(self, assistant: QuotingAssistant) -> None:
        self.is_full = False
        self.told: list[tuple[str, str]] = []
        self.kept: list[bool] = []
        self.app = FastAPI(openapi_url=None)
        self.app.include_router(
            page_router(
                assistant,
                ServingSettings(shop_name="Marigold & Co."),
                pictures={SHIRT_ID: picture()}.get,
                admitted=self._admit,
                on_feedback=lambda *verdict: self.told.append(verdict),
                on_turn=lambda *_turn, keep: self.kept.append(keep),
                examples=lambda: [EXAMPLE],
            )
        )
        self._port = free_port()
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        """Listen."""
        self.url = self._running.enter_context(serving(self.app, self._port))

    def stop(self) -> None:
        """End, open connections too."""
        self._running.close()

    def _admit(self) -> None:
        if self.is_full:
            raise HTTPException(429, "full", headers={"Retry-After": "1"})


@pytest.fixture(scope="module")
def running(assistant: QuotingAssistant) -> Iterator[Server]:
    server = Server(assistant)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running: Server) -> Server:
    running.is_full = False
    running.told.clear()
    running.kept.clear()
    return running


@pytest.fixture
def errors() -> list[str]:
    """What the page's console and scripts complained of."""
    return []


@pytest.fixture
def page(
    server: Server,
    shop: QuotingAssistant,
    browser_page: Page,
    refused: list[str],
    errors: list[str],
) -> Iterator[Page]:
    """The page, new; it may not fail, ask anybody else, or do what planted text wants."""

    def on_error(error: object) -> None:
        errors.append(str(error))

    def on_console(told: object) -> None:
        errors.append(getattr(told, "text", ""))

    browser_page.on("pageerror", on_error)
    browser_page.on("console", on_console)
    browser_page.set_viewport_size({"width": 1280, "height": 800})
    browser_page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    browser_page.goto(server.url)
    yield browser_page
    assert (errors, refused) == ([], [])
    assert browser_page.title() == TITLE
    browser_page.remove_listener("pageerror", on_error)
    browser_page.remove_listener("console", on_console)
    shop.may_go_on.set()
    browser_page.goto("about:blank")


def field(page: Page) -> Locator:
    return page.get_by_label("Your question")


def ask(page: Page, question: str) -> Locator:
    """Write a question and press Enter; its answer."""
    before = page.locator(".exchange").count()
    field(page).fill(question)
    field(page).press("Enter")
    expect(page.locator(".exchange")).to_have_count(before + 1)
    return page.locator(".exchange").nth(before)


def answered(page: Page, question: str) -> Locator:
    """The same, once it is whole."""
    exchange = ask(page, question)
    expect(exchange.locator("details")).to_be_visible()
    return exchange


def button(place: Page | Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def faults(page: Page) -> list[str]:
    """What axe finds, serious or not: its rule, and where."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{one['impact']}: {one['id']}: {node['target']} {node['any'][:1]}"
        for one in violations
        for node in one["nodes"]
    ]


def is_wider_than_the_screen(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def test_an_answer_is_read_while_it_is_written(page: Page, shop: QuotingAssistant) -> None:
    shop.may_go_on.clear()
    exchange = ask(page, SHIRT)
    expect(exchange.locator(".question")).to_contain_text(SHIRT)
    expect(exchange.locator(".text")).to_have_text("These come closest")
    expect(page.get_by_role("status")).to_have_text("The assistant is writing.")
    expect(field(page)).to_have_value("")
    expect(field(page)).to_be_focused()
    expect(exchange.locator(".card")).to_have_count(0)
    field(page).fill("what I write meanwhile")
    shop.may_go_on.set()
    expect(exchange.locator(".card")).to_have_count(4)
    expect(button(exchange, "Stop")).to_have_count(0)
    expect(exchange.locator(".text li").first).to_contain_text(SHIRT_NAME)
    expect(exchange.locator(".text")).to_contain_text("4 products are shown below.")
    expect(field(page)).to_have_value("what I write meanwhile")
    expect(field(page)).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("")
    assert len(shop.ended) == 1


def test_cards_show_what_the_catalog_says(page: Page) -> None:
    exchange = answered(page, SHIRT)
    card = exchange.get_by_role("listitem").filter(has_text="Grinook · Western Wear")
    expect(card.get_by_role("heading")).to_have_text(SHIRT_NAME)
    expect(card.locator(".price")).to_have_text("Price: ₹1,649 before: ₹2,199 25% off")
    expect(card.locator("dl")).to_contain_text("Fabric Viscose")
    image = card.locator("img")
    image.scroll_into_view_if_needed()
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") == 128
    expect(exchange.locator(".card")).to_have_count(4)
    expect(exchange.locator(".card img")).to_have_count(1)
    button(card, f"More about {SHIRT_NAME}").click()
    expect(page.locator(".exchange").last.locator(".text")).to_contain_text("Its record says")


def test_what_made_an_answer_can_be_seen(page: Page) -> None:
    exchange = answered(page, SHIRT)
    exchange.get_by_text("What made this answer").click()
    for told in ("our language model", SHIRT_ID, "grounded-r16", "91b7d0f2ac5e48d1b6c3"):
        expect(exchange.locator("details")).to_contain_text(told)


def test_what_is_new_is_in_view(page: Page, shop: QuotingAssistant) -> None:
    page.set_viewport_size({"width": 1280, "height": 1000})
    for _ in range(3):
        exchange = answered(page, SHIRT)
    expect(exchange.locator(".question")).to_be_in_viewport(ratio=1)
    expect(exchange.locator(".suggestions")).to_be_in_viewport(ratio=1)
    expect(page.locator(".suggestions:visible")).to_have_count(1)
    shop.may_go_on.clear()
    exchange = ask(page, SHIRT)
    expect(button(exchange, "Stop")).to_be_in_viewport(ratio=1)
    page.set_viewport_size({"width": 390, "height": 640})
    expect(button(exchange, "Stop")).to_be_in_viewport(ratio=1)
    shop.may_go_on.set()
    expect(exchange.locator("details")).to_be_attached()
    expect(exchange.locator(".question")).to_be_in_viewport(ratio=1)
    expect(exchange.locator(".suggestions")).not_to_be_in_viewport()


def test_a_suggestion_asks_and_enter_sends_what_was_written(page: Page) -> None:
    field(page).fill("half a question")
    button(page, EXAMPLE).click()
    exchange = page.locator(".exchange").nth(1)
    expect(exchange.locator(".question")).to_contain_text(EXAMPLE)
    expect(exchange.locator(".question")).to_be_focused()
    expect(exchange.locator("details")).to_be_visible()
    expect(field(page)).to_have_value("half a question")
    written = answered(page, SHIRT)
    expect(written.locator(".question")).to_contain_text(SHIRT)


def test_thumbs_are_told_and_can_be_changed(page: Page, server: Server) -> None:
    exchange = answered(page, SHIRT)
    up, down = button(exchange, "Helpful"), button(exchange, "Not helpful")
    expect(up).to_have_attribute("aria-pressed", "false")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("status")).to_have_text("Thank you for telling us.")
    expect(up).to_be_focused()
    down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    expect(up).to_have_attribute("aria-pressed", "false")
    assert [verdict for _, verdict in server.told] == ["up", "down"]
    assert len({answer_id for answer_id, _ in server.told}) == 1


def test_who_opts_out_is_not_kept_and_not_asked_for_thumbs(page: Page, server: Server) -> None:
    answered(page, SHIRT)
    page.get_by_label("Do not keep what I write").check()
    exchange = answered(page, SHIRT)
    expect(button(exchange, "Helpful")).to_have_count(0)
    assert server.kept == [True, False]


def pressed_until(page: Page, key: str, is_there: Callable[[], bool]) -> None:
    """Press a key until the focus is where it should get to."""
    for _ in range(40):
        if is_there():
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead there")


def has_focus(locator: Locator) -> Callable[[], bool]:
    return lambda: bool(locator.evaluate("element => element === document.activeElement"))


def test_all_of_it_works_by_keyboard(page: Page, server: Server) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the question")).to_be_focused()
    expect(page.get_by_text("Skip to the question")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Enter")
    pressed_until(page, "Tab", has_focus(field(page)))
    outline = field(page).evaluate("element => getComputedStyle(element).outlineWidth")
    assert outline == "3px", "where the focus is can be seen"
    page.keyboard.type(SHIRT)
    page.keyboard.press("Enter")
    exchange = page.locator(".exchange").nth(1)
    expect(exchange.locator("details")).to_be_visible()
    pressed_until(page, "Shift+Tab", has_focus(exchange.locator("summary")))
    page.keyboard.press("Enter")
    expect(exchange.locator("details code").first).to_be_visible()
    pressed_until(page, "Shift+Tab", has_focus(button(exchange, "Helpful")))
    page.keyboard.press("Space")
    expect(button(exchange, "Helpful")).to_have_attribute("aria-pressed", "true")
    more = exchange.locator(".more").last
    pressed_until(page, "Shift+Tab", has_focus(more))
    expect(more).to_be_in_viewport(ratio=1)
    page.keyboard.press("Enter")
    expect(page.locator(".exchange").last.locator(".question")).to_be_focused()
    expect(page.locator(".exchange").last.locator(".text")).to_contain_text("Its record says")
    suggestion = page.locator(".exchange").last.locator(".chip").first
    pressed_until(page, "Tab", has_focus(suggestion))
    page.keyboard.press("Enter")
    expect(page.locator(".exchange")).to_have_count(4)
    pressed_until(page, "Shift+Tab", has_focus(page.get_by_text("New conversation")))
    page.keyboard.press("Enter")
    expect(page.locator(".exchange")).to_have_count(1)
    assert len(server.told) == 1


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_scrolling_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    assert not is_wider_than_the_screen(page)
    answered(page, "W" * 300)
    exchange = answered(page, f"Zobble {HOSTILE}")
    exchange.locator("summary").click()
    answered(page, SHIRT)
    assert not is_wider_than_the_screen(page)
    expect(button(page, "Send").last).to_be_in_viewport(ratio=1)
    for target in page.locator("button:visible:not([tabindex]), a.anew, summary").all():
        box = target.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24, "large enough for a finger"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(page: Page, shop: QuotingAssistant, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert brightness == ("rgb(251, 248, 243)" if scheme == "light" else "rgb(20, 24, 23)")
    assert faults(page) == []
    exchange = answered(page, SHIRT)
    exchange.locator("summary").click()
    button(exchange, "Helpful").click()
    expect(button(exchange, "Helpful")).to_have_attribute("aria-pressed", "true")
    shop.may_go_on.clear()
    writing = ask(page, "leather wallet")
    expect(button(writing, "Stop")).to_be_visible()
    assert writing.locator(".dots i").first.evaluate("e => getComputedStyle(e).animationName") == (
        "none"
    )
    assert faults(page) == []
    shop.fault = ModelAwayError()
    shop.may_go_on.set()
    expect(writing.locator(".failure")).to_be_visible()
    page.set_viewport_size({"width": 320, "height": 640})
    assert faults(page) == []


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_planted_text_is_shown_and_does_nothing(page: Page) -> None:
    exchange = answered(page, f"Zobble {HOSTILE}")
    expect(exchange.locator(".question p")).to_have_text(f"Zobble {HOSTILE}")
    expect(exchange.locator(".text")).to_contain_text(HOSTILE)
    card = exchange.locator(".card").first
    expect(card.get_by_role("heading")).to_contain_text(HOSTILE)
    expect(card.locator("dd")).to_have_text(HOSTILE)
    assert exchange.locator("script, img, a, b, template").count() == 0
    button(exchange, EARLIER).click()
    last = page.locator(".exchange").last
    expect(last.locator("details")).to_be_visible()
    expect(last.locator(".text li").first).to_have_text(f"Zobble {HOSTILE}")


def test_a_model_that_is_away_is_said_and_asked_again(page: Page, shop: QuotingAssistant) -> None:
    answered(page, EXAMPLE)
    shop.fault = ModelAwayError("engine 7 is dead")
    exchange = ask(page, SHIRT)
    expect(exchange.locator(".failure")).to_contain_text("away at the moment")
    expect(page.get_by_role("status")).to_contain_text("away at the moment")
    shop.fault = None
    button(exchange, "Try again").click()
    expect(page.locator(".card")).not_to_have_count(0)
    expect(page.locator(".failure")).to_have_count(0)
    expect(page.locator(".exchange")).to_have_count(3)
    answer = answered(page, EARLIER)
    expect(answer.locator(".text li")).to_have_text([EXAMPLE, SHIRT])


def test_a_full_queue_is_said_and_asked_again(
    page: Page, server: Server, errors: list[str]
) -> None:
    server.is_full = True
    field(page).fill(SHIRT)
    field(page).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Many people are asking")
    expect(field(page)).to_have_value(SHIRT)
    server.is_full = False
    button(page, "Try again").click()
    expect(page.locator(".card")).to_have_count(4)
    expect(page.get_by_role("alert")).to_have_text("")
    assert [error for error in errors if "429" not in error] == []
    errors.clear()


def test_writing_can_be_stopped(page: Page, shop: QuotingAssistant) -> None:
    shop.may_go_on.clear()
    exchange = ask(page, SHIRT)
    expect(exchange.locator(".text")).to_have_text("These come closest")
    button(exchange, "Stop").click()
    expect(exchange).to_contain_text("You stopped this answer.")
    expect(exchange.locator(".text")).to_have_text("These come closest")
    expect(page.get_by_role("alert")).to_have_text("")
    while not shop.ended:
        page.wait_for_timeout(10)
    assert shop.ended in (["CancelledError"], ["GeneratorExit"])
    shop.may_go_on.set()
    answered(page, EXAMPLE)


def test_another_question_takes_the_place_of_an_answer(page: Page, shop: QuotingAssistant) -> None:
    shop.may_go_on.clear()
    first = ask(page, SHIRT)
    expect(first.locator(".text")).to_have_text("These come closest")
    second = ask(page, EXAMPLE)
    expect(button(page, "Stop")).to_have_count(1)
    expect(first).to_contain_text("You stopped this answer.")
    expect(second.locator(".text")).to_have_text("These come closest")
    shop.may_go_on.set()
    expect(second.locator("details")).to_be_visible()
    expect(page.locator("details")).to_have_count(1)
    answer = answered(page, EARLIER)
    expect(answer.locator(".text li")).to_have_text([EXAMPLE])


def test_a_conversation_outlives_the_server(
    page: Page, server: Server, shop: QuotingAssistant, errors: list[str]
) -> None:
    answered(page, EXAMPLE)
    shop.may_go_on.clear()
    exchange = ask(page, SHIRT)
    expect(exchange.locator(".text")).to_have_text("These come closest")
    server.stop()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("cannot be reached")
    expect(button(page, "Stop")).to_have_count(0)
    shop.may_go_on.set()
    button(page, "Try again").click()
    page.wait_for_timeout(200)
    expect(alert).to_contain_text("cannot be reached")
    server.start()
    button(page, "Try again").click()
    expect(page.locator(".exchange").last.locator(".card")).to_have_count(4)
    expect(alert).to_have_text("")
    answer = answered(page, EARLIER)
    expect(answer.locator(".text li")).to_have_text([EXAMPLE, SHIRT])
    told = ("ERR_", "Failed to fetch", "htmx:sse:error: network error")
    assert [error for error in errors if not any(one in error for one in told)] == []
    errors.clear()


def test_it_works_without_javascript(page: Page) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setScriptExecutionDisabled", {"value": True})
    page.reload()
    field(page).fill(SHIRT)
    field(page).press("Enter")
    expect(page.locator(".card")).to_have_count(4)
    button(page, EARLIER).click()
    expect(page.locator(".exchange").last.locator(".text li")).to_have_text([SHIRT])
    expect(page.locator(".exchange")).to_have_count(3)
    session.send("Emulation.setScriptExecutionDisabled", {"value": False})
    page.goto("about:blank")
    page.go_back()
