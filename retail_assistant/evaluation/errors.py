"""What is wrong with an answer, in one class each, and whether it is an answer at all."""

import re
from typing import Literal, get_args

import polars as pl

from retail_assistant.corpus.reading.text import normalise

ErrorClass = Literal[
    "malformed",
    "answered_unanswerable",
    "invented_product",
    "wrong_product",
    "wrong_value",
    "invented_attribute",
    "did_not_stop",
    "refused_wrongly",
    "no_details",
]
ERROR_CLASSES: tuple[ErrorClass, ...] = get_args(ErrorClass)
"""In order of precedence: of several that hold, the first is the answer's class."""

ERROR_COUNTS_SCHEMA = pl.Schema(
    {
        "variant": pl.String,
        "subset": pl.String,
        "intent": pl.String,
        "error_class": pl.String,
        "answers": pl.Int64,
        "of": pl.Int64,
    }
)

# The fences and control tokens of chat templates (ChatML, Llama, Gemma, Phi, Mistral, Alpaca) and
# of the project's own prompts.
_MARKERS = re.compile(
    r"<\|[^|>\n]{1,40}\|>|</?(?:start|end)_of_(?:turn|text)>|</?(?:s|bos|eos|pad|unk)>"
    r"|\[/?(?:INST|SYS|AVAILABLE_TOOLS|TOOL_CALLS)\]|<</?SYS>>|</?(?:record|catalog)>"
    r"|^### (?:Instruction|Input|Response):",
    re.MULTILINE | re.IGNORECASE,
)
_UNDECODED = "\ufffd"
_MAX_UNDECODED_SHARE = 0.05
_MIN_REPEATS = 4
_MIN_REPEATED_WORDS = 24
_MAX_PERIOD = 40
_READ_CHARACTERS = 20_000


def is_malformed(answer: str) -> bool:
    """Whether a person would say that this is no answer, whatever words are in it.

    Empty (no letter, no digit); control tokens or template markers; more than one in twenty
    characters could not be decoded (U+FFFD or a lone surrogate); or it ends in one piece of text
    again and again: at least four times and 24 words. Read are the first 20,000 characters.
    """
    text = answer[:_READ_CHARACTERS]
    return (
        not any(character.isalnum() for character in text)
        or _MARKERS.search(text) is not None
        or _is_undecodable(text)
        or _repeats_endlessly(text)
    )


def _is_undecodable(text: str) -> bool:
    broken = sum(one == _UNDECODED or "\ud800" <= one <= "\udfff" for one in text)
    return broken > _MAX_UNDECODED_SHARE * len(text)


def _repeats_endlessly(text: str) -> bool:
    """Whether the end of a text is one run of words, of up to 40, over and over."""
    words = normalise(text[-4000:]).split()
    # The last repetition may have been cut within a word.
    words = words[1:-1]
    for period in range(1, min(_MAX_PERIOD, len(words) // _MIN_REPEATS) + 1):
        run = period
        while run < len(words) and words[-1 - run] == words[-1 - run + period]:
            run += 1
        if run >= max(_MIN_REPEATS * period, _MIN_REPEATED_WORDS):
            return True
    return False


def error_class() -> pl.Expr:
    """The class of a SCORED row's error; null where it is right, or was not judged.

    A deterministic function of outcome, hallucinated, truncated, malformed and the counts of
    attributes; classes in the order of ERROR_CLASSES:

    - malformed: no answer at all, see `is_malformed`.
    - answered_unanswerable: does not say that it does not know what nobody can know.
    - invented_product: speaks of, or suggests, a product that no catalog row is.
    - wrong_product: is about another product, or suggests one that does not fit.
    - wrong_value: states a value that the record contradicts.
    - invented_attribute: states an attribute that the record does not have.
    - did_not_stop: was cut off before it said what was asked.
    - refused_wrongly: declines a question that has an answer.
    - no_details: leaves out what was asked, or a part of it.
    """
    outcome = pl.col("outcome")
    unfit = outcome == "invalid_suggestion"
    contradicted = outcome == "contradicted"
    conditions: dict[ErrorClass, pl.Expr] = {
        "malformed": pl.col("malformed"),
        "answered_unanswerable": outcome == "answered_unanswerable",
        "invented_product": (outcome == "invented_product") | (unfit & pl.col("hallucinated")),
        "wrong_product": (outcome == "wrong_product") | unfit,
        "wrong_value": (outcome == "wrong_value")
        | (contradicted & (pl.col("attributes_contradicted") > 0)),
        "invented_attribute": contradicted,
        "did_not_stop": pl.col("truncated"),
        "refused_wrongly": outcome == "refused",
        "no_details": pl.lit(value=True),
    }
    wrong = ~pl.col("correct") & (outcome != "not_judged")
    classes = [pl.when(conditions[name]).then(pl.lit(name)) for name in ERROR_CLASSES]
    return pl.when(wrong).then(pl.coalesce(classes)).alias("error_class")


def error_counts(scored: pl.DataFrame) -> pl.DataFrame:
    """Answers by variant, subset, intent and error class, of all answers of that cell."""
    keys = ["variant", "subset", "intent"]
    of = scored.group_by(keys).agg(pl.len().alias("of"))
    counted = scored.drop_nulls("error_class").group_by(*keys, "error_class").len("answers")
    return (
        counted.join(of, on=keys)
        .select(ERROR_COUNTS_SCHEMA.names())
        .cast(ERROR_COUNTS_SCHEMA)
        .sort(*keys, "answers", "error_class", descending=[False] * 3 + [True, False])
    )
