import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.corpus.briefs import Brief
from retail_assistant.corpus.generators.model import Reply
from retail_assistant.corpus.generators.responses import read_brief, read_document
from retail_assistant.corpus.knowledge import DocumentBrief
from retail_assistant_tests.corpus.generators.conftest import (
    ALTERNATIVE,
    FABRIC,
    OVERVIEW,
    UNKNOWN,
    MakeBrief,
)

ASKED = [
    "What is the Zed Women's Top made of?",
    "zed women\u2019s  top: which cloth, please",
    "Tell me the material of the Zed Women's Top.",
]
GOOD = {"number": 1, "questions": ASKED, "answer": "The Zed Women's Top is made of rayon."}


def reply(*items: dict[str, Any], **fields: Any) -> Reply:
    given = {"text": json.dumps({"items": items}), "finish_reason": "stop"}
    return Reply(**(given | fields))


def reason(one: Brief, *replies: Reply) -> str:
    """The reason of the only problem."""
    (problem,) = read_brief(one, replies).problems
    return problem.reason


def test_a_good_reply_gives_all_questions_and_the_answer(brief: MakeBrief) -> None:
    reading = read_brief(brief(), [reply(GOOD)])
    assert reading.problems == ()
    words = reading.words["attribute:Fabric"]
    assert words.questions == tuple(" ".join(question.split()) for question in ASKED)
    assert words.answer == "The Zed Women's Top is made of rayon."


