"""What shoppers' feedback says: what was not answered, which products and models got bad thumbs."""

import json
from typing import Any, NamedTuple

import polars as pl

from retail_assistant.catalog.keywords import keywords_of
from retail_assistant.catalog.near_duplicates import near_duplicates
from retail_assistant.catalog.pictures import as_markdown, axes
from retail_assistant.evaluation.statistics import wilson_interval
from retail_assistant.serving.feedback.records import Snapshot, Totals

SAME_QUESTION = 0.6
"""Least Jaccard similarity of the content words of two questions that ask the same."""
LEAST_ASKED = 2
"""Questions asked less often are in no report that is kept for good."""
# What every question to a shop has.
_SHOP_WORDS = frozenset({
    "sell", "carry", "stock", "available", "buy", "want", "need", "like", "look", "know", "tell",
    "please", "hello", "hi", "thanks", "thank", "product", "item", "shop", "store",
})  # fmt: skip
_TERMS = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))


class FeedbackReport(NamedTuple):
    """Tables, most important row first.

    unanswered: question (its commonest wording), declined, product_id, asked, wordings, last_at.
    products: product_id, up, down, down_share with low and high, product (its name).
    models: job, adapter, turns, up, down, down_share with low and high.
    answered: one row: turns, answered, share with low and high.
    days: day, answered, declined, down.
    Shares have 95% Wilson intervals; those of thumbs are of the turns that got one.
    """

    unanswered: pl.DataFrame
    products: pl.DataFrame
    models: pl.DataFrame
    answered: pl.DataFrame
    days: pl.DataFrame
    totals: Totals

    def to_json_dict(self) -> dict[str, Any]:
        """The same, JSON-able."""
        tables = self._asdict()
        totals = tables.pop("totals")._asdict()
        read = {name: json.loads(table.write_json()) for name, table in tables.items()}
        return {**read, "totals": totals}


def feedback_report(kept: Snapshot, catalog: pl.DataFrame | None = None) -> FeedbackReport:
    """The report of what is kept; `catalog` (PRODUCTS) gives products their names."""
    turns = kept.turns
    rated = turns.drop_nulls("verdict")
    of_products = rated.explode("product_ids").drop_nulls("product_ids")
    models = turns.group_by("job", "adapter").agg(turns=pl.len(), **_THUMBS)
    answered = turns.select(turns=pl.len(), answered=pl.col("declined").null_count())
    return FeedbackReport(
        unanswered=unanswered_questions(turns),
        products=_judged(of_products.group_by(product_id="product_ids").agg(**_THUMBS))
        .join(product_names(catalog), on="product_id", how="left")
        .sort("low", "product_id", descending=[True, False]),
        models=_judged(models).sort("turns", "job", descending=[True, False]),
        answered=_with_interval(answered, "answered", "turns", "share"),
        days=_days(turns),
        totals=kept.totals,
    )


def product_names(catalog: pl.DataFrame | None) -> pl.DataFrame:
    """product_id, product (its name); without a catalog none."""
    if catalog is None:
        return pl.DataFrame(schema={"product_id": pl.String, "product": pl.String})
    return catalog.select("product_id", product="name")


def unanswered_questions(turns: pl.DataFrame) -> pl.DataFrame:
    """Questions without an answer, near-same ones about the same product counted together."""
    asked = with_groups(turns.drop_nulls("declined").drop_nulls("question"))
    return (
        asked.group_by("group")
        .agg(
            question=pl.col("question").mode(maintain_order=True).first(),
            declined=pl.col("declined").mode(maintain_order=True).first(),
            product_id=pl.col("product_ids").first().list.first(),
            asked=pl.len(),
            wordings=pl.col("question").n_unique(),
            last_at=pl.col("at").max(),
        )
        .drop("group")
        .sort("asked", "last_at", "question", descending=[True, True, False])
    )


def with_groups(turns: pl.DataFrame) -> pl.DataFrame:
    """The turns with `group`, the same for questions that ask the same about the same product.

    Their content words (lemmas without stop words) have a Jaccard similarity of SAME_QUESTION;
    groups are the connected components of that.
    """
    spaced = turns["question"].str.replace_all("[-/]", " ")
    words = keywords_of(spaced).list.set_difference(sorted(_SHOP_WORDS))
    # Questions of such words alone ("hello?") are the same where they have the same letters.
    bare = turns["question"].str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ")
    about = turns["product_ids"].list.first().fill_null("")
    terms = [
        [{"name": product, "value": word} for word in found or [text.strip()]]
        for product, found, text in zip(about, words.to_list(), bare, strict=True)
    ]
    ids = turns["answer_id"]
    asked = pl.DataFrame(
        {"product_id": ids, "name": [None] * len(ids), "attributes": terms},
        schema={"product_id": pl.String, "name": pl.String, "attributes": _TERMS},
    )
    found = near_duplicates(asked.lazy(), similarity=SAME_QUESTION)
    groups = found.select(answer_id="product_id", group="cluster_id")
    return turns.join(groups, on="answer_id", how="left", maintain_order="left").with_columns(
        group=pl.coalesce("group", "answer_id")
    )


_THUMBS = {
    "up": (pl.col("verdict") == "up").sum(),
    "down": (pl.col("verdict") == "down").sum(),
}


def _judged(counts: pl.DataFrame) -> pl.DataFrame:
    rated = counts.with_columns(rated=pl.col("up") + pl.col("down"))
    return _with_interval(rated, "down", "rated", "down_share").drop("rated")


def _with_interval(counts: pl.DataFrame, part: str, of: str, share: str) -> pl.DataFrame:
    """With the share that `part` is of `of`, and its interval; null where nothing was counted."""
    shares: list[tuple[float, float, float] | tuple[None, None, None]] = []
    for count, trials in counts.select(part, of).iter_rows():
        value = count / trials if trials else None
        shares.append(
            (None, None, None) if value is None else (value, *wilson_interval(value, trials))
        )
    columns = dict.fromkeys((share, "low", "high"), pl.Float64)
    return pl.concat([counts, pl.DataFrame(shares, schema=columns, orient="row")], how="horizontal")


def _days(turns: pl.DataFrame) -> pl.DataFrame:
    return (
        turns.group_by(day=pl.col("at").dt.date())
        .agg(
            answered=pl.col("declined").null_count(),
            declined=pl.col("declined").count(),
            down=_THUMBS["down"],
        )
        .sort("day")
    )


def turns_by_day(report: FeedbackReport) -> str:
    """Turns by day, answered and declined, and thumbs down, as markdown."""
    figure, plot = axes()
    days = report.days
    plot.bar(days["day"], days["answered"], label="answered", color="C0")
    plot.bar(days["day"], days["declined"], bottom=days["answered"], label="declined", color="C1")
    plot.plot(days["day"], days["down"], "v", label="thumbs down", color="C3")
    plot.set(ylabel="turns", ylim=(0, None))
    plot.tick_params("x", rotation=30)
    plot.legend(frameon=False, fontsize=8, ncols=3)
    return as_markdown(figure, "turns by day")


def headline(report: FeedbackReport) -> str:
    """The report in one sentence."""
    row = report.answered.row(0, named=True)
    up, down = (int(report.models[name].sum()) for name in ("up", "down"))
    if not row["turns"]:
        return "no turns are kept"
    share = f"{row['share']:.1%} (95% interval {row['low']:.1%} to {row['high']:.1%})"
    return f"{row['turns']:,} turns, {share} of them answered; {up:,} thumbs up, {down:,} down"
