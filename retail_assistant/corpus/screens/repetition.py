"""Questions that come twice, and training that gives away what is held out.

Two questions ask the same when they are about the same thing (the same attribute of the same
product, say) and their words, names aside, have a Jaccard similarity of at least `similarity`.
Clusters come from the catalog's search for near duplicates (MinHash), so this is linear.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import polars as pl

from retail_assistant.catalog.near_duplicates import near_duplicates
from retail_assistant.corpus.lookup import attribute_key
from retail_assistant.corpus.reading.names import NamedText
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.screens.spoken import Spoken

_NAME = "\u25a1"
# Words that only make a question more polite, and spellings of one verb.
_COURTESIES = frozenset({
    "please", "thanks", "thank", "hi", "hello", "hey", "so", "well", "ok", "okay", "kindly",
    "just", "sorry",
})  # fmt: skip
_SAME = {"could": "can", "would": "can", "may": "can", "might": "can"}
_TERMS = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))


def question_groups(spoken: Sequence[Spoken], similarity: float) -> pl.DataFrame:
    """order, group: questions of one group ask the same; a question alone has its own group.

    `order` is the number of the row that was read.
    """
    asked = pl.DataFrame(
        {
            "product_id": [str(one.row["order"]) for one in spoken],
            "name": [None] * len(spoken),
            "attributes": [list(_terms(one)) for one in spoken],
        },
        schema={"product_id": pl.String, "name": pl.String, "attributes": _TERMS},
    )
    found = near_duplicates(asked.lazy(), similarity=similarity)
    joined = asked.join(found, on="product_id", how="left")
    return joined.select(
        order=pl.col("product_id").cast(pl.UInt32), group=pl.coalesce("cluster_id", "product_id")
    )


def repeated_questions(rows: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """order, detail: a question comes once in training and once in all that is held out from it."""
    side = pl.col("subset") == "train"
    keyed = rows.join(groups, on="order").sort("order").with_columns(side=side)
    first = pl.col("dialogue_id").first().over("side", "group")
    repeated = keyed.with_columns(first=first).filter(
        ~pl.struct("side", "group").is_first_distinct()
    )
    return repeated.select("order", detail=pl.format("asks the same as dialogue {}", "first"))


def given_away_questions(rows: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """order, detail: training rows that ask what is held out."""
    keyed = rows.join(groups, on="order")
    held_out = keyed.filter(pl.col("subset") != "train").unique("group", keep="any")
    asked = held_out.sort("order").select("group", held_out="dialogue_id")
    train = keyed.filter(pl.col("subset") == "train").join(asked, on="group")
    return train.select("order", detail=pl.format("asks what dialogue {} holds out", "held_out"))


def given_away_products(
    rows: pl.DataFrame, spoken: Sequence[Spoken], splits: pl.DataFrame | None
) -> pl.DataFrame:
    """order, detail: training rows that mention a product that is held out.

    Held out are the products that validation and evaluation ask about, and with `splits` all that
    are not on the training side; but for `recall`, which asks about trained products by design. A
    product is mentioned where the row is about it, its evidence has it or its texts name it.
    """
    beyond = rows.filter(~pl.col("subset").is_in(["train", "recall"]))
    held_out = beyond.select("product_id").drop_nulls()
    if splits is not None:
        others = splits.filter(pl.col("split") != "train").select("product_id")
        held_out = pl.concat([held_out, others])
    ids = frozenset(held_out["product_id"])
    invented = frozenset(
        normalise(name)
        for name in beyond.filter(pl.col("product_id").is_null())["product_name"].drop_nulls()
    )
    found = [
        (one.row["order"], detail)
        for one in spoken
        if one.row["subset"] == "train" and (detail := _gives_away(one, ids, invented))
    ]
    return pl.DataFrame(found, schema={"order": pl.UInt32, "detail": pl.String}, orient="row")


def _gives_away(one: Spoken, ids: frozenset[str], invented: frozenset[str]) -> str | None:
    mentioned = set(one.evidence)
    for product in (*one.question.products, *one.answer.products):
        # A name that products of both sides bear gives none away.
        mentioned |= product.product_ids if product.product_ids <= ids else set()
    if mentioned & ids:
        return f"mentions the held-out product {min(mentioned & ids)}"
    if one.row["product_id"] is None and normalise(one.row["product_name"] or "") in invented:
        return "asks about an invented product that is held out"
    return None


def _terms(one: Spoken) -> Iterator[dict[str, str]]:
    """What is compared of a question: its words, each with what the question is about.

    Questions about different things so have no term in common.
    """
    row = one.row
    about = row["product_id"] or normalise(row["product_name"] or "")
    key = f"{about}|{attribute_key(row['asked_attribute'] or row['intent'])}"
    words = _words(one.question)
    # What a question about the store is about only its words say, and choices in another order are
    # another question: there, pairs of words are compared.
    pairs = (f"{first} {second}" for first, second in pairwise(words))
    for value in sorted(set(pairs if row["intent"] == "knowledge" else words)):
        yield {"name": key, "value": value}


def _words(question: NamedText) -> list[str]:
    words = (
        _NAME if position in question.masked else _SAME.get(word, word)
        for position, word in enumerate(question.text.words)
    )
    return [word for word in words if word not in _COURTESIES]
