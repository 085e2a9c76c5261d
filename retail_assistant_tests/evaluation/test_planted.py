"""Whole files of planted answers: each scores what a person would say of it.

Questions are the templates' about the embedded catalog, so the answers meet real names and values.
"""

import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from retail_assistant.corpus.splits import sample_products, split_products
from retail_assistant.evaluation.archive import read_predictions
from retail_assistant.evaluation.breakdowns import strict_beside_loose
from retail_assistant.evaluation.metrics import score, summarize
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.corpora import template_dialogues

EVALUATED = ["recall", "unseen", "unanswerable"]
INVENTED = "Zorblax Quintessa Women's Kurta"


@pytest.fixture(scope="module")
def assortment() -> pl.DataFrame:
    return assortment_of()


@pytest.fixture(scope="module")
def corpus(assortment: pl.DataFrame) -> pl.DataFrame:
    splits = split_products(assortment, seed=1)
    sample = sample_products(assortment, splits, train=30, evaluation=30, seed=1)
    return template_dialogues(sample, splits, assortment, seed=1)


@pytest.fixture(scope="module")
def asked(corpus: pl.DataFrame) -> pl.DataFrame:
    return corpus.filter(pl.col("subset").is_in(EVALUATED))


def planted(
    asked: pl.DataFrame, variant: str, answer: pl.Expr | str, finish_reason: str = "stop"
) -> pl.DataFrame:
    text = pl.lit(answer) if isinstance(answer, str) else answer
    return asked.select(
        "dialogue_id",
        variant=pl.lit(variant),
        answer=text.alias("answer"),
        finish_reason=pl.lit(finish_reason),
    )


def shares(scored: pl.DataFrame) -> dict[tuple[str, str], float | None]:
    summary = summarize(scored, seed=1, resamples=50)
    return {(m, s): v for m, s, v in summary.select("metric", "subset", "value").iter_rows()}


def attribute_classes(scored: pl.DataFrame) -> Counter[str | None]:
    return Counter(scored.filter(intent="attribute")["error_class"])


def reference_rule(answers: list[str], training: list[str]) -> float:
    """The published rule, told again: accuracy = answers whose name some training answer holds."""
    matched = 0
    for answer in answers:
        lines = [line.strip() for line in answer.splitlines()]
        names = [line.split(": ")[1] for line in lines if line.startswith("Product Name:")]
        name = re.compile(re.escape(names[0]), re.I) if names and names[0] else None
        matched += name is not None and any(name.search(text) for text in training)
    return matched / len(answers)


def trained_name(corpus: pl.DataFrame) -> str:
    """The name of a product that training answers state."""
    return str(corpus.filter(subset="train", intent="overview")["product_name"].sort()[0])


def test_a_constant_answer_wins_the_loose_rule_and_nothing_else(
    corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame
) -> None:
    name = trained_name(corpus)
    constant = f"Product Name: {name}\nFabric: Cotton"
    scored = score(corpus, planted(asked, "constant", constant), assortment)
    answerable = scored.filter(pl.col("intent") != "unanswerable")
    training = corpus.filter(subset="train")["answer"].to_list()
    assert reference_rule(answerable["answer"].to_list(), training) == 1.0
    assert shares(scored)["reference_accuracy_loose", "unseen"] == 1.0
    beside = {row["subset"]: row for row in strict_beside_loose(scored).to_dicts()}
    assert beside["unseen"]["loose_accuracy"] == 1.0
    assert beside["unseen"]["strict_accuracy"] == 0.0
    about_it = scored.filter(pl.col("question").str.contains(name, literal=True))
    others = scored.join(about_it, on="dialogue_id", how="anti")
    assert set(attribute_classes(others)) == {"wrong_product"}


def test_one_products_suggestions_do_not_pass_for_all(
    corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame
) -> None:
    for intent in ("alternative", "complement"):
        one = corpus.filter(subset="train", intent=intent).sort("dialogue_id").row(0, named=True)
        scored = score(corpus, planted(asked, "constant", one["answer"]), assortment)
        others = scored.filter(pl.col("product_id") != one["product_id"], intent=intent)
        assert others.height > 2
        assert set(others["error_class"]) == {"wrong_product"}


def test_a_constant_value_is_right_by_chance_only(
    corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame
) -> None:
    questions = asked.filter(intent="attribute")
    value, _ = Counter(questions["gold_value"]).most_common(1)[0]
    scored = score(corpus, planted(asked, "constant", f"It is {value}."), assortment)
    right = scored.filter(intent="attribute").filter("correct")
    # Chance: a question whose gold is that value. Two values that a person reads as one count.
    same = {value, value.casefold(), f"{value}s", value.removesuffix("s")}
    chance = questions.filter(pl.col("gold_value").is_in(list(same))).height / questions.height
    assert right.height / questions.height <= chance < 0.5
    assert right["gold_value"].is_in(list(same)).all()


