"""Limits: of rates, of turns at a time, of bodies, of time; and clients that go away."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from retail_assistant.corpus.rendering import MAX_TEXT_CHARACTERS
from retail_assistant.serving.api.admission import MAX_CALLERS, Admission, Caller
from retail_assistant.serving.api.errors import ApiError
from retail_assistant.serving.api.keys import ApiKeys
from retail_assistant.serving.options import ServingSettings
from retail_assistant_tests.serving.api.shops import Shop, events_of, open_shop

ROUTE = "/v1/chat/completions"


def raw(shop: Shop, headers: str, body: bytes = b"") -> socket.socket:
    """A connection on which a request was begun."""
    connection = socket.create_connection(("127.0.0.1", shop.port), timeout=30)
    lines = f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{lines}{headers}\r\n\r\n".encode() + body)
    return connection


def asking(shop: Shop, question: str, *, stream: bool = False) -> socket.socket:
    body = json.dumps({"messages": [{"role": "user", "content": question}], "stream": stream})
    return raw(shop, f"Content-Length: {len(body)}", body.encode())


@pytest.mark.fault(
    "More is asked than the server answers, by one caller or by many",
    "So many run, so many wait, more get 429; memory is bounded",
)
def test_each_key_has_its_own_rate(tmp_path: Path) -> None:
    with open_shop(tmp_path, requests_per_minute=3) as shop:
        ann, bob = (shop.keys.add(name) for name in ("ann", "bob"))
        statuses = [shop.ask("blue", key=ann).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = shop.ask("blue", key=ann)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["code"] == "rate_limited"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert shop.ask("blue", key=bob).status_code == 200


@pytest.mark.fault(
    "More is asked than the server answers, by one caller or by many",
    "So many run, so many wait, more get 429; memory is bounded",
)
def test_without_keys_each_address_has_a_rate_whatever_it_says_of_itself(tmp_path: Path) -> None:
    with open_shop(tmp_path, requests_per_minute=2) as shop:
        for number, status in enumerate((200, 200, 429)):
            told = shop.get(
                "/v1/models",
                **{"X-Forwarded-For": f"10.0.0.{number}", "Authorization": f"Bearer {number}"},
            )
            assert told.status_code == status


@pytest.mark.fault(
    "More is asked than the server answers, by one caller or by many",
    "So many run, so many wait, more get 429; memory is bounded",
)
def test_the_rates_of_many_callers_take_no_more_and_more_memory(tmp_path: Path) -> None:
    admission = Admission(ServingSettings(requests_per_minute=1), ApiKeys(tmp_path))
    for number in range(2 * MAX_CALLERS + 10):
        admission.counted(Caller(None, f"10.0.{number // 256}.{number % 256}"))
        assert admission.callers <= MAX_CALLERS
    with pytest.raises(ApiError):
        admission.counted(Caller(None, f"10.0.{number // 256}.{number % 256}"))


def test_a_trusted_proxy_says_who_asks(tmp_path: Path) -> None:
    with open_shop(tmp_path, requests_per_minute=1, trusted_proxies="127.0.0.1") as shop:
        for address, status in (("10.0.0.1", 200), ("10.0.0.2", 200), ("10.0.0.1", 429)):
            told = shop.get("/v1/models", **{"X-Forwarded-For": address})
            assert told.status_code == status


@pytest.mark.fault(
    "More is asked than the server answers, by one caller or by many",
    "So many run, so many wait, more get 429; memory is bounded",
)
def test_so_many_run_so_many_wait_and_more_are_refused(tmp_path: Path) -> None:
    with (
        open_shop(tmp_path, max_running=2, max_waiting=3) as shop,
        ThreadPoolExecutor(5) as pool,
    ):
        five = [pool.submit(shop.ask, "slow blue shirt") for _ in range(5)]
        shop.until(lambda: shop.metric("retail_turns_waiting") == 3)
        assert shop.metric("retail_turns_running") == 2
        refused = shop.ask("blue", stream=True)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
        assert int(refused.headers["retry-after"]) >= 1
        shop.records.go()
        assert [one.result().status_code for one in five] == [200] * 5
        assert shop.records.most_at_once == 2
        assert shop.ask("blue").status_code == 200
        assert shop.metric('retail_turn_failures_total{reason="busy"}') == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.fault(
    "A request is too large, trickles, is announced and never comes, or nobody reads its answer",
    "It is refused or ended in time, and keeps no place",
)
def test_who_goes_away_while_waiting_leaves_the_queue(tmp_path: Path, stream: bool) -> None:
    with open_shop(tmp_path, max_running=1, max_waiting=1) as shop:
        first = asking(shop, "slow", stream=stream)
        shop.until(lambda: shop.records.running == 1)
        second = asking(shop, "never asked", stream=stream)
        shop.until(lambda: shop.metric("retail_turns_waiting") == 1)
        second.close()
        shop.until(lambda: shop.metric("retail_turns_waiting") == 0)
        # So does who goes away while it is answered, and the writing ends.
        first.close()
        shop.until(lambda: shop.records.closed == 1 and shop.records.running == 0)
        assert shop.ask("blue").status_code == 200
        assert len(shop.records.asked) == 2
        assert shop.metric('retail_turn_failures_total{reason="client_gone"}') == 2
        assert (
            shop.metric(
                'retail_requests_total{method="POST",route="/v1/chat/completions",status="499"}'
            )
            >= 1
        )


@pytest.mark.fault(
    "A request is too large, trickles, is announced and never comes, or nobody reads its answer",
    "It is refused or ended in time, and keeps no place",
)
def test_a_stream_that_nobody_reads_any_more_is_closed(tmp_path: Path) -> None:
    with open_shop(tmp_path, max_running=1, max_waiting=0) as shop:
        with closing(asking(shop, "endless", stream=True)) as connection:
            assert b"and on" in connection.recv(100_000) + connection.recv(100_000)
        shop.until(lambda: shop.records.closed == 1)
        assert shop.ask("blue").status_code == 200


@pytest.mark.fault(
    "A request is too large, trickles, is announced and never comes, or nobody reads its answer",
    "It is refused or ended in time, and keeps no place",
)
def test_a_client_that_does_not_read_keeps_no_place(tmp_path: Path) -> None:
    with (
        open_shop(tmp_path, max_running=1, max_waiting=0, turn_seconds=0.5) as shop,
        closing(asking(shop, "endless", stream=True)),
    ):
        shop.until(lambda: shop.records.closed == 1)
        assert shop.ask("blue").status_code == 200


@pytest.mark.fault(
    "A request is too large, trickles, is announced and never comes, or nobody reads its answer",
    "It is refused or ended in time, and keeps no place",
)
def test_a_turn_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with open_shop(tmp_path, turn_seconds=0.2) as shop:
        whole = shop.ask("slow")
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "timeout")
        streamed = events_of(shop.ask("slow", stream=True).text)
        assert streamed[-1]["error"]["code"] == "timeout"
        assert shop.records.closed == 2


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [2_001, 300_000])
@pytest.mark.fault(
    "A request is too large, trickles, is announced and never comes, or nobody reads its answer",
    "It is refused or ended in time, and keeps no place",
)
def test_a_body_that_is_too_long_is_refused(tmp_path: Path, chunked: bool, size: int) -> None:
    content = b'{"messages": [{"role": "user", "content": "' + b"x" * size + b'"}]}'
    parts = (content[start : start + 7_000] for start in range(0, len(content), 7_000))
    with open_shop(tmp_path, max_request_bytes=2_000) as shop, httpx2.Client() as client:
        refused = client.post(
            shop.url + ROUTE,
            content=parts if chunked else content,
            headers={"Content-Type": "application/json"},
        )
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "body_too_long"
        assert "2000" in refused.json()["error"]["message"]
        assert not shop.records.asked


@pytest.mark.fault(
    "A request is too large, trickles, is announced and never comes, or nobody reads its answer",
    "It is refused or ended in time, and keeps no place",
)
def test_a_body_of_which_too_much_is_announced_is_not_waited_for(tmp_path: Path) -> None:
    with open_shop(tmp_path, body_seconds=60) as shop:
        header = "Expect: 100-continue\r\nContent-Length: 99999999"
        with closing(raw(shop, header)) as connection:
            assert connection.recv(1_000).startswith(b"HTTP/1.1 413")


@pytest.mark.fault(
    "A request is too large, trickles, is announced and never comes, or nobody reads its answer",
    "It is refused or ended in time, and keeps no place",
)
def test_a_body_that_trickles_is_not_waited_for(tmp_path: Path) -> None:
    with open_shop(tmp_path, body_seconds=0.2) as shop:
        with closing(raw(shop, "Content-Length: 5000", b'{"messages": [')) as connection:
            told = connection.recv(10_000)
            assert told.startswith(b"HTTP/1.1 408")
            assert b"body_timeout" in told + connection.recv(10_000)
        assert not shop.records.asked


def test_long_answers_of_before_may_come_back(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        for length, status in ((MAX_TEXT_CHARACTERS, 200), (MAX_TEXT_CHARACTERS + 1, 400)):
            before = {"role": "assistant", "content": "x" * length}
            messages = [before, {"role": "user", "content": "blue"}]
            assert shop.ask("", messages=messages).status_code == status


def test_turns_that_run_may_end_when_the_server_is_told_to_stop(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop, ThreadPoolExecutor(1) as pool:
        last = pool.submit(shop.ask, "slow blue shirt", stream=True)
        shop.until(lambda: shop.records.running == 1)
        shop.server.should_exit = True
        with pytest.raises(httpx2.HTTPError):
            for _ in range(1_000):
                httpx2.get(f"{shop.url}/health")
                time.sleep(0.01)
        shop.records.go()
        assert events_of(last.result().text)[-1] == "[DONE]"