@pytest.mark.parametrize(
    "text",
    [
        "```json\n{}\n```",
        "Sure, here it is:\n{}\nAnything else?",
        "<think>It wants {{JSON}}.</think>\n{}",
    ],
)
def test_json_is_found_in_what_is_said_around_it(brief: MakeBrief, text: str) -> None:
    written = text.replace("{}", json.dumps({"items": [GOOD]})).replace("{{JSON}}", "{JSON}")
    assert read_brief(brief(), [reply(text=written)]).problems == ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (reply(text="I cannot write JSON."), "malformed"),
        (reply(text='{"items": [{"number": 1}]}'), "malformed"),
        (reply(text='{"items": [', finish_reason="length"), "cut_off"),
        (reply(text="", finish_reason="content_filter"), "refused"),
        (reply(refusal="No."), "refused"),
        (reply(), "missing"),
        (reply(GOOD | {"number": 2}), "missing"),
        (reply(GOOD | {"questions": ASKED[:2]}), "bad_questions"),
        (reply(GOOD | {"questions": [ASKED[0], ASKED[0].upper(), ASKED[2]]}), "bad_questions"),
        (reply(GOOD | {"questions": [*ASKED[:2], "What is this top made of?"]}), "bad_questions"),
        (
            reply(GOOD | {"questions": [*ASKED[:2], "Is the Zed Women's Top rayon?"]}),
            "bad_questions",
        ),
        (reply(GOOD | {"answer": "  \n"}), "bad_answer"),
        (reply(GOOD | {"answer": "The Zed Women's Top is made of silk."}), "bad_answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_used_has_its_reason(brief: MakeBrief, given: Reply, expected: str) -> None:
    assert reason(brief(), given) == expected
    assert read_brief(brief(), [given]).is_empty


def test_more_questions_than_wanted_do_no_harm(brief: MakeBrief) -> None:
    more = [ASKED[0], "What about rayon? Zed Women's Top", ASKED[0], *ASKED[1:], "Zed Women's Top?"]
    words = read_brief(brief(), [reply(GOOD | {"questions": more})]).words["attribute:Fabric"]
    assert len(words.questions) == 3
    assert words.questions[0] == ASKED[0]
    assert words.questions[2] == ASKED[2]


def test_a_bad_question_costs_no_other(brief: MakeBrief) -> None:
    two = brief(questions=(FABRIC, OVERVIEW))
    reading = read_brief(two, [reply(GOOD)])
    assert set(reading.words) == {"attribute:Fabric"}
    assert [problem.key for problem in reading.problems] == ["overview"]
    assert not reading.is_empty


def test_the_repaired_reply_counts_and_what_was_good_before_stays(brief: MakeBrief) -> None:
    two = brief(questions=(FABRIC, OVERVIEW))
    overview = {"number": 2, "questions": ["Tell me about the Zed Women's Top."], "answer": ""}
    both = read_brief(two, [reply(GOOD), reply(overview)])
    assert set(both.words) == {"attribute:Fabric", "overview"}
    assert both.problems == ()
    better = GOOD | {"answer": "Rayon is what the Zed Women's Top is made of."}
    again = read_brief(two, [reply(GOOD), reply(better, overview)])
    assert again.words["attribute:Fabric"].answer == better["answer"]


def test_an_overview_has_no_answer_of_the_model(brief: MakeBrief) -> None:
    written = {
        "number": 1,
        "questions": ["Describe the Zed Women's Top"],
        "answer": "Best top ever, 50% off!",
    }
    reading = read_brief(brief(questions=(OVERVIEW,)), [reply(written)])
    assert reading.words["overview"].answer == ""


def test_suggestions_are_named_as_they_are_called(brief: MakeBrief) -> None:
    one = brief(questions=(ALTERNATIVE,))
    asked = {"number": 1, "questions": ["Anything like the Zed Women's Top?"]}
    named = "Try these:\n- Quill Tunic (item p2), of Rayon too\n- Anvi Women\u2019s Top (item p3)"
    words = read_brief(one, [reply(asked | {"answer": named})]).words["alternative"]
    assert words.answer == named
    for wrong in ("Try Quill Tunic (item p2).", named.replace("(item p3)", "")):
        assert reason(one, reply(asked | {"answer": wrong})) == "bad_answer"


@pytest.mark.parametrize(
    ("answer", "declines"),
    [
        ("The catalog does not say what the pockets of Zed Women's Top are.", True),
        ("Sorry, our records do not mention any pockets.", True),
        ("I do not know.", True),
        ("It has two pockets.", False),
        ("Yes, of course!", False),
    ],
)
def test_what_is_not_known_is_declined(brief: MakeBrief, answer: str, declines: bool) -> None:
    asked = {"number": 1, "questions": ["Has the Zed Women's Top pockets?"], "answer": answer}
    reading = read_brief(brief(questions=(UNKNOWN,)), [reply(asked)])
    assert reading.is_empty is not declines


def test_a_name_that_sounds_like_a_refusal_declines_nothing(brief: MakeBrief) -> None:
    name = "No Details Top"
    one = brief(name, (UNKNOWN,))
    asked = {"number": 1, "questions": [f"Has {name} pockets?"]}
    assert reason(one, reply(asked | {"answer": f"The {name} has two."})) == "bad_answer"


@given(st.text(max_size=200))
def test_whatever_a_model_writes_is_read(brief: MakeBrief, text: str) -> None:
    reading = read_brief(brief(), [reply(text=text)])
    assert reading.is_empty
    assert [problem.key for problem in reading.problems] == ["attribute:Fabric"]


def test_a_document_question_rests_on_a_quote_of_it() -> None:
    text = "Returns are free.\nSend them within 30 days of delivery."
    document = DocumentBrief(name="documents/returns.md", text=text)
    true = {
        "question": "How long may I wait?",
        "answer": "30 days.",
        "quote": "within 30 days  of Delivery",
    }
    invented = true | {"question": "Is it quick?", "quote": "refunds take two days"}
    reading = read_document(document, [reply(true, invented, true)])
    assert [written.question for written in reading.questions] == ["How long may I wait?"]
    assert reading.problems == ()
    nothing = read_document(document, [reply(invented)])
    assert nothing.is_empty
    assert {problem.reason for problem in nothing.problems} == {"bad_answer"}
    assert read_document(document, [reply()]).problems[0].reason == "missing"
