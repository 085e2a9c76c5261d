"""A large comparison without models: invented answers to invented questions, texts as long as real
ones."""

import random

import polars as pl

from retail_assistant.evaluation.answers import asked_questions, given_answers
from retail_assistant.evaluation.comparison import MISSING_SCHEMA, MODELS_SCHEMA, Comparison
from retail_assistant.evaluation.metrics import SUMMARY_SCHEMA
from retail_assistant.evaluation.paired_tests import TESTS_SCHEMA

WORDS = [
    "cotton",
    "silk",
    "linen",
    "blue",
    "round",
    "neck",
    "sleeve",
    "casual",
    "party",
    "women",
    "men",
    "shirt",
    "dress",
    "fit",
    "wash",
]
OUTCOMES = ("true_positive", "wrong_value", "refused", "no_details", "wrong_product")
RECORD_LINES, ANSWER_WORDS = 14, 30


def large_comparison(questions: int, variants: int, answer_words: int = ANSWER_WORDS) -> Comparison:
    """Half of the questions share a product's record with another."""
    dice = random.Random(4)
    names = [f"job-{i}" for i in range(variants)]

    def words(count: int) -> str:
        return " ".join(f"{dice.choice(WORDS)}{dice.randrange(99)}" for _ in range(count))

    ids = [f"{i:016x}" for i in range(questions)]
    records = [
        "\n".join(["<record>", *(words(4) for _ in range(RECORD_LINES)), "</record>"])
        for _ in range(questions // 2 + 1)
    ]
    asked = pl.DataFrame({"dialogue_id": ids, "question": [words(12) for _ in ids]})
    prompts = asked.with_columns(
        context_ids=pl.Series([[f"p{i // 2}"] for i in range(questions)]),
        **{
            column: pl.Series(
                [
                    [
                        {"role": "system", "content": "You are our shop's assistant."},
                        {"role": "user", "content": f"{record}Question: {question}"},
                    ]
                    for record, question in zip(shown, asked["question"], strict=True)
                ]
            )
            for column, shown in (
                ("prompt", [""] * questions),
                ("grounded_prompt", [f"{records[i // 2]}\n" for i in range(questions)]),
            )
        },
    )
    size = questions * variants
    outcomes = pl.Series("outcome", dice.choices(OUTCOMES, k=size))
    scored = (
        asked.join(pl.DataFrame({"variant": names}), how="cross")
        .with_columns(
            outcomes,
            answer=pl.Series([words(answer_words) for _ in range(size)]),
            cluster="dialogue_id",
            subset=pl.lit("unseen"),
            intent=pl.lit("attribute"),
            gold_answer=pl.col("question"),
            category=pl.col("question").str.slice(0, 4),
            asked_attribute=pl.col("question").str.slice(0, 6),
            finish_reason=pl.lit("stop"),
            completion_tokens=pl.lit(answer_words),
            correct=outcomes == "true_positive",
            false_positive=outcomes.is_in(["wrong_value", "wrong_product"]),
        )
        .with_columns(
            pl.lit(0).alias(name)
            for name in (
                "attributes_right",
                "attributes_stated",
                "attributes_expected",
                "attributes_expected_right",
                "suggestions",
                "suggestions_valid",
            )
        )
    )
    nothing = pl.DataFrame(schema={"variant": pl.String})
    return Comparison(
        summary=pl.DataFrame(schema=SUMMARY_SCHEMA),
        tests=pl.DataFrame(schema=TESTS_SCHEMA),
        costs=nothing,
        side_by_side=nothing,
        missing=pl.DataFrame(schema=MISSING_SCHEMA),
        variants=tuple(names),
        questions=questions,
        outcomes=scored.group_by("variant", "subset", "intent", "outcome").agg(
            pl.len().cast(pl.Int64).alias("questions")
        ),
        models=pl.DataFrame(
            [(name, None, None, "retrieved", None) for name in names],
            schema=MODELS_SCHEMA,
            orient="row",
        ),
        asked=asked_questions(scored, prompts),
        answered=given_answers(scored),
    )
