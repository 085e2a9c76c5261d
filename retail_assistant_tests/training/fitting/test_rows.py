"""Which rows are learned from, in which order, and as which tokens."""

from pathlib import Path

import polars as pl
import pytest

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.training.fitting.rows import (
    IGNORED,
    document_dataset,
    documents_of,
    fitting_rows,
    split_by_length,
    training_dataset,
    training_rows,
)
from retail_assistant_tests.training.trainings import JOB, domain_corpus, small_corpus


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return small_corpus()


@pytest.fixture(scope="module")
def encoder(tiny_model_folder: Path) -> Encoder:
    from transformers import AutoTokenizer

    return Encoder(AutoTokenizer.from_pretrained(tiny_model_folder))


def test_rows_of_a_subset_come_in_a_fixed_order(corpus: pl.DataFrame) -> None:
    rows = training_rows(corpus, JOB, "train")
    assert rows["row_id"].to_list() == [f"d{number:02d}" for number in range(10)]
    assert rows.columns == ["row_id", "prompt", "completion", "tokens"]
    assert rows["tokens"].to_list() == [25] * 10
    assert training_rows(corpus.reverse(), JOB, "train").equals(rows)


def test_grounding_chooses_the_prompts_and_their_lengths(corpus: pl.DataFrame) -> None:
    grounded = JOB.model_copy(update={"grounding": "retrieved"})
    rows = training_rows(corpus, grounded, "train")
    assert rows["tokens"].to_list() == [25 + 10 * number for number in range(10)]
    expected = corpus.filter(subset="train").sort("dialogue_id")["grounded_prompt"]
    assert rows["prompt"].to_list() == expected.to_list()


@pytest.mark.parametrize(("fraction", "rows"), [(1.0, 10), (0.5, 5), (0.25, 3), (0.001, 1)])
def test_a_fraction_of_the_data_is_a_prefix(
    corpus: pl.DataFrame, fraction: float, rows: int
) -> None:
    job = JOB.model_copy(update={"data_fraction": fraction})
    kept = training_rows(corpus, job, "train")
    assert kept.equals(training_rows(corpus, JOB, "train").head(rows))
    assert kept.height == rows
    assert training_rows(corpus, job, "validation").height == 2


def test_an_empty_subset_stays_empty(corpus: pl.DataFrame) -> None:
    assert training_rows(corpus.clear(), JOB, "train").is_empty()


def test_rows_are_split_at_the_length_limit(corpus: pl.DataFrame) -> None:
    job = JOB.model_copy(update={"grounding": "retrieved", "max_seq_length": 65})
    rows = training_rows(corpus, job, "train")
    fit, too_long = split_by_length(rows, 65)
    assert fit["tokens"].to_list() == [25, 35, 45, 55, 65]
    assert too_long["tokens"].to_list() == [75, 85, 95, 105, 115]
    assert pl.concat([fit, too_long]).equals(rows)
    found = fitting_rows(corpus, job, "train")
    assert (found.rows.height, found.too_long) == (5, 5)


def test_only_the_answer_is_learned(corpus: pl.DataFrame, encoder: Encoder) -> None:
    rows = training_rows(corpus, JOB, "train")
    for row, example in zip(rows.to_dicts(), training_dataset(rows, encoder), strict=True):
        learned = [label for label in example["labels"] if label != IGNORED]
        answer = row["completion"][0]["content"]
        assert encoder._tokenizer.decode(learned) == f"{answer}<|im_end|>"
        start = len(example["labels"]) - len(learned)
        assert example["input_ids"][start:] == learned


def test_a_long_text_is_cut_and_nothing_of_it_lost(encoder: Encoder) -> None:
    job = JOB.model_copy(update={"max_seq_length": 64})
    documents = documents_of(domain_corpus(), job, encoder)
    assert (documents.texts, documents.texts_cut) == (6, 1)
    assert max(map(len, documents.pieces)) <= 64
    texts = domain_corpus().sort("source", "text")["text"]
    end = encoder._tokenizer.eos_token
    joined = encoder._tokenizer.decode([one for piece in documents.pieces for one in piece])
    assert joined.replace("<|im_start|>", "") == "".join(f"{text}{end}" for text in texts)
    for example in document_dataset(documents):
        assert example["labels"] == example["input_ids"]


def test_texts_come_in_a_fixed_order_and_by_the_fraction(encoder: Encoder) -> None:
    whole = documents_of(domain_corpus(), JOB, encoder)
    assert documents_of(domain_corpus().reverse(), JOB, encoder) == whole
    half = documents_of(domain_corpus(), JOB.model_copy(update={"data_fraction": 0.5}), encoder)
    assert half.pieces == whole.pieces[:3]
