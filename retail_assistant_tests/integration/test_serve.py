"""`retail-assistant serve` on a promoted model: vLLM, API and page, in processes of their own."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai  # noqa: TID253 (no code location is loaded here)
import psutil
import pytest
from playwright.sync_api import Page, expect

from retail_assistant.launch.ray_head import free_port
from retail_assistant.serving.model_servers.server import GUARD
from retail_assistant.serving.reviewing import NOTHING_LEFT
from retail_assistant_tests.integration.line import BIN, FinishedLine

pytestmark = pytest.mark.slow

SECONDS_TO_START = 240.0
SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """A server that is up."""

    line: FinishedLine
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def ready(self) -> httpx.Response:
        return httpx.get(f"{self.url}/ready", timeout=SECONDS)

    def wait_until_ready(self, seconds: float = SECONDS_TO_START) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.ready().status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)

    def writers(self) -> list[psutil.Process]:
        """vLLM's processes; not the guard beside them, whose command line names vLLM, too."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        commands = [(one, " ".join(one.cmdline())) for one in family]
        return [one for one, words in commands if "vllm" in words.lower() and GUARD not in words]


@contextmanager
def _serving(line: FinishedLine, log: Path) -> Iterator[Served]:
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [BIN / "retail-assistant", "serve", "--port", str(port)],
            env=line.environment | {"RETAIL_SERVING_WATCH_SECONDS": "0.5"},
            cwd=line.storage.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Served(line, f"http://127.0.0.1:{port}", process, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def served(
    finished_line: FinishedLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The finished line's grounded job, served."""
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with finished_line.promoted("tiny-grounded"), _serving(finished_line, log) as server:
        server.wait_until_ready()
        yield server


def _asked(served: Served, *texts: str) -> tuple[str, dict[str, Any]]:
    """A conversation's last answer, and what it was made from."""
    messages = [{"role": "user", "content": text} for text in texts]
    answer = served.client.chat.completions.create(model="retail-assistant", messages=messages)  # type: ignore[arg-type]
    extension: dict[str, Any] = (answer.model_extra or {})["retail_assistant"]
    return answer.choices[0].message.content or "", extension


def test_the_champion_answers_and_says_what_made_the_answer(served: Served) -> None:
    question, product = served.line.asked()[0]
    text, made = _asked(served, question)
    # A model of random weights says nothing that a record says, so nothing of it is left.
    assert text == NOTHING_LEFT
    assert made["written_by"] == "model"
    assert made["citations"] == [product]
    assert made["versions"]["job"] == "tiny-grounded"
    name = served.client.models.list().data[0].id
    assert name == f"tiny-grounded-{made['versions']['adapter']}"


def test_a_follow_up_is_about_the_same_product(served: Served) -> None:
    question, product = served.line.asked()[0]
    text, made = _asked(served, question, "what does it cost?")
    (card,) = made["products"]
    assert card["product_id"] == product
    assert f"{card['price']:,.0f}" in text


def test_a_stream_ends_with_its_products(served: Served) -> None:
    chunks = list(
        served.client.chat.completions.create(
            model="retail-assistant",
            messages=[{"role": "user", "content": "show me the cheapest shirts"}],
            stream=True,
        )
    )
    made = [(one.model_extra or {}).get("retail_assistant") for one in chunks]
    (result,) = filter(None, made)
    prices = [card["price"] for card in result["products"]]
    assert prices == sorted(prices)
    assert len(prices) > 1


def test_the_page_answers(
    served: Served, chromium_page: Page, external_requests: list[str]
) -> None:
    chromium_page.goto(served.url)
    chromium_page.get_by_role("textbox").fill("show me shirts under 2000")
    chromium_page.keyboard.press("Enter")
    expect(chromium_page.get_by_role("log")).to_contain_text("shirts under")
    assert external_requests == []


def test_killed_while_it_writes_it_comes_back(served: Served) -> None:
    question, _ = served.line.asked()[0]
    assert served.writers()
    for process in served.writers():
        process.kill()
    with pytest.raises(openai.APIStatusError) as refused:
        _asked(served, question)
    assert refused.value.status_code == 503
    assert served.ready().status_code == 503
    # Searches need no model.
    assert _asked(served, "show me shirts")[1]["written_by"] == "catalog"
    served.wait_until_ready()
    assert _asked(served, question)[1]["written_by"] == "model"


def test_another_champion_takes_over(served: Served) -> None:
    question, _ = served.line.asked()[0]
    with served.line.promoted("tiny-closed-book", event=2):
        deadline = time.monotonic() + SECONDS_TO_START
        while (made := _asked(served, question)[1])["versions"]["event"] != 2:
            assert made["versions"]["job"] == "tiny-grounded"
            assert time.monotonic() < deadline, served.log.read_text()
            time.sleep(0.5)
        assert made["versions"]["job"] == "tiny-closed-book"
        with pytest.raises(openai.NotFoundError):
            served.client.chat.completions.create(
                model="tiny-grounded-of-before", messages=[{"role": "user", "content": "hi"}]
            )


def test_a_batch_is_answered_in_order(served: Served, tmp_path: Path) -> None:
    questions = [question for question, _ in served.line.asked()][:3]
    given, answers = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    lines = [json.dumps({"id": number, "question": one}) for number, one in enumerate(questions)]
    given.write_text("\n".join([*lines, "no json"]))
    ended = served.line.call("batch", "--input", str(given), "--output", str(answers))
    assert ended.code == 0, ended.words
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row.get("id") for row in rows[:3]] == [0, 1, 2]
    assert all(row["result"]["versions"]["job"] == "tiny-grounded" for row in rows[:3])
    assert rows[3]["error"]["reason"] == "bad_line"


def test_ended_it_leaves_nothing_running(served: Served) -> None:
    writers = served.writers()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(SECONDS) == 0
    _, left = psutil.wait_procs(writers, timeout=SECONDS)
    assert not left
    log = served.log.read_text()
    assert "Traceback" not in log
    # Logs hold no text of shoppers.
    assert "cheapest" not in log
