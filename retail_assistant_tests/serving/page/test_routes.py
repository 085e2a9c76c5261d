"""The page's routes, as a browser without JavaScript and as somebody who means ill use them."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from httpx import Response

from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.assets import STATIC, asset
from retail_assistant.serving.page.guarding import POLICY
from retail_assistant.serving.page.router import page_router
from retail_assistant.serving.page.turn import Pieces
from retail_assistant.serving.turns import ModelAwayError
from retail_assistant_tests.serving.page.shop import EARLIER, HOSTILE, QuotingAssistant

SAME = {"Sec-Fetch-Site": "same-origin"}
HTMX = {**SAME, "HX-Request": "true"}
SHIRT = "a formal women's shirt"
PICTURE = b"\xff\xd8a picture"
REPOSITORY = Path(__file__).parents[3]


class Parsed(HTMLParser):
    """A page's tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def value(self, name: str) -> str:
        """The value of the field of this name."""
        (found,) = (one for tag, one in self.tags if tag == "input" and one.get("name") == name)
        return found["value"] or ""


def client_of(shop: QuotingAssistant, **options: Any) -> TestClient:
    settings = options.pop("settings", ServingSettings(shop_name="Marigold & Co."))
    options.setdefault("pictures", {}.get)
    app = FastAPI()
    app.include_router(page_router(shop, settings, **options))
    return TestClient(app, follow_redirects=False)


def asked(client: TestClient, question: str, conversation: str = "", **more: str) -> Response:
    form = {"question": question, "conversation": conversation, **more}
    return client.post("/chat", data=form, headers=SAME)


def test_without_javascript_a_form_gives_a_page_with_the_answer(shop: QuotingAssistant) -> None:
    told: list[tuple[str, str, bool]] = []
    client = client_of(
        shop,
        examples=lambda: ["Silver earrings"],
        on_turn=lambda question, _result, answer, *, keep: told.append((question, answer, keep)),
    )
    first = Parsed(client.get("/").text)
    assert "Marigold & Co." in first.text
    assert "Silver earrings" in first.text
    assert first.value("conversation") == "[]"
    second = asked(client, SHIRT, first.value("conversation"))
    assert second.status_code == 200
    page = Parsed(second.text)
    assert "Grinook Formal Women's Shirt" in page.text
    assert "₹1,649" in page.text
    third = Parsed(asked(client, EARLIER, page.value("conversation"), private="yes").text)
    assert f"You asked me this: {SHIRT}" in " ".join(third.text.split())
    assert [turn[0] for turn in json.loads(third.value("conversation"))] == [SHIRT, EARLIER]
    assert [(question, keep) for question, _, keep in told] == [(SHIRT, True), (EARLIER, False)]
    assert told[0][1].startswith("These come closest")
    assert client.get("/chat").headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver.evil.example"},
        {"Origin": "http://evil@testserver"},
    ],
)
@pytest.mark.fault(
    "Somebody asks without a key, by another host name, or from another site's page",
    "It is refused before its body is read",
)
def test_other_sites_cannot_post(shop: QuotingAssistant, headers: dict[str, str]) -> None:
    told: list[str] = []
    client = client_of(shop, on_feedback=lambda answer_id, _verdict: told.append(answer_id))
    ask = client.post("/chat", data={"question": SHIRT}, headers=headers)
    rate = client.post("/chat/feedback", data={"answer_id": "a", "verdict": "up"}, headers=headers)
    assert (ask.status_code, rate.status_code) == (403, 403)
    assert (shop.ended, told) == ([], [])


@pytest.mark.parametrize("origin", ["http://testserver", "https://testserver"])
def test_an_older_browser_tells_by_its_origin(shop: QuotingAssistant, origin: str) -> None:
    client = client_of(shop)
    answer = client.post("/chat", data={"question": SHIRT}, headers={"Origin": origin})
    assert answer.status_code == 200
    assert shop.ended == ["whole"]


def test_all_that_is_sent_is_under_the_policy(shop: QuotingAssistant) -> None:
    client = client_of(shop, pictures={"p": PICTURE}.get)
    answers = [
        client.get("/"),
        client.get("/pictures/p"),
        client.get("/pictures/none"),
        client.get("/chat/static/page.css"),
        client.get("/chat/static/none.js"),
        client.post("/chat", data={"question": SHIRT}),
        client.post("/chat", data={"question": SHIRT}, headers=HTMX),
        asked(client, SHIRT),
        asked(client, ""),
    ]
    assert [one.status_code for one in answers] == [200, 200, 404, 200, 404, 403, 200, 200, 422]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"]
        assert "set-cookie" not in answer.headers
    assert "unsafe" not in POLICY


