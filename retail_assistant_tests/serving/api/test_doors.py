"""What strangers find: documented routes, headers, no other names, and nothing of the inside."""

import html
import json
import logging
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from retail_assistant.serving.api.admission import AdmittedCaller
from retail_assistant.serving.api.errors import ApiError
from retail_assistant.serving.api.streaming import TurnStream
from retail_assistant.serving.turns import ModelAwayError, TurnResult
from retail_assistant.telemetry.logs import FOR_SERVERS, CloudFormatter, RedactingFormatter
from retail_assistant_tests.serving.api.shops import SECRET, Shop, open_shop

ROUTE = "/v1/chat/completions"
VLLM_ROUTES = (
    "/v1/load_lora_adapter",
    "/v1/completions",
    "/sleep",
    "/reset_prefix_cache",
    "/tokenize",
    "/version",
    "/docs",
    "/redoc",
    "/v1/chat/completions/",
    "//v1/models",
)


def error_of(response: httpx2.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = document["error"]
    return error


@pytest.mark.parametrize("path", VLLM_ROUTES)
def test_only_what_is_documented_is_there(shop: Shop, path: str) -> None:
    for method in ("GET", "POST"):
        refused = httpx2.request(method, shop.url + path)
        assert (refused.status_code, error_of(refused)["code"]) == (404, "not_found")


def test_the_description_names_every_route(shop: Shop) -> None:
    described = shop.get("/openapi.json").json()
    assert set(described["paths"]) == {
        ROUTE,
        "/v1/models",
        "/health",
        "/ready",
        "/metrics",
    }
    assert "422" not in json.dumps(described)


def test_wrong_methods_are_told_the_right_ones(shop: Shop) -> None:
    refused = shop.get(ROUTE)
    assert (refused.status_code, error_of(refused)["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"
    assert httpx2.options(shop.url + ROUTE).status_code == 405
    assert error_of(httpx2.delete(f"{shop.url}/health"))


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 20_000, "application/json", 400),
        (b'{"messages": [{"role": "user", "content": "\\ud800 blue"}]}', "application/json", 400),
        (b'{"max_tokens": ' + b"9" * 5_000 + b"}", "application/json", 400),
        (b'{"messages": [{"role": "user", "content": "blue"}]}', "text/plain", 415),
        (b"messages=blue", "application/x-www-form-urlencoded", 415),
        (b"x", "application/json-seq", 415),
    ],
)
@pytest.mark.fault(
    "Any request that the API's description allows or forbids, and bodies that are none",
    "An answer that the description names, never a server error",
)
def test_bodies_that_are_none(shop: Shop, content: bytes, kind: str, status: int) -> None:
    refused = httpx2.post(shop.url + ROUTE, content=content, headers={"Content-Type": kind})
    assert refused.status_code == status, refused.text
    assert error_of(refused)


def test_every_answer_has_the_headers(shop: Shop) -> None:
    answers = [
        shop.get("/health"),
        shop.get("/nothing"),
        shop.get(ROUTE),
        shop.ask("blue"),
        shop.ask("blue", stream=True),
        shop.ask("broken"),
        shop.get("/health", Host="evil.example"),
    ]
    for answer in answers:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


@pytest.mark.fault(
    "Somebody asks without a key, by another host name, or from another site's page",
    "It is refused before its body is read",
)
def test_other_names_are_not_answered(shop: Shop, tmp_path: Path) -> None:
    for name in ("evil.example", "evil.example:80", "localhost.evil.example", "[::1", ""):
        refused = shop.get("/health", Host=name)
        assert refused.status_code == 421, name
        assert error_of(refused)["code"] == "unknown_host"
    for name in ("localhost", f"LOCALHOST:{shop.port}", "127.0.0.1", "[::1]:80"):
        assert shop.get("/health", Host=name).status_code == 200
    with open_shop(tmp_path, allowed_hosts="shop.example,localhost") as named:
        assert named.get("/health", Host="shop.example").status_code == 200
        assert named.get("/health").status_code == 421
    with open_shop(tmp_path, host="0.0.0.0") as public:
        assert public.get("/health", Host="shop.example").status_code == 200


