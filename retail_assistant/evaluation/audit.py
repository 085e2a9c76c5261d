"""Is the evaluation set the right one: does it ask what shoppers would, and is it large enough?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from retail_assistant.corpus.dialogues import EVALUATION_SUBSETS
from retail_assistant.evaluation.power import power_table

MixDimension = Literal["department", "category", "subcategory", "intent"]
LEVELS: tuple[MixDimension, ...] = ("department", "category", "subcategory")
TESTED_INTENTS = ("attribute", "unanswerable")
NOT_STATED = "(not stated)"
LEAST_EXPECTED = 5.0
"""Cells where less is expected are put together (Cochran 1954, Biometrics 10:417)."""

GROUPS_SCHEMA = pl.Schema(
    {
        "subset": pl.String,
        "dimension": pl.String,
        "against": pl.String,
        "group": pl.String,
        "asked": pl.Int64,
        "share": pl.Float64,
        "expected_share": pl.Float64,
        "difference": pl.Float64,
    }
)
TESTS_SCHEMA = pl.Schema(
    {
        "subset": pl.String,
        "dimension": pl.String,
        "against": pl.String,
        "counted": pl.String,
        "n": pl.Int64,
        "groups": pl.Int64,
        "groups_not_asked": pl.Int64,
        "total_variation": pl.Float64,
        "g": pl.Float64,
        "degrees_of_freedom": pl.Int64,
        "p": pl.Float64,
    }
)


class ShopperMix(BaseModel):
    """What shoppers ask about, as shares or counts by group; what is left out is not compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    department: dict[str, float] = Field({}, description="department -> share")
    category: dict[str, float] = Field({}, description="category -> share")
    subcategory: dict[str, float] = Field({}, description="subcategory -> share")
    intent: dict[str, float] = Field({}, description="intent -> share")

    @field_validator(*get_args(MixDimension))
    @classmethod
    def _shares_are_positive(cls, value: dict[str, float]) -> dict[str, float]:
        if value and not (min(value.values()) >= 0 < sum(value.values())):
            raise ValueError("allowed: numbers from 0 on that are not all 0")
        return value

    def shares(self, dimension: MixDimension) -> dict[str, float]:
        """Shares that sum to 1; empty where nothing is said of the dimension."""
        given: dict[str, float] = getattr(self, dimension)
        whole = sum(given.values())
        return {group: share / whole for group, share in given.items()} if given else {}


@dataclass(frozen=True)
class Audit:
    """Tables of an audit.

    groups: by subset, dimension and what it is compared with, what is asked and what would be.
    tests: the same comparisons, a row each. power: see `power.power_table`.
    """

    groups: pl.DataFrame
    tests: pl.DataFrame
    power: pl.DataFrame


def audit(
    dialogues: pl.DataFrame,
    assortment: pl.DataFrame,
    *,
    jobs: int = 1,
    shoppers: ShopperMix | None = None,
) -> Audit:
    """Compare the questions of each evaluation set with the assortment and with what shoppers ask.

    With the assortment, products are compared (each asked one once: its questions are not drawn
    apart); with shoppers, questions. Intents have no counterpart in a catalog: without a shopper
    mix they are only counted. `jobs`: how many are tested at once, for the power table.
    """
    levels = assortment.select("product_id", *LEVELS)
    asked = (
        dialogues.filter(pl.col("subset").is_in(EVALUATION_SUBSETS))
        .select("subset", "product_id", "intent")
        .join(levels, on="product_id", how="left")
    )
    groups = pl.concat(_comparisons(asked, assortment, shoppers or ShopperMix()))
    # The paired test is over the questions that are right or wrong, not over overviews.
    tested = asked.filter(pl.col("intent").is_in(TESTED_INTENTS))
    sets = tested.group_by("subset").agg(
        pl.len().cast(pl.Int64).alias("questions"),
        # What does not exist stands alone.
        (pl.col("product_id").drop_nulls().n_unique() + pl.col("product_id").null_count())
        .cast(pl.Int64)
        .alias("products"),
    )
    return Audit(
        groups=groups,
        tests=mix_tests(groups),
        power=power_table(sets.sort("subset"), comparisons=(1, max(1, jobs))),
    )


def mix_tests(groups: pl.DataFrame) -> pl.DataFrame:
    """Distance and test of each comparison in an audit's `groups`."""
    parts = groups.partition_by("subset", "dimension", "against", maintain_order=True)
    tests = [_test(part) for part in parts if part["expected_share"].is_not_null().all()]
    return pl.DataFrame(tests, schema=TESTS_SCHEMA, orient="row")