@pytest.mark.parametrize(
    ("form", "status", "told"),
    [
        ({"question": " "}, 422, "Please write a question."),
        ({"private": "yes"}, 422, "Please write a question."),
        ({"question": "x" * 2_001}, 422, "at most 2000 characters"),
        ({"question": "x", "conversation": "[1]"}, 422, "cannot be read"),
        ({"question": "x", "conversation": json.dumps([["q", "a"]] * 30)}, 422, "too long"),
        ({"question": "x", "conversation": "x" * 70_000}, 413, "too much"),
        ({f"f{n}": "x" for n in range(30)}, 422, "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_said(
    shop: QuotingAssistant, form: dict[str, str], status: int, told: str
) -> None:
    client = client_of(shop)
    answer = client.post("/chat", data=form, headers=SAME)
    assert (answer.status_code, shop.ended) == (status, [])
    assert told in Parsed(answer.text).text
    piece = client.post("/chat", data=form, headers=HTMX)
    assert piece.status_code == status
    assert piece.text.lstrip().startswith("<hx-partial")


def test_only_forms_are_read(shop: QuotingAssistant) -> None:
    client = client_of(shop)
    assert client.post("/chat", json={"question": "x"}, headers=SAME).status_code == 415
    headers = {**SAME, "Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"question=%ff", b"\xff", b"question"):
        assert client.post("/chat", content=body, headers=headers).status_code == 422


def test_a_full_queue_is_said_with_the_question_to_ask_again(shop: QuotingAssistant) -> None:
    def refuse() -> None:
        raise HTTPException(429, {"error": "internal"}, headers={"Retry-After": "7"})

    client = client_of(shop, admitted=refuse)
    conversation = '[["q","a"]]'
    answer = asked(client, SHIRT, conversation)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    page = Parsed(answer.text)
    assert "Many people are asking" in page.text
    assert "internal" not in answer.text
    assert page.value("conversation") == conversation
    assert ("button", SHIRT) in [(tag, one.get("value")) for tag, one in page.tags]
    form = {"question": SHIRT, "conversation": conversation}
    piece = client.post("/chat", data=form, headers=HTMX)
    assert (piece.status_code, piece.headers["retry-after"]) == (429, "7")
    assert ("button", SHIRT) in [(tag, one.get("value")) for tag, one in Parsed(piece.text).tags]
    assert shop.ended == []


def test_a_place_is_held_until_the_answer_is_sent(shop: QuotingAssistant) -> None:
    ended_when_freed: list[list[str]] = []

    async def place() -> AsyncIterator[None]:
        yield
        ended_when_freed.append(list(shop.ended))

    client = client_of(shop, admitted=place)
    with client.stream("POST", "/chat", data={"question": SHIRT}, headers=HTMX) as answer:
        events = "".join(answer.iter_text())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "₹1,649" in events
    assert ended_when_freed == [["whole"]]


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        (ModelAwayError("engine 7 at 10.0.0.3 is dead"), 503, "away at the moment"),
        (ValueError("secret of a shopper"), 500, "Something went wrong"),
    ],
)
def test_a_turn_that_fails_says_so_and_no_more(
    shop: QuotingAssistant,
    fault: Exception,
    status: int,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop.fault = fault
    client = client_of(shop)
    answer = asked(client, SHIRT, '[["q","a"]]')
    assert answer.status_code == status
    page = Parsed(answer.text)
    assert told in page.text
    assert page.value("conversation") == '[["q","a"]]'
    events = client.post("/chat", data={"question": SHIRT}, headers=HTMX)
    assert events.status_code == 200
    assert told in events.text
    assert str(fault) not in answer.text + events.text + caplog.text


def test_a_turn_may_not_last_for_ever(shop: QuotingAssistant) -> None:
    shop.may_go_on.clear()
    client = client_of(shop, settings=ServingSettings(turn_seconds=0.2))
    answer = asked(client, SHIRT)
    assert answer.status_code == 504
    assert "took too long" in answer.text
    assert shop.ended == ["CancelledError"]


class NoPlaces:
    """Turns of an application whose queue is full."""

    @asynccontextmanager
    async def open(self, _messages: object, _max_tokens: int) -> AsyncIterator[Pieces]:
        raise HTTPException(429, "secret of the queue")
        yield


def test_turns_are_opened_where_the_application_opens_them(shop: QuotingAssistant) -> None:
    client = client_of(shop)
    client.app.state.turns = NoPlaces()  # type: ignore[attr-defined]
    answer = asked(client, SHIRT)
    events = client.post("/chat", data={"question": SHIRT}, headers=HTMX)
    assert (answer.status_code, events.status_code, shop.ended) == (429, 200, [])
    for told in (answer.text, events.text):
        assert "Many people are asking" in told
        assert "secret" not in told


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_planted_text_is_only_ever_text(shop: QuotingAssistant) -> None:
    client = client_of(shop, on_feedback=print)
    page = asked(client, f"Zobble {HOSTILE}")
    parsed = Parsed(page.text)
    assert page.text.count("<script") == 3, "the page's own"
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"img", "b", "hx-partial"})
    assert [one["href"] for tag, one in parsed.tags if tag == "a"] == ["#question", "/"]
    assert parsed.text.count(HOSTILE) >= 8
    events = client.post("/chat", data={"question": f"Zobble {HOSTILE}"}, headers=HTMX).text
    html = "\n".join(line.removeprefix("data: ") for line in events.splitlines())
    tags = {tag for tag, _ in Parsed(html).tags}
    assert not tags & {"script", "img", "a", "b", "template"}
    targets = {one["hx-target"] for tag, one in Parsed(html).tags if tag == "hx-partial"}
    assert "body" not in targets
    assert html.count("<hx-partial") == html.count("</hx-partial")