@pytest.mark.fault(
    "Somebody asks without a key, by another host name, or from another site's page",
    "It is refused before its body is read",
)
def test_other_sites_may_call_where_they_are_allowed(shop: Shop, tmp_path: Path) -> None:
    asks = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    assert httpx2.options(shop.url + ROUTE, headers=asks).status_code == 405
    with open_shop(tmp_path, allowed_origins="https://shop.example") as open_to:
        may = httpx2.options(open_to.url + ROUTE, headers=asks)
        assert may.status_code == 200
        assert may.headers["access-control-allow-origin"] == "https://shop.example"
        called = open_to.get("/v1/models", Origin="https://shop.example")
        assert called.headers["access-control-allow-origin"] == "https://shop.example"
        asks["Origin"] = "https://evil.example"
        assert httpx2.options(open_to.url + ROUTE, headers=asks).status_code == 400
        assert "access-control-allow-origin" not in open_to.get("/v1/models", **asks).headers


class LoggedLines(logging.Handler):
    """Everything that is logged here."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(formatter)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + "\n"


@pytest.mark.parametrize("formatter", [RedactingFormatter(FOR_SERVERS), CloudFormatter()])
@pytest.mark.parametrize("log_text", [False, True])
def test_texts_are_in_no_answer_and_in_the_log_only_where_asked(
    tmp_path: Path, log_text: bool, formatter: logging.Formatter
) -> None:
    lines, root = LoggedLines(formatter), logging.getLogger()
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    try:
        with open_shop(tmp_path, log_text=log_text) as shop:
            answers = [
                shop.ask("broken blue"),
                shop.ask("away"),
                shop.ask("breaks", stream=True),
                shop.ask("leaves", stream=True),
                shop.ask("unsaid"),
                shop.ask("blue shirt for Ann Example"),
                httpx2.get(f"{shop.url}/secret-path?secret=query"),
            ]
            shop.records.not_ready = ValueError(SECRET)
            answers.append(shop.get("/ready"))
    finally:
        root.removeHandler(lines)
        root.setLevel(level)
    for answer in answers:
        for word in ("10.0.0.7", "ValueError", "Traceback", ".py"):
            assert word not in answer.text
    failed = answers[0]
    number = failed.headers["x-request-id"]
    assert failed.status_code == 500
    assert number in error_of(failed)["message"]
    assert f"request {number} failed: ValueError" in lines.text
    ours = [line for line in lines.text.splitlines() if "HTTP Request" not in line]
    told = "\n".join(ours)
    assert f"{number} POST {ROUTE} 500" in told
    assert ("10.0.0.7" in told) is log_text
    assert ("Ann Example" in told) is log_text
    assert ("Blue Shirt costs" in told) is log_text
    assert "secret-path" not in told
    assert "secret=query" not in told


def test_in_json_a_request_s_events_are_known_by_its_id(tmp_path: Path) -> None:
    lines, root = LoggedLines(CloudFormatter()), logging.getLogger("retail_assistant")
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.INFO)
    try:
        with open_shop(tmp_path) as shop:
            number = shop.ask("broken blue").headers["x-request-id"]
    finally:
        root.removeHandler(lines)
        root.setLevel(level)
    events = map(json.loads, lines.text.splitlines())
    failed, access = [event for event in events if event.get("request_id") == number]
    assert (failed["severity"], access["severity"]) == ("ERROR", "INFO")
    assert access["caller"].startswith("address ")
    request = access["httpRequest"]
    assert (request["requestMethod"], request["requestUrl"], request["status"]) == (
        "POST",
        ROUTE,
        500,
    )


def test_readiness_is_the_model_s_and_asked_once_a_second(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        shop.records.not_ready = "The model is being loaded."
        refused = shop.get("/ready")
        assert (refused.status_code, error_of(refused)["code"]) == (503, "not_ready")
        assert error_of(refused)["message"] == shop.records.not_ready
        assert shop.get("/health").status_code == 200
        shop.records.not_ready = ModelAwayError(SECRET)
        shop.until(lambda: "does not answer" in shop.get("/ready").text)
        shop.records.not_ready = None
        shop.until(lambda: shop.get("/ready").status_code == 200)
        before = shop.records.ready_asked
        answers = [shop.get("/ready").json() for _ in range(20)]
        assert answers == [{"status": "ready"}] * 20
        # A second may pass meanwhile on a slow machine, twenty do not.
        assert shop.records.ready_asked - before < 20


def test_turns_are_counted(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        shop.ask("blue")
        shop.ask("blue, and a lämp", stream=True)
        shop.ask("unicorn")
        shop.ask("away")
        shop.get("/nothing/of/ours")
        turns = 'retail_turns_total{declined="%s",intent="question",written_by="model"}'
        assert shop.metric(turns % "no") == 2
        assert shop.metric(turns % "not_carried") == 1
        assert shop.metric('retail_corrections_total{action="corrected"}') == 1
        assert shop.metric('retail_turn_failures_total{reason="model_away"}') == 1
        assert shop.metric("retail_time_to_first_token_seconds_count") == 3
        assert shop.metric("retail_turn_seconds_count") == 3
        assert shop.metric('retail_tokens_total{kind="prompt"}') == 60
        requests = 'retail_requests_total{method="%s",route="%s",status="%s"}'
        assert shop.metric(requests % ("POST", ROUTE, "200")) == 3
        assert shop.metric(requests % ("POST", ROUTE, "503")) == 1
        assert shop.metric(requests % ("GET", "other", "404")) == 1
        assert "nothing/of/ours" not in shop.get("/metrics").text


class Lines:
    """A turn as a page might show it."""

    media_type = "text/html"

    def text(self, piece: str) -> bytes:
        return html.escape(piece).encode()

    def result(self, result: TurnResult) -> bytes:
        return f"<ul>{len(result.products)}</ul>".encode()

    def failed(self, error: ApiError) -> bytes:
        return f"<p>{error.message}</p>".encode()


def test_others_may_add_numbers(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        shop.app.state.metrics.watch("retail_model_starts", "Starts.", lambda: 3)
        assert shop.metric("retail_model_starts") == 3


def page() -> APIRouter:
    """What the chat page does: no key, its own headers, the same turns."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def show() -> HTMLResponse:
        return HTMLResponse("hello", headers={"Content-Security-Policy": "script-src 'self'"})

    @router.post("/chat")
    async def chat(request: Request, caller: AdmittedCaller) -> Response:
        messages = [{"role": "user", "content": "blue"}]
        text, result = await request.app.state.turns.whole(messages, 9)
        return Response(f"{caller.name}: {text} {result.citations}")

    @router.post("/stream")
    async def stream(request: Request, caller: AdmittedCaller) -> Response:
        messages = [{"role": "user", "content": (await request.body()).decode()}]
        return TurnStream(request.app.state.turns.open(messages, 9), Lines())

    return router


