"""Dialogues as prompts: what a learned row is shown, what an asked one is, and their lengths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.knowledge import read_knowledge
from retail_assistant.corpus.knowledge_files import KnowledgeError, knowledge_version
from retail_assistant.corpus.prompts import (
    build_contexts,
    context_records,
    prompt_spec,
    prompt_style,
    render,
    render_corpus,
    retrieval_recall,
)
from retail_assistant.corpus.rendering import NOT_NAMED, PROMPT_VERSION, SYSTEM_PROMPT
from retail_assistant.corpus.retrieval import Retrieved, retrieve
from retail_assistant.corpus.tasks import RenderingPolicy
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.launch.workload import Workload
from retail_assistant.storage import file_sha256
from retail_assistant_tests.conftest import REPOSITORY

KNOWLEDGE = REPOSITORY / "docs" / "examples" / "knowledge"

Records = Mapping[str, dict[str, Any]]
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
def records(small_catalog: pl.DataFrame, small_index: CatalogIndex) -> Records:
    return small_index.products(small_catalog["product_id"])


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
def encoder(tiny_model_folder: Path) -> Encoder:
    from transformers import AutoTokenizer

    return Encoder(AutoTokenizer.from_pretrained(tiny_model_folder))


@pytest.fixture(scope="module")
def corpus(dialogues: pl.DataFrame, contexts: list[Retrieved], encoder: Encoder) -> pl.DataFrame:
    return render_corpus(dialogues, contexts, encoder)


def ids(found: Retrieved) -> list[str]:
    return [record["product_id"] for record in found.records]


@pytest.mark.parametrize("subset", ["recall", "unseen", "unanswerable"])
def test_an_asked_question_gets_what_retrieval_found(
    small_index: CatalogIndex, id_of: Mapping[str, str], records: Records, subset: str
) -> None:
    (retrieved,) = retrieve(["Something in cotton?"], small_index)
    asked = dialogue(subset, "Something in cotton?", "It is.", [id_of["Bolt Men's Shirt"]])
    assert context_records(asked, retrieved, records) == retrieved


@pytest.mark.parametrize("subset", ["train", "validation"])
def test_a_learned_row_always_holds_its_evidence(
    small_index: CatalogIndex, id_of: Mapping[str, str], records: Records, subset: str
) -> None:
    (retrieved,) = retrieve(["Something in cotton?"], small_index)
    wanted = id_of["Bolt Men's Shirt"]
    assert wanted not in ids(retrieved)
    learned = dialogue(subset, "Something in cotton?", "Bolt.", [wanted])
    shown = context_records(learned, retrieved, records)
    assert wanted in ids(shown)
    assert len(shown.records) == len(retrieved.records)
    assert shown.named


def test_all_the_evidence_fits_even_where_less_was_found(
    small_index: CatalogIndex, id_of: Mapping[str, str], records: Records
) -> None:
    (retrieved,) = retrieve([f"What is the fabric of {TUNIC}?"], small_index)
    wanted = [id_of[TUNIC], id_of[DRESS], id_of["Bolt Men's Shirt"]]
    shown = context_records(dialogue("train", "?", "!", wanted), retrieved, records)
    assert sorted(ids(shown)) == sorted(wanted)


def test_the_order_of_a_learned_row_does_not_depend_on_rank(
    small_index: CatalogIndex, id_of: Mapping[str, str], records: Records
) -> None:
    retrieved = Retrieved([small_index.product(id_of[name]) for name in (TUNIC, DRESS)], named=True)
    backwards = Retrieved(retrieved.records[::-1], named=True)
    places = []
    for number in range(64):
        learned = dialogue("train", "?", "!", [id_of[TUNIC]], f"d{number}")
        shown = ids(context_records(learned, retrieved, records))
        assert shown == ids(context_records(learned, backwards, records))
        places.append(shown.index(id_of[TUNIC]))
    assert 16 <= sum(places) <= 48


def test_a_learned_refusal_sees_only_what_retrieval_found(
    small_index: CatalogIndex, records: Records
) -> None:
    (retrieved,) = retrieve([f"What is the fabric of {INVENTED}?"], small_index)
    shown = context_records(dialogue("train", "?", "!", []), retrieved, records)
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


def test_lengths_are_those_of_the_tokens_that_are_trained_on(
    corpus: pl.DataFrame, encoder: Encoder
) -> None:
    for row in corpus.iter_rows(named=True):
        for column in ("prompt", "grounded_prompt"):
            (example,) = encoder.examples([(row[column], row["completion"])])
            assert row[f"{column}_tokens"] == example.prompt_length
            assert row[f"{column}_tokens"] + row["completion_tokens"] == len(example.ids)


def test_the_same_dialogues_give_the_same_corpus(
    dialogues: pl.DataFrame, corpus: pl.DataFrame, small_index: CatalogIndex, encoder: Encoder
) -> None:
    again = render_corpus(dialogues, build_contexts(dialogues, small_index), encoder)
    assert again.equals(corpus)


def test_retrieval_recall_counts_answerable_questions_only(corpus: pl.DataFrame) -> None:
    assert retrieval_recall(corpus) == pytest.approx(2 / 3)
    assert retrieval_recall(corpus.clear()) == 0.0


def test_a_corpus_says_how_it_was_rendered(corpus: pl.DataFrame) -> None:
    assert prompt_style(corpus) == prompt_style(corpus.clear()) == "chat"
    both = pl.concat([corpus, corpus.with_columns(prompt_style=pl.lit("alpaca"))])
    with pytest.raises(ValueError, match="several styles: alpaca, chat"):
        prompt_style(both)


@pytest.fixture
def inputs(
    dialogues: pl.DataFrame,
    embedded_assortment: pl.DataFrame,
    embedded_splits: pl.DataFrame,
    tiny_model_folder: Path,
    tmp_path: Path,
) -> dict[str, tuple[str, Path]]:
    """What the tasks are made from, but for the index."""
    found = {"base_model": ("tiny", tiny_model_folder)}
    for name, frame in (
        ("dialogues", dialogues),
        ("assortment", embedded_assortment),
        ("splits", embedded_splits),
    ):
        path = tmp_path / f"{name}.parquet"
        frame.write_parquet(path)
        found[name] = (file_sha256(path), path)
    return found


def rendered(spec: LaunchSpec) -> Workload:
    spec.folder.mkdir(parents=True)
    work = Workload(spec, None)
    render(work)
    return work


def test_dialogues_are_rendered(
    inputs: dict[str, tuple[str, Path]],
    small_catalog: pl.DataFrame,
    corpus: pl.DataFrame,
    tmp_path: Path,
) -> None:
    build_index(small_catalog, tmp_path / "index")
    inputs["index"] = ("one", tmp_path / "index")
    work = rendered(prompt_spec("assistant", RenderingPolicy(), inputs, tmp_path))
    assert set(work.spec.inputs) == {"dialogues", "index", "base_model"}
    assert pl.read_parquet(work.folder / "prompt_corpus.parquet").equals(corpus)
    assert work.metrics["rows"] == corpus.height
    assert work.metrics["retrieval_recall"] == pytest.approx(2 / 3)
    counts = {name: sum(one["counts"]) for name, one in work.metrics["token_histogram"].items()}
    lengths = ("prompt_tokens", "grounded_prompt_tokens", "completion_tokens")
    assert counts == dict.fromkeys(lengths, corpus.height)


def test_descriptions_are_rendered(inputs: dict[str, tuple[str, Path]], tmp_path: Path) -> None:
    policy = RenderingPolicy(style="alpaca")
    work = rendered(prompt_spec("product_description", policy, inputs, tmp_path))
    rows = pl.read_parquet(work.folder / "prompt_corpus.parquet")
    left_out = pl.read_parquet(work.folder / "left_out.parquet")
    assert rows.height + left_out.height == pl.read_parquet(inputs["assortment"][1]).height
    assert work.metrics["left_out"] == dict(left_out["reason"].value_counts().iter_rows())
    assert prompt_style(rows) == "alpaca"
    again = prompt_spec("product_description", RenderingPolicy(), inputs, tmp_path)
    assert again.fingerprint != work.spec.fingerprint


def test_text_is_rendered_with_the_store_s_documents(
    inputs: dict[str, tuple[str, Path]], tmp_path: Path
) -> None:
    without = rendered(prompt_spec("domain_text", RenderingPolicy(), inputs, tmp_path))
    inputs["knowledge"] = (knowledge_version(KNOWLEDGE), KNOWLEDGE)
    work = rendered(prompt_spec("domain_text", RenderingPolicy(), inputs, tmp_path))
    added = work.metrics["rows"] - without.metrics["rows"]
    assert added == len(read_knowledge(KNOWLEDGE).documents) == 2
    texts = pl.read_parquet(work.folder / "prompt_corpus.parquet")
    assert texts.columns == ["text", "tokens", "source"]
    assert work.metrics["tokens"] == texts["tokens"].sum()


def test_knowledge_that_has_changed_is_not_rendered(
    inputs: dict[str, tuple[str, Path]], tmp_path: Path
) -> None:
    inputs["knowledge"] = ("another", KNOWLEDGE)
    with pytest.raises(KnowledgeError, match="has changed since"):
        rendered(prompt_spec("domain_text", RenderingPolicy(), inputs, tmp_path))


def test_an_input_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="dialogues"):
        prompt_spec("assistant", RenderingPolicy(), {}, tmp_path)