def test_the_neighbouring_products_gold(
    corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame
) -> None:
    questions = asked.filter(intent="attribute", subset="unseen").sort("product_id")
    step = pl.col("answer").shift(3).fill_null(pl.col("answer").last())
    scored = score(corpus, planted(questions, "neighbour", step), assortment)
    scored = scored.filter("predicted")
    assert scored["correct"].mean() == 0.0
    assert attribute_classes(scored) == {"wrong_product": questions.height}


def test_the_right_product_with_a_wrong_value_and_the_other_way_round(
    corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame
) -> None:
    questions = asked.filter(intent="attribute", subset="unseen")
    the, of = pl.col("asked_attribute").str.to_lowercase(), pl.col("reference")
    wrong_value = pl.format("The {} of {} is Unobtainium.", the, of)
    scored = score(corpus, planted(questions, "value", wrong_value), assortment)
    assert attribute_classes(scored.filter("predicted")) == {"wrong_value": questions.height}

    other = trained_name(corpus)
    wrong_product = pl.format("The {} of {} is {}.", the, pl.lit(other), pl.col("gold_value"))
    scored = score(corpus, planted(questions, "product", wrong_product), assortment)
    assert attribute_classes(scored.filter("predicted")) == {"wrong_product": questions.height}

    invented = pl.format("The {} of {} is {}.", the, pl.lit(INVENTED), pl.col("gold_value"))
    scored = score(corpus, planted(questions, "invented", invented), assortment).filter("predicted")
    assert attribute_classes(scored) == {"invented_product": questions.height}
    assert scored["hallucinated"].all()


def test_refusing_everything(
    corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame
) -> None:
    scored = score(corpus, planted(asked, "refusal", "I do not know."), assortment)
    found = shares(scored)
    assert (found["strict_accuracy", "unseen"], found["strict_precision", "unseen"]) == (0.0, None)
    assert found["abstention_recall", "unanswerable"] == 1.0
    unanswerable = scored.filter(intent="unanswerable").height
    assert found["abstention_precision", "all"] == pytest.approx(unanswerable / scored.height)
    assert found["refused_wrongly_rate", "all"] == 1.0
    assert set(scored.filter(~pl.col("correct"))["error_class"]) == {"refused_wrongly"}


def test_answers_that_do_not_stop(
    corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame
) -> None:
    babble = pl.format("{} is a wonderful choice for everybody who", pl.col("reference"))
    scored = score(corpus, planted(asked, "babble", babble, "length"), assortment)
    assert shares(scored)["truncated_rate", "all"] == 1.0
    assert set(attribute_classes(scored)) == {"did_not_stop"}
    loop = pl.col("answer").repeat_by(30).list.join(" ")
    scored = score(corpus, planted(asked, "loop", loop, "length"), assortment)
    # What it says is right, over and over: that is told by two rates of its own.
    assert shares(scored)["strict_accuracy", "unseen"] == 1.0
    assert shares(scored)["truncated_rate", "unseen"] == 1.0
    assert shares(scored)["malformed_rate", "unseen"] == 1.0


def test_empty_answers(corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame) -> None:
    scored = score(corpus, planted(asked, "empty", ""), assortment)
    assert not scored["correct"].any()
    assert set(scored["error_class"]) == {"malformed"}
    assert shares(scored)["answered_unanswerable_rate", "unanswerable"] == 0.0
    assert shares(scored)["abstention_recall", "unanswerable"] == 0.0


def test_ten_megabytes(corpus: pl.DataFrame, asked: pl.DataFrame, assortment: pl.DataFrame) -> None:
    one = asked.filter(intent="attribute").head(1)
    name = trained_name(corpus)
    long = f"The fabric of {name} is nothing but cotton and love. " * 200_000
    assert len(long) > 10_000_000
    scored = score(corpus, planted(one, "long", long, "length"), assortment).filter("predicted")
    row = scored.row(0, named=True)
    assert (row["correct"], row["error_class"], row["read_in_full"]) == (False, "malformed", False)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_bytes_that_are_no_text(
    corpus: pl.DataFrame,
    asked: pl.DataFrame,
    assortment: pl.DataFrame,
    tmp_path: Path,
    suffix: str,
) -> None:
    gold = planted(asked, "bytes", pl.col("answer"))
    victim = asked.filter(intent="attribute", subset="unseen")["dialogue_id"][0]
    marked = gold.with_columns(
        answer=pl.when(dialogue_id=pl.lit(victim)).then(pl.lit("XXXX")).otherwise("answer")
    )
    path = tmp_path / f"predictions{suffix}"
    (marked.write_csv if suffix == ".csv" else marked.write_ndjson)(path)
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"\xff\xfe\x9dtt\xc3"))
    scored = score(corpus, read_predictions(path), assortment)
    wrong = scored.filter(~pl.col("correct"))
    assert wrong.select("dialogue_id", "error_class").rows() == [(victim, "malformed")]
