"""`retail-assistant chat` on a promoted model, in a process of its own."""

from collections.abc import Iterator

import pytest

from retail_assistant.corpus.rendering import item_code
from retail_assistant.serving.reviewing import NOTHING_LEFT
from retail_assistant.storage import TableStore
from retail_assistant_tests.integration.line import FinishedLine

pytestmark = pytest.mark.slow


@pytest.fixture
def promoted_line(finished_line: FinishedLine) -> Iterator[FinishedLine]:
    """The finished line with its grounded job promoted by hand, for one test."""
    with finished_line.promoted("tiny-grounded"):
        yield finished_line


def test_nothing_to_chat_with_is_said_in_one_line(finished_line: FinishedLine) -> None:
    ended = finished_line.call("chat", "--question", "Do you sell shoes?")
    assert ended.code == 2
    assert "nothing was promoted yet; `make run` promotes a first model" in ended.words
    assert "Traceback" not in ended.words


def test_an_answer_is_checked_and_its_products_follow(promoted_line: FinishedLine) -> None:
    question, product = promoted_line.asked()[0]
    ended = promoted_line.call("chat", "--question", question)
    assert ended.code == 0
    assert "tiny-grounded" in ended.words
    # What a model of random weights writes is in no record.
    assert NOTHING_LEFT in ended.words
    assert f" {item_code(product)} {_name(promoted_line, product)}" in ended.words


def test_a_conversation_through_a_pipe(promoted_line: FinishedLine) -> None:
    question, product = promoted_line.asked()[0]
    ended = promoted_line.call("chat", given=f"{question}\nwhat does it cost?\n")
    assert ended.code == 0
    assert "Traceback" not in ended.words
    assert ended.output.count(f"  {item_code(product)}  ") == 2
    assert f"{_name(promoted_line, product)} costs \u20b9" in ended.words


def _name(line: FinishedLine, product: str) -> str:
    assortment = TableStore(line.storage).ref("assortment").read()
    return " ".join(assortment.filter(product_id=product)["name"].item().split())