@pytest.mark.fault(
    "Somebody asks without a key, by another host name, or from another site's page",
    "It is refused before its body is read",
)
def test_a_page_asks_without_a_key_but_only_that_page(tmp_path: Path) -> None:
    with open_shop(tmp_path, routers=[page()], require_keys=True, requests_per_minute=7) as shop:
        assert shop.ask("blue").status_code == 401
        shown = shop.get("/")
        assert shown.headers["content-security-policy"] == "script-src 'self'"
        assert shown.headers["x-content-type-options"] == "nosniff"
        address = f"{shop.url}/chat"
        for headers, status in (
            ({"Sec-Fetch-Site": "same-origin"}, 200),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": shop.url}, 200),
        ):
            assert httpx2.post(address, headers=headers).status_code == status
        assert "shirt-1" in httpx2.post(address).text
        shown = httpx2.post(f"{shop.url}/stream", content="lämp")
        assert shown.text == "Well: Lämp &lt;b&gt; costs 1299.5. <ul>1</ul>"
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        broken = httpx2.post(f"{shop.url}/stream", content="leaves")
        assert broken.text.startswith("Well: <p>The assistant")
        statuses = [httpx2.post(address).status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert "/chat" not in shop.get("/openapi.json").text.replace("/v1/chat", "")
