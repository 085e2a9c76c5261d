"""Store knowledge: both directions, one side for each item, and nothing from outside the folder."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.corpus.dialogues import dialogues_frame
from retail_assistant.corpus.knowledge import (
    EXCERPT_CHARACTERS,
    PHRASINGS,
    document_briefs,
    knowledge_as_of,
    knowledge_dialogues,
    read_knowledge,
)
from retail_assistant.corpus.knowledge_files import (
    MAX_FILE_BYTES,
    KnowledgeError,
    knowledge_version,
)
from retail_assistant_tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "docs" / "examples" / "knowledge"
TERMS = "term,definition\n"
QUESTIONS = "question,answer,choices\n"


def folder_of(root: Path, **files: str | bytes) -> Path:
    """A knowledge folder; "terms_csv" names the file terms.csv."""
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (root / name.replace("_", ".")).write_bytes(data)
    return root


def test_the_example_becomes_dialogues() -> None:
    knowledge = read_knowledge(EXAMPLE)
    assert knowledge.rejected.is_empty()
    dialogues = list(knowledge_dialogues(knowledge.items, seed=7))
    frame = dialogues_frame(dialogues)
    assert frame.height == len(dialogues) == 6 * 2 * PHRASINGS + 2 + 2 * PHRASINGS
    assert set(frame["intent"]) == {"knowledge"}
    assert set(frame["subset"]) <= {"train", "validation"}
    assert frame["product_id"].null_count() == frame.height
    documents = frame["evidence"].struct.field("documents").to_list()
    assert {name for names in documents for name in names} == {"terms.csv", "questions.yaml"}
    assert dialogues_frame(knowledge_dialogues(knowledge.items, seed=7)).equals(frame)


def test_a_folder_that_changed_is_looked_at_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, terms_csv=f"{TERMS}GSM,Grams.\n")
    version = knowledge_version(folder)
    assert len(knowledge_as_of(folder, version).items) == 1
    folder_of(tmp_path, terms_csv=f"{TERMS}GSM,Grams for each metre.\n")
    with pytest.raises(KnowledgeError, match="has changed since it was looked at"):
        knowledge_as_of(folder, version)


def test_a_term_is_asked_in_both_directions(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, terms_csv=f'{TERMS}GSM,"Grams, for each <m2>."\n')
    dialogues = list(knowledge_dialogues(read_knowledge(folder).items, seed=1))
    pairs = [(one.question, one.answer) for one in dialogues]
    meaning = [(q, a) for q, a in pairs if "GSM" in q]
    term = [(q, a) for q, a in pairs if "Grams, for each (m2)" in q]
    assert len(meaning) == len(term) == PHRASINGS
    assert {a for _, a in meaning} == {"GSM: Grams, for each (m2)."}
    assert {a for _, a in term} == {"The term is GSM."}
    assert len(set(pairs)) == 2 * PHRASINGS
    first, second = (one for one in dialogues if one.phrasing.startswith("term/"))
    assert second.paraphrase_of == first.dialogue_id
    assert first.paraphrase_of is None


def test_a_definition_that_names_its_term_is_not_turned_round(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, terms_csv=f"{TERMS}Denim,Denims are twills.\n")
    knowledge = read_knowledge(folder)
    answers = {one.answer for one in knowledge_dialogues(knowledge.items, seed=1)}
    assert answers == {"Denim: Denims are twills."}
    assert knowledge.rejected.is_empty()


def test_choices_are_asked_in_several_orders(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {"question": f"Fibre {n}?", "answer": answer, "choices": ["Wool", "Flax", "Jute"]}
        )
        for n, answer in enumerate(["flax", "B", "(b)", "b."])
    ]
    knowledge = read_knowledge(folder_of(tmp_path, questions_jsonl="\n".join(lines)))
    orders = set()
    for one in knowledge_dialogues(knowledge.items, seed=3):
        assert one.answer[2:] == " Flax"
        assert one.answer in one.question
        orders.add(one.question.partition("? ")[2])
    assert len(orders) > 2


def test_an_item_is_on_one_side_whatever_comes_or_goes(tmp_path: Path) -> None:
    def sides(rows: list[str]) -> dict[str, set[str]]:
        folder = folder_of(tmp_path, terms_csv=TERMS + "".join(rows))
        found: dict[str, set[str]] = {}
        for one in knowledge_dialogues(read_knowledge(folder).items, seed=5):
            number = one.question.partition("no")[2].split("?")[0].split(".")[0].split()[0]
            found.setdefault(number.strip(":"), set()).add(one.subset)
        return found

    rows = [f"Weave no{n},A cloth no{n} of its own.\n" for n in range(200)]
    whole, half = sides(rows), sides(rows[::2])
    assert all(len(subsets) == 1 for subsets in whole.values())
    assert half == {number: whole[number] for number in half}
    held = sum(subsets == {"validation"} for subsets in whole.values())
    assert 8 <= held <= 35


@pytest.mark.parametrize(
    ("files", "reason", "detail"),
    [
        ({"terms_csv": f"{TERMS}Denim,\n"}, "missing_field", "definition is empty"),
        ({"terms_csv": f"{TERMS}Denim\n"}, "missing_field", "definition: allowed: text"),
        ({"terms_csv": f"{TERMS}Denim,A twill, dyed\n"}, "unknown_field", "one without a name"),
        ({"terms_csv": f"{TERMS}{'x' * 81},y\n"}, "too_long", "81 characters; allowed: 80"),
        ({"terms_yaml": "- {term: yes, definition: d}\n"}, "missing_field", "term: allowed: text"),
        ({"terms_yaml": "- {term: a, definition: [b]}\n"}, "missing_field", "definition: allowed"),
        ({"terms_yaml": "- {term: a, meaning: b}\n"}, "unknown_field", "meaning; allowed: term"),
        (
            {"questions_csv": f"{QUESTIONS}Why?,C,a|b\n"},
            "answer_not_a_choice",
            "'C'; allowed: a, b",
        ),
        ({"questions_csv": f"{QUESTIONS}Why?,a,a|A\n"}, "invalid_choices", "2 to 8 different"),
        ({"questions_csv": f"{QUESTIONS}Why?,a,a\n"}, "invalid_choices", "2 to 8 different"),
        ({"questions_yaml": "- {question: q, answer: a, choices: 3}\n"}, "invalid_choices", "list"),
        (
            {"questions_csv": f"{QUESTIONS}{'w' * 290}?,a,{'a|' + 'b' * 60}|{'c' * 60}\n"},
            "too_long",
            "with its choices",
        ),
    ],
)
def test_an_unusable_row_is_rejected_with_its_reason(
    tmp_path: Path, files: dict[str, str], reason: str, detail: str
) -> None:
    found = read_knowledge(folder_of(tmp_path, **files))
    assert found.items == []
    (row,) = found.rejected.to_dicts()
    assert (row["file"], row["row"], row["reason"]) == (
        next(iter(files)).replace("_", "."), 1, reason
    )  # fmt: skip
    assert detail in row["detail"]


def test_every_row_is_used_or_rejected(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        terms_csv=f"{TERMS}Denim,A twill.\n\nDENIM,A cloth.\nLace,Openwork.\n",
        terms_yaml="- {term: lace, definition: d}\n- {term: Tulle, definition: A net.}\n",
    )
    found = read_knowledge(folder)
    assert [item.asked for item in found.items] == ["Denim", "Lace", "Tulle"]
    assert found.rejected.select("file", "row", "reason").rows() == [
        ("terms.csv", 2, "duplicate"),
        ("terms.yaml", 1, "duplicate"),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"terms_csv": "word,meaning\n"}, "terms.csv: columns word, meaning; allowed: term, defin"),
        ({"terms_csv": "term,definition,term\n"}, "terms.csv: columns term, definition, term"),
        ({"terms_csv": f'{TERMS}a,b\nc,"d\n'}, "terms.csv: row 2: not CSV"),
        ({"terms_csv": b"term,definition\na,\xff\n"}, "terms.csv: not UTF-8 at byte 18"),
        ({"terms_csv": "x" * (MAX_FILE_BYTES + 1)}, "terms.csv: allowed: up to 4 MiB"),
        ({"terms_yaml": "term: a\n"}, "terms.yaml: allowed: a list of entries"),
        ({"terms_yaml": "- a\n"}, "terms.yaml: row 1: allowed: fields with values, not 'a'"),
        ({"terms_yaml": "- !!python/object/apply:os.getcwd []\n"}, "terms.yaml: row 1: not YAML"),
        ({"terms_yaml": "[" * 5_000}, "terms.yaml: row 1: not YAML"),
        ({"questions_jsonl": '{"question": "q", "answer": "a"}\n{"question"'}, "row 2: not JSONL"),
        ({"questions_jsonl": "[1]"}, "questions.jsonl: row 1: allowed: fields with values"),
        ({"terms_xlsx": "x"}, "terms.xlsx: allowed: terms.csv, terms.yaml, questions.csv"),
        ({"documents": "x"}, "documents: allowed: a folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(KnowledgeError) as caught:
        read_knowledge(folder_of(tmp_path, **files))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = folder_of(tmp_path / "knowledge")
    documents = folder / "documents"
    documents.mkdir()
    (documents / "policy.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(KnowledgeError, match=r"policy\.txt leads out of the folder"):
        read_knowledge(folder)
    (documents / "policy.txt").unlink()
    documents.rmdir()
    (tmp_path / "elsewhere").mkdir()
    documents.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KnowledgeError, match="documents leads out of the folder"):
        read_knowledge(folder)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "documents").mkdir()
    (folder / "terms.csv").symlink_to("nowhere")
    with pytest.raises(KnowledgeError, match="leads nowhere"):
        read_knowledge(folder)
    (folder / "terms.csv").unlink()
    os.mkfifo(folder / "documents" / "pipe.txt")
    with pytest.raises(KnowledgeError, match=r"pipe\.txt: allowed: a file"):
        read_knowledge(folder)
    (folder / "documents" / "pipe.txt").unlink()
    (folder / "documents" / "scan.pdf").touch()
    with pytest.raises(KnowledgeError, match=r"scan\.pdf: allowed: \.md, \.txt"):
        read_knowledge(folder)
    with pytest.raises(KnowledgeError, match="is not a folder"):
        read_knowledge(folder / "documents" / "scan.pdf")


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    hidden = tmp_path / "..2026"
    hidden.mkdir()
    (hidden / "terms.csv").write_text(f"{TERMS}Denim,A twill.\n")
    (tmp_path / "terms.csv").symlink_to(hidden / "terms.csv")
    assert len(read_knowledge(tmp_path).items) == 1


def test_the_version_is_that_of_the_contents(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, terms_csv=f"{TERMS}Denim,A twill.\n", README_md="x")
    version = knowledge_version(folder)
    folder_of(tmp_path, README_md="y")
    assert knowledge_version(folder) == version
    folder_of(tmp_path, terms_csv=f"{TERMS}Denim,A twil.\n")
    assert knowledge_version(folder) != version


def test_documents_are_excerpts_of_whole_paragraphs() -> None:
    found = read_knowledge(EXAMPLE).documents
    assert [brief.name for brief in found] == ["documents/returns.md", "documents/transcript.txt"]
    assert found[0].text.startswith("# Returns at Threadwell\n\nYou may return")
    assert "too tight?\nThreadwell: Then" in found[1].text
    assert len({brief.digest for brief in found}) == 2
    paragraphs = [f"{n}: " + "word " * 100 for n in range(9)]
    (*whole, last) = document_briefs({"a": "\r\n\r\n".join(paragraphs)})
    assert len(whole) == 2
    for brief in (*whole, last):
        assert all(part.startswith(tuple("012345678")) for part in brief.text.split("\n\n"))


@given(st.text(max_size=9_000))
def test_any_document_is_cut_to_bounded_excerpts(text: str) -> None:
    briefs = document_briefs({"documents/a.txt": text})
    for brief in briefs:
        assert 0 < len(brief.text) <= EXCERPT_CHARACTERS
        assert not set(brief.text) & set("<>\r\0")
    assert sum(len(brief.text) for brief in document_briefs({"a": "x" * 5_000})) == 5_000
