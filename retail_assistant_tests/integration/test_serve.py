"""`retail-assistant serve` on a promoted model: vLLM, API and page, in processes of their own."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import openai  # noqa: TID253 (no code location is loaded here)
import psutil
import pytest
from playwright.sync_api import Page, expect

from retail_assistant.serving.reviewing import NOTHING_LEFT
from retail_assistant_tests.integration.line import FinishedLine
from retail_assistant_tests.integration.served import (
    SECONDS,
    SECONDS_TO_START,
    Served,
    asked,
    serving,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(
    finished_line: FinishedLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The finished line's grounded job, served."""
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with (
        finished_line.promoted("tiny-grounded"),
        serving(finished_line.environment, log) as server,
    ):
        server.wait_until_ready()
        yield server


def test_the_champion_answers_and_says_what_made_the_answer(
    served: Served, finished_line: FinishedLine
) -> None:
    question, product = finished_line.asked()[0]
    text, made = asked(served, question)
    # A model of random weights says nothing that a record says, so nothing of it is left.
    assert text == NOTHING_LEFT
    assert made["written_by"] == "model"
    assert made["citations"] == [product]
    assert made["versions"]["job"] == "tiny-grounded"
    name = served.client.models.list().data[0].id
    assert name == f"tiny-grounded-{made['versions']['adapter']}"


def test_a_follow_up_is_about_the_same_product(served: Served, finished_line: FinishedLine) -> None:
    question, product = finished_line.asked()[0]
    text, made = asked(served, question, "what does it cost?")
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


@pytest.mark.fault(
    "vLLM is killed while it answers",
    "It comes back with the adapters that it had taken in",
)
def test_killed_while_it_writes_it_comes_back(served: Served, finished_line: FinishedLine) -> None:
    question, _ = finished_line.asked()[0]
    assert served.writers()
    for process in served.writers():
        process.kill()
    with pytest.raises(openai.APIStatusError) as refused:
        asked(served, question)
    assert refused.value.status_code == 503
    assert served.ready().status_code == 503
    # Searches need no model.
    assert asked(served, "show me shirts")[1]["written_by"] == "catalog"
    served.wait_until_ready()
    assert asked(served, question)[1]["written_by"] == "model"


def test_another_champion_takes_over(served: Served, finished_line: FinishedLine) -> None:
    question, _ = finished_line.asked()[0]
    with finished_line.promoted("tiny-closed-book", event=2):
        deadline = time.monotonic() + SECONDS_TO_START
        while (made := asked(served, question)[1])["versions"]["event"] != 2:
            assert made["versions"]["job"] == "tiny-grounded"
            assert time.monotonic() < deadline, served.log.read_text()
            time.sleep(0.5)
        assert made["versions"]["job"] == "tiny-closed-book"
        with pytest.raises(openai.NotFoundError):
            served.client.chat.completions.create(
                model="tiny-grounded-of-before", messages=[{"role": "user", "content": "hi"}]
            )


def test_a_batch_is_answered_in_order(
    served: Served, finished_line: FinishedLine, tmp_path: Path
) -> None:
    questions = [question for question, _ in finished_line.asked()][:3]
    given, answers = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    lines = [json.dumps({"id": number, "question": one}) for number, one in enumerate(questions)]
    given.write_text("\n".join([*lines, "no json"]))
    ended = finished_line.call("batch", "--input", str(given), "--output", str(answers))
    assert ended.code == 0, ended.words
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row.get("id") for row in rows[:3]] == [0, 1, 2]
    assert all(row["result"]["versions"]["job"] == "tiny-grounded" for row in rows[:3])
    assert rows[3]["error"]["reason"] == "bad_line"


def test_ended_it_leaves_nothing_running(served: Served) -> None:
    writers = served.writers()
    served.process.send_signal(signal.SIGTERM)
    # Not how fast: beside other tests on two cores it may take a minute.
    assert served.process.wait(SECONDS_TO_START) == 0
    _, left = psutil.wait_procs(writers, timeout=SECONDS)
    assert not left
    log = served.log.read_text()
    assert "Traceback" not in log
    # Logs hold no text of shoppers.
    assert "cheapest" not in log