def test_thumbs_are_told_of(shop: QuotingAssistant) -> None:
    told: list[tuple[str, str]] = []
    client = client_of(shop, on_feedback=lambda *verdict: told.append(verdict))
    form = {"answer_id": "answer-1", "verdict": "down"}
    assert client.post("/chat/feedback", data=form, headers=SAME).status_code == 204
    pressed = client.post("/chat/feedback", data=form, headers=HTMX)
    buttons = [one for tag, one in Parsed(pressed.text).tags if tag == "button"]
    assert [one["aria-pressed"] for one in buttons] == ["false", "true"]
    assert told == [("answer-1", "down")] * 2
    for wrong in ({"answer_id": "a b"}, {"answer_id": "x" * 200}, {"verdict": "sideways"}):
        refused = client.post("/chat/feedback", data={**form, **wrong}, headers=SAME)
        assert refused.status_code == 422
    assert len(told) == 2


@pytest.mark.parametrize("wanted", [True, False])
def test_where_no_feedback_is_kept_there_are_no_thumbs(
    shop: QuotingAssistant, wanted: bool
) -> None:
    settings = ServingSettings(feedback=wanted)
    client = client_of(
        shop, settings=settings, on_feedback=print if not wanted else None, on_turn=None
    )
    page = asked(client, SHIRT).text
    assert "thumb" not in page
    assert "Do not keep" not in page
    form = {"answer_id": "a", "verdict": "up"}
    assert client.post("/chat/feedback", data=form, headers=SAME).status_code == 404


def test_pictures_have_a_type_and_are_kept(shop: QuotingAssistant, tmp_path: Path) -> None:
    file = tmp_path / "picture.jpg"
    file.write_bytes(PICTURE)
    client = client_of(shop, pictures={"file": file, "object": PICTURE, "a b": file}.get)
    for product_id in ("file", "object", "a%20b"):
        answer = client.get(f"/pictures/{product_id}")
        assert (answer.status_code, answer.content) == (200, PICTURE)
        assert answer.headers["content-type"] == "image/jpeg"
        assert "max-age=604800" in answer.headers["cache-control"]
    for wrong in ("none", "..%2f..%2fetc%2fpasswd", "%2e%2e", "x" * 300, "file%00"):
        assert client.get(f"/pictures/{wrong}").status_code == 404


def test_a_card_has_a_picture_where_there_is_one(shop: QuotingAssistant) -> None:
    product_id = "67e9e228992a7ce3ebc7227697ebfacf"
    page = Parsed(asked(client_of(shop, pictures={product_id: PICTURE}.get), SHIRT).text)
    images = [one["src"] for tag, one in page.tags if tag == "img"]
    assert images == [f"/pictures/{product_id}"]


@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
def test_only_listed_files_are_served(shop: QuotingAssistant) -> None:
    client = client_of(shop)
    for name, media_type in STATIC.items():
        answer = client.get(f"/chat/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert "immutable" in answer.headers["cache-control"]
    for wrong in ("vendor/README.md", "..%2frouter.py", "../router.py", "vendor/", ""):
        assert client.get(f"/chat/static/{wrong}").status_code == 404


def test_the_page_loads_nothing_from_elsewhere(shop: QuotingAssistant) -> None:
    html = asked(client_of(shop), SHIRT).text
    addresses = re.findall(r"(?:src|href|action|hx-post)=\"([^\"]*)\"", html)
    assert addresses
    assert all(one.startswith(("/", "#")) and not one.startswith("//") for one in addresses)
    assert "<style" not in html
    assert " style=" not in html
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)


def test_behind_a_path_all_addresses_have_it(shop: QuotingAssistant) -> None:
    app = FastAPI(root_path="/shop")
    app.include_router(page_router(shop, ServingSettings(), pictures={}.get, on_feedback=print))
    html = asked(TestClient(app), SHIRT).text
    addresses = re.findall(r"(?:src|href|action|hx-post)=\"(/[^\"]*)\"", html)
    assert all(one.startswith("/shop/") for one in addresses)


def test_brought_along_files_are_those_that_are_named() -> None:
    folder = asset("page.css")
    assert folder is not None
    vendor = folder.path.parent / "vendor"
    rows = re.findall(
        r"\| `(\S+)` \| `\S+` \| `([0-9a-f]{64})` \|", (vendor / "README.md").read_text()
    )
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.iterdir()}
    assert dict(rows) == {name: sum_ for name, sum_ in found.items() if name != "README.md"}
    packaged = (REPOSITORY / "setup.cfg").read_text()
    for pattern in ("static/*", "static/vendor/*", "templates/*"):
        assert f"serving/page/{pattern}" in packaged