def _comparisons(
    asked: pl.DataFrame, assortment: pl.DataFrame, shoppers: ShopperMix
) -> list[pl.DataFrame]:
    parts = [GROUPS_SCHEMA.to_frame()]
    for (subset,), rows in asked.sort("subset").group_by("subset", maintain_order=True):
        products = rows.drop_nulls("product_id").unique("product_id")
        for level in LEVELS:
            expected = _shares(_counted(assortment, level))
            parts.append(_compared(str(subset), level, "assortment", products, expected))
        for dimension in get_args(MixDimension):
            wanted = shoppers.shares(dimension)
            if wanted:
                of = rows if dimension == "intent" else rows.drop_nulls("product_id")
                parts.append(_compared(str(subset), dimension, "shoppers", of, wanted))
            elif dimension == "intent":
                parts.append(_compared(str(subset), dimension, "nothing", rows, None))
    return parts


def _counted(rows: pl.DataFrame, dimension: str) -> dict[str, int]:
    counts = rows.select(pl.col(dimension).fill_null(NOT_STATED)).to_series().value_counts()
    return dict(counts.sort(dimension).iter_rows())


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    whole = sum(counts.values())
    return {group: count / whole for group, count in counts.items()} if whole else {}


def _compared(
    subset: str,
    dimension: str,
    against: str,
    rows: pl.DataFrame,
    expected: Mapping[str, float] | None,
) -> pl.DataFrame:
    counts = _counted(rows, dimension)
    shares = _shares(counts)
    found = []
    for group in sorted({*counts, *(expected or ())}):
        share = shares.get(group, 0.0)
        wanted = None if expected is None else expected.get(group, 0.0)
        difference = None if wanted is None else share - wanted
        row = (subset, dimension, against, group, counts.get(group, 0), share, wanted, difference)
        found.append(row)
    frame = pl.DataFrame(found, schema=GROUPS_SCHEMA, orient="row")
    return frame.sort("expected_share", "share", "group", descending=[True, True, False])


def _test(groups: pl.DataFrame) -> dict[str, object]:
    """Distance and G-test of one comparison.

    Total variation: half the sum of absolute differences, the share of questions that would have to
    be about something else. The G-test (Woolf 1957; scipy's power_divergence) asks whether a draw
    of that size from the expected mix differs as much. Its p is null where too little is expected.
    """
    first = groups.row(0, named=True)
    n = int(groups["asked"].sum())
    statistic, freedom, p = _g_test(groups["asked"].to_list(), groups["expected_share"].to_list())
    return {
        "subset": first["subset"],
        "dimension": first["dimension"],
        "against": first["against"],
        "counted": "products" if first["against"] == "assortment" else "questions",
        "n": n,
        "groups": groups.height,
        "groups_not_asked": groups.filter(asked=0).height,
        "total_variation": float(groups["difference"].abs().sum()) / 2 if n else None,
        "g": statistic,
        "degrees_of_freedom": freedom,
        "p": p,
    }


def _g_test(asked: list[int], expected: list[float]) -> tuple[float | None, int, float | None]:
    from scipy.stats import power_divergence

    n = sum(asked)
    cells = [(count, share * n) for count, share in zip(asked, expected, strict=True)]
    large = [cell for cell in cells if cell[1] >= LEAST_EXPECTED]
    small = [cell for cell in cells if cell[1] < LEAST_EXPECTED]
    pooled = (sum(count for count, _ in small), sum(share for _, share in small))
    if pooled[1] == 0 < pooled[0]:
        # What nobody would ask about is asked: no draw from that mix does that.
        return float("inf"), max(1, len(large)), 0.0
    if small and pooled[1] < LEAST_EXPECTED and large:
        last = large.pop()
        pooled = (pooled[0] + last[0], pooled[1] + last[1])
    tested = [*large, *([pooled] if small else [])]
    if len(tested) < 2:
        return None, 0, None
    counts, shares = zip(*tested, strict=True)
    result = power_divergence(counts, shares, lambda_="log-likelihood")
    return float(result.statistic), len(tested) - 1, float(result.pvalue)


def verdict(found: Audit, subset: str = "unseen") -> str:
    """What the audit says of a set, in words for whoever decides on a model."""
    power = found.power.filter(subset=subset).sort("comparisons", "discordant")
    if not power.height:
        return f"There are no questions of the set {subset}."
    first = power.row(0, named=True)
    size = f"{first['questions']} questions about {first['products']} products"
    shown = [
        f"{100 * row['smallest_difference']:.0f} points where two models differ on"
        f" {100 * row['discordant']:.0f}% of the questions"
        for row in power.filter(comparisons=1).iter_rows(named=True)
        if row["smallest_difference"] is not None
    ]
    if not shown:
        return f"{size} of the set {subset} are too few to tell two models apart."
    return f"{size} of the set {subset} show a difference of at least {', '.join(shown)}."
