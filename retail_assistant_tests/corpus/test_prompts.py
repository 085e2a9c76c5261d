"""Dialogues as prompts: what a learned row is shown, what an asked one is, and their lengths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.prompts import (
    build_contexts,
    context_records,
    prompt_column,
    render_corpus,
    retrieval_recall,
)
from retail_assistant.corpus.rendering import NOT_NAMED, PROMPT_VERSION, SYSTEM_PROMPT
from retail_assistant.corpus.retrieval import Retrieved, retrieve

TUNIC, DRESS, INVENTED = "Quill Women's Tunic", "Marla Maxi Dress", "Zenuvia Woven Women's Lamp"


def dialogue(
    subset: str, question: str, answer: str, evidence: list[str], dialogue_id: str = "d"
) -> dict[str, Any]:
    return {
        "dialogue_id": dialogue_id,
        "product_id": evidence[0] if evidence else None,
        "subset": subset,
        "question": question,
        "answer": answer,
        "evidence": {"attributes": ["Fabric"], "product_ids": evidence},
    }


@pytest.fixture(scope="module")
def id_of(small_catalog: pl.DataFrame) -> Mapping[str, str]:
    return dict(small_catalog.unique("name", keep="none").select("name", "product_id").iter_rows())


@pytest.fixture(scope="module")
def dialogues(id_of: Mapping[str, str]) -> pl.DataFrame:
    fabric, refusal = "What is the fabric of {}?", "I could not find {} in our catalog."
    rows = [
        dialogue("train", fabric.format(TUNIC), "It is Rayon.", [id_of[TUNIC]], "d1"),
        dialogue("train", "Something in cotton?", f"{DRESS}.", [id_of[DRESS]], "d2"),
        dialogue("train", fabric.format(INVENTED), refusal.format(INVENTED), [], "d3"),
        dialogue("recall", fabric.format(TUNIC), "It is Rayon.", [id_of[TUNIC]], "d4"),
        dialogue("unseen", fabric.format(DRESS), "It is Cotton Lycra.", [id_of[DRESS]], "d5"),
        dialogue("unseen", "fabric of the kurta?", "It is Silk.", ["no-such-id"], "d6"),
        dialogue("unanswerable", fabric.format(INVENTED), refusal.format(INVENTED), [], "d7"),
    ]
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def contexts(dialogues: pl.DataFrame, small_index: CatalogIndex) -> list[Retrieved]:
    return build_contexts(dialogues, small_index)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.fixture(scope="module")
def corpus(dialogues: pl.DataFrame, contexts: list[Retrieved], tokenizer: Any) -> pl.DataFrame:
    return render_corpus(dialogues, contexts, tokenizer)


def ids(found: Retrieved) -> list[str]:
    return [record["product_id"] for record in found.records]


@pytest.mark.parametrize("subset", ["recall", "unseen", "unanswerable"])
def test_an_asked_question_gets_what_retrieval_found(
    small_index: CatalogIndex, id_of: Mapping[str, str], subset: str
) -> None:
    (retrieved,) = retrieve(["Something in cotton?"], small_index)
    asked = dialogue(subset, "Something in cotton?", "It is.", [id_of["Bolt Men's Shirt"]])
    assert context_records(asked, retrieved, small_index) == retrieved


@pytest.mark.parametrize("subset", ["train", "validation"])
def test_a_learned_row_always_holds_its_evidence(
    small_index: CatalogIndex, id_of: Mapping[str, str], subset: str
) -> None:
    (retrieved,) = retrieve(["Something in cotton?"], small_index)
    wanted = id_of["Bolt Men's Shirt"]
    assert wanted not in ids(retrieved)
    learned = dialogue(subset, "Something in cotton?", "Bolt.", [wanted])
    shown = context_records(learned, retrieved, small_index)
    assert wanted in ids(shown)
    assert len(shown.records) == len(retrieved.records)
    assert shown.named


def test_all_the_evidence_fits_even_where_less_was_found(
    small_index: CatalogIndex, id_of: Mapping[str, str]
) -> None:
    (retrieved,) = retrieve([f"What is the fabric of {TUNIC}?"], small_index)
    wanted = [id_of[TUNIC], id_of[DRESS], id_of["Bolt Men's Shirt"]]
    shown = context_records(dialogue("train", "?", "!", wanted), retrieved, small_index)
    assert sorted(ids(shown)) == sorted(wanted)


def test_the_order_of_a_learned_row_does_not_depend_on_rank(
    small_index: CatalogIndex, id_of: Mapping[str, str]
) -> None:
    retrieved = Retrieved([small_index.product(id_of[name]) for name in (TUNIC, DRESS)], named=True)
    backwards = Retrieved(retrieved.records[::-1], named=True)
    places = []
    for number in range(64):
        learned = dialogue("train", "?", "!", [id_of[TUNIC]], f"d{number}")
        shown = ids(context_records(learned, retrieved, small_index))
        assert shown == ids(context_records(learned, backwards, small_index))
        places.append(shown.index(id_of[TUNIC]))
    assert 16 <= sum(places) <= 48


def test_a_learned_refusal_sees_only_what_retrieval_found(small_index: CatalogIndex) -> None:
    (retrieved,) = retrieve([f"What is the fabric of {INVENTED}?"], small_index)
    shown = context_records(dialogue("train", "?", "!", []), retrieved, small_index)
    assert sorted(ids(shown)) == sorted(ids(retrieved))
    assert shown.named == retrieved.named


def test_the_corpus_keeps_every_dialogue_in_order(
    corpus: pl.DataFrame, dialogues: pl.DataFrame, contexts: list[Retrieved]
) -> None:
    assert corpus.select(dialogues.columns).equals(dialogues)
    assert corpus["context_ids"].to_list() == [
        ids(found) if found.named else [] for found in contexts
    ]
    assert corpus["prompt_version"].unique().to_list() == [PROMPT_VERSION]


def test_prompts_differ_only_by_their_records(corpus: pl.DataFrame) -> None:
    for row in corpus.iter_rows(named=True):
        closed, grounded = row["prompt"], row["grounded_prompt"]
        assert [message["role"] for message in closed] == ["system", "user"]
        assert closed[0] == grounded[0] == {"role": "system", "content": SYSTEM_PROMPT}
        assert "<record>" not in closed[1]["content"]
        assert grounded[1]["content"].count("<record>") == len(row["context_ids"])
        assert grounded[1]["content"].count(closed[1]["content"]) == 1
        assert row["completion"] == [{"role": "assistant", "content": row["answer"]}]


def test_the_prompt_says_when_the_records_are_only_near(corpus: pl.DataFrame) -> None:
    said = {
        row["dialogue_id"]: NOT_NAMED in row["grounded_prompt"][1]["content"]
        for row in corpus.iter_rows(named=True)
    }
    assert said == {
        "d1": False, "d2": False, "d3": True, "d4": False, "d5": False, "d6": True, "d7": True,
    }  # fmt: skip


def test_lengths_are_those_of_the_text_that_is_trained_on(
    corpus: pl.DataFrame, tokenizer: Any
) -> None:
    for row in corpus.iter_rows(named=True):
        for column in ("prompt", "grounded_prompt"):
            messages = [*row[column], *row["completion"]]
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert row[f"{column}_tokens"] + row["completion_tokens"] == len(tokens)


def test_the_same_dialogues_give_the_same_corpus(
    dialogues: pl.DataFrame, corpus: pl.DataFrame, small_index: CatalogIndex, tokenizer: Any
) -> None:
    again = render_corpus(dialogues, build_contexts(dialogues, small_index), tokenizer)
    assert again.equals(corpus)


def test_retrieval_recall_counts_answerable_questions_only(corpus: pl.DataFrame) -> None:
    assert retrieval_recall(corpus) == pytest.approx(2 / 3)
    assert retrieval_recall(corpus.clear()) == 0.0


def test_a_way_of_grounding_has_its_column() -> None:
    assert prompt_column("none") == "prompt"
    assert prompt_column("retrieved") == "grounded_prompt"
    with pytest.raises(KeyError):
        prompt_column("maybe")
