"""`retail-assistant chat` on a promoted model, in a process of its own."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from retail_assistant.corpus.rendering import item_code
from retail_assistant.evaluation.registry import Champion
from retail_assistant.storage import TableStore
from retail_assistant_tests.integration.line import BIN, FinishedLine

pytestmark = pytest.mark.slow

SECONDS = 300


@pytest.fixture
def promoted_line(finished_line: FinishedLine) -> Iterator[FinishedLine]:
    """The finished line with its grounded job promoted by hand, for one test."""
    adapter = finished_line.adapter("tiny-grounded")
    champion = Champion(
        job="tiny-grounded",
        grounding="retrieved",
        adapter=adapter,
        base_model=adapter.manifest().inputs["base_model"],
        registered_model="not registered: placed by a test",
        why="a test",
    )
    path = finished_line.storage / "champion.json"
    path.write_text(champion.model_dump_json())
    yield finished_line
    path.unlink()


def test_nothing_to_chat_with_is_said_in_one_line(finished_line: FinishedLine) -> None:
    ended = finished_line.call("chat", "--question", "Do you sell shoes?")
    assert ended.code == 2
    assert "nothing was promoted yet; `make run` promotes a first model" in ended.words
    assert "Traceback" not in ended.words


def test_an_answer_streams_and_its_sources_follow(promoted_line: FinishedLine) -> None:
    question, product = _questions(promoted_line)[0]
    pieces = _pieces_of(promoted_line, "chat", "--question", question)
    # A model of random weights writes until it is stopped, so many pieces come one by one.
    assert len(pieces) > 10
    told = " ".join("".join(pieces).split())
    assert "tiny-grounded" in told
    assert f" {item_code(product)} {_name(promoted_line, product)}" in told


def test_two_questions_through_a_pipe_get_two_answers(promoted_line: FinishedLine) -> None:
    asked = _questions(promoted_line)[:2]
    given = "".join(f"{question}\n" for question, _ in asked)
    ended = promoted_line.call("chat", given=given)
    assert ended.code == 0
    assert "Traceback" not in ended.words
    places = [ended.output.find(f"  {item_code(product)}  ") for _, product in asked]
    assert 0 < places[0] < places[1]


def _questions(line: FinishedLine) -> list[tuple[str, str]]:
    """Questions about two unseen products, each with its product's id."""
    corpus = TableStore(line.storage).ref("prompt_corpus", "assistant").read()
    rows = corpus.filter(subset="unseen", intent="attribute").sort("dialogue_id")
    unique = rows.unique("product_id", keep="first", maintain_order=True)
    return list(unique.select("question", "product_id").iter_rows())


def _name(line: FinishedLine, product: str) -> str:
    assortment = TableStore(line.storage).ref("assortment").read()
    return " ".join(assortment.filter(product_id=product)["name"].item().split())


def _pieces_of(line: FinishedLine, *arguments: str) -> list[str]:
    """What a command wrote, in the pieces in which it reached the reader."""
    process = subprocess.Popen(
        [BIN / "retail-assistant", *arguments],
        env=line.environment,
        cwd=line.storage.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    pieces = []
    while piece := os.read(process.stdout.fileno(), 1 << 16):
        pieces.append(piece.decode(errors="replace"))
    assert process.wait(timeout=SECONDS) == 0
    return pieces
