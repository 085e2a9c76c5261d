"""From thumbs down to the knowledge that the next corpus is made from."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest

from retail_assistant.corpus.approval import ApprovalError
from retail_assistant.corpus.dialogues import dialogues_frame
from retail_assistant.corpus.knowledge import knowledge_dialogues, read_knowledge
from retail_assistant.corpus.screening import screen
from retail_assistant.serving.feedback.candidates import (
    CANDIDATES,
    CandidateError,
    approve,
    candidate_sheet,
    decisions,
    feedback_candidates,
    read_sheet,
)
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.serving.feedback.test_report import planted

PRODUCTS = pl.DataFrame({"product_id": ["p1", "p2"], "name": ["Warm Kurta", "Red Top"]})


@pytest.fixture
def candidates(tmp_path: Path) -> pl.DataFrame:
    found = planted(
        tmp_path,
        ("Do you wrap gifts?", "unknown", [], None, "one"),
        ("do you wrap gifts", "unknown", [], None, "one"),
        ("Is it lined?", None, ["p1"], "down", "one"),
        ("Is it lined?", "unknown", ["p1"], "down", "one"),
        ("=1+1 is how much?", "unknown", [], None, "one"),
        ("Where is order (NUMBER)?", "unknown", [], None, "one"),  # somebody's own
        ("Do you sell shoes?", "not_carried", [], None, "one"),  # answered by the catalog
        ("Is it warm?", None, ["p2"], "up", "one"),
        ("Is it light?", None, ["p2"], None, "one"),
    )
    return feedback_candidates(found.turns, PRODUCTS)


def filled(path: Path, sheet: str, **answers: str) -> Path:
    """The sheet with `yes` and an answer for the questions that contain a word."""
    rows = list(csv.DictReader(sheet.splitlines()))
    for row in rows:
        for word, answer in answers.items():
            if word in row["question"]:
                row |= {"approved": "yes", "answer": answer}
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_candidates_are_what_was_unknown_or_got_a_thumb_down(candidates: pl.DataFrame) -> None:
    assert dict(candidates.schema) == dict(CANDIDATES)
    rows = {row["question"].lower().rstrip("?"): row for row in candidates.to_dicts()}
    assert set(rows) == {"do you wrap gifts", "is it lined", "=1+1 is how much"}
    lined = rows["is it lined"]
    assert (lined["unknown"], lined["down"], lined["product"]) == (1, 2, "Warm Kurta")
    assert (lined["answered_so_far"], lined["comment"]) == ("so it is.", "not so")
    assert lined["answer_ids"] == ["a0002", "a0003"]
    assert rows["do you wrap gifts"]["unknown"] == 2
    assert feedback_candidates(pl.DataFrame(schema=planted_schema())).is_empty()


def planted_schema() -> pl.Schema:
    from retail_assistant.serving.feedback.records import FEEDBACK

    return pl.Schema(FEEDBACK)


def test_what_is_approved_is_in_the_next_corpus(candidates: pl.DataFrame, tmp_path: Path) -> None:
    sheet = candidate_sheet(candidates)
    assert "'=1+1 is how much?" in sheet  # text, where a spreadsheet opens it
    folder = tmp_path / "knowledge"
    folder.mkdir()
    shops_own = '{"question": "Do you ship abroad?", "answer": "No."}'
    (folder / "questions.jsonl").write_text(shops_own)  # and no end of line
    path = filled(
        tmp_path / "sheet.csv", sheet, wrap="Yes, for free.", much="It is two.\u2028Always."
    )
    approval = read_sheet(path, folder)
    assert (len(approval.items), approval.refused, approval.left) == (2, [], 1)
    file = approve(approval, folder, tmp_path, by="Ann Doe", reason="as our staff says")
    lines = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
    assert lines[0] == json.loads(shops_own)
    knowledge = read_knowledge(folder)
    assert knowledge.rejected.is_empty()
    answers = {item.asked.rstrip("?").lower(): item.answer for item in knowledge.items}
    assert answers["do you wrap gifts"] == "Yes, for free."
    assert answers["=1+1 is how much"] == "It is two. Always."
    dialogues = dialogues_frame(knowledge_dialogues(knowledge.items, seed=7))
    screened, _ = screen(dialogues, assortment_of())
    assert "Yes, for free." in screened["answer"].to_list()
    (decision,) = decisions(tmp_path).decisions()
    assert (decision.by, decision.reason) == ("Ann Doe", "as our staff says")
    assert decision.counts == {"questions": 2, "refused": 0, "left": 1}

    again = read_sheet(path, folder)
    assert (again.items, again.known) == ([], 2)
    with pytest.raises(CandidateError, match="nothing new is approved; allowed: `yes`"):
        approve(again, folder, tmp_path, by="Ann Doe", reason="once more")


def test_rows_that_cannot_be_used_say_why(candidates: pl.DataFrame, tmp_path: Path) -> None:
    sheet = candidate_sheet(candidates)
    path = filled(
        tmp_path / "sheet.csv", sheet, wrap="Ask me, my name is rahul.", lined="", much="x" * 1_001
    )
    approval = read_sheet(path, tmp_path / "none yet")
    assert approval.items == []
    reasons = sorted(why for _, why in approval.refused)
    assert reasons[0] == "NAME in the answer"
    assert reasons[1] == "no answer"
    assert reasons[2].startswith("too_long: answer: 1001 characters")


def test_a_question_about_a_product_names_it(candidates: pl.DataFrame, tmp_path: Path) -> None:
    sheet = candidate_sheet(candidates)
    path = filled(tmp_path / "sheet.csv", sheet, lined="Yes, with cotton.")
    approval = read_sheet(path, tmp_path / "none yet")
    assert approval.items == []
    ((_, why),) = approval.refused
    assert why.startswith("the question does not name Warm Kurta")
    path.write_text(path.read_text().replace("Is it lined?", "Is the Warm Kurta lined?"))
    (item,) = read_sheet(path, tmp_path / "none yet").items
    assert (item.asked, item.answer) == ("Is the Warm Kurta lined?", "Yes, with cotton.")


def test_nobody_decides_without_a_name(candidates: pl.DataFrame, tmp_path: Path) -> None:
    path = filled(tmp_path / "sheet.csv", candidate_sheet(candidates), wrap="Yes, for free.")
    folder = tmp_path / "knowledge"
    with pytest.raises(ApprovalError, match="by"):
        approve(read_sheet(path, folder), folder, tmp_path, by=" ", reason="so")
    assert not folder.exists()
    assert decisions(tmp_path).decisions() == []


def test_sheets_of_others_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("question,answer\nWhy?,So.\n")
    with pytest.raises(CandidateError, match="no column approved; allowed: a sheet of"):
        read_sheet(other, tmp_path)
    other.write_text("approved,question,answer\nperhaps,Why?,So.\n")
    with pytest.raises(CandidateError, match="row 1: approved='perhaps'; allowed: yes"):
        read_sheet(other, tmp_path)
